"""Ranking: constraints, desirability, Pareto fronts, stable ties."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.data.ranking import Query, pareto_fronts, rank_frame

FRAME = pd.DataFrame(
    {
        "row": [0, 1, 2, 3, 4],
        "energy": [0.1, 0.0, None, 0.1, 0.5],
        "gap": [1.0, 2.0, 2.0, 1.0, 9.0],
        "valid": [True, True, True, True, None],
    }
)


def ranked(**query):
    return rank_frame(FRAME, Query.from_dict(query))


def test_constraints_drop_missing_values_and_are_counted():
    ranking = ranked(constraints=[["valid", "==", True], ["energy", "<=", 0.1]])
    assert ranking.rows == [0, 1, 3]
    assert ranking.funnel == [("all", 5), ("valid == True", 4), ("energy <= 0.1", 3)]


def test_objectives_order_and_ties_keep_the_order_of_rows():
    assert ranked(objectives={"energy": "lower"}).rows == [1, 0, 3, 4, 2]
    assert ranked(objectives={"energy": "higher"}).rows == [4, 0, 3, 1, 2]
    assert ranked(objectives={"gap": {"direction": "target", "target": 2.0}}, limit=2).rows == [1, 2]
    shuffled = rank_frame(FRAME.sample(frac=1, random_state=1), Query.from_dict({"objectives": {"energy": "lower"}}))
    assert shuffled.rows == [1, 0, 3, 4, 2]


@pytest.mark.parametrize("method", ["weighted", "pareto", "lexicographic"])
def test_a_missing_objective_value_comes_last_by_every_method(method):
    ranking = ranked(objectives={"energy": "lower", "gap": "higher"}, method=method)
    assert ranking.rows[-1] == 2
    assert sorted(ranking.rows) == [0, 1, 2, 3, 4]


def test_lexicographic_lets_the_first_objective_decide():
    assert ranked(objectives={"gap": "higher", "energy": "lower"}, method="lexicographic").rows == [4, 1, 0, 3, 2]


def test_limits_fix_the_scale():
    ranking = ranked(objectives={"gap": {"direction": "higher", "limits": [0.0, 10.0]}})
    assert ranking.rows == [4, 1, 2, 0, 3]
    assert ranking.scores == pytest.approx([0.9, 0.2, 0.2, 0.1, 0.1])


@pytest.mark.parametrize(
    ("query", "error", "complaint"),
    [
        ({"constraints": [["nonsense", ">", 1]]}, ImpossibleRequest, "nonsense"),
        ({"constraints": [["gap", "~", 1]]}, BadInput, "use one of"),
        ({"objectives": {"gap": "best"}}, BadInput, "lower, higher, target"),
        ({"objectives": {"gap": "target"}}, BadInput, "give a target"),
        ({"objectives": {"gap": {"direction": "lower", "wieght": 2}}}, BadInput, "wieght"),
        ({"method": "magic"}, BadInput, "weighted, pareto, lexicographic"),
        ({"sort": 1}, BadInput, "no setting sort"),
    ],
)
def test_mistakes_are_sentences(query, error, complaint):
    with pytest.raises(error, match=complaint):
        ranked(**query)


def test_a_query_survives_the_round_trip():
    held = {"constraints": [["gap", ">", 1.0]], "objectives": {"gap": {"direction": "target", "target": 2.0}}}
    query = Query.from_dict(held)
    assert Query.from_dict(query.to_dict()) == query


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_fronts_agree_with_the_definition(points):
    wishes = np.array(points, dtype=float)
    fronts = pareto_fronts(wishes)

    def dominates(a, b):
        return bool((wishes[a] >= wishes[b]).all() and (wishes[a] > wishes[b]).any())

    for a, b in itertools.permutations(range(len(points)), 2):
        if dominates(a, b):
            assert fronts[a] < fronts[b]
    for b in np.flatnonzero(fronts > 0):
        assert any(fronts[a] == fronts[b] - 1 and dominates(a, b) for a in range(len(points)))
