"""Ranking from a command line: against brute force, with missing values and ties."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.store.ranking import build_query, rank

_VALUES = st.one_of(st.none(), st.integers(-3, 3).map(float))
_ROWS = st.lists(st.tuples(_VALUES, _VALUES, st.sampled_from([True, False, None])), min_size=1, max_size=25)


def _frame(rows) -> pd.DataFrame:
    columns = {"row": range(len(rows)), "energy": [r[0] for r in rows], "gap": [r[1] for r in rows]}
    frame = pd.DataFrame({**columns, "valid": pd.array([r[2] for r in rows], dtype="boolean")})
    return frame.astype({"energy": float, "gap": float})


@settings(deadline=None, max_examples=60)
@given(_ROWS, st.integers(-2, 2))
def test_constraints_and_one_objective_agree_with_brute_force(rows, limit: int) -> None:
    base = {"constraints": [["gap", ">=", limit], ["valid", "==", True]]}
    query = build_query(minimize=["energy"], base=base)
    ordered, result = rank(_frame(rows), query)
    kept = [i for i, (_, gap, valid) in enumerate(rows) if gap is not None and gap >= limit and valid]
    expected = sorted(kept, key=lambda i: (rows[i][0] is None, rows[i][0] or 0.0, i))
    assert list(ordered["row"]) == expected
    assert list(ordered["rank"]) == list(range(1, len(kept) + 1))
    assert result.funnel[-1][1] == len(kept)


@settings(deadline=None, max_examples=60)
@given(_ROWS)
def test_no_candidate_is_dominated_by_one_of_a_later_front(rows) -> None:
    query = build_query(minimize=["energy"], maximize=["gap"], method="pareto")
    ordered, _ = rank(_frame(rows), query)
    held = [(r.energy, -r.gap, r.front) for r in ordered.itertuples() if not math.isnan(r.energy + r.gap)]
    for e1, g1, f1 in held:
        for e2, g2, f2 in held:
            if e1 <= e2 and g1 <= g2 and (e1 < e2 or g1 < g2):
                assert f1 < f2
    assert len(ordered) == len(rows)


def test_the_first_objective_decides_when_ranking_is_lexicographic() -> None:
    frame = _frame([(1.0, 5.0, True), (0.0, 0.0, True), (0.0, 1.0, True)])
    ordered, _ = rank(frame, build_query(minimize=["energy"], maximize=["gap"], method="lexicographic"))
    assert list(ordered["row"]) == [2, 1, 0]


def test_unknown_columns_are_met_with_a_suggestion() -> None:
    with pytest.raises(ImpossibleRequest, match="Did you mean energy"):
        rank(_frame([(1.0, 1.0, True)]), build_query(minimize=["enrgy"]))


def test_a_column_cannot_be_wanted_both_ways() -> None:
    with pytest.raises(ImpossibleRequest, match="two directions"):
        build_query(minimize=["gap"], maximize=["gap"])


def test_objectives_replace_those_of_a_recorded_rule_whose_constraints_stay() -> None:
    base = {"constraints": [["status", "==", "ok"]], "objectives": {"energy": "lower"}, "method": "pareto"}
    assert build_query(base=base).method == "pareto"
    replaced = build_query(maximize=["gap"], target={"energy": 1.0}, base=base, limit=3)
    assert [list(c) for c in replaced.constraints] == [["status", "==", "ok"]]
    assert [(o.column, o.direction, o.target) for o in replaced.objectives] == [
        ("gap", "higher", None),
        ("energy", "target", 1.0),
    ]
    assert (replaced.method, replaced.limit) == ("weighted", 3)
