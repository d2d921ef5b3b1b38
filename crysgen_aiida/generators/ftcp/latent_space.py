"""The latent space of a trained model: where its rows lie, what they are, and which come first for a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crysgen_aiida.crystals.errors import CorruptWeights, ImpossibleRequest
from crysgen_aiida.crystals.run import keyed_rng
from crysgen_aiida.generators.ftcp.constraints import read_constraints
from crysgen_aiida.generators.ftcp.labels import Label, scaled
from crysgen_aiida.generators.ftcp.spec import SamplingSpec

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LatentSpace:
    """The points of all rows of a training set, held-out ones included.

    :ivar means: (n, Z) means of the encoder.
    :ivar log_variances: (n, Z) logarithms of its variances.
    :ivar labels: (n, P) in their units, NaN where one is missing.
    :ivar predicted: (n, P) what the branches read at the means, in the units of the labels.
    :ivar rows: (n,) rows of the training set.
    :ivar held_out: (n,) whether a row was kept from training; designs never start there.
    :ivar formulas: (n,) reduced formulas.
    """

    means: FloatArray
    log_variances: FloatArray
    labels: FloatArray
    predicted: FloatArray
    rows: IntArray
    held_out: npt.NDArray[np.bool_]
    formulas: tuple[str, ...]

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds: points in single precision, variances in half, the rest exactly."""
        return {
            "means": torch.from_numpy(self.means).float(),
            "log_variances": torch.from_numpy(self.log_variances).clamp(-60000, 60000).half(),
            "labels": torch.from_numpy(self.labels),
            "predicted": torch.from_numpy(self.predicted).float(),
            "rows": torch.from_numpy(self.rows),
            "held_out": torch.from_numpy(self.held_out.astype(np.uint8)),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], formulas: Sequence[str]) -> LatentSpace:
        """Read what :meth:`tensors` gave.

        :raises CorruptWeights: if something lacks or does not fit.
        """
        try:
            floats = {k: tensors[k].double().numpy() for k in ("means", "log_variances", "labels", "predicted")}
            held_out = tensors["held_out"].numpy().astype(bool)
            found = cls(**floats, rows=tensors["rows"].numpy(), held_out=held_out, formulas=tuple(formulas))
        except KeyError as error:
            raise CorruptWeights(
                f"The latent space of the generator lacks {error}; fetch the generator again."
            ) from error
        if len({len(found.means), len(found.labels), len(found.rows), len(formulas)}) != 1:
            raise CorruptWeights("The latent space of the generator does not fit its vocabulary; fetch both again.")
        return found

    def ranking(self, labels: Sequence[Label], target: Mapping[str, float], spec: SamplingSpec, seed: int) -> IntArray:
        """Return the training points that satisfy the constraints, nearest to the target first.

        Distances are those of the labels scaled to 0..1. Without a target the order is drawn by the seed.

        :param target: requested values by label.
        :raises ImpossibleRequest: if no training point is left.
        """
        values = self.predicted if spec.rank_by == "predicted" else self.labels
        place = {label.name: i for i, label in enumerate(labels)}
        able = ~self.held_out
        for constraint in read_constraints(spec.where):
            if constraint.name not in place:
                offered = ", ".join(place) or "nothing"
                raise ImpossibleRequest(
                    f"sampling.where bounds {constraint.name}, which this model has not learned; it knows {offered}."
                )
            able &= constraint.holds(values[:, place[constraint.name]])
        far = scaled(values, labels)
        wanted = scaled(np.array([[target.get(label.name, np.nan) for label in labels]]), labels)
        asked = [place[name] for name in target]
        distance = np.linalg.norm(far[:, asked] - wanted[:, asked], axis=1)  # NaN where a label is missing
        able &= np.isfinite(distance)
        points = np.flatnonzero(able)
        if not len(points):
            said = " and ".join([*spec.where, *(f"a label {name}" for name in target)]) or "anything"
            raise ImpossibleRequest(
                f"No training point has {said}: there is nothing to start from; relax the constraints"
                + (" or set sampling.rank_by to predicted." if spec.rank_by == "label" else ".")
            )
        if not asked:
            return keyed_rng(seed, "points", 0).permutation(points)
        nearest: IntArray = points[np.argsort(distance[points], kind="stable")]
        return nearest
