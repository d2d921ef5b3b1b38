"""The true test of a net against brute force, and the published heuristics."""

from __future__ import annotations

from itertools import combinations
from math import gcd

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slices_nets import GOLDEN, any_nets, valid_nets

from crysgen_aiida.representations.slices.checker import check, dimensionality
from crysgen_aiida.representations.slices.lattice_algebra import (
    IncrementalNet,
    VoltageLattice,
    build,
    component_labels,
    cycle_basis,
    voltage_rank_index,
)
from crysgen_aiida.representations.slices.nets import Net, augment, parse


def brute_force(vectors: list[list[int]]) -> tuple[int, int]:
    """Return rank and gcd of the 3 x 3 minors of integer vectors."""
    if not vectors:
        return 0, 0
    rank = int(np.linalg.matrix_rank(np.array(vectors)))
    minors = [round(float(np.linalg.det(np.array(rows)))) for rows in combinations(vectors, 3)]
    return rank, gcd(*minors) if rank == 3 else 0


@given(vectors=st.lists(st.lists(st.integers(-5, 5), min_size=3, max_size=3), max_size=7))
@settings(max_examples=300)
def test_rank_and_index_of_a_lattice_are_those_of_its_minors(vectors: list[list[int]]) -> None:
    lattice = VoltageLattice()
    for vector in vectors:
        before = (lattice.rank, lattice.index)
        held = lattice.contains(vector)
        assert lattice.add(vector) != held
        assert lattice.contains(vector)
        if held:
            assert (lattice.rank, lattice.index) == before
    assert (lattice.rank, lattice.index) == brute_force(vectors)


@given(net=any_nets())
@settings(max_examples=300)
def test_rank_and_index_of_a_connected_net_are_those_of_its_cycles(net: Net) -> None:
    if len(set(component_labels(net.edges.tolist(), net.n_atoms))) > 1:
        return
    cycles = cycle_basis(net.edges.tolist(), net.n_atoms)
    assert len(cycles) == net.n_edges - net.n_atoms + 1
    boundary = np.zeros((len(cycles), net.n_atoms), dtype=int)
    voltages = np.zeros((len(cycles), 3), dtype=int)
    for k, cycle in enumerate(cycles):
        for e, sign in cycle.items():
            u, v = net.edges[e]
            boundary[k, v] += sign
            boundary[k, u] -= sign
            voltages[k] += sign * net.images[e]
    assert not boundary.any()  # every cycle closes
    expected = brute_force(voltages.tolist())
    assert voltage_rank_index(net.edges.tolist(), net.images.tolist(), net.n_atoms) == expected
    assert check(net).ok == (expected == (3, 1) and not _self_bonded(net))


def _self_bonded(net: Net) -> bool:
    return any(u == v and not any(w) for (u, v), w in zip(net.edges.tolist(), net.images.tolist(), strict=True))


@given(net=any_nets(), seed=st.integers(0, 2**32))
def test_the_verdict_does_not_depend_on_how_the_net_is_written(net: Net, seed: int) -> None:
    assert check(augment(net, np.random.default_rng(seed))) == check(net)


@given(net=valid_nets())
def test_the_verdict_does_not_depend_on_the_axes(net: Net) -> None:
    unimodular = np.array([[1, 2, 0], [0, 1, -1], [1, 2, 1]])
    assert round(np.linalg.det(unimodular)) == 1
    images = net.images @ unimodular
    assert voltage_rank_index(net.edges.tolist(), images.tolist(), net.n_atoms) == (3, 1)


def test_walks_to_the_root_stay_short() -> None:
    """A chain written backwards hangs every vertex below the next one, if nothing prevents it."""
    n = 256
    net = IncrementalNet(n)
    for k in reversed(range(n - 1)):
        net.add_edge(k, k + 1, (1, 0, 0))
    longest = 0
    for u in range(n):
        steps, at = 0, u
        while net.parent[at] != at:
            steps, at = steps + 1, net.parent[at]
        longest = max(longest, steps)
    assert longest <= 8
    assert net.cycle_voltage(0, n - 1, (0, 0, 0)) == (1 - n, 0, 0)


@given(net=valid_nets())
def test_growing_a_net_never_loses_what_it_has(net: Net) -> None:
    growing = IncrementalNet(net.n_atoms)
    for (u, v), image in zip(net.edges.tolist(), net.images.tolist(), strict=True):
        before = growing.copy()
        growing.add_edge(u, v, image)
        assert growing.components <= before.components
        assert growing.rank >= before.rank
        if before.index:
            assert before.index % growing.index == 0
    assert growing.is_net
    assert growing.copy().is_net


@pytest.mark.parametrize(
    ("string", "sentence"),
    [
        ("Na Cl 0 0 +oo 0 0 o+o 0 0 oo+", "no bond"),
        ("C C 0 1 ooo 0 1 +oo 0 1 o+o", "2 directions"),
        ("C 0 0 +oo", "1 direction"),
        ("C O 0 1 ooo", "no direction"),
        ("Na Cl 0 0 +oo 0 0 o+o 0 0 oo+ 1 1 +oo 1 1 o+o 1 1 oo+", "separate pieces"),
        ("Po 0 0 ++o 0 0 +o+ 0 0 o++", "sublattice"),
        ("Po 0 0 +oo 0 0 o+o 0 0 oo+ 0 0 ooo", "same cell"),
        ("Na 5 5 +oo", "not in the header"),
    ],
)
def test_each_kind_of_bad_net_has_its_reason(string: str, sentence: str) -> None:
    verdict = check(string)
    assert not verdict.ok
    assert sentence in str(verdict.reason)


def test_golden_strings_pass_both_tests() -> None:
    for string in GOLDEN.values():
        assert check(string).ok
    assert check(GOLDEN["CsCl"], "paper").ok


def test_paper_mode_passes_nets_that_cannot_be_decoded_and_rejects_some_that_can() -> None:
    layer = "C C 0 1 ooo 0 1 +oo 0 1 o+o 0 1 ++o"
    assert "three axes" in str(check(layer, "paper").reason)  # this one it finds
    disconnected = "Po Po 0 0 +oo 0 0 o+o 0 0 oo+ 1 1 +oo 1 1 o+o 1 1 oo+"
    assert check(disconnected, "paper").ok
    sublattice = "Po 0 0 ++o 0 0 +o+ 0 0 o++"
    assert check(sublattice, "paper").ok
    rank_2 = "C C 0 1 ooo 0 1 +oo 0 1 o++ 0 1 +++"
    assert voltage_rank_index(*_arrays(rank_2))[0] == 2
    assert check(rank_2, "paper").ok
    good = "C C C 0 0 oo+ 1 0 ++- 0 1 --- 1 1 +o+ 1 2 -o- 2 2 -++ 0 0 -o+"
    assert check(good).ok
    assert not check(good, "paper").ok


def test_repeated_bonds_are_tolerated_unless_refused() -> None:
    string = "Po 0 0 +oo 0 0 o+o 0 0 oo+ 0 0 -oo"
    assert check(string).ok
    assert "twice" in str(check(string, duplicates=False).reason)


def test_dimensionality_counts_periodic_directions() -> None:
    assert [dimensionality(parse(s)) for s in ("C O 0 1 ooo", "C 0 0 +oo", "C 0 0 +oo 0 0 o+o")] == [0, 1, 2]
    assert dimensionality(parse(GOLDEN["NaCl"])) == 3
    assert build([], [], 0).components == 0


def _arrays(string: str) -> tuple[list[list[int]], list[list[int]], int]:
    net = parse(string)
    return net.edges.tolist(), net.images.tolist(), net.n_atoms
