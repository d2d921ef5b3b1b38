"""CrystalSet: crystals in, the same crystals out; failures kept with a reason; ids of content."""

from __future__ import annotations

import numpy as np
import pytest
from crystal_strategies import QUICK, rocksalt, structures
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from crysgen_aiida.crystals.crystal_set import CrystalSet, content_id
from crysgen_aiida.crystals.errors import BadInput


@QUICK
@given(held=st.lists(structures(), min_size=1, max_size=4))
def test_structures_round_trip(held: list[Structure]) -> None:
    packed = CrystalSet.from_structures(held)
    for before, after in zip(held, packed.structures(), strict=True):
        assert after is not None
        assert np.array_equal(after.lattice.matrix, before.lattice.matrix)
        assert np.array_equal(after.frac_coords, before.frac_coords)
        assert [s.specie.Z for s in after] == [s.specie.Z for s in before]
    assert packed.column("n_atoms") == [len(s) for s in held]
    assert packed.column("reduced_formula") == [s.composition.reduced_formula for s in held]


@QUICK
@given(held=st.lists(structures(), min_size=1, max_size=4))
def test_arrays_give_the_rows_that_their_structures_give(held: list[Structure]) -> None:
    arrays = [(s.lattice.matrix, np.array([site.specie.Z for site in s]), s.frac_coords) for s in held]
    packed = CrystalSet.from_structures([None, *arrays], reasons=["none"] + [None] * len(held))
    assert (
        packed.content_hash
        == CrystalSet.from_structures([None, *held], reasons=["none"] + [None] * len(held)).content_hash
    )


def test_arrays_that_are_not_finite_are_refused() -> None:
    with pytest.raises(BadInput, match="row 0 has a coordinate that is not a finite number"):
        CrystalSet.from_structures([(np.eye(3), np.array([26]), np.array([[np.nan, 0.0, 0.0]]))])


def test_a_missing_crystal_is_a_failed_row() -> None:
    packed = CrystalSet.from_structures(
        [rocksalt(), None], reasons=[None, "decoding failed"], parent_input="sequences", parent_rows=[4, 4]
    )
    assert packed.ok.tolist() == [True, False]
    assert packed.column("parent_row") == [4, 4]
    assert packed.structures()[1] is None
    with pytest.raises(BadInput, match="decoding failed"):
        packed.structure(1)


def test_a_missing_crystal_without_reason_is_refused() -> None:
    with pytest.raises(BadInput, match="no reason"):
        CrystalSet.from_structures([None])


def test_an_empty_set_is_a_set() -> None:
    packed = CrystalSet.from_structures([])
    assert len(packed) == 0
    assert packed.structures() == []
    assert len(packed.content_hash) == 64


def test_disorder_is_refused() -> None:
    alloy = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    with pytest.raises(BadInput, match="partially occupied"):
        CrystalSet.from_structures([alloy])


def test_nan_coordinates_are_refused() -> None:
    broken = Structure(Lattice.cubic(3), ["Fe"], [[np.nan, 0, 0]])
    with pytest.raises(BadInput, match="not a finite number"):
        CrystalSet.from_structures([rocksalt(), broken])


@QUICK
@given(structure=structures(), noise=st.floats(-4e-8, 4e-8))
def test_content_id_is_of_the_content_to_six_digits(structure: Structure, noise: float) -> None:
    lattice = np.round(structure.lattice.matrix, 5)
    frac = np.round(structure.frac_coords, 5)
    numbers = np.array([s.specie.Z for s in structure])
    base = content_id(lattice, numbers, frac)
    assert content_id(lattice + noise, numbers, frac - noise) == base
    assert content_id(lattice + 1e-4, numbers, frac) != base
    assert content_id(lattice, numbers % 94 + 1, frac) != base
    assert content_id(lattice, numbers, frac + 1e-4) != base


def test_equal_rows_share_a_content_id_but_not_a_row() -> None:
    packed = CrystalSet.from_structures([rocksalt(), rocksalt()])
    assert len(set(packed.column("content_id"))) == 1
    assert packed.column("row") == [0, 1]
