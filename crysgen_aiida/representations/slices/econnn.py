"""Neighbours by effective coordination numbers, all atoms of a cell at once, in pymatgen's order.

R. Hoppe, Z. Kristallogr. 150, 23 (1979), as pymatgen's ``EconNN`` with its defaults. The published strings list bonds
in the order in which pymatgen's search about each atom alone meets its neighbours. One search about all atoms meets
them in another order, so the order of the single searches is put back by sorting.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crysgen_aiida.representations.slices.errors import SlicesError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

NO_NEIGHBOURS = "An atom has no neighbour within 10 A."

#: Neighbours are looked for this far [A] ...
CUTOFF = 10.0
#: ... and are bonded if they weigh more than this.
MIN_WEIGHT = 0.2
#: Farther than so many times the nearest neighbour weighs less than rounding: exp(1 - 3^6) = 0.
REACH = 3.0
#: The mean radius is found when it changes by no more than this [A].
CONVERGED = 1e-4
#: Shorter distances are those of an atom to itself [A].
ITSELF = 1e-8
#: pymatgen counts a neighbour as on the lower side of the centre if it is lower by more than this [A].
SIDE = 2e-8

_PERIODIC = np.ones(3, dtype=np.int64)


def half_bonds(lattice: FloatArray, frac_coords: FloatArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the bonds as seen from each atom, in the order of pymatgen's ``EconNN``.

    :param lattice: (3, 3) rows [A].
    :param frac_coords: (n, 3) fractional coordinates, wrapped or not.
    :return: (H,) atoms in ascending order, (H,) their neighbours and (H, 3) the cells these are in.
    :raises SlicesError: if an atom has no neighbour within the cutoff.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice = np.ascontiguousarray(lattice, dtype=float)
    coords = np.ascontiguousarray(frac_coords @ lattice, dtype=float)
    # an atom's own image is a neighbour, so no nearest one is farther than the shortest lattice vector
    radius = min(CUTOFF, max(1.0, 1.001 * REACH * float(np.linalg.norm(lattice, axis=1).min())))
    centre, other, cell, distance = find_points_in_spheres(
        all_coords=coords, center_coords=coords, r=radius, pbc=_PERIODIC, lattice=lattice, tol=1e-8
    )
    bonded = _bonded(centre, distance, len(coords))
    cells: IntArray = cell[bonded].astype(np.int64)
    centre, other = centre[bonded], other[bonded]
    order = _order_of_single_searches(lattice, coords, centre, other, cells)
    return centre[order], other[order], cells[order]


def _bonded(centre: IntArray, distance: FloatArray, n: int) -> IntArray:
    """Return which neighbours (positions in ``distance``) are bonded, by Hoppe's iterated mean radius."""
    nearest = np.full(n, np.inf)
    apart = np.where(distance > ITSELF, distance, np.inf)
    np.minimum.at(nearest, centre, apart)
    if not np.isfinite(nearest).all():
        raise SlicesError(NO_NEIGHBOURS)
    near = np.flatnonzero(apart < REACH * nearest[centre])
    at, length = centre[near], distance[near]
    radius = _mean_radius(at, length, nearest)
    moving = np.abs(radius - nearest) > CONVERGED
    while moving.any():
        before = radius
        radius = np.where(moving, _mean_radius(at, length, before), before)
        moving &= np.abs(radius - before) > CONVERGED
    return near[(_weight(length, radius[at]) > MIN_WEIGHT) & (length < CUTOFF)]


def _weight(length: FloatArray, radius: FloatArray) -> FloatArray:
    cube = (length / radius) ** 3
    return np.asarray(np.exp(1.0 - cube * cube))


def _mean_radius(at: IntArray, length: FloatArray, radius: FloatArray) -> FloatArray:
    """Return the weighted mean distance about every atom (n,) [A]."""
    weight = _weight(length, radius[at])
    return np.asarray(np.bincount(at, weight * length, len(radius)) / np.bincount(at, weight, len(radius)))


def _order_of_single_searches(
    lattice: FloatArray, coords: FloatArray, centre: IntArray, other: IntArray, cell: IntArray
) -> IntArray:
    """Return the permutation that sorts neighbours as pymatgen's search about each atom alone finds them.

    That search fills cubes as wide as its radius, with the centre on a corner, so nearby atoms lie in one of the eight
    octants about it. Octants come in order; within one, atoms come last in, first out: they went in by the cell they
    are in, counted from where pymatgen wraps them, then by their number.
    """
    inverse = _inverse(lattice)
    wrapped = coords[:, :1] * inverse[0] + coords[:, 1:2] * inverse[1] + coords[:, 2:] * inverse[2]
    home = np.floor(wrapped).astype(np.int64)
    vector = coords[other] + cell @ lattice - coords[centre]
    octant = (vector >= -SIDE) @ np.array([4, 2, 1])
    a, b, c = (cell + home[other]).T
    return np.asarray(np.lexsort((-other, -c, -b, -a, octant, centre)))


def _inverse(m: FloatArray) -> FloatArray:
    """Invert a (3, 3) matrix by cofactors, as pymatgen does: rounding decides where an atom at a cell wall goes."""
    (a, b, c), (d, e, f), (g, h, i) = m.tolist()
    scale = 1.0 / (a * (e * i - h * f) - b * (d * i - f * g) + c * (d * h - e * g))
    rows = [
        [e * i - h * f, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, d * c - a * f],
        [d * h - g * e, g * b - a * h, a * e - d * b],
    ]
    return np.array(rows) * scale
