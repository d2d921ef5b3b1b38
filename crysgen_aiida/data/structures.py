"""The one adapter between rows of a crystal set and AiiDA's structure node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from aiida.orm import StructureData
    from pymatgen.core import Structure

    from crysgen_aiida.crystals.crystal_set import CrystalSet


def to_structure_data(crystals: CrystalSet, row: int) -> StructureData:
    """Return an unstored structure node of ``row``, sites in the order of the row.

    :raises BadInput: if the row holds no crystal; the message repeats its reason.
    """
    return structure_node(crystals.structure(row))


def structure_node(structure: Structure) -> StructureData:
    """Return an unstored structure node of a pymatgen structure."""
    from aiida.orm import StructureData

    node: Any = StructureData(cell=structure.lattice.matrix.tolist(), pbc=(True, True, True))
    for site in structure:
        node.append_atom(position=site.coords.tolist(), symbols=site.specie.symbol)
    return cast("StructureData", node)


def to_pymatgen(node: StructureData) -> Structure:
    """Return the pymatgen structure of a structure node.

    :raises BadInput: if a site is disordered, or the crystal is not periodic in three directions.
    """
    from pymatgen.core import Lattice, Structure

    from crysgen_aiida.crystals.errors import BadInput

    where = f"StructureData<{node.pk or node.uuid}>"
    if tuple(node.pbc) != (True, True, True):
        raise BadInput(f"{where} is not periodic in three directions; only bulk crystals can be packed.")
    if node.is_alloy or node.has_vacancies:
        raise BadInput(f"{where} has partially occupied sites; order it first.")
    kinds = {kind.name: kind.symbols[0] for kind in node.kinds}
    symbols = [kinds[site.kind_name] for site in node.sites]
    return Structure(Lattice(node.cell), symbols, [s.position for s in node.sites], coords_are_cartesian=True)


def to_crystal_set(nodes: list[StructureData]) -> CrystalSet:
    """Pack structure nodes into a crystal set, one row a node, in order."""
    from crysgen_aiida.crystals.crystal_set import CrystalSet

    return CrystalSet.from_structures([to_pymatgen(node) for node in nodes])
