"""Wave vectors along the path through the Brillouin zone of a crystal, as it stands."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from crysgen_aiida.data.structures import to_pymatgen
from crysgen_aiida.physics.band_path import BandPath, band_path


def find_path(structure: orm.StructureData) -> BandPath:
    """Return the path of a crystal.

    :raises ValueError: if its cell is not primitive.
    """
    held = to_pymatgen(structure)
    numbers = np.array([site.specie.Z for site in held])
    return band_path(np.array(held.lattice.matrix), np.array(held.frac_coords), numbers)


@calcfunction
def path_kpoints(structure: orm.StructureData, distance: orm.Float) -> orm.KpointsData:
    """Return labelled points along the path, at most ``distance`` [1/A, 2 pi included] apart."""
    path = find_path(structure)
    reciprocal = 2 * np.pi * np.linalg.inv(np.array(structure.cell)).T
    points: list[Any] = []
    labels: list[tuple[int, str]] = []
    for first, last in path.segments:
        start, end = path.points[first], path.points[last]
        steps = max(1, int(np.ceil(float(np.linalg.norm((end - start) @ reciprocal)) / distance.value)))
        if not labels or labels[-1][1] != first:
            labels.append((len(points), first))
            points.append(start)
        points += [start + (end - start) * k / steps for k in range(1, steps + 1)]
        labels.append((len(points) - 1, last))
    kpoints = orm.KpointsData()
    kpoints.set_cell_from_structure(structure)
    kpoints.set_kpoints(np.array(points), labels=labels)
    return kpoints
