"""The space group of the prefix: imposed where the crystal is near it, refused with a reason elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure
from slices_nets import GOLDEN_CELLS, golden_structures

from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.symmetry import symmetry
from crysgen_aiida.representations.slices import symmetrise as module
from crysgen_aiida.representations.slices.graphs import encode, net_of
from crysgen_aiida.representations.slices.nets import Net
from crysgen_aiida.representations.slices.refine import refined_set
from crysgen_aiida.representations.slices.sets import sequence_set
from crysgen_aiida.representations.slices.spec import SlicesSpec
from crysgen_aiida.representations.slices.symmetrise import HAS_IT, MOVED, NO_GROUP, NOT_FOUND, symmetrise

SPEC = SlicesSpec(symmetrise=True)


def rattled(structure: Structure, seed: int, size: float) -> Structure:
    """Return the crystal with strained lattice and moved atoms."""
    rng = np.random.default_rng(seed)
    strain = rng.uniform(-size, size, (3, 3)) / 5
    lattice = structure.lattice.matrix @ (np.eye(3) + strain)
    moves = rng.uniform(-size, size, (len(structure), 3)) @ np.linalg.inv(lattice)
    return Structure(lattice, structure.species, structure.frac_coords + moves)


def net(structure: Structure, group: int | None) -> Net:
    held = net_of(structure)
    return Net(held.numbers, held.edges, held.images, group)


@given(name=st.sampled_from(sorted(GOLDEN_CELLS)), seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_a_rattled_crystal_gets_its_group_back(name: str, seed: int) -> None:
    ideal, group = golden_structures()[name], GOLDEN_CELLS[name][0]
    found = symmetrise(rattled(ideal, seed, 0.04), net(ideal, group), SPEC)
    assert found.done
    assert (found.asked, found.after, found.reason) == (group, group, None)
    assert found.before != group
    assert symmetry(found.structure, 1e-3).number == group
    assert found.structure.atomic_numbers == ideal.atomic_numbers
    assert found.structure.volume == pytest.approx(ideal.volume, rel=0.06)


def test_what_is_not_possible_says_why() -> None:
    ideal = golden_structures()["GaN"]
    assert symmetrise(ideal, net(ideal, None), SPEC).reason == NO_GROUP
    assert symmetrise(ideal, net(ideal, 186), SPEC).reason == HAS_IT
    assert symmetrise(ideal, net(ideal, 225), SPEC).reason == NOT_FOUND
    far = rattled(ideal, 0, 0.04)
    strict = SlicesSpec(symmetrise=True, max_move=1e-3)
    refused = symmetrise(far, net(ideal, 186), strict)
    assert (refused.done, refused.reason) == (False, MOVED)
    assert refused.structure is far
    assert refused.after == refused.before != 186


def test_other_bonds_are_refused() -> None:
    rock_salt, caesium_chloride = golden_structures()["NaCl"], golden_structures()["CsCl"]
    other = net(caesium_chloride, 225)
    assert symmetrise(rattled(rock_salt, 1, 0.03), other, SPEC).reason == module.OTHER_NET


def test_sets_record_what_came_of_it() -> None:
    crystal = golden_structures()["GaN"]
    strings = [encode(crystal), encode(crystal, SlicesSpec(prefix=False))]
    found = refined_set(sequence_set(strings, [None] * 2, [0, 1], {}), SPEC, InProcess())
    assert found.column("group_asked") == [186, None]
    assert found.column("group_after")[0] == 186
    assert found.column("symmetrise_reason")[1] == NO_GROUP
    assert found.column("symmetrised")[1] is False
