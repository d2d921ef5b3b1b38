"""A candidate among the others of its run: ranked with the constraints, and placed as if there were none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, and_, case, func, or_

from crysgen_aiida.data.ordering import Objective, Ranker, desirability, distances
from crysgen_aiida.data.ranking import Query, diversity_label
from crysgen_aiida.store.explain.show import wide_row
from crysgen_aiida.store.language import parse
from crysgen_aiida.store.language.columns import WHOLE, Resolved
from crysgen_aiida.store.language.compiler import bound
from crysgen_aiida.store.language.nodes import operands, steps
from crysgen_aiida.store.language.plain import from_plain
from crysgen_aiida.store.query import RankedSelection, rank_candidates
from crysgen_aiida.store.reading import Reading, Wanted
from crysgen_aiida.store.uncertainty import uncertainties, wished

if TYPE_CHECKING:
    from crysgen_aiida.store.explain.runs import Found, Run
    from crysgen_aiida.store.index.database import Index

#: By how much a desirability that the database reckons with may be off.
SLACK = 1e-9


@dataclass
class Case:
    """One question: the ranking of a run with its constraints and without, and where the candidate is in both.

    Of those out of the ranking only candidates are read that may stand before this one.

    :param reading: of the batches of the run.
    """

    index: Index
    reading: Reading
    found: Found
    rule: Query
    where: tuple[str, ...]
    run: Run
    prefer: Mapping[str, str] | None
    wide: dict[str, Any] = field(init=False)
    ranked: RankedSelection = field(init=False)

    def __post_init__(self) -> None:
        self.wide = wide_row(self.index, self.found)
        expressions = [step for c in self.rule.constraints for step in steps(from_plain(c))]
        expressions += [step for text in self.where for step in steps(parse(text))]
        self._words = [str(expression.place) for expression in expressions]
        self._names = [list(dict.fromkeys(o.name for o in operands(e))) or ["reduced_formula"] for e in expressions]
        self._tests = [self.reading.compiler.condition(expression) for expression in expressions]
        objectives = self.rule.objectives
        self._columns = wished(self.reading, objectives)
        self.ranked = rank_candidates(
            self.index,
            self.rule,
            where=self.where,
            runs=list(self.run.batch_ids),
            columns=list(dict.fromkeys(o.column for o in objectives)),
            prefer=self.prefer,
        )
        self._ranked_far = [_far(o, self.ranked.columns) for o in objectives]
        self._near = self._nearly_as_good()
        self._rows = self.reading.rows(self._near, self._columns)
        for name, values in uncertainties(self.reading, objectives, self._rows, self._near).items():
            self._rows.columns[f"sigma({name})"] = values
        self._at = int(np.flatnonzero(self._rows.candidate_id == self.found.id)[0])
        self._wishes = [self._wish(k, _far(o, self._rows.columns)) for k, o in enumerate(objectives)]
        self._before = self._those_before()

    # -- what is read -------------------------------------------------------------------------------------------------

    def _nearly_as_good(self) -> ColumnElement[bool]:
        """Return a condition that all those meet that may stand before this one if there were no constraints.

        One that stands before it, by whatever method, is at least as good in one objective. So is whatever dominates
        that one, so that fronts are the same as among all.
        """
        everybody = self.reading.condition(())
        if any(o.confidence for o in self.rule.objectives):  # uncertainties are found for what was read
            return everybody
        mine = self.reading.rows_of(np.array([self.found.id]), everybody, self._columns)
        parts, known = [], []
        for k, objective in enumerate(self.rule.objectives):
            value = self.reading.column(objective.column).resolved.value
            ends = objective.worst_and_best or _ends(self._ranked_far[k])
            wish = float(self._wish(k, _far(objective, mine.columns))[0])
            if ends is None or ends[0] <= ends[1] or not wish > SLACK:
                return everybody
            parts.append(_within(objective, value, ends[0] - (wish - SLACK) * (ends[0] - ends[1])))
            known.append(value.is_not(None))
        return and_(everybody, or_(*parts), *known) if parts else everybody

    def _wish(self, k: int, far: np.ndarray) -> np.ndarray:
        """Return the desirability (n,) of distances by an objective, on the scale of the ranked ones.

        Where the limits follow from the ranked candidates, others may lie beyond: they keep what they would have.
        """
        objective, ends = self.rule.objectives[k], _ends(self._ranked_far[k])
        if objective.limits is not None:
            as_is = dataclasses.replace(objective, direction="lower", confidence=0.0, limits=objective.worst_and_best)
            return desirability(far, as_is)
        if ends is not None:
            return (ends[0] - far) / (ends[0] - ends[1])
        ends = _ends(far)
        if ends is None:
            return np.where(np.isnan(far), np.nan, 1.0)
        ranked = self._ranked_far[k][np.isfinite(self._ranked_far[k])]
        best = float(ranked[0]) if len(ranked) else ends[1]
        return 1.0 - (far - best) / (ends[0] - ends[1])

    def _those_before(self) -> np.ndarray:
        """Return positions of the candidates that would stand before this one without constraints, the first first."""
        known = [w[np.isfinite(w)] for w in self._wishes]
        low = min((float(w.min()) for w in known if len(w)), default=0.0)
        high = max((float(w.max()) for w in known if len(w)), default=1.0)
        # one scale for all objectives changes neither means nor fronts
        wanted = [
            dataclasses.replace(o, direction="higher", target=None, confidence=0.0, limits=(low, high))
            for o in self.rule.objectives
        ]
        order = Ranker(self._rows.place, self._wishes, wanted, self.rule.method).best().positions
        return np.asarray(order[: int(np.flatnonzero(order == self._at)[0])])

    @cached_property
    def _is_ranked(self) -> np.ndarray:
        """Whether each of those before is ranked."""
        return np.isin(self._rows.candidate_id[self._before], self.ranked.candidate_id)

    def _met(self, ids: np.ndarray) -> np.ndarray:
        """Return which constraints candidates that were read meet, (n, k) bool."""
        tests = [
            Wanted(str(n), Resolved(str(n), WHOLE, None, case((test, 1), else_=0)))
            for n, test in enumerate(self._tests)
        ]
        rows = self.reading.rows_of(ids, self._near, tests)
        return np.array([rows.columns[test.name] == 1 for test in tests], dtype=bool).reshape(len(tests), len(ids)).T

    # -- what is told -------------------------------------------------------------------------------------------------

    @cached_property
    def place(self) -> int | None:
        """Position among the ranked, from 0, or None if a constraint keeps it out."""
        at = np.flatnonzero(self.ranked.candidate_id == self.found.id)
        return int(at[0]) if len(at) else None

    @property
    def n(self) -> int:
        """How many candidates the run has."""
        return self.reading.n

    def would_be(self) -> int:
        """Return how many ranked candidates come before it in the order without constraints."""
        return int(self._is_ranked.sum())

    def constraints(self) -> list[dict[str, Any]]:
        """Return each constraint with the candidate's value and whether it is met; caps for diversity come last."""
        counts = [func.count(case((test, 1))) for test in self._tests]
        met_by = self.reading.scan(self.reading.condition(()), *counts) if counts else ()
        (mine,) = self._met(np.array([self.found.id]))
        found = [
            {
                "constraint": words,
                "columns": names,
                "value": {name: self.wide.get(name) for name in names},
                "met": bool(met),
                "met_by": int(n),
            }
            for words, names, met, n in zip(self._words, self._names, mine, met_by, strict=True)
        ]
        if self.rule.diversity and all(one["met"] for one in found):
            words, met = diversity_label(self.rule), self.place is not None
            found.append({"constraint": words, "columns": [], "value": {}, "met": met, "met_by": len(self.ranked)})
        return found

    def objectives(self) -> list[dict[str, Any]]:
        """Return each objective with the value, its desirability and its place by this objective alone."""
        info = self.index.columns()
        found = []
        for k, wish in enumerate(self.rule.objectives):
            mine = self._wishes[k][self._at]
            among = self._wishes[k] if self.place is None else self._wish(k, self._ranked_far[k])
            column = info.get(wish.column)
            found.append(
                {
                    "objective": wish.column,
                    "wanted": f"near {wish.target:g}" if wish.target is not None else wish.direction,
                    "value": _plain(self._rows.columns[wish.column][self._at]),
                    "unit": column.unit if column is not None else None,
                    "desirability": _plain(mine),
                    "weight": wish.weight,
                    "place": None if mine != mine else 1 + int((among > mine).sum()),
                }
            )
        return found

    def neighbours(self, places: range) -> list[dict[str, Any]]:
        """Return ranked candidates with what decides between each and the one asked about."""
        told = self._who(self.ranked.candidate_id[places.start : places.stop])
        return [{"rank": k + 1, **who, "decides": self._decides(k)} for k, who in zip(places, told, strict=True)]

    def kept_out(self, most: int) -> dict[str, Any]:
        """Return the candidates that would stand before it but for a constraint, the nearest first."""
        out = self._rows.candidate_id[self._before[~self._is_ranked]][::-1]
        met = self._met(out)
        by = {words: int((~met[:, k]).sum()) for k, words in enumerate(self._words)}
        by["diversity"] = int(met.all(axis=1).sum())
        told = zip(self._who(out[:most]), met[:most], strict=True)
        return {
            "kept_out_total": len(out),
            "kept_out_by": {words: n for words, n in by.items() if n},
            "kept_out": [{**who, "fails": self._fails(held)} for who, held in told],
        }

    def _fails(self, met: np.ndarray) -> list[dict[str, Any]]:
        told = zip(self._words, self._names, met, strict=True)
        failed = [{"constraint": words, "columns": names} for words, names, held in told if not held]
        # it meets all of them, but better ones like it were kept already
        return failed or [{"constraint": diversity_label(self.rule), "columns": []}]

    def _who(self, ids: np.ndarray) -> list[dict[str, Any]]:
        columns = [*self._columns, self.reading.column("reduced_formula")]
        rows = self.reading.rows_of(ids, self.reading.condition(()), columns)
        return [
            {
                "address": f"{self.reading.relaxed[int(rows.batch_id[k])]}:{int(rows.row[k])}",
                "reduced_formula": rows.columns["reduced_formula"][k],
                "values": {o.column: _plain(rows.columns[o.column][k]) for o in self.rule.objectives},
            }
            for k in range(len(ids))
        ]

    def _decides(self, place: int) -> str:
        """Return what puts a ranked candidate before or after the one asked about."""
        gaps = []
        for k, wish in enumerate(self.rule.objectives):
            mine = self._wishes[k][self._at]
            theirs = self._wish(k, self._ranked_far[k])[place]
            if np.isnan(mine) != np.isnan(theirs):
                return f"{'this one' if np.isnan(mine) else 'it'} has nothing to rank by in {wish.column}"
            gaps.append((wish, 0.0 if np.isnan(mine) else float(theirs - mine)))
        fronts = self.ranked.fronts
        if self.place is not None and fronts[place] != fronts[self.place]:
            return f"front {int(fronts[place])} against {int(fronts[self.place])}"
        if self.rule.method == "lexicographic":
            gaps = [g for g in gaps if round(g[1], 12)][:1]
        total = sum(w.weight for w, _ in gaps) or 1.0
        parts = [(w.column, w.weight * gap / total) for w, gap in gaps if round(gap, 12)]
        if not parts:
            return "a tie: the order of the rows decides"
        parts.sort(key=lambda part: -abs(part[1]))
        return "score " + ", ".join(f"{gap:+.3g} by {name}" for name, gap in parts)


def _far(objective: Objective, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the distances (n,) of candidates from what an objective wants."""
    return distances(columns[objective.column].astype(float), objective, columns.get(f"sigma({objective.column})"))


def _ends(far: np.ndarray) -> tuple[float, float] | None:
    """Return the largest and the least distance, None if they are one or there are none."""
    finite = far[np.isfinite(far)]
    return (float(finite.max()), float(finite.min())) if len(finite) and finite.max() > finite.min() else None


def _within(objective: Objective, value: ColumnElement[Any], far: float) -> ColumnElement[bool]:
    if objective.direction == "target":
        return func.abs(value - bound(objective.target or 0.0)) <= bound(far)
    return value <= bound(far) if objective.direction == "lower" else value >= bound(-far)


def _plain(value: Any) -> float | None:
    number = float(value) if value is not None else float("nan")
    return None if number != number else number
