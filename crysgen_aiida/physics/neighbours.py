"""Periodic neighbour lists with a skin: built rarely, exact at every step.

The list is searched to ``cutoff + skin``. It stays complete as long as no pair outside it can have come inside the
cutoff. With the cell deformed by ``F`` (vectors ``x -> x F``) and atoms displaced by at most ``u`` in the frame of
the list, a pair that is not listed is farther apart than ``s_min(F) * (cutoff + skin - 2 u)``; when that bound falls
below the cutoff the list is searched again. No pair is ever missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crysgen_aiida.physics.batch import Floats, Ints


@dataclass
class HalfList:
    """Pairs of one crystal, each once: atom ``i``, atom ``j`` and the cell ``image`` of j, (U,), (U,), (U, 3)."""

    i: Ints
    j: Ints
    image: Floats
    cell: Floats  # cell the list was searched in, (3, 3)
    frac: Floats  # fractional coordinates then, (n, 3)
    reach: float  # cutoff + skin [A]

    def covers(self, cell: Floats, frac: Floats, cutoff: float) -> bool:
        """Whether every pair inside ``cutoff`` is still certain to be in the list."""
        moved = (frac - self.frac) @ self.cell
        furthest = float(np.sqrt((moved * moved).sum(axis=1).max()))
        strain = np.linalg.solve(self.cell, cell)
        shrink = float(np.linalg.svd(strain, compute_uv=False)[-1])
        return shrink * (self.reach - 2.0 * furthest) >= cutoff


def half_list(cell: Floats, frac: Floats, cutoff: float, skin: float) -> HalfList:
    """Search all pairs within ``cutoff + skin`` [A], periodic images included, each pair once.

    :param cell: cell vectors as rows [A], (3, 3).
    :param frac: fractional coordinates, wrapped or not, (n, 3).
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    whole = np.floor(frac)
    wrapped = np.ascontiguousarray((frac - whole) @ cell)
    center, other, image, _ = find_points_in_spheres(
        wrapped, wrapped, cutoff + skin, np.array([1, 1, 1]), np.ascontiguousarray(cell), 1e-8
    )
    image = np.rint(image).astype(np.int64)
    # one of (i, j, n) and (j, i, -n): i < j, or the image whose first non-zero entry is positive
    first = np.where(image[:, 0] != 0, image[:, 0], np.where(image[:, 1] != 0, image[:, 1], image[:, 2]))
    keep = (center < other) | ((center == other) & (first > 0))
    i, j, image = center[keep], other[keep], image[keep]
    # the images above belong to wrapped atoms: refer them to the atoms as given
    shift = image - whole[j] + whole[i]
    return HalfList(
        i=i.astype(np.int64), j=j.astype(np.int64), image=shift, cell=cell.copy(), frac=frac.copy(), reach=cutoff + skin
    )
