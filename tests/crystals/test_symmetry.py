"""Space groups, the piezo gate, and reductions that keep the crystal."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from crystal_strategies import PROTOTYPES, disguise, perovskite, rocksalt, wurtzite, zincblende
from pymatgen.core import Lattice, Structure

from crysgen_aiida.crystals import symmetry as sym
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.matching import matches

KNOWN = {
    "rocksalt": (225, "m-3m", "cubic", True),
    "zincblende": (216, "-43m", "cubic", False),
    "wurtzite": (186, "6mm", "hexagonal", False),
    "perovskite": (221, "m-3m", "cubic", True),
    "rutile": (136, "4/mmm", "tetragonal", True),
}


@pytest.mark.parametrize("name", PROTOTYPES)
def test_known_crystals(name: str) -> None:
    found = sym.symmetry(PROTOTYPES[name]())
    assert (found.number, found.point_group, found.crystal_system, found.centrosymmetric) == KNOWN[name]
    assert found.piezo_allowed is not found.centrosymmetric


def test_crystal_systems_and_centres_of_all_groups_agree_with_spglib() -> None:
    point_groups = {}
    for hall in range(1, 531):
        kind = spglib.get_spacegroup_type(hall)
        point_groups[kind.number] = kind.pointgroup_international
    assert len(point_groups) == 230
    with_centre = {n for n, p in point_groups.items() if p in sym.CENTROSYMMETRIC_POINT_GROUPS}
    assert len(with_centre) == 92
    allowed = [n for n, p in point_groups.items() if sym.Symmetry(n, "", p, 0.01).piezo_allowed]
    class_432 = set(range(207, 215))
    assert sorted(allowed) == sorted(set(range(1, 231)) - with_centre - class_432)
    assert [sym.crystal_system(n) for n in (1, 2, 3, 15, 16, 74, 75, 142, 143, 167, 168, 194, 195, 230)] == [
        name for name in sym.CRYSTAL_SYSTEMS for _ in range(2)
    ]


@pytest.mark.parametrize("number", [0, 231])
def test_numbers_that_are_no_space_group(number: int) -> None:
    with pytest.raises(BadInput, match="1 to 230"):
        sym.crystal_system(number)


def test_gate_sees_through_noise_that_hides_the_inversion_centre() -> None:
    noisy = disguise(rocksalt(), np.random.default_rng(0), rattle=0.03)
    assert sym.symmetry(noisy, 0.001).piezo_allowed
    assert not sym.piezo_gate(noisy, (0.001, 0.1))
    assert sym.piezo_gate(wurtzite())


@pytest.mark.parametrize("name", PROTOTYPES)
def test_primitive_and_niggli_keep_the_crystal(name: str) -> None:
    crystal = PROTOTYPES[name]()
    supercell = crystal * (1, 1, 2)
    small = sym.primitive(supercell)
    assert len(small) == {"rocksalt": 2, "zincblende": 2, "wurtzite": 4, "perovskite": 5, "rutile": 6}[name]
    assert small.volume / len(small) == pytest.approx(crystal.volume / len(crystal))
    assert matches(small, crystal)
    assert matches(sym.niggli(small), crystal)
    assert len(sym.niggli(small)) == len(small)
    assert sym.symmetry(small).number == sym.symmetry(crystal).number


def test_primitive_does_not_rotate_the_axes() -> None:
    crystal = zincblende()
    small = sym.primitive(crystal)
    # every primitive vector is a lattice vector of the face-centred cubic lattice in the original frame
    halves = small.lattice.matrix / (crystal.lattice.a / 2)
    assert np.allclose(halves, np.round(halves), atol=1e-8)


def test_arrays_and_structures_agree() -> None:
    crystal = perovskite()
    numbers = [site.specie.Z for site in crystal]
    assert sym.cell_symmetry(crystal.lattice.matrix, crystal.frac_coords, numbers) == sym.symmetry(crystal)


def test_impossible_crystals_are_refused_with_a_sentence() -> None:
    overlap = Structure(Lattice.cubic(3), ["Na", "Na"], [[0, 0, 0], [0, 0, 0]])
    with pytest.raises(BadInput, match="overlap"):
        sym.symmetry(overlap)
    with pytest.raises(BadInput, match="overlap"):
        sym.primitive(overlap)
    with pytest.raises(BadInput, match="not a finite"):
        sym.cell_symmetry(np.eye(3), [[np.nan, 0, 0]], [1])
    with pytest.raises(BadInput, match="as many positions"):
        sym.cell_symmetry(np.eye(3), np.zeros((0, 3)), [])
    with pytest.raises(BadInput, match="partially occupied"):
        sym.symmetry(Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]))
