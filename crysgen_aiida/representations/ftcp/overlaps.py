"""Which crystals have atoms on top of each other, many at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Rows whose pairs are looked at together.
CHUNK = 1024


def overlapping(
    lattices: npt.NDArray[np.float64],
    coords: npt.NDArray[np.float64],
    numbers: npt.NDArray[np.int64],
    distance: float,
) -> npt.NDArray[np.bool_]:
    """Return which crystals (n,) have two atoms, or an atom and its image, nearer than ``distance`` [A].

    :param lattices: (n, 3, 3) rows [A].
    :param coords: (n, sites, 3) fractional.
    :param numbers: (n, sites), 0 where there is no atom.
    """
    found = np.zeros(len(lattices), dtype=bool)
    # a vector shorter than d has fractional components below d / height: where those are below 1/2, no image but the
    # nearest in fractional coordinates matters, and no atom is near its own
    heights = 1 / np.linalg.norm(np.linalg.inv(lattices), axis=1)
    thick = (heights > 2 * distance).all(axis=1)
    rows = np.flatnonzero(thick)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        found[part] = _near_in_thick(lattices[part], coords[part], numbers[part], distance)
    for row in np.flatnonzero(~thick):
        found[row] = _near_in_any(lattices[row], coords[row][numbers[row] > 0], distance)
    return found


def _near_in_thick(lattices: np.ndarray, coords: np.ndarray, numbers: np.ndarray, distance: float) -> np.ndarray:
    one, other = np.triu_indices(coords.shape[1], k=1)
    apart = coords[:, one] - coords[:, other]
    apart -= np.round(apart)
    vectors = apart @ lattices
    near = np.einsum("npx,npx->np", vectors, vectors) < distance**2
    return np.asarray((near & (numbers[:, one] > 0) & (numbers[:, other] > 0)).any(axis=1))


def _near_in_any(lattice: np.ndarray, coords: np.ndarray, distance: float) -> bool:
    from pymatgen.core import Lattice

    cell = Lattice(lattice)
    images = np.mgrid[-1:2, -1:2, -1:2].reshape(3, -1).T
    own = np.linalg.norm(images[images.any(axis=1)] @ cell.lll_matrix, axis=1)
    pairs = cell.get_all_distances(coords, coords)[np.triu_indices(len(coords), k=1)]
    return bool((np.concatenate([own, pairs]) < distance).any())
