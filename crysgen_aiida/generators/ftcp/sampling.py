"""Designs from the latent space: around training points, between two of them, or anywhere; decoded to crystals' data.

Random numbers belong to a row, not to a batch, and the network computes in double precision, whose rounding is far
below the single precision that is kept: neither the batch size nor a resumption changes a design.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from crysgen_aiida.crystals.run import Run, keyed_rng
from crysgen_aiida.generators.ftcp.checkpoint import Checkpoint
from crysgen_aiida.generators.ftcp.constraints import read_constraints, read_tolerances
from crysgen_aiida.generators.ftcp.labels import unscaled
from crysgen_aiida.generators.ftcp.reconstruction import Reconstruction
from crysgen_aiida.generators.ftcp.spec import SamplingSpec
from crysgen_aiida.generators.memory import memory_guard
from crysgen_aiida.representations.ftcp.compact import Compact
from crysgen_aiida.representations.ftcp.decode import crystals_of, read_matrices

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Stands for no training point.
NOWHERE = -1


@dataclass(frozen=True)
class Designs:
    """What some rows hold."""

    compact: Compact
    latents: npt.NDArray[np.float32]  #: (n, Z)
    predicted: npt.NDArray[np.float32]  #: (n, P) in the units of the labels
    points: IntArray  #: (n, 2) training points it comes from, NOWHERE if it comes from none
    attempts: IntArray  #: (n,)
    accepted: npt.NDArray[np.bool_]  #: (n,) whether it passed the filter


class Network:
    """Decoder and branches of a model, in double precision."""

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
        matrices = self.held.scaler.inverse(scores.float().cpu().numpy())
        return read_matrices(matrices, self.held.spec.representation)


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
            run.check_time()
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
        predicted = np.zeros((n, len(self.held.labels)))
        attempts = np.zeros(n, dtype=np.int64)
        accepted = np.zeros(n, dtype=bool)
        generators = [keyed_rng(self.seed, "sample", row) for row in rows]
        for _ in range(self.spec.attempts if self.spec.filter else 1):
            left = np.flatnonzero(~accepted)
            if not len(left):
                break
            run.check_time()
            for i in left.tolist():
                latents[i], points[i] = self._draw(rows[i], generators[i], self.scale)
            predicted[left] = self.network.properties(latents[left].astype(np.float32).astype(np.float64))
            attempts[left] += 1
            accepted[left] = [self._passes(rows[i], predicted[i]) for i in left.tolist()]
        kept = latents.astype(np.float32)
        compact = self._decoded(kept.astype(np.float64), run)
        return Designs(compact, kept, predicted.astype(np.float32), points, attempts, accepted)

    def _decoded(self, latents: FloatArray, run: Run) -> Compact:
        size = max(1, int(self.spec.batch * float(getattr(run, "batch_scale", 1.0))))
        parts = []
        for start in range(0, max(1, len(latents)), size):
            run.check_time()
            with memory_guard("sampling.batch", size):
                parts.append(self.network.decode(latents[start : start + size]))
        return Compact.concat(parts)

    def _passes(self, row: int, predicted: FloatArray) -> bool:
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
