"""Questions at the edge of the language: nothing to compare with, factors, many conditions, numbers too large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from filled_index import Made, Value, add, new_index

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.store.index.database import Index
from crysgen_aiida.store.index.results import read_results
from crysgen_aiida.store.language.place import clean
from crysgen_aiida.store.query import plain_query, rank_candidates, select_candidates


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    held = new_index(tmp_path)
    wish = {"target.band_gap": 2.0}
    gaps = [{("band_gap", "mace-mp"): Value(gap)} for gap in (1.5, 3.0)]
    add(held, Made(columns=wish, values=gaps[0]), Made(columns=wish), Made(columns=wish, values=gaps[1]))
    yield held
    held.close()


def rows(found: Any) -> list[int]:
    return [int(row) for row in found.row]


@pytest.mark.parametrize(
    "where", ["method(band_gap) != 'dft'", "not method(band_gap) = 'dft'", "not method(band_gap) in ('dft')"]
)
def test_what_is_missing_satisfies_nothing_where_nobody_used_such_a_method(index: Index, where: str) -> None:
    assert rows(select_candidates(index, where)) == [0, 2]


def test_a_constraint_without_values_is_unknown_where_there_is_no_value(index: Index) -> None:
    rule = {"constraints": [["not", ["band_gap", "in", []]]]}
    assert rows(rank_candidates(index, rule)) == [0, 2]
    assert rows(rank_candidates(index, {"constraints": [["band_gap", "in", []]]})) == []


@pytest.mark.parametrize(("times", "kept"), [(0.5, [0, 2]), (1, [2]), (2, [])])
def test_a_factor_of_another_column_counts(index: Index, times: float, kept: list[int]) -> None:
    from crysgen_aiida.data.ranking import Query, rank_frame

    rule = Query.from_dict({"constraints": [["band_gap", ">", {"column": "target.band_gap", "times": times}]]})
    found = rank_candidates(index, rule)
    assert rows(found) == kept == rank_frame(select_candidates(index, columns=["*"]).frame(), rule).rows
    again = plain_query(index, rule)
    assert rows(rank_candidates(index, again)) == kept


@pytest.mark.parametrize(
    "rule",
    [
        {"objectives": ["band_gap"]},
        {"objectives": "band_gap"},
        {"objectives": {"band_gap": 3}},
        {"objectives": {"band_gap": {"limits": 3}}},
        {"constraints": 3},
        {"constraints": {"band_gap": 1}},
    ],
    ids=str,
)
def test_a_rule_of_another_form_is_a_sentence(index: Index, rule: Any) -> None:
    with pytest.raises(BadInput, match=r"(constraints|objectives) of a ranking|The objective band_gap"):
        rank_candidates(index, rule)


def test_many_conditions_are_counted_as_few_are(index: Index) -> None:
    told = ["target.band_gap > 0", *["band_gap > 0"] * 300, *["band_gap > 2"] * 190]
    found = rank_candidates(index, {}, where=" and ".join(told))
    assert rows(found) == [2]
    assert [n for _, n in found.funnel] == [3, 3, *[2] * 300, *[1] * 190]
    few = rank_candidates(index, {}, where="target.band_gap > 0 and band_gap > 0 and band_gap > 2")
    assert [n for _, n in few.funnel] == [3, 3, 2, 1]
    with pytest.raises(BadInput, match="more than one question can ask"):
        select_candidates(index, ["band_gap > 0"] * 1200)


def test_numbers_too_large_for_a_unit_are_refused(index: Index) -> None:
    with pytest.raises(ImpossibleRequest, match="too large a number"):
        select_candidates(index, "band_gap > 1e308 MeV")


def test_results_that_are_no_numbers_or_too_large_are_left_out_and_hostile_names_are_shown_as_text() -> None:
    given = [
        ("band_gap", float("inf"), "meV", None),
        ("band_gap", 1e308, "MeV", None),
        ("band_gap", 1500.0, "meV", float("inf")),
        ("\x1b[2Jgap", 1.0, "eV\x1b", None),
        ("band_gap", 1.0, "e\x1b[31mV", None),
    ]
    names, values, units, sigmas = (list(column) for column in zip(*given, strict=True))
    table = pa.table(
        {
            "address": [f"{'a' * 36}:{k}" for k in range(len(given))],
            "property": names,
            "value": values,
            "unit": units,
            "uncertainty": pa.array(sigmas, pa.float64()),
            "method": ["pbe-x"] * len(given),
        }
    )
    found = read_results(table)
    assert found.values == {("band_gap", "eV", "pbe-x"): {("a" * 36, 2): (1.5, None)}}
    assert found.refused == 4
    said = found.complaints("b" * 36, 1)
    assert all(line.isprintable() for line in said)
    assert any("[2Jgap" in line for line in said)


def test_no_explanation_carries_an_escape_sequence() -> None:
    from crysgen_aiida.store.explain.why import render
    from crysgen_aiida.store.trace import render as render_trace

    evil = "\x1b[2J\nlabel"
    found = {
        "reduced_formula": evil, "address": "a" * 36 + ":1", "run": {"pk": 1, "uuid": "u"}, "rank": None, "of": 1,
        "candidates": 1, "would_rank": 1, "rule": {"method": evil}, "objectives": [], "above": [], "below": [],
        "constraints": [{"constraint": evil, "met": False, "met_by": 0, "value": {"label": evil}, "reason": evil}],
        "kept_out_total": 0,
    }  # fmt: skip
    traced = {
        "address": "a" * 36 + ":1", "screens": [],
        "chain": [{"kind": "set", "what": evil, "uuid": "u" * 36, "row": 1, "content": {"note": evil}}],
    }  # fmt: skip
    for text in (render(found), render_trace(traced)):
        assert all(line.isprintable() for line in text.split("\n"))
        assert "[2J·label" in text
    assert clean("Bi₂O₃ ≤ 5") == "Bi₂O₃ ≤ 5"
