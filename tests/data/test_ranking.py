"""Ranking: constraints, desirability, Pareto fronts, uncertainty, diversity, stable ties."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.data.ordering import Objective, Ranker
from crysgen_aiida.data.ranking import METHODS, Query, pareto_fronts, rank_frame

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


# -- brute force -----------------------------------------------------------------------------------------------------
# The definitions written down once more, in plain Python, one candidate at a time.


def wished(value, sigma, objective, others):
    """Desirability of one value; ``others`` are all (value, sigma) pairs of the column."""

    def distance(v, s):
        if v is None:
            return None
        d = {"lower": v, "higher": -v, "target": abs(v - (objective.target or 0.0))}[objective.direction]
        if objective.confidence:
            s = objective.sigma if s is None else s
            if s is None:
                return None
            d = d + objective.confidence * s
            d = max(d, 0.0) if objective.direction == "target" else d
        return d

    mine = distance(value, sigma)
    if mine is None:
        return None
    if objective.limits is None:
        known = [d for d in (distance(*o) for o in others) if d is not None]
        worst, best = max(known), min(known)
    else:
        worst, best = objective.limits
        if objective.direction == "higher":
            worst, best = -worst, -best
    return 1.0 if worst == best else min(1.0, max(0.0, (worst - mine) / (worst - best)))


def dominates(a, b):
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))


def fronts_by_definition(points):
    fronts, left, number = {}, dict(enumerate(points)), 0
    while left:
        best = [i for i in left if not any(dominates(left[j], left[i]) for j in left)]
        for i in best:
            fronts[i] = number
            del left[i]
        number += 1
    return [fronts[i] for i in range(len(points))]


def ranked_by_definition(ties, columns, sigmas, objectives, method):
    """Return positions, scores and fronts of all candidates, best first."""
    n = len(ties)
    wishes = [
        [wished(v, s, o, list(zip(c, u, strict=True))) for v, s in zip(c, u, strict=True)]
        for c, u, o in zip(columns, sigmas, objectives, strict=True)
    ]
    rows = [[w[i] for w in wishes] for i in range(n)]
    total = sum(o.weight for o in objectives)
    scores = [sum(o.weight * (w or 0.0) for o, w in zip(objectives, row, strict=True)) / total for row in rows]
    fronts = [0] * n
    if method == "pareto":
        fronts = fronts_by_definition([[-1.0 if w is None else w for w in row] for row in rows])

    def key(i):
        unknown = any(w is None for w in rows[i])
        if method == "lexicographic":
            return (unknown, *(-round(w or 0.0, 12) for w in rows[i]), ties[i])
        return (unknown, fronts[i], -round(scores[i], 12), ties[i])

    order = sorted(range(n), key=key)
    return order, [scores[i] for i in order], [fronts[i] for i in order]


def random_case(rng):
    """A small ranking full of ties, missing values and uncertainties."""
    n, k = int(rng.integers(0, 13)), int(rng.integers(1, 4))

    def numbers(missing, scale, low=-3, high=4):
        values = (rng.integers(low, high, n) * scale).tolist()
        return [None if gone else v for v, gone in zip(values, rng.random(n) < missing, strict=True)]

    columns = [numbers(0.2, 0.5) for _ in range(k)]
    sigmas = [numbers(0.4, 0.25, 0, 4) for _ in range(k)]
    objectives = []
    for j in range(k):
        direction = str(rng.choice(["lower", "higher", "target"]))
        objectives.append(
            Objective(
                f"c{j}",
                direction,
                float(rng.integers(-2, 3)) if direction == "target" else None,
                float(rng.integers(1, 4)),
                None if rng.random() < 0.5 else (float(rng.integers(-2, 3)), float(rng.integers(-2, 3))),
                float(rng.choice([0.0, 0.0, 1.0, 2.0, -1.0])),
                None if rng.random() < 0.5 else 0.5,
            )
        )
    return rng.permutation(n) * 3, columns, sigmas, objectives


def as_array(values):
    return np.array([np.nan if v is None else v for v in values], dtype=float)


@pytest.mark.parametrize("method", METHODS)
def test_ranking_agrees_with_brute_force_on_thousands_of_random_cases(method):
    rng = np.random.default_rng(METHODS.index(method))
    for case in range(3400):
        ties, columns, sigmas, objectives = random_case(rng)
        order, scores, fronts = ranked_by_definition(ties.tolist(), columns, sigmas, objectives, method)
        arrays, unsure = [as_array(c) for c in columns], [as_array(s) for s in sigmas]
        ranker = Ranker(ties, arrays, objectives, method, unsure)
        found = ranker.best()
        assert found.positions.tolist() == order, f"case {case}"
        assert found.scores.tolist() == pytest.approx(scores, abs=1e-12)
        assert found.fronts.tolist() == fronts
        limit = int(rng.integers(0, len(ties) + 2))
        top = ranker.best(limit)
        assert top.positions.tolist() == order[:limit], f"case {case}, the best {limit}"
        assert top.fronts.tolist() == fronts[:limit]


def test_caps_for_diversity_agree_with_a_walk_down_the_order():
    rng = np.random.default_rng(7)
    for case in range(500):
        ties, columns, sigmas, objectives = random_case(rng)
        order, _, _ = ranked_by_definition(ties.tolist(), columns, sigmas, objectives, "pareto")
        kinds = [[None if v < 0 else int(v) for v in rng.integers(-1, 4, len(ties))] for _ in range(2)]
        caps = [int(c) for c in rng.integers(1, 4, 2)]
        limit = None if rng.random() < 0.3 else int(rng.integers(0, 8))
        expected: list[int] = []
        for i in order:
            shared = [sum(kind[j] == kind[i] for j in expected) if kind[i] is not None else 0 for kind in kinds]
            if (limit is None or len(expected) < limit) and all(s < cap for s, cap in zip(shared, caps, strict=True)):
                expected.append(i)
        arrays, unsure = [as_array(c) for c in columns], [as_array(s) for s in sigmas]
        ranker = Ranker(ties, arrays, objectives, "pareto", unsure)
        found = ranker.diverse(caps, lambda at, kinds=kinds: [[kind[i] for i in at] for kind in kinds], limit)
        assert found.positions.tolist() == expected, f"case {case}"


def test_a_frame_is_ranked_as_its_columns_are():
    rng = np.random.default_rng(11)
    for case in range(150):
        ties, columns, sigmas, objectives = random_case(rng)
        method = METHODS[case % 3]
        frame = pd.DataFrame({"row": ties, **{f"c{j}": as_array(c) for j, c in enumerate(columns)}})
        for j, s in enumerate(sigmas):
            frame[f"c{j}_uncertainty"] = as_array(s)
        order, scores, fronts = ranked_by_definition(ties.tolist(), columns, sigmas, objectives, method)
        query = Query.from_dict(Query(objectives=tuple(objectives), method=method).to_dict())
        found = rank_frame(frame, query)
        assert found.rows == [int(ties[i]) for i in order]
        assert (found.scores, found.fronts) == (pytest.approx(scores, abs=1e-12), fronts)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_fronts_of_a_hundred_thousand_points_take_well_under_a_second(k):
    points = np.random.default_rng(0).random((100_000, k))
    start = time.perf_counter()
    fronts = pareto_fronts(points, at_least=50)
    assert time.perf_counter() - start < 1.0
    best = np.flatnonzero(fronts == 0)
    # all of a sample are dominated by a point of the first front, or in it
    for i in range(0, 100_000, 999):
        assert fronts[i] == 0 or any(dominates(points[j], points[i]) for j in best)


def test_partial_fronts_are_those_of_the_whole():
    rng = np.random.default_rng(3)
    for spread in (1.0, 0.01):  # many small fronts, and few large ones
        points = np.round(rng.random((400, 1)) + spread * rng.random((400, 4)), 2)
        whole = pareto_fronts(points)
        for at_least in (1, 50, 399):
            some = pareto_fronts(points, at_least)
            reached = int(np.sort(whole)[at_least - 1])
            known = whole <= reached
            assert (some[known] == whole[known]).all()
            assert (some[~known] > reached).all()


# -- uncertainty, diversity, nested constraints on frames ------------------------------------------------------------

WIDE = pd.DataFrame(
    {
        "row": range(6),
        "reduced_formula": ["NaCl", "NaCl", "KCl", "BiFeO3", None, "Fe2O3"],
        "duplicate_of": pd.array([None, 0, None, None, None, None], dtype="Int64"),
        "gap": [5.0, 4.9, 4.8, 2.0, 1.0, None],
        "gap_uncertainty": [1.0, 0.1, None, 0.0, 0.0, 0.0],
        "valid": pd.array([True, True, None, False, True, True], dtype="boolean"),
    }
)


def wide(**query):
    return rank_frame(WIDE, Query.from_dict(query))


def test_a_confidence_ranks_by_the_worse_end_and_says_nothing_of_what_is_unsure():
    assert wide(objectives={"gap": "higher"}).rows == [0, 1, 2, 3, 4, 5]
    assert wide(objectives={"gap": {"direction": "higher", "confidence": 1}}).rows == [1, 0, 3, 4, 2, 5]
    assert wide(objectives={"gap": {"direction": "higher", "confidence": 1, "sigma": 0.5}}).rows == [1, 2, 0, 3, 4, 5]
    near = {"direction": "target", "target": 5.0, "confidence": 1.0}
    assert wide(objectives={"gap": near}).rows[:2] == [1, 0]


def test_diversity_keeps_the_best_of_each_kind():
    ranking = wide(objectives={"gap": "higher"}, diversity={"formula": 1})
    assert ranking.rows == [0, 2, 3, 4, 5]  # a crystal without a formula shares it with nobody
    assert ranking.funnel == [("all", 6), ("at most 1 of a formula", 5)]
    assert wide(objectives={"gap": "higher"}, diversity={"structure": 1}, limit=2).rows == [0, 2]
    assert wide(objectives={"gap": "higher"}, diversity={"elements": 2}).rows == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("constraint", "rows"),
    [
        (["elements", "all", ["Na"]], [0, 1]),
        (["elements", "any", ["Bi", "K"]], [2, 3]),
        (["elements", "only", ["Na", "K", "Cl"]], [0, 1, 2]),
        (["elements", "are", ["Fe", "O"]], [5]),
        (["not", ["elements", "any", ["Cl"]]], [3, 5]),
        (["gap", "missing", True], [5]),
        (["gap", "missing", False], [0, 1, 2, 3, 4]),
        (["not", ["valid", "==", True]], [3]),
        (["or", [["valid", "==", True], ["gap", "<", 4.85]]], [0, 1, 2, 3, 4, 5]),
        (["and", [["valid", "==", True], ["not", ["gap", ">", 4.0]]]], [4]),
        (["gap", "between", [2.0, 4.8]], [2, 3]),
        (["reduced_formula", "in", ["KCl", "Fe2O3"]], [2, 5]),
        (["gap", ">", {"column": "row", "times": 2.0}], [0, 1, 2]),
    ],
)
def test_nested_constraints_are_answered_as_a_database_answers_them(constraint, rows):
    query = Query.from_dict({"constraints": [constraint]})
    assert rank_frame(WIDE, query).rows == rows
    assert Query.from_dict(query.to_dict()) == query
    assert len(rank_frame(WIDE, query).funnel) == 2


def test_a_query_without_new_settings_is_written_as_it_always_was():
    held = {
        "constraints": [["status", "==", "ok"]],
        "objectives": {"gap": {"direction": "target", "target": 2.0, "weight": 1.0, "limits": (0.5, 0.0)}},
        "method": "weighted",
        "limit": None,
    }
    assert Query.from_dict(held).to_dict() == held


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ({"constraints": ["gap > 1"]}, "is a list"),
        ({"constraints": [["gap", ">"]]}, "has no value"),
        ({"constraints": [["gap", "in", 3]]}, "list of values"),
        ({"constraints": [["gap", "between", [1]]]}, "two numbers"),
        ({"objectives": {"gap": {"weight": 0}}}, "weight 0"),
        ({"objectives": {"gap": {"weight": -1}}}, "not below 0"),
        ({"objectives": {"gap": {"confidence": "high"}}}, "give a number"),
        ({"objectives": {"gap": {"limits": [1]}}}, "two numbers"),
        ({"limit": "ten"}, "whole number"),
        ({"limit": -1}, "at least 0"),
        ({"diversity": {"colour": 1}}, "formula, elements, structure"),
        ({"diversity": {"formula": 0}}, "at least 1"),
        ({"diversity": "formula"}, "formula: 1"),
    ],
)
def test_further_mistakes_are_sentences(query, complaint):
    with pytest.raises(BadInput, match=complaint):
        wide(**query)


def test_text_is_not_compared_with_numbers():
    with pytest.raises(ImpossibleRequest, match="cannot be compared"):
        wide(constraints=[["reduced_formula", "<", 3]])
