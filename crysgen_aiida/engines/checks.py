"""Crystals a plane-wave calculation should not be started on, each with the sentence that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.data.structures import to_pymatgen
from crysgen_aiida.engines.pseudos import why_not_covered
from crysgen_aiida.physics.contacts import closest_contact

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
    """Return a sentence if two atoms, periodic images included, overlap, else nothing."""
    contact = closest_contact(structure.lattice.matrix, structure.atomic_numbers, structure.frac_coords, OVERLAP)
    if contact is None:
        return ""
    a, b = structure[contact.i].specie.symbol, structure[contact.j].specie.symbol
    return (
        f"atoms {contact.i} ({a}) and {contact.j} ({b}) are {contact.distance:.2f} A apart, less than "
        f"{OVERLAP * contact.radii:.2f} A: they overlap"
    )
