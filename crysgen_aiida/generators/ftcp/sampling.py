"""Designs from the latent space: around training points, between two of them, or anywhere; decoded to crystals' data.

Random numbers belong to a row, not to a batch, and the network computes in double precision, whose rounding is far
below the single precision that is kept: neither the batch size nor a resumption changes a design.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import Run, keyed_rng
from crysgen_aiida.generators.ftcp.checkpoint import Checkpoint
from crysgen_aiida.generators.ftcp.constraints import read_constraints, read_tolerances
from crysgen_aiida.generators.ftcp.labels import unscaled
from crysgen_aiida.generators.ftcp.reconstruction import Reconstruction
from crysgen_aiida.generators.ftcp.spec import SamplingSpec
from crysgen_aiida.generators.memory import memory_guard
from crysgen_aiida.physics.contacts import closest_contact
from crysgen_aiida.representations.ftcp.compact import Compact, compact_of
from crysgen_aiida.representations.ftcp.decode import crystals_of, read_matrices
from crysgen_aiida.representations.ftcp.encode import matrices

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
T = TypeVar("T")

#: Stands for no training point.
NOWHERE = -1


@dataclass(frozen=True)
class Designs:
    """What some rows hold."""

    compact: Compact
    latents: npt.NDArray[np.float32]  #: (n, Z)
    predicted: npt.NDArray[np.float32]  #: (n, P) in the units of the labels, NaN where none was read
    points: IntArray  #: (n, 2) training points it comes from, NOWHERE if it comes from none
    attempts: IntArray  #: (n,)
    accepted: BoolArray  #: (n,) whether it passed the filter


class Network:
    """A model, in double precision."""

    def __init__(self, held: Checkpoint, device: str) -> None:
        self.held, self.device = held, torch.device(device)
        self.model = held.model.double().to(self.device).eval()
        self.reading = Reconstruction(held.spec.representation, held.spec.loss)

    @torch.inference_mode()
    def properties(self, latents: FloatArray) -> FloatArray:
        """Return the properties (n, P) that the branches read, in the units of the labels."""
        read = self.model.properties(torch.from_numpy(latents).to(self.device)).cpu().numpy()
        return unscaled(read, self.held.labels)

    @torch.inference_mode()
    def decode(self, latents: FloatArray) -> Compact:
        """Return what the left blocks of the decoded matrices say."""
        scores = self.reading.scores(self.model.decoder(torch.from_numpy(latents).to(self.device)))
        decoded = self.held.scaler.inverse(scores.float().cpu().numpy())
        return read_matrices(decoded, self.held.spec.representation)

    @torch.inference_mode()
    def encode(self, compact: Compact) -> FloatArray:
        """Return the means (n, Z) of crystals."""
        scaled = self.held.scaler.transform(matrices(compact, self.held.spec.representation)).astype(np.float64)
        return np.asarray(self.model.encoder(torch.from_numpy(scaled).to(self.device))[0].cpu().numpy())


@dataclass
class Sampler:
    """Draws designs from a trained model.

    :param targets: requested values by label, a list each that is cycled over the rows.
    :param spec: how to sample; everything else is the checkpoint's.
    """

    held: Checkpoint
    targets: Mapping[str, Sequence[float]]
    spec: SamplingSpec
    seed: int
    device: str
    scale: float = field(init=False)
    #: share of probe designs that decode to no crystal, by scale, as far as it was measured
    errors: dict[float, float] = field(init=False)

    def __post_init__(self) -> None:
        self.network = Network(self.held, self.device)
        self.cycle = int(np.lcm.reduce([len(v) for v in self.targets.values()] or [1]))
        self.rankings = [
            self.held.space.ranking(self.held.labels, self.target(row), self.spec, self.seed)
            for row in range(self.cycle)
        ]
        means = self.held.space.means[~self.held.space.held_out]
        self.centre, self.spread = means.mean(axis=0), means.std(axis=0)
        self.formulas = frozenset(self.held.space.formulas)
        self.bounds = read_constraints(self.spec.where)
        self.tolerances = read_tolerances(self.spec.tolerances)
        self.scale, self.errors = self.spec.scale, {}

    def target(self, row: int) -> dict[str, float]:
        """Return what is asked of a row."""
        return {name: values[row % len(values)] for name, values in self.targets.items()}

    # -- the scale of the noise ------------------------------------------------------------------------------------

    def choose_scale(self, run: Run) -> None:
        """Set the scale, if the spec leaves it open and the method has one.

        It is the largest that the spec lists with fewer errors than it allows among its probe designs. Warns if there
        is none; the least is taken then.
        """
        if self.spec.scale or self.spec.method == "slerp":
            return
        rows = range(self.spec.probe)
        for scale in self.spec.scales:
            latents = np.stack([self._draw(row, keyed_rng(self.seed, "probe", row), scale)[0] for row in rows])
            crystals = crystals_of(self._decoded(latents, run), self.held.spec.representation)
            self.errors[scale] = float((~crystals.ok).mean())
            run.progress("probe", len(self.errors), len(self.spec.scales), scale=scale, errors=self.errors[scale])
        good = [scale for scale, share in self.errors.items() if share < self.spec.max_error]
        self.scale = max(good, default=self.spec.scales[0])
        if not good:
            run.warn(
                f"At every scale at least {100 * self.spec.max_error:g} % of the {self.spec.probe} probe designs "
                f"decode to no crystal ({100 * self.errors[self.scale]:.0f} % at {self.scale:g}, which is taken): this "
                "model has not learned to decode. Train it longer, or on more crystals."
            )

    # -- designs ---------------------------------------------------------------------------------------------------

    def draw(self, rows: range, run: Run) -> Designs:
        """Return the designs of some rows.

        :raises OutOfMemory: if a batch does not fit; nothing of the part is kept.
        """
        n, z = len(rows), self.held.space.means.shape[1]
        latents, points = np.zeros((n, z)), np.full((n, 2), NOWHERE)
        compact = Compact.empty(n, self.held.spec.representation)
        predicted = np.zeros((n, len(self.held.labels)))
        attempts = np.zeros(n, dtype=np.int64)
        accepted = np.zeros(n, dtype=bool)
        generators = [keyed_rng(self.seed, "sample", row) for row in rows]
        for _ in range(self.spec.attempts if self.spec.filter else 1):
            left = np.flatnonzero(~accepted)
            if not len(left):
                break
            for i in left.tolist():
                latents[i], points[i] = self._draw(rows[i], generators[i], self.scale)
            latents[left] = latents[left].astype(np.float32)  # what is kept is what is decoded
            decoded = self._decoded(latents[left], run)
            crystals = crystals_of(decoded, self.held.spec.representation)
            able = self._able(crystals)  # cheap to see, so the network reads no others
            if self.spec.predict == "crystal":
                predicted[left] = self._properties_of(crystals, able, run)
            else:
                predicted[left] = self.network.properties(latents[left])
            compact.put(left, decoded)
            attempts[left] += 1
            accepted[left] = able & [self._is_near(rows[i], predicted[i]) for i in left.tolist()]
        return Designs(compact, latents.astype(np.float32), predicted.astype(np.float32), points, attempts, accepted)

    def _decoded(self, latents: FloatArray, run: Run) -> Compact:
        return Compact.concat(self._in_batches(lambda some: self.network.decode(latents[some]), len(latents), run))

    def _properties_of(self, crystals: CrystalSet, able: BoolArray, run: Run) -> FloatArray:
        """Return the properties (n, P) read at the means of crystals, NaN where there is none or it is not ``able``."""
        compact, reasons = compact_of(crystals, self.held.spec.representation)
        good = np.flatnonzero(able & [reason is None for reason in reasons])
        means = self._in_batches(lambda some: self.network.encode(compact.take(good[some])), len(good), run)
        read = np.full((len(crystals), len(self.held.labels)), np.nan)
        read[good] = self.network.properties(np.concatenate(means))
        return read

    def _in_batches(self, compute: Callable[[slice], T], n: int, run: Run) -> list[T]:
        """Return what is computed of n rows, of as many together as the memory allows."""
        size = max(1, int(self.spec.batch * float(getattr(run, "batch_scale", 1.0))))
        found = []
        for start in range(0, max(1, n), size):
            run.check_time()
            with memory_guard("sampling.batch", size):
                found.append(compute(slice(start, start + size)))
        return found

    def _is_near(self, row: int, predicted: FloatArray) -> bool:
        """Return whether predicted properties are within the tolerances of what is asked, and within bounds."""
        if not self.spec.filter:
            return True
        value = {label.name: float(predicted[i]) for i, label in enumerate(self.held.labels)}
        near = all(
            abs(value[name] - wanted) <= self.tolerances[name]
            for name, wanted in self.target(row).items()
            if name in self.tolerances
        )
        return near and all(bool(bound.holds(value[bound.name])) for bound in self.bounds)

    def _able(self, crystals: CrystalSet) -> BoolArray:
        """Return which rows have a formula, electrons and distances that the filter lets pass."""
        able = np.ones(len(crystals), dtype=bool)
        if self.spec.filter and self.spec.even_electrons:
            able &= [sum(numbers or (1,)) % 2 == 0 for numbers in crystals.column("numbers")]
        if self.spec.filter and self.spec.new_formula:
            able &= [formula not in self.formulas for formula in crystals.column("reduced_formula")]
        if self.spec.filter and self.spec.min_contact > 0:
            able &= crystals.ok
            for row in np.flatnonzero(able).tolist():
                able[row] = self._has_room(crystals.get(row))
        return able

    def _has_room(self, crystal: Mapping[str, Any]) -> bool:
        lattice, frac = np.reshape(crystal["lattice"], (3, 3)), np.reshape(crystal["frac_coords"], (-1, 3))
        return closest_contact(lattice, crystal["numbers"], frac, self.spec.min_contact) is None

    def _draw(self, row: int, rng: np.random.Generator, scale: float) -> tuple[FloatArray, tuple[int, int]]:
        """Return a latent point and the training points it comes from."""
        if self.spec.method == "gp":
            return self.centre + scale * self.spread * rng.standard_normal(len(self.centre)), (NOWHERE, NOWHERE)
        ranking = self.rankings[row % self.cycle]
        rank = (row // self.cycle // self.spec.designs_per_point) % len(ranking)
        first = int(ranking[rank])
        if self.spec.method == "lp":
            point = self._training_point(first)
            width = np.exp(self.held.space.log_variances[first] / 2) if self.spec.noise == "posterior" else 1.0
            return point + scale * width * rng.standard_normal(len(point)), (first, NOWHERE)
        # the next in rank, cyclically: with fewer than two points there is nothing between
        step = int(rng.integers(1, max(2, min(self.spec.neighbours, len(ranking) - 1) + 1)))
        second = int(ranking[(rank + step) % len(ranking)])
        between = slerp(self._training_point(first), self._training_point(second), float(rng.random()))
        return between, (first, second)

    def _training_point(self, point: int) -> FloatArray:
        """Return where a training point lies; with the encoder's noise it is drawn once for all its designs."""
        space = self.held.space
        mean: FloatArray = space.means[point]
        if not self.spec.encoder_noise:
            return mean
        noise = keyed_rng(self.seed, "encoder", point).standard_normal(len(mean))
        return mean + np.exp(space.log_variances[point] / 2) * noise


def slerp(first: FloatArray, second: FloatArray, share: float) -> FloatArray:
    """Return the point at ``share`` of the way from one vector to another, at constant angular speed.

    White, Sampling generative networks, arXiv:1609.04468; vectors of one direction are joined by a line.
    """
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    angle = float(np.arccos(np.clip(first @ second / norms, -1, 1))) if norms > 0 else 0.0
    if np.sin(angle) < 1e-9:
        return (1 - share) * first + share * second
    found: FloatArray = (np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle)
    return found
