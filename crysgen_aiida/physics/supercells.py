"""Supercells for finite displacements: the smallest that keeps an atom far enough from its images."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from crysgen_aiida.physics.batch import Floats

#: Axes whose multiples are equal, by crystal system: a supercell must not break the symmetry of the crystal.
_EQUAL = {"cubic": (0, 0, 0), "tetragonal": (0, 0, 1), "hexagonal": (0, 0, 1), "trigonal": (0, 0, 1)}


def shortest_vector(cell: npt.ArrayLike) -> float:
    """Return the length of the shortest vector of a lattice [A]: how near an atom is to its images.

    :param cell: cell vectors as rows [A], (3, 3); any basis of the lattice.
    """
    import spglib

    reduced = spglib.niggli_reduce(np.asarray(cell, dtype=float))
    if reduced is None:
        raise ValueError("the cell cannot be reduced: its vectors do not span a volume")
    return float(np.linalg.norm(reduced, axis=1).min())


def multiples(cell: Floats, crystal_system: str, min_length: float) -> tuple[int, int, int]:
    """Return how often the conventional cell is repeated along its axes.

    Of all multiples that keep axes equal which the crystal system makes equal, those of the least volume with
    images at ``min_length`` or farther; of several, those with the farthest images, then the smallest numbers.

    :param cell: conventional cell, vectors as rows [A], (3, 3).
    :param min_length: least distance of an atom to its images [A].
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)  # between opposite faces
    most = [max(1, int(np.ceil(min_length / height))) for height in heights]
    tied = _EQUAL.get(crystal_system, (0, 1, 2))
    groups = sorted(set(tied))
    ranges = [range(1, max(most[k] for k in range(3) if tied[k] == group) + 1) for group in groups]
    choices = [tuple(choice[groups.index(tied[k])] for k in range(3)) for choice in product(*ranges)]
    best: tuple[float, float, tuple[int, ...]] | None = None
    for numbers in sorted(choices, key=lambda n: (int(np.prod(n)), n)):
        volume = float(np.prod(numbers))
        if best is not None and volume > best[0]:
            break
        length = shortest_vector(cell * np.array(numbers)[:, None])
        if length >= min_length - 1e-6 and (best is None or length > -best[1] + 1e-6):
            best = (volume, -length, numbers)
    if best is None:  # cannot be: the largest choice keeps opposite faces at min_length
        best = (0.0, 0.0, tuple(most))
    a, b, c = best[2]
    return a, b, c
