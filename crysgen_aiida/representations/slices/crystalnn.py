"""Neighbours by solid angles of Voronoi faces, as pymatgen's ``CrystalNN`` set up by the SLICES authors.

H. Pan et al., Inorg. Chem. 60, 1590 (2021), without the porous adjustment and with weighted coordination numbers: then
an atom is bonded to all neighbours whose weight does not round to nothing. A weight is the solid angle of the face
between two atoms, times a factor for different electronegativities, faded out with distance.

pymatgen tessellates all space within 7 A about each atom; here one cell is found as the dual of a convex hull.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Atoms within this distance share in the tessellation [A].
CUTOFF = 7.0
#: Bonds fade out between these distances beyond the sum of radii [A].
FADE = (0.5, 1.0)
#: Weight of electronegativity differences, against the largest one of two elements.
CONTRAST, LARGEST_DIFFERENCE = 3.0, 3.3
#: So many nearest atoms mostly decide a Voronoi cell.
NEAREST = 32
#: Weights that are equal but for rounding count as equal in the order of bonds.
_DECIMALS = 7

_PERIODIC = np.ones(3, dtype=np.int64)


def half_bonds(
    lattice: FloatArray, frac_coords: FloatArray, numbers: IntArray
) -> tuple[IntArray, IntArray, IntArray] | None:
    """Return the bonds as seen from each atom, the heaviest first, or None if pymatgen has to find them.

    That is if a Voronoi cell does not close within the cutoff, or an element has no radius.

    :param lattice: (3, 3) rows [A].
    :param frac_coords: (n, 3); ``numbers`` (n,) atomic numbers.
    :return: (H,) atoms in ascending order, (H,) their neighbours and (H, 3) the cells these are in.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice = np.ascontiguousarray(lattice, dtype=float)
    coords = np.ascontiguousarray(frac_coords @ lattice, dtype=float)
    centre, other, cell, distance = find_points_in_spheres(
        all_coords=coords, center_coords=coords, r=CUTOFF, pbc=_PERIODIC, lattice=lattice, tol=1e-8
    )
    apart = np.flatnonzero(distance > 1e-8)
    apart = apart[np.lexsort((distance[apart], centre[apart]))]
    centre, other, distance = centre[apart], other[apart], distance[apart]
    cells: IntArray = cell[apart].astype(np.int64)
    vector = coords[other] + cells @ lattice - coords[centre]
    radius, negativity = (np.array(values) for values in zip(*map(_element, numbers.tolist()), strict=True))
    if np.isnan(radius).any():
        return None
    found = []
    ends = np.searchsorted(centre, np.arange(len(coords) + 1))
    for i, (start, stop) in enumerate(pairwise(ends.tolist())):
        angle = solid_angles(vector[start:stop], distance[start:stop])
        if angle is None:
            return None
        atoms = other[start:stop]
        contrast = np.sqrt(np.abs(negativity[i] - negativity[atoms]) / LARGEST_DIFFERENCE)
        weight = angle * (1.0 + CONTRAST * np.nan_to_num(contrast))
        weight = weight / weight.max() * _fading(distance[start:stop] - radius[i] - radius[atoms])
        bonded = np.flatnonzero(np.round(weight, 3) > 0.0)
        keys = (*cells[start:stop][bonded].T[::-1], atoms[bonded], -np.round(weight[bonded], _DECIMALS))
        found.append(start + bonded[np.lexsort(keys)])
    chosen = np.concatenate(found)
    return centre[chosen], other[chosen], cells[chosen]


def _fading(beyond: FloatArray) -> FloatArray:
    """Return 1 up to the first distance of :data:`FADE` beyond the radii, 0 from the second one on."""
    low, high = FADE
    return np.asarray(0.5 * (1.0 + np.cos(np.pi * np.clip((beyond - low) / (high - low), 0.0, 1.0))))


@cache
def _element(number: int) -> tuple[float, float]:
    """Return the covalent radius [A] and the electronegativity of an element, NaN if there is none."""
    import warnings

    from pymatgen.analysis.molecule_structure_comparator import CovalentRadius
    from pymatgen.core import Element

    element = Element.from_Z(number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(CovalentRadius.radius.get(element.symbol, np.nan)), float(element.X)


def solid_angles(vectors: FloatArray, distances: FloatArray) -> FloatArray | None:
    """Return the solid angles of the faces of the Voronoi cell at the origin, None if it is not closed.

    :param vectors: (m, 3) other points, the nearest first; ``distances`` (m,) from the origin.
    :return: (m,) solid angles, 0 for points without a face; they add up to 4 pi.
    """
    from scipy.spatial import ConvexHull, QhullError

    m = len(vectors)
    for n in dict.fromkeys((min(NEAREST, m), m)):
        dual = vectors[:n] / distances[:n, None] ** 2
        try:
            hull = ConvexHull(dual)
        except (QhullError, ValueError):
            continue
        if (hull.equations[:, 3] >= 0.0).any():
            continue  # the origin is outside, so the cell is open
        # a face of the hull is a corner of the cell
        corners = -0.5 * hull.equations[:, :3] / hull.equations[:, 3:]
        if n == m or 2.0 * np.sqrt((corners**2).sum(axis=1).max()) < distances[n]:
            return _of_faces(dual, hull.simplices, hull.neighbors, corners, m)
    return None


def _of_faces(dual: FloatArray, triangles: IntArray, adjacent: IntArray, corners: FloatArray, m: int) -> FloatArray:
    """Add up the solid angles of the triangles between the foot of a face and each of its sides."""
    a, b, c = (dual[triangles[:, k]] for k in range(3))
    backwards = np.einsum("tx,tx->t", a, np.cross(b, c)) < 0.0
    triangles, adjacent = triangles.copy(), adjacent.copy()
    triangles[backwards, 1:] = triangles[backwards, :0:-1]
    adjacent[backwards, 1:] = adjacent[backwards, :0:-1]
    unit = corners / np.linalg.norm(corners, axis=1)[:, None]
    # about each point of a triangle, the next triangle is the one across from the point before
    point = triangles.ravel()
    here = np.repeat(unit, 3, axis=0)
    there = unit[adjacent[:, [1, 2, 0]].ravel()]
    foot = dual[point] / np.linalg.norm(dual[point], axis=1)[:, None]
    triple = np.einsum("sx,sx->s", foot, np.cross(here, there))
    dots = [np.einsum("sx,sx->s", p, q) for p, q in ((foot, here), (here, there), (there, foot))]
    return np.abs(np.bincount(point, 2.0 * np.arctan2(triple, 1.0 + dots[0] + dots[1] + dots[2]), m))
