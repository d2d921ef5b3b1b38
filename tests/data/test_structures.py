"""The one adapter to structure nodes loses nothing and says what it cannot carry."""

from __future__ import annotations

import numpy as np
import pytest

from crysgen_aiida.crystals.errors import BadInput

pytestmark = pytest.mark.usefixtures("aiida_profile")


def test_row_to_node_and_back(crystals):
    from crysgen_aiida.data.structures import to_crystal_set, to_pymatgen, to_structure_data

    node = to_structure_data(crystals, 0).store()
    there, back = crystals.structure(0), to_pymatgen(node)
    assert np.allclose(back.lattice.matrix, there.lattice.matrix)
    assert [s.specie.symbol for s in back] == [s.specie.symbol for s in there]
    assert np.allclose(back.cart_coords, there.cart_coords)
    packed = to_crystal_set([node])
    assert packed.column("reduced_formula") == ["NaCl"]


def test_what_cannot_be_carried_is_said(crystals):
    from aiida.orm import StructureData

    from crysgen_aiida.data.structures import to_pymatgen, to_structure_data

    with pytest.raises(BadInput, match="made to fail"):
        to_structure_data(crystals, 2)
    slab = StructureData(cell=np.eye(3).tolist(), pbc=(True, True, False))
    slab.append_atom(position=(0, 0, 0), symbols="Si")
    with pytest.raises(BadInput, match="three directions"):
        to_pymatgen(slab)
    alloy = StructureData(cell=np.eye(3).tolist(), pbc=(True, True, True))
    alloy.append_atom(position=(0, 0, 0), symbols=["Si", "Ge"], weights=[0.5, 0.5])
    with pytest.raises(BadInput, match="partially occupied"):
        to_pymatgen(alloy)
