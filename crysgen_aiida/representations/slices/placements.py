"""Geometries of one net: each a fixed rule, in a fixed order, without a potential.

``freed``       the optimised geometry with all six parameters of its cell freed and its volume held (the default);
``optimised``   the least objective near the rescaled archetype, angles of the cell kept (the published decoder);
``slack``       as ``freed``, but the volume is not held: layers and voids close up;
``archetype``   the archetype as it is, bonds of the right mean length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from crysgen_aiida.representations.slices.archetype import Archetype
from crysgen_aiida.representations.slices.embedding import Embedding
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.geometry import FreeCell, Objective, lattice_ties, repulsion
from crysgen_aiida.representations.slices.nets import Net
from crysgen_aiida.representations.slices.spec import SlicesSpec

FloatArray = npt.NDArray[np.float64]

NOT_FINITE = "The geometry did not stay finite."

#: Atoms of the embedding closer than this count as on one point [A].
CROWDED = 0.05
#: Largest shift that separates atoms which the embedding puts on one point [A].
JITTER = 0.3


@dataclass(frozen=True)
class Placement:
    """Where a geometry puts the atoms.

    :ivar lattice: (3, 3) rows [A].
    :ivar coords: (n, 3) fractional coordinates, not wrapped: bonds join atoms across the cells their labels name.
    :ivar objective: value reached [A^4], 0 if nothing was minimised.
    :ivar iterations: of the minimiser.
    """

    lattice: FloatArray
    coords: FloatArray
    objective: float = 0.0
    iterations: int = 0


def optimised(start: Archetype, spec: SlicesSpec) -> Placement:
    """Return the least objective near the rescaled archetype, angles of the cell kept.

    :raises SlicesError: if the geometry does not stay finite.
    """
    paper = spec.mode == "paper"
    embedding, lattice = start.embedding, start.rescaled
    embedding = _paper_start(start.net, embedding, start.unstable) if paper else _separate(embedding, lattice)
    push = repulsion(start.net, embedding.coords, lattice, spec)
    ties = lattice_ties(embedding.metric, exact=paper)
    objective = Objective(embedding, lattice, start.aim, push, ties, spec.repulsion, frozen=paper)
    return _minimised(objective, [(1.0, 1.01 * spec.expand)] * objective.n_scales, spec)


def freed(start: Archetype, spec: SlicesSpec, held: Placement) -> Placement:
    """Return the geometry that ``held`` becomes when all six parameters of its cell are free and its volume is held.

    :raises SlicesError: if the geometry does not stay finite.
    """
    embedding = _moved(start.embedding, held.coords - start.embedding.coords)
    push = repulsion(start.net, embedding.coords, held.lattice, spec)
    objective = FreeCell(embedding, held.lattice, start.aim, push, spec.free_repulsion, spec.stiffness)
    return _minimised(objective, FreeCell.BOUNDS, spec)


def plain(start: Archetype) -> Placement:
    """Return the archetype with bonds of the right mean length; those of zero length do not count."""
    length = np.linalg.norm(start.embedding.arcs @ start.lattice, axis=1)
    long = length > 1e-4
    scale = start.aim.lengths[long].mean() / length[long].mean() if long.any() else 1.0
    return Placement(scale * start.lattice, start.embedding.coords)


def _minimised(objective: Objective, bounds: Sequence[tuple[float, float]], spec: SlicesSpec) -> Placement:
    """Minimise from the objective's origin; ``bounds`` are those of the cell, atoms move freely."""
    x0 = objective.origin()
    limits = [*bounds, *[(None, None)] * (len(x0) - len(bounds))]
    both = _Both(objective)
    found = minimize(
        both.value, x0, jac=both.gradient, method="L-BFGS-B", bounds=limits,
        options={"maxiter": spec.max_iterations, "maxfun": 10 * spec.max_iterations, "ftol": 1e-9, "gtol": 1e-5},
    )  # fmt: skip
    if not (np.isfinite(found.x).all() and math.isfinite(found.fun)):
        raise SlicesError(NOT_FINITE)
    lattice, shifts = objective.arrangement(found.x)
    coords = objective.coords.copy()
    coords[1:] += shifts
    return Placement(lattice, coords, float(found.fun), int(found.nit))


class _Both:
    """Value and gradient of an objective as two functions; both at one point cost one evaluation.

    scipy does the same for a function that returns both (``jac=True``), but compares points in a way that adds about a
    quarter to the time of these small evaluations.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.at = b""
        self.held: tuple[float, FloatArray]

    def value(self, x: FloatArray) -> float:
        """Return the value at ``x``."""
        return self._of(x)[0]

    def gradient(self, x: FloatArray) -> FloatArray:
        """Return the gradient at ``x``."""
        return self._of(x)[1]

    def _of(self, x: FloatArray) -> tuple[float, FloatArray]:
        at = x.tobytes()
        if at != self.at:
            self.held, self.at = self.objective(x), at
        return self.held


def _separate(embedding: Embedding, lattice: FloatArray) -> Embedding:
    """Move atoms apart that the embedding puts on one point; nothing changes if there are none.

    The shifts are fixed numbers, so the result is reproducible; which of the coinciding atoms gets which shift follows
    their order, as nothing else tells them apart.
    """
    difference = embedding.coords[:, None, :] - embedding.coords[None, :, :]
    difference -= np.round(difference)
    distance = np.linalg.norm(difference @ lattice, axis=2)
    np.fill_diagonal(distance, np.inf)
    crowded = distance.min(axis=1) < CROWDED
    if not crowded.any():
        return embedding
    rng = np.random.Generator(np.random.Philox(0))
    shift = rng.uniform(-JITTER, JITTER, size=embedding.coords.shape) @ np.linalg.inv(lattice)
    shift[~crowded] = 0.0
    return _moved(embedding, shift)


def _paper_start(net: Net, embedding: Embedding, unstable: bool) -> Embedding:
    """Start as published: an embedding with bonds of zero length gets one half as sum of the bonds at every atom."""
    if not unstable or net.n_atoms == 1:
        return embedding
    reduced = embedding.incidence[:, 1:]
    shift = np.zeros_like(embedding.coords)
    shift[1:] = np.linalg.solve(reduced.T @ reduced, np.full((net.n_atoms - 1, 3), -0.5))
    return _moved(embedding, shift)


def _moved(embedding: Embedding, shift: FloatArray) -> Embedding:
    coords = embedding.coords + shift
    arcs = embedding.arcs + embedding.incidence @ shift
    return Embedding(coords - coords[0], arcs, embedding.metric, embedding.incidence)
