"""Why a candidate has its rank, compared with what the definition says, for any rule."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from filled_index import Made, Value, add, clear, new_index
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.data.ranking import Query
from crysgen_aiida.store.address import Address
from crysgen_aiida.store.explain.case import Case
from crysgen_aiida.store.explain.runs import Found, Run
from crysgen_aiida.store.index.database import Index
from crysgen_aiida.store.query import rank_candidates
from crysgen_aiida.store.reading import reading

#: Quarters are exact in binary, and ties are frequent.
GRID = st.one_of(st.none(), st.integers(-8, 16).map(lambda n: n / 4))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    held = new_index(tmp_path_factory.mktemp("why"))
    yield held
    held.close()


@st.composite
def objectives(draw: st.DrawFn) -> dict[str, Any]:
    wishes: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(["band_gap", "energy", "coverage"]), unique=True, max_size=3)):
        wish: dict[str, Any] = {"direction": draw(st.sampled_from(["lower", "higher", "target"]))}
        if wish["direction"] == "target":
            wish["target"] = draw(st.integers(-4, 12)) / 4
        if draw(st.booleans()):
            wish["limits"] = draw(st.sampled_from([(3.0, 0.0), (0.0, 3.0), (1.0, 1.0), (-1.0, 2.5)]))
        wish["weight"] = draw(st.sampled_from([1.0, 0.25, 3.0]))
        if draw(st.integers(0, 4)) == 0:
            wish |= {"confidence": draw(st.sampled_from([1.0, -2.0])), "sigma": draw(st.sampled_from([None, 0.5]))}
        wishes[name] = wish
    return wishes


def test_the_place_without_constraints_follows_the_definition(index: Index) -> None:
    @settings(max_examples=120, deadline=None)
    @given(
        st.lists(st.tuples(GRID, GRID, GRID, st.booleans(), GRID), min_size=1, max_size=10),
        objectives(),
        st.sampled_from(["weighted", "pareto", "lexicographic"]),
        st.data(),
    )
    def check(rows: list[Any], wishes: dict[str, Any], method: str, data: st.DataObject) -> None:
        clear(index)
        made = [
            Made(
                columns={"valid": valid, "coverage": coverage},
                values={
                    (name, "m-1"): Value(value, None if sigma is None else abs(sigma))
                    for name, value in (("band_gap", gap), ("energy", energy))
                    if value is not None
                },
            )
            for gap, energy, coverage, valid, sigma in rows
        ]
        cut = data.draw(st.integers(0, len(made)))
        batches = [
            add(index, *part, created=f"2026-01-0{n}") for n, part in enumerate((made[:cut], made[cut:]), start=1)
        ]
        rule = Query.from_dict({"constraints": [["valid", "==", True]], "objectives": wishes, "method": method})
        run = Run("u", None, "", "", "", tuple(batches), (), None, frozenset())
        ranked = rank_candidates(index, rule, runs=batches)
        everybody = [(batch, row) for batch, n in zip(batches, (cut, len(made) - cut), strict=True) for row in range(n)]
        columns = {"band_gap": 0, "energy": 1, "coverage": 2}
        known = {
            name: [(r[columns[name]], None if name == "coverage" or r[4] is None else abs(r[4])) for r in rows]
            for name in wishes
        }
        order = [everybody[k] for k in order_by_definition(known, rule, [r[3] for r in rows])]
        batch, row = data.draw(st.sampled_from(everybody))
        key = batch * 100_000 + row
        with reading(index, batches) as held:
            case = Case(index, held, Found(key, batch, row, Address("0" * 36, row), "t"), rule, (), run, None)
            told, out = case.objectives(), case.kept_out(2)
            constraint = case.constraints()[0]
        before = [b * 100_000 + r for b, r in order[: order.index((batch, row))]]
        kept = ranked.candidate_id.tolist()
        assert case.place == (kept.index(key) if key in kept else None)
        assert out["kept_out_total"] == sum(k not in kept for k in before)
        assert case.would_be() == sum(k in kept for k in before)
        assert constraint["met_by"] == len(kept) == sum(one[3] for one in rows)
        assert [one["objective"] for one in told] == list(wishes)

    check()


def order_by_definition(
    known: dict[str, list[tuple[float | None, float | None]]], rule: Query, ranked: list[bool]
) -> list[int]:
    """Return the order of all candidates, reckoned with fractions: on the scale of the ranked ones, ties by position.

    :param known: value and uncertainty of each by each objective.
    """
    n = len(ranked)
    wishes = [_wishes(known[o.column], o, ranked) for o in rule.objectives]
    flat = [w for wish in wishes for w in wish if w is not None]
    low, high = min(flat, default=Fraction(0)), max(flat, default=Fraction(1))
    filled = [
        [Fraction(0) if w is None else Fraction(1) if high == low else (w - low) / (high - low) for w in wish]
        for wish in wishes
    ]
    scores = [sum(Fraction(o.weight) * f[k] for o, f in zip(rule.objectives, filled, strict=True)) for k in range(n)]
    unknown = [any(wish[k] is None for wish in wishes) for k in range(n)]
    points = [[Fraction(-1) if w[k] is None else f[k] for w, f in zip(wishes, filled, strict=True)] for k in range(n)]
    fronts = _fronts(points) if rule.method == "pareto" else [0] * n
    if rule.method == "lexicographic":
        return sorted(range(n), key=lambda k: (unknown[k], *(-f[k] for f in filled), k))
    return sorted(range(n), key=lambda k: (unknown[k], fronts[k], -scores[k], k))


def _wishes(known: list[tuple[float | None, float | None]], wish: Any, ranked: list[bool]) -> list[Fraction | None]:
    far = [_far(value, sigma, wish) for value, sigma in known]
    everybody = [d for d in far if d is not None]
    mine = [d for d, held in zip(far, ranked, strict=True) if held and d is not None]

    def of(d: Fraction) -> Fraction:
        if wish.limits is not None:
            worst, best = (Fraction(-x if wish.direction == "higher" else x) for x in wish.limits)
            return Fraction(1) if worst == best else min(max((worst - d) / (worst - best), Fraction(0)), Fraction(1))
        if mine and max(mine) > min(mine):
            return (max(mine) - d) / (max(mine) - min(mine))
        if max(everybody) == min(everybody):
            return Fraction(1)
        best = mine[0] if mine else min(everybody)
        return 1 - (d - best) / (max(everybody) - min(everybody))

    return [None if d is None else of(d) for d in far]


def _far(value: float | None, sigma: float | None, wish: Any) -> Fraction | None:
    if value is None:
        return None
    d = Fraction(value) * (-1 if wish.direction == "higher" else 1)
    if wish.direction == "target":
        d = abs(Fraction(value) - Fraction(wish.target))
    if wish.confidence:
        sigma = wish.sigma if sigma is None else sigma
        if sigma is None:
            return None
        d += Fraction(wish.confidence) * Fraction(sigma)
    return max(d, Fraction(0)) if wish.direction == "target" else d


def _fronts(points: list[list[Fraction]]) -> list[int]:
    left, fronts, front = set(range(len(points))), [0] * len(points), 0
    while left:
        best = {k for k in left if not any(_dominates(points[other], points[k]) for other in left)}
        for k in best:
            fronts[k] = front
        left, front = left - best, front + 1
    return fronts


def _dominates(one: list[Fraction], other: list[Fraction]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
