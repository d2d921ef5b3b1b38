"""The space group of a primitive cell, found quickly where no tolerance matters.

spglib's data set holds much more than the number of the group; for a Heusler compound, 23 of its 24 ms go into Wyckoff
positions. Here operations are looked for with array algebra, in the same reduced lattice and by the same criteria as
spglib's (A. Togo et al., Sci. Technol. Adv. Mater. Methods 4, 2384822, 2024), and spglib names their group. That is
done only for crystals whose symmetry is beyond doubt: every candidate must meet the tolerance ten times over or miss it
tenfold. All others, and cells that are not primitive, are left to spglib.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: An operation is beyond doubt if it is this many times better, or worse, than the tolerance asks.
MARGIN = 10.0
#: Lattice vectors may enclose angles that differ by up to half of this and be equal for spglib [rad].
WRONG_ANGLE = np.radians(10.0)
#: Larger tables of distances are not worth it.
MAX_DISTANCES = 200_000

#: Images of the vectors of a reduced basis have components -1, 0, 1 in that basis.
_VECTORS = np.array([v for v in product((-1, 0, 1), repeat=3) if any(v)])
#: Positions of the basis vectors themselves in that list.
_AXES = [_VECTORS.tolist().index(e) for e in ([1, 0, 0], [0, 1, 0], [0, 0, 1])]


def certain_space_group(lattice: FloatArray, frac_coords: FloatArray, numbers: IntArray, symprec: float) -> int | None:
    """Return the space-group number of a primitive cell, or None if spglib has to say.

    :param lattice: (3, 3) rows [A].
    :param frac_coords: (n, 3); ``numbers`` (n,) atomic numbers.
    :param symprec: distance tolerance [A]; angles may differ by 5 degrees, as is pymatgen's default.
    """
    import spglib

    if np.linalg.det(lattice) <= 0.0:
        return None
    reduced = spglib.delaunay_reduce(lattice, symprec)
    if reduced is None:
        return None
    change = np.round(reduced @ np.linalg.inv(lattice))
    coords = frac_coords @ np.linalg.inv(change)
    rotations, sure = _lattice_rotations(reduced, symprec)
    found = _operations(rotations, reduced, coords, numbers, symprec)
    if found is None:
        return None
    which, translations = found
    if not sure[which].all() or len(np.unique(which)) < len(which):
        return None  # an operation that only a loose tolerance allows, or a cell that is not primitive
    kind = spglib.get_spacegroup_type_from_symmetry(rotations[which], translations % 1.0, reduced, symprec)
    return None if kind is None else int(kind.number)


def _lattice_rotations(lattice: FloatArray, symprec: float) -> tuple[IntArray, BoolArray]:
    """Return the (R, 3, 3) rotations that may leave the lattice as it is, and which of them (R,) certainly do."""
    cartesian = _VECTORS @ lattice
    products = cartesian @ cartesian.T
    length = np.sqrt(np.diag(products))
    angle = np.arccos(np.clip(products / (length[:, None] * length[None, :]), -1.0, 1.0))
    off = [np.abs(length - length[k]) for k in _AXES]
    x, y, z = (np.flatnonzero(o <= MARGIN * symprec) for o in off)
    xy = np.abs(angle[np.ix_(x, y)] - angle[_AXES[0], _AXES[1]])
    xz = np.abs(angle[np.ix_(x, z)] - angle[_AXES[0], _AXES[2]])
    yz = np.abs(angle[np.ix_(y, z)] - angle[_AXES[1], _AXES[2]])
    turned = np.maximum(np.maximum(xy[:, :, None], xz[:, None, :]), yz[None])
    i, j, k = np.nonzero(turned <= WRONG_ANGLE)
    rotations = np.stack([_VECTORS[x[i]], _VECTORS[y[j]], _VECTORS[z[k]]], axis=2)
    whole = np.abs(np.round(np.linalg.det(rotations))) == 1
    rotations, i, j, k = rotations[whole], i[whole], j[whole], k[whole]
    worst_length = np.maximum(np.maximum(off[0][x[i]], off[1][y[j]]), off[2][z[k]])
    worst_angle = turned[i, j, k]
    sure = (worst_length <= symprec / MARGIN) & (worst_angle * length[_AXES].max() <= symprec / MARGIN)
    return rotations, sure


def _operations(
    rotations: IntArray, lattice: FloatArray, coords: FloatArray, numbers: IntArray, symprec: float
) -> tuple[IntArray, FloatArray] | None:
    """Return the operations as numbers of rotations (S,) and translations (S, 3), or None if one is in doubt."""
    kinds = sorted((np.flatnonzero(numbers == z) for z in set(numbers.tolist())), key=len)
    rarest = coords[kinds[0]]
    which = np.repeat(np.arange(len(rotations)), len(rarest))
    shifts = (rarest[None, :, :] - (rotations @ rarest[0])[:, None, :]).reshape(-1, 3)
    misfit = np.zeros(len(which))
    for kind in kinds:
        places = coords[kind]
        if len(which) * len(kind) ** 2 > MAX_DISTANCES:
            return None
        moved = np.swapaxes(rotations[which] @ places.T, 1, 2) + shifts[:, None, :]
        apart = moved[:, :, None, :] - places
        apart -= np.round(apart)
        apart = apart @ lattice
        square = np.einsum("skjx,skjx->skj", apart, apart)
        close = square <= (MARGIN * symprec) ** 2
        kept = np.flatnonzero(close.any(axis=2).all(axis=1))
        if np.count_nonzero(close[kept]) > len(kept) * len(kind):
            return None  # two atoms of one element at nearly one place
        misfit = np.maximum(misfit[kept], square[kept].min(axis=2).max(axis=1, initial=0.0))
        which, shifts = which[kept], shifts[kept]
    if (misfit > (symprec / MARGIN) ** 2).any():
        return None
    return which, shifts
