"""Matching: the pre-hash loses nothing, groups are first-of-group, and the pairs it saves are counted."""

from __future__ import annotations

import numpy as np
import pytest
from crystal_strategies import (
    PROTOTYPES,
    QUICK,
    disguise,
    perovskite,
    rocksalt,
    rutile,
    structures,
    wurtzite,
    zincblende,
)
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from crysgen_aiida.crystals.matching import (
    KnownCrystals,
    MatchSpec,
    group_duplicates,
    match_known,
    matches,
    moved,
    prehash,
    rms_distance,
)


@QUICK
@given(name=st.sampled_from(sorted(PROTOTYPES)), seed=st.integers(0, 2**32 - 1), rattle=st.floats(0, 0.03))
def test_the_same_crystal_always_lands_in_the_same_bucket(name: str, seed: int, rattle: float) -> None:
    crystal = PROTOTYPES[name]()
    other = disguise(crystal, np.random.default_rng(seed), rattle)
    assert prehash(other) == prehash(crystal)
    assert matches(crystal, other)


@QUICK
@given(one=structures(), other=structures(), seed=st.integers(0, 2**32 - 1))
def test_whatever_pymatgen_matches_shares_a_bucket(one: Structure, other: Structure, seed: int) -> None:
    matcher = StructureMatcher()
    for left, right in ((one, other), (one, disguise(one, np.random.default_rng(seed)))):
        expected = matcher.fit(left, right)
        if expected:
            assert prehash(left) == prehash(right)
        assert matches(left, right) == expected


def test_oxidation_states_do_not_matter() -> None:
    charged = rocksalt()
    charged.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    assert matches(charged, rocksalt())


def test_groups_are_first_of_group_in_order() -> None:
    rng = np.random.default_rng(3)
    crystals = [
        zincblende(),
        rocksalt(),
        disguise(zincblende(), rng),
        None,
        rutile(),
        disguise(rocksalt(), rng),
        perovskite(),
    ]
    found = group_duplicates(crystals)
    assert found.first == (0, 1, 0, None, 4, 1, 6)
    assert found.groups() == {0: [0, 2], 1: [1, 5], 4: [4], 6: [6]}
    assert found.unique == (0, 1, 4, 6)
    # two true comparisons; without buckets 0 + 1 + 1 + 2 + 2 + 3
    assert found.compared == 2
    assert found.avoided > 0


def test_grouping_equals_pymatgen_on_a_mixed_set() -> None:
    rng = np.random.default_rng(5)
    crystals = [disguise(PROTOTYPES[n](), rng) for n in sorted(PROTOTYPES) * 3]
    ours = sorted(map(tuple, group_duplicates(crystals).groups().values()))
    position = {id(s): i for i, s in enumerate(crystals)}
    theirs = sorted(tuple(sorted(position[id(s)] for s in g)) for g in StructureMatcher().group_structures(crystals))
    assert ours == theirs


def test_polymorphs_of_one_formula_stay_apart() -> None:
    wurtzite_zns = wurtzite(3.82, 6.26, "Zn", "S")
    zincblende_zns = zincblende(5.41, "Zn", "S")
    assert not matches(wurtzite_zns, zincblende_zns)
    assert group_duplicates([wurtzite_zns, zincblende_zns]).unique == (0, 1)


def test_matching_against_known_crystals() -> None:
    rng = np.random.default_rng(1)
    known = [None, rutile(), rocksalt(), rocksalt(), zincblende()]
    found = match_known([disguise(rocksalt(), rng), perovskite(), None, disguise(zincblende(), rng)], known)
    assert found.first == (2, None, None, 4)
    assert found.compared == 2
    # perovskite would have met all four, rocksalt one in vain, zincblende three
    assert found.avoided == 4 + 1 + 3


def test_known_crystals_can_be_asked_again() -> None:
    known = KnownCrystals([rocksalt()])
    assert known.match([rocksalt()]).first == known.match([rocksalt()]).first == (0,)
    assert known.match([]).first == ()


def test_tolerances_decide() -> None:
    stretched = rocksalt()
    stretched.apply_strain([0.06, 0, 0])
    assert matches(rocksalt(), stretched)
    assert not matches(rocksalt(), stretched, MatchSpec(ltol=0.01, stol=0.01, angle_tol=0.5))
    small = rocksalt(4.5)
    assert matches(rocksalt(), small)
    assert not matches(rocksalt(), small, MatchSpec(ltol=0.05, scale=False))


def test_rms_distance_measures_and_refuses() -> None:
    assert rms_distance(rocksalt(), rocksalt()) == pytest.approx(0.0, abs=1e-6)
    pushed = rutile()
    pushed.translate_sites([0], [0.03, 0, 0])
    distance = rms_distance(rutile(), pushed)
    assert distance is not None
    assert 0.005 < distance < 0.1
    assert rms_distance(rocksalt(), rutile()) is None


def test_what_matches_nothing_has_moved_by_the_largest_tolerance() -> None:
    assert moved(rutile(), rutile()) == (pytest.approx(0, abs=1e-6), True)
    pushed = rutile()
    pushed.translate_sites([0], [0.03, 0, 0])
    far, found = moved(rutile(), pushed)
    assert found
    assert 0.01 < far < 0.2
    volume = (rocksalt().volume / len(rocksalt()), rutile().volume / len(rutile()))
    most = 0.5 * 0.5 * sum(v ** (1 / 3) for v in volume)
    assert moved(rocksalt(), rutile()) == (pytest.approx(most), False)
