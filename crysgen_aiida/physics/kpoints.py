"""Meshes of k-points: their irreducible part, and whether a list of k-points is a mesh at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import spglib

from crysgen_aiida.crystals.electron_bands import ElectronBands
from crysgen_aiida.physics.batch import Floats

#: Coordinates of k-points are compared after rounding to so many digits, a little off so that no fraction is halfway.
DIGITS, ASIDE = 6, 2e-8
#: A mesh fills at least this share of the box of its coordinates; a path through the zone does not.
FILLED = 0.5


def irreducible(bands: ElectronBands, symprec: float, max_mismatch: float) -> tuple[Floats, Floats] | str:
    """Return the irreducible k-points of a mesh and the bands on them, or why there are none.

    :param symprec: tolerance of the symmetry of the crystal [A].
    :param max_mismatch: largest difference of energies at k-points that symmetry makes equal [eV].
    :returns: k-points (K, 3) and energies (K, B) [eV] in rising order, averaged over equal k-points.
    """
    cell: Any = (bands.lattice, bands.frac_coords, bands.numbers)
    found = spglib.get_symmetry(cell, symprec)
    if found is None:
        return "spglib finds no symmetry of the crystal"
    turns = np.unique(np.concatenate([found["rotations"], -found["rotations"]]), axis=0)  # time reversal
    stars = _rounded(np.einsum("ki,oij->okj", bands.kpoints, turns))  # (operations, K, 3)
    order = np.lexsort(np.moveaxis(stars, -1, 0)[::-1], axis=0)  # (operations, K)
    first = np.take_along_axis(stars, order[:1, :, None], axis=0)[0]
    _, index, owner = np.unique(first, axis=0, return_index=True, return_inverse=True)
    if not _is_mesh(np.unique(stars.reshape(-1, 3), axis=0)):
        return (
            "its k-points are no mesh that fills the Brillouin zone but a path or a part; compute the bands on a "
            "Monkhorst-Pack mesh"
        )
    levels = np.sort(bands.energies, axis=1)
    owner = owner.ravel()
    mean = np.stack([np.bincount(owner, band) for band in levels.T], axis=1) / np.bincount(owner)[:, None]
    worst = float(np.abs(levels - mean[owner]).max())
    if worst > max_mismatch:
        return (
            f"bands at k-points that symmetry makes equal differ by {worst:.3g} eV, more than {max_mismatch:g}; the "
            "bands are not of this crystal, or their highest ones are not converged"
        )
    return np.array(bands.kpoints[index]), mean


def _rounded(points: Floats) -> Floats:
    """Return coordinates between 0 and 1, equal ones made identical."""
    return np.array(np.round(np.mod(points, 1.0) + ASIDE, DIGITS) % 1.0)


def _is_mesh(points: Floats) -> bool:
    """Whether points fill the box spanned by their coordinates."""
    counts = [len(np.unique(points[:, axis])) for axis in range(3)]
    return len(points) >= FILLED * float(np.prod(counts))
