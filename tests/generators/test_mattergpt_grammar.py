"""The grammar admits exactly the strings that are nets, and never runs into a dead end."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.generators.mattergpt.grammar import Constraint, Grammar
from crysgen_aiida.generators.mattergpt.tokenizer import END, get_tokenizer
from crysgen_aiida.representations.slices.checker import check
from crysgen_aiida.representations.slices.nets import parse

TOKENIZER = get_tokenizer(20)

SRTIO3 = (
    "+ v b OOO c OOO d OOO e OOO o Sr Ti O O O 0 2 --o 0 2 -oo 0 2 o-o 0 2 ooo 0 3 -o- 0 3 -oo 0 3 oo- 0 3 ooo 0 4 o-- "
    "0 4 o-o 0 4 oo- 0 4 ooo 1 4 ooo 1 4 +oo 1 3 ooo 1 3 o+o 1 2 ooo 1 2 oo+"
)


def walk(rng: np.random.Generator, budget: int, prefix: bool, stop: float, constraint: Constraint | None = None) -> str:
    """Write a string at random under the mask; ``stop`` is how eagerly it ends."""
    grammar = Grammar(TOKENIZER, prefix=prefix)
    row = grammar.row(budget, constraint)
    ids: list[int] = []
    while not ids or ids[-1] != END:
        allowed = np.flatnonzero(grammar.mask([row])[0])
        assert len(allowed), f"dead end after {TOKENIZER.decode(ids)!r}"
        token = END if END in allowed and rng.random() < stop else int(rng.choice(allowed))
        row.push(token)
        ids.append(token)
    assert len(ids) <= budget
    return TOKENIZER.decode(ids)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), budget=st.integers(32, 160), prefix=st.booleans(), stop=st.sampled_from([0.0, 0.3, 1.0])
)
def test_whatever_is_written_under_the_mask_is_one_net_within_the_budget(seed, budget, prefix, stop):
    string = walk(np.random.default_rng(seed), budget, prefix, stop)
    assert check(string, "strict", duplicates=False).ok
    assert (parse(string).space_group is not None) == prefix


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), units=st.sampled_from(["NaCl", "SrTiO3", "Al2O3", "Si"]))
def test_a_composition_is_written_as_a_whole_multiple(seed, units):
    constraint = Constraint.read(composition=units)
    net = parse(walk(np.random.default_rng(seed), 150, False, 0.5, constraint))
    counts = Counter(net.numbers.tolist())
    ratios = {counts[z] / n for z, n in constraint.composition}
    assert set(counts) == {z for z, _ in constraint.composition}
    assert len(ratios) == 1
    assert ratios.pop().is_integer()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), budget=st.integers(45, 120))
def test_all_requested_elements_occur_and_no_others(seed, budget):
    net = parse(walk(np.random.default_rng(seed), budget, True, 0.5, Constraint.read(["O", "Ti", "Sr", "Ba"])))
    assert set(net.numbers.tolist()) == {8, 22, 38, 56}


def test_a_good_string_is_admitted_token_by_token_and_a_repeated_bond_is_not():
    grammar = Grammar(TOKENIZER, prefix=True)
    row = grammar.row(200)
    for token in [*TOKENIZER.encode(SRTIO3), END]:
        assert grammar.mask([row])[0][token], f"refused {TOKENIZER.tokens[token]!r}"
        row.push(token)
    again = grammar.row(200)
    for token in TOKENIZER.encode(SRTIO3):
        again.push(token)
    for word in ("2", "0"):  # the bond 0 2 --o, written from its other end
        again.push(TOKENIZER.ids[word])
    assert not grammar.mask([again])[0][TOKENIZER.ids["++o"]]
    assert not grammar.mask([again])[0][TOKENIZER.ids["ooo"]]
    assert grammar.mask([again])[0][TOKENIZER.ids["+++"]]


@pytest.mark.parametrize(
    ("head", "refused"),
    [
        ("Si Si", ["2", "ooo", "<end>", "+"]),  # no such atom; a label or the end too early
        ("Si Si 0 0", ["ooo", "0"]),  # an atom is not bonded to itself in its own cell
        ("Si Si 0 1 o-- 0 1 -o- 0 1 --o", ["<end>"]),  # rank 2 only
        ("Si 0 0 ++o 0 0 o++ 0 0 +o+", ["<end>"]),  # rank 3, but index 2
        ("Si Si 0 0 +oo 0 0 o+o 0 0 oo+", ["<end>"]),  # a loose atom
    ],
)
def test_what_cannot_stand_there_is_refused(head, refused):
    grammar = Grammar(TOKENIZER, prefix=False)
    row = grammar.row(100)
    for token in TOKENIZER.encode(head):
        row.push(token)
    mask = grammar.mask([row])[0]
    assert not any(mask[TOKENIZER.ids[word]] for word in refused)
    assert mask.any()


def test_impossible_headers_are_refused_with_a_sentence():
    for kwargs, words in [
        ({"elements": ["Xx"]}, "no element"),
        ({"composition": "Ca12Al14O33"}, "does not fit"),
        ({"composition": "not a formula!"}, "not a chemical formula"),
        ({"elements": ["Na"], "composition": "NaCl"}, "not made of exactly"),
    ]:
        with pytest.raises(ImpossibleRequest, match=words):
            Constraint.read(**kwargs)
