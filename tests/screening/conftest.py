"""A small relaxed set with its unrelaxed parents, a reference and what was requested."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def zoo() -> dict[str, Any]:
    from pymatgen.core import Lattice, Structure

    def build(group: str, lattice: Lattice, species: list[str], coords: list[list[float]]) -> Structure:
        return Structure.from_spacegroup(group, lattice, species, coords).get_primitive_structure()

    return {
        "NaCl": build("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "CsCl": build("Pm-3m", Lattice.cubic(4.2), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "ZnS": build("F-43m", Lattice.cubic(5.45), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
        "AlN": build("P6_3mc", Lattice.hexagonal(3.13, 5.02), ["Al", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]),
        "Cu": build("Fm-3m", Lattice.cubic(3.58), ["Cu"], [[0, 0, 0]]),
        "NaCl2": build("Pm-3m", Lattice.cubic(4.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0]]),
    }


@pytest.fixture(scope="session")
def relaxed_pair(zoo: dict[str, Any]) -> tuple[Any, Any]:
    """``(relaxed, unrelaxed)``: row 4 repeats row 0 in another cell, row 5 failed to decode, row 6 was not chosen."""
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.run import InProcess
    from crysgen_aiida.physics.relaxation import relax_set
    from crysgen_aiida.physics.selection import SelectionSpec

    doubled = zoo["NaCl"].copy()
    doubled.make_supercell([2, 1, 1])
    structures = [zoo["NaCl"], zoo["ZnS"], zoo["AlN"], zoo["CsCl"], doubled, None, zoo["Cu"]]
    reasons = [None] * 5 + ["the string is cut short"] + [None]
    unrelaxed = CrystalSet.from_structures(
        structures, reasons=reasons, parent_input="sequences", parent_rows=[3, 2, 1, 0, 4, 5, 6]
    )
    return relax_set(unrelaxed, selection=SelectionSpec(n=None, max_per_formula=None), run=InProcess()), unrelaxed


@pytest.fixture(scope="session")
def reference(relaxed_pair: tuple[Any, Any]) -> Any:
    from crysgen_aiida.crystals.run import InProcess
    from crysgen_aiida.physics.reference import build_reference

    return build_reference(relaxed_pair[0], name="tiny", scheme="self-consistent", run=InProcess())


@pytest.fixture(scope="session")
def sequences() -> Any:
    import pyarrow as pa

    from crysgen_aiida.crystals.schema import property_field
    from crysgen_aiida.crystals.table import SequenceSet

    n = 7
    table = pa.table({"sequence": ["x"] * n})
    energy = property_field("formation_energy_per_atom", "requested", column="target.formation_energy_per_atom")
    piezo = property_field("piezo_max", "requested", column="target.piezo_max")
    table = table.append_column(energy, [[-2.0] * n]).append_column(piezo, [[7.5, 7.5, 7.5, None, 7.5, 7.5, 7.5]])
    own = property_field("power_factor_over_tau", "ftcp:12345678", column="predicted.power_factor_over_tau")
    return SequenceSet(table.append_column(own, [[10.0 * i for i in range(n)]]))
