"""Strings and nets: four spellings, canonical form, augmentation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from slices_nets import GOLDEN, any_nets, reason_of, valid_nets

from crysgen_aiida.representations.slices.checker import check
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.nets import (
    Net,
    augment,
    augmented_strings,
    canonical,
    parse,
    to_string,
)
from crysgen_aiida.representations.slices.tokens import VOCABULARY


@given(net=any_nets())
def test_strategy_4_reads_back_what_it_wrote(net: Net) -> None:
    assert parse(to_string(net)) == net
    assert set(to_string(net).split()) <= set(VOCABULARY)


@given(net=any_nets(), strategy=st.sampled_from([2, 3]))
def test_strategies_2_and_3_keep_all_but_the_prefix(net: Net, strategy: int) -> None:
    bare = Net(net.numbers, net.edges, net.images)
    assert parse(to_string(net, strategy), strategy) == bare


@given(net=any_nets())
def test_strategy_1_keeps_every_bonded_atom(net: Net) -> None:
    assume(net.n_edges and len(set(net.edges.ravel().tolist())) == net.n_atoms)
    assert parse(to_string(net, 1), 1) == Net(net.numbers, net.edges, net.images)


def test_the_layouts_are_the_published_ones() -> None:
    net = parse("+ t a ODD a DOD b OOO c OOO d OOO e OOO o B Na 0 1 -o+")
    assert net.space_group == 225
    assert to_string(net, 1) == "B Na 0 1 - o +"
    assert to_string(net, 2) == "B_Na0001-o+"
    assert to_string(net, 3) == "B Na 0 1 - o +"
    assert to_string(net, 4, prefix=False) == "B Na 0 1 -o+"


@pytest.mark.parametrize(
    ("string", "sentence"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("o z", "no element symbol"),
        ("o z x Na 0 0 +oo", "not that of any space group"),
        ("Na 0 0 +o", "not allowed"),
        ("Na 0 0", "incomplete"),
        ("Na 0 1 +oo", "not in the header"),
        ("Na 0 99999999999999999999 +oo", "not in the header"),
        ("Na 0 -1 +oo", "not allowed"),
        ("Na 0 ² +oo", "not allowed"),
        ("Na 0 0 +oo Cl", "incomplete"),
        ("Na 0 0 +oo Cl 0 +oo", "not allowed"),
        ("Uuo 0 0 +oo", "no element symbol"),
    ],
)
def test_what_is_not_a_string_says_why(string: str, sentence: str) -> None:
    with pytest.raises(SlicesError, match=sentence):
        parse(string)


@given(words=st.lists(st.sampled_from([*VOCABULARY, "?", "20", "-"]), max_size=40), strategy=st.integers(1, 4))
def test_any_words_give_a_net_or_a_reason(words: list[str], strategy: int) -> None:
    reason = reason_of(lambda: parse(" ".join(words), strategy))
    assert reason is None or reason.endswith(".")


@given(text=st.text(max_size=30), strategy=st.integers(1, 4))
def test_any_text_gives_a_net_or_a_reason(text: str, strategy: int) -> None:
    reason = reason_of(lambda: parse(text, strategy))
    assert reason is None or reason.endswith(".")


@given(net=any_nets())
def test_the_canonical_form_is_idempotent_and_keeps_counts(net: Net) -> None:
    once = canonical(net)
    assert canonical(once) == once
    assert sorted(once.numbers) == sorted(net.numbers)
    assert once.n_edges == net.n_edges
    assert (np.diff(once.numbers) >= 0).all()
    assert (once.edges[:, 0] <= once.edges[:, 1]).all()


@given(net=any_nets(), seed=st.integers(0, 2**32), axes=st.permutations([0, 1, 2]))
@settings(max_examples=150)
def test_the_canonical_form_of_unlike_atoms_does_not_depend_on_how_they_are_written(
    net: Net, seed: int, axes: list[int]
) -> None:
    assume(len(set(net.numbers.tolist())) == net.n_atoms)
    other = augment(Net(net.numbers, net.edges, net.images[:, axes], net.space_group), np.random.default_rng(seed))
    assert canonical(other) == canonical(net)


def test_the_published_canonical_form_sorts_columns_by_their_sums() -> None:
    form = canonical(parse("Cl Na 1 0 -o+ 0 1 ++o 0 1 +oo"), "paper")
    assert to_string(form) == "Na Cl 0 1 --o 0 1 -oo 0 1 -o+"


@given(net=valid_nets(), seed=st.integers(0, 2**32))
def test_augmentation_keeps_the_net(net: Net, seed: int) -> None:
    other = augment(net, np.random.default_rng(seed))
    assert check(other).ok
    assert sorted(other.numbers) == sorted(net.numbers)
    assert other.n_edges == net.n_edges
    rows = {_invariant(net), _invariant(other)}
    assert len(rows) == 1


def _invariant(net: Net) -> tuple[tuple[int, ...], ...]:
    """Return elements at both ends with the image up to direction, sorted: any relabelling keeps it."""
    rows = []
    for (u, v), w in zip(net.edges.tolist(), net.images.tolist(), strict=True):
        a = (int(net.numbers[u]), int(net.numbers[v]), *w)
        b = (int(net.numbers[v]), int(net.numbers[u]), *(-x for x in w))
        rows.append(min(a, b))
    return tuple(sorted(rows))


def test_augmentation_is_reproducible_and_its_strings_differ() -> None:
    net = parse(GOLDEN["SrTiO3"])
    first = augmented_strings(net, 50, np.random.default_rng(7))
    assert first == augmented_strings(net, 50, np.random.default_rng(7))
    assert first != augmented_strings(net, 50, np.random.default_rng(8))
    assert len(set(first)) == len(first) == 50


def test_augmentation_of_a_tiny_net_gives_what_there_is() -> None:
    strings = augmented_strings(parse("Po 0 0 +oo 0 0 o+o 0 0 oo+"), 1000, np.random.default_rng(0))
    assert len(strings) == 6 * 8  # orders of three loops times their directions


def test_duplicates_are_removed_also_when_reversed() -> None:
    net = parse("Na Cl 0 1 +oo 1 0 -oo 0 1 +oo 0 0 o+o 0 0 o-o")
    assert to_string(net.without_duplicates()) == "Na Cl 0 1 +oo 0 0 o+o"
