"""Small sets every test of the node types uses."""

from __future__ import annotations

import pytest

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.schema import property_field


@pytest.fixture(scope="session")
def crystals() -> CrystalSet:
    """Three rows: NaCl, Si, and one that failed; band gaps of the first two."""
    from pymatgen.core import Lattice, Structure

    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    silicon = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]])
    return CrystalSet.from_structures(
        [salt, silicon, None],
        reasons=[None, None, "made to fail"],
        columns={property_field("band_gap", "test"): [5.0, 0.5, None]},
        metadata={"name": "three", "source": {"licence": "CC0", "missing": float("nan")}},
    )
