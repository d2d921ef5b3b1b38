"""The path of seekpath through the Brillouin zone, for a cell as it stands.

seekpath (Y. Hinuma et al., Comput. Mater. Sci. 128, 140 (2017)) gives the path of its own standard primitive cell,
whose vectors and axes are in general others than those a calculation was done in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crysgen_aiida.physics.batch import Floats

#: How well positions must agree for two cells to be the same crystal [A], and lengths and angles of their vectors.
SAME_PLACE, SAME_LENGTH, SAME_ANGLE = 0.05, 1e-3, 0.1  # A, relative, degrees


@dataclass(frozen=True)
class BandPath:
    """A path of straight segments.

    :param points: label to coordinates in reciprocal basis vectors of the given cell, (3,).
    :param segments: labels of the first and the last point of each segment.
    """

    points: dict[str, Floats]
    segments: list[tuple[str, str]]


def band_path(lattice: Floats, frac_coords: Floats, numbers: Floats) -> BandPath:
    """Return the path for a primitive cell.

    :param lattice: row vectors [A], (3, 3).
    :param frac_coords: (n, 3).
    :param numbers: (n,).
    :raises ValueError: if seekpath's primitive cell is not found to be this crystal, e.g. as the cell is not primitive.
    """
    import seekpath
    from pymatgen.core import Lattice

    found: Any = seekpath.get_path((lattice, frac_coords, numbers))
    standard = Lattice(found["primitive_lattice"])
    cell = Lattice(lattice)
    for _, turn, change in cell.find_all_mappings(standard, SAME_LENGTH, SAME_ANGLE) or ():
        # rows of ``change`` are the standard vectors in those of the given cell
        back = np.linalg.inv(change)
        moved = np.asarray(frac_coords, dtype=float) @ back
        proper = np.linalg.det(np.asarray(turn)) > 0
        if proper and _same_atoms(moved, numbers, found["primitive_positions"], found["primitive_types"], standard):
            points = {str(name): back @ np.array(k, dtype=float) for name, k in found["point_coords"].items()}
            return BandPath(points, [(str(a), str(b)) for a, b in found["path"]])
    raise ValueError("the cell is not a primitive cell that seekpath recognises")


def _same_atoms(frac: Floats, numbers: Any, other: Any, other_numbers: Any, lattice: Any) -> bool:
    """Whether two lists of atoms in one cell are equal up to a translation and their order."""
    numbers, other, other_numbers = np.asarray(numbers), np.asarray(other, dtype=float), np.asarray(other_numbers)
    if sorted(numbers) != sorted(other_numbers):
        return False
    rarest = min(set(numbers.tolist()), key=lambda z: int((numbers == z).sum()))
    first = other[np.flatnonzero(other_numbers == rarest)[0]]
    for start in np.flatnonzero(numbers == rarest):
        moved = frac + (first - frac[start])
        away = lattice.get_all_distances(moved, other)
        away[numbers[:, None] != other_numbers[None, :]] = np.inf
        if (away.min(axis=0) < SAME_PLACE).all() and (away.min(axis=1) < SAME_PLACE).all():
            return True
    return False
