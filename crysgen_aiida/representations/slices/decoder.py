"""From a net to a crystal (SLI2Cry), without a potential: one geometry a net, or a reason.

Follows Xiao et al., Nat. Commun. 14, 7027 (2023), with integer cycle algebra for the test, one Laplacian solve for the
embedding, closed-form targets and analytic gradients. Limits that decide the result are counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from crysgen_aiida.representations.slices.checker import DISCONNECTED, check
from crysgen_aiida.representations.slices.embedding import Embedding, barycentric, cholesky_lattice
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.geometry import Objective, lattice_ties, repulsion, rescale, targets
from crysgen_aiida.representations.slices.gfnff_elements import ROW_ENDS
from crysgen_aiida.representations.slices.nets import Net, parse
from crysgen_aiida.representations.slices.spec import SlicesSpec

if TYPE_CHECKING:
    from pymatgen.core import Structure

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SINGULAR = "The net has no embedding with independent lattice vectors."
NOT_FINITE = "The geometry did not stay finite."
COLLAPSED = "Two atoms ended less than 0.5 A apart."
TOO_LARGE = "The net is too large to decode: more than 200 atoms or 2000 bonds."
NO_PARAMETERS = "An element is heavier than radon, where the force field ends."

#: Atomic number of the last element with parameters.
LAST_ELEMENT = ROW_ENDS[-1]
#: Atoms closer than this are a failed geometry [A].
MIN_DISTANCE = 0.5
#: Atoms of the embedding closer than this count as on one point [A].
CROWDED = 0.05
#: Largest shift that separates atoms which the embedding puts on one point [A].
JITTER = 0.3
MAX_ATOMS, MAX_BONDS = 200, 2000

_CELLS = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)


@dataclass(frozen=True)
class Decoded:
    """A decoded crystal.

    :ivar lattice: (3, 3) rows [A]; ``numbers`` (n,); ``frac_coords`` (n, 3) in [0, 1).
    :ivar objective: value reached [A^4]; 0 means that all targets are met.
    :ivar unstable: the barycentric embedding had bonds of zero length.
    :ivar iterations: iterations of the optimiser.
    """

    lattice: FloatArray
    numbers: IntArray
    frac_coords: FloatArray
    objective: float
    unstable: bool
    iterations: int

    @property
    def volume(self) -> float:
        """Volume of the cell [A^3]."""
        return float(abs(np.linalg.det(self.lattice)))

    def structure(self) -> Structure:
        """Return a pymatgen structure."""
        from pymatgen.core import Lattice, Structure

        return Structure(Lattice(self.lattice), self.numbers.tolist(), self.frac_coords)


def decode(net: Net | str, spec: SlicesSpec = SlicesSpec()) -> Decoded:  # noqa: B008 - frozen
    """Return the one crystal of a net or string.

    :raises SlicesError: with a ``reason`` from a small set of sentences. No other exception leaves this function for
        any net or string.
    """
    if isinstance(net, str):
        net = parse(net, spec.strategy)
    verdict = check(net, "strict", duplicates=spec.duplicates)
    if not verdict.ok:
        raise SlicesError(verdict.reason or DISCONNECTED)
    net = net.without_duplicates()
    if net.n_atoms > MAX_ATOMS or net.n_edges > MAX_BONDS:
        raise SlicesError(TOO_LARGE, f"{net.n_atoms} atoms, {net.n_edges} bonds")
    if heavy := sorted({int(z) for z in net.numbers if z > LAST_ELEMENT}):
        raise SlicesError(NO_PARAMETERS, f"Z = {', '.join(map(str, heavy))}")
    try:
        with np.errstate(all="ignore"):
            return _decode(net, spec)
    except (np.linalg.LinAlgError, FloatingPointError, OverflowError, ZeroDivisionError) as error:
        raise SlicesError(SINGULAR) from error


def _decode(net: Net, spec: SlicesSpec) -> Decoded:
    embedding = barycentric(net)
    aim = targets(net, spec)
    archetype = cholesky_lattice(embedding.metric)
    lattice, unstable = rescale(embedding, archetype, aim, spec)
    if not np.isfinite(lattice).all():
        raise SlicesError(SINGULAR)
    embedding = _paper_start(net, embedding, unstable) if spec.mode == "paper" else _separate(embedding, lattice)
    push = repulsion(net, embedding.coords, lattice, spec)
    ties = lattice_ties(embedding.metric, exact=spec.mode == "paper")
    objective = Objective(embedding, lattice, aim, push, ties, spec.repulsion, frozen=spec.mode == "paper")
    x0 = np.zeros(objective.n_variables)
    x0[: objective.n_scales] = 1.0
    bounds = [(1.0, 1.01 * spec.expand)] * objective.n_scales + [(None, None)] * (len(x0) - objective.n_scales)
    found = minimize(
        objective, x0, jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": spec.max_iterations, "maxfun": 10 * spec.max_iterations, "ftol": 1e-9, "gtol": 1e-5},
    )  # fmt: skip
    if not (np.isfinite(found.x).all() and math.isfinite(found.fun)):
        raise SlicesError(NOT_FINITE)
    scales, shifts = objective.arrangement(found.x)
    coords = embedding.coords.copy()
    coords[1:] += shifts
    frac = coords % 1.0
    frac[frac > 1.0 - 1e-9] = 0.0
    result = scales[:, None] * lattice
    if min_distance(result, frac) < MIN_DISTANCE:
        raise SlicesError(COLLAPSED)
    return Decoded(result, net.numbers.copy(), frac, float(found.fun), unstable, int(found.nit))


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


def min_distance(lattice: FloatArray, frac_coords: FloatArray) -> float:
    """Return the shortest distance between two atoms or an atom and its images [A], over the 27 nearest cells."""
    first, second = np.triu_indices(len(frac_coords))
    difference = frac_coords[second] - frac_coords[first]
    difference -= np.round(difference)
    vector = (difference[:, None, :] + _CELLS[None]) @ lattice
    square = np.einsum("pck,pck->pc", vector, vector)
    square[first == second, len(_CELLS) // 2] = np.inf  # an atom and itself
    return float(np.sqrt(square.min()))
