"""The quick space group is spglib's, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spglib
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from slices_nets import GOLDEN_CELLS, first_rows, golden_structures

from crysgen_aiida.representations.slices import SlicesSpec, encode
from crysgen_aiida.representations.slices.nets import parse
from crysgen_aiida.representations.slices.symmetry import certain_space_group

SYMPREC = 0.01


def arrays(structure: Structure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return structure.lattice.matrix, structure.frac_coords, np.array(structure.atomic_numbers)


def by_spglib(structure: Structure) -> tuple[int | None, bool]:
    found = spglib.get_symmetry_dataset(arrays(structure), symprec=SYMPREC, angle_tolerance=5)
    return (None, False) if found is None else (found.number, max(found.mapping_to_primitive) + 1 == len(structure))


def test_first_rows_have_the_group_of_spglib(shared_data: Path) -> None:
    crystals = first_rows(shared_data, 150)
    found = [certain_space_group(*arrays(structure), SYMPREC) for structure in crystals]
    for structure, number in zip(crystals, found, strict=True):
        assert number is None or (number, True) == by_spglib(structure)
    assert sum(number is not None for number in found) > 0.9 * len(crystals)


@pytest.mark.parametrize("name", GOLDEN_CELLS)
def test_known_crystals_are_certain(name: str) -> None:
    assert certain_space_group(*arrays(golden_structures()[name]), SYMPREC) == GOLDEN_CELLS[name][0]


def test_cells_that_are_not_primitive_or_left_handed_are_left_to_spglib() -> None:
    silicon = golden_structures()["Si"]
    assert certain_space_group(*arrays(silicon * (2, 1, 1)), SYMPREC) is None
    mirrored = Structure(Lattice(-silicon.lattice.matrix), silicon.species, silicon.frac_coords)
    assert certain_space_group(*arrays(mirrored), SYMPREC) is None
    assert parse(encode(mirrored)).space_group == 227


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-5, 0), name=st.sampled_from(list(GOLDEN_CELLS)))
def test_shaken_crystals_are_certain_only_where_spglib_agrees(seed: int, exponent: float, name: str) -> None:
    """Displacements and strains from 1e-5 to 1, through the tolerance."""
    rng = np.random.default_rng(seed)
    structure = golden_structures()[name]
    strain = np.eye(3) + 10**exponent * 0.1 * rng.uniform(-1, 1, (3, 3)) * rng.integers(0, 2, (3, 3))
    coords = structure.cart_coords + 10**exponent * rng.uniform(-1, 1, (len(structure), 3)) * rng.integers(0, 2)
    shaken = Structure(
        Lattice(structure.lattice.matrix @ strain), structure.species, structure.lattice.get_fractional_coords(coords)
    )
    number = certain_space_group(*arrays(shaken), SYMPREC)
    assert number is None or (number, True) == by_spglib(shaken)


def test_two_atoms_at_one_place_are_no_certain_crystal() -> None:
    close = Structure(Lattice.cubic(4.0), ["Na", "Cl", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.501]])
    assert certain_space_group(*arrays(close), SYMPREC) is None


def test_the_tolerance_of_the_spec_counts() -> None:
    bent = golden_structures()["CsCl"]
    bent.translate_sites([1], [0.01, 0.0, 0.0])
    tight, loose = (parse(encode(bent, SlicesSpec(symprec=s))).space_group for s in (0.001, 0.1))
    assert (tight, loose) == (99, 221)
