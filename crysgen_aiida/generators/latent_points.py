"""The latent space of a trained model as numbers to look at, of any generator that keeps one in its checkpoint.

Such a checkpoint has, in ``weights.safetensors``, ``latent.means`` (n, Z), ``latent.labels`` and ``latent.predicted``
(n, P) and ``latent.held_out`` (n,), and in ``config.json`` the names of the P properties as ``condition_order``; that
of a variational model also ``latent.log_variances`` (n, Z).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.errors import CorruptWeights, ImpossibleRequest

FloatArray = npt.NDArray[np.float64]

#: What the names of these tensors begin with.
PREFIX = "latent."
#: Logarithm of a variance beyond which a point is everywhere.
_WIDEST = 50.0
#: Of the unit matrix that keeps slopes finite where dimensions of the latent space are alike.
RIDGE = 1e-6


@dataclass(frozen=True)
class LatentPoints:
    """Where the rows of a training set lie.

    :ivar means: (n, Z) means of the encoder.
    :ivar labels: (n,) values of each property that was learned, in its unit, NaN where a row has none.
    :ivar predicted: (n,) what the model reads at the means.
    :ivar held_out: (n,) whether a row was kept from training.
    :ivar widths: (Z,) root mean square width that the encoder gives a point, 0 if the model is not variational.
    """

    means: FloatArray
    labels: Mapping[str, FloatArray]
    predicted: Mapping[str, FloatArray]
    held_out: npt.NDArray[np.bool_]
    widths: FloatArray

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """The dimensions (Z,) in which points lie farther apart than they are wide.

        A variational model leaves the others to the noise: its decoder can tell little from them, while a branch that
        reads the means alone still can. Compare the active units of Burda et al., arXiv:1509.00519.
        """
        return np.asarray(self.means.std(axis=0) > self.widths)


def read_latent_points(weights: bytes, config: Mapping[str, Any]) -> LatentPoints:
    """Return the latent space of a checkpoint.

    :param weights: content of ``weights.safetensors``.
    :param config: content of ``config.json``.
    :raises ImpossibleRequest: if the checkpoint has none.
    :raises CorruptWeights: if it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(weights)
    except SafetensorError as error:
        raise CorruptWeights(f"weights.safetensors is damaged ({error}); fetch the generator again.") from error
    if f"{PREFIX}means" not in tensors:
        raise ImpossibleRequest(f"A model of {config.get('generator', 'this generator')} has no latent space to show.")
    try:
        names = [str(name) for name in config["condition_order"]]
        arrays = {key: tensors[f"{PREFIX}{key}"].astype(np.float64) for key in ("means", "labels", "predicted")}
        held_out = tensors[f"{PREFIX}held_out"].astype(bool)
        logarithms = tensors.get(f"{PREFIX}log_variances")
        labels, predicted = (
            {name: arrays[key][:, column] for column, name in enumerate(names)} for key in ("labels", "predicted")
        )
    except (KeyError, IndexError) as error:
        raise CorruptWeights(f"The latent space is not complete ({error}); fetch the generator again.") from error
    means = arrays["means"]
    if logarithms is None:
        variances = np.zeros_like(means)
    elif logarithms.shape == means.shape:
        variances = np.exp(np.clip(logarithms.astype(np.float64), -_WIDEST, _WIDEST))
    else:
        raise CorruptWeights("The latent space has other widths than points; fetch the generator again.")
    return LatentPoints(arrays["means"], labels, predicted, held_out, np.sqrt(variances.mean(axis=0)))


def steepest(means: FloatArray, values: FloatArray) -> tuple[list[int], FloatArray]:
    """Return the dimensions along which a property changes, most first, and by how much each.

    The gradient is that of the plane that fits the values best (least squares); a change is the gradient along a
    dimension times the standard deviation of the points there, in standard deviations of the values.

    :param means: (n, Z).
    :param values: (n,), NaN where there is none.
    :return: all Z dimensions, and (Z,) changes in the order of the dimensions.
    :raises ImpossibleRequest: if fewer than two rows have a value, or all have the same.
    """
    known = np.isfinite(values)
    if known.sum() < 2 or np.ptp(values[known]) == 0:
        raise ImpossibleRequest("The property has not two different values among the training rows.")
    x, y = means[known] - means[known].mean(axis=0), values[known] - values[known].mean()
    spread = x.std(axis=0)
    scaled = np.divide(x, spread, out=np.zeros_like(x), where=spread > 0)
    changes = np.linalg.solve(scaled.T @ scaled / len(y) + RIDGE * np.eye(x.shape[1]), scaled.T @ y / len(y)) / y.std()
    return np.argsort(-np.abs(changes), kind="stable").tolist(), changes
