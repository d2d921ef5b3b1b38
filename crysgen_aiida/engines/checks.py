"""Crystals a plane-wave calculation should not be started on, each with the sentence that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.data.structures import to_pymatgen
from crysgen_aiida.engines.pseudos import why_not_covered

if TYPE_CHECKING:
    from aiida import orm
    from pymatgen.core import Structure

#: Atoms closer than this share of the sum of their covalent radii overlap; hydrogen molecules are at 1.2.
OVERLAP = 0.5


def unsuitable(node: orm.StructureData, family: Any) -> str:
    """Return why no calculation can be made of a crystal with a family of pseudopotentials, empty if one can."""
    try:
        structure = to_pymatgen(node)
    except BadInput as error:
        return str(error)
    return overlap(structure) or why_not_covered(family, {s.specie.symbol for s in structure})


def overlap(structure: Structure) -> str:
    """Return a sentence if two atoms, periodic images included, overlap, else nothing.

    Radii are the covalent ones of B. Cordero et al., Dalton Trans. 2832 (2008), as ASE holds them.
    """
    from ase.data import covalent_radii

    radii = np.array([covalent_radii[site.specie.Z] for site in structure])
    first, second, _, distances = structure.get_neighbor_list(r=2 * OVERLAP * float(radii.max()), exclude_self=True)
    for i, j, distance in zip(first, second, distances, strict=True):
        allowed = OVERLAP * float(radii[i] + radii[j])
        if distance < allowed:
            a, b = structure[int(i)].specie.symbol, structure[int(j)].specie.symbol
            return f"atoms {i} ({a}) and {j} ({b}) are {distance:.2f} A apart, less than {allowed:.2f} A: they overlap"
    return ""
