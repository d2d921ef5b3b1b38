"""A candidate among the others of its run: ranked with the constraints, and placed as if there were none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.data.ordering import Objective, Ranker, desirability
from crysgen_aiida.data.ranking import Query, diversity_label
from crysgen_aiida.store.explain.show import wide_row
from crysgen_aiida.store.language import parse
from crysgen_aiida.store.language.nodes import operands, steps
from crysgen_aiida.store.language.plain import from_plain
from crysgen_aiida.store.query import Selection, rank_candidates, select_candidates
from crysgen_aiida.store.reading import reading

if TYPE_CHECKING:
    from crysgen_aiida.store.explain.runs import Found, Run
    from crysgen_aiida.store.index.database import Index


@dataclass
class Case:
    """One question: the ranking of a run with its constraints and without, and where the candidate is in both."""

    index: Index
    found: Found
    rule: Query
    where: tuple[str, ...]
    run: Run
    prefer: Mapping[str, str] | None
    ranked: Any = field(init=False)
    free: Selection = field(init=False)
    wide: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.wide = wide_row(self.index, self.found)
        runs = list(self.run.batch_ids)
        self.ranked = rank_candidates(
            self.index, self.rule, where=self.where, runs=runs, columns=[], prefer=self.prefer
        )
        self.free = self._everybody(runs)
        self.ids: list[int] = self.ranked.candidate_id.tolist()
        self.free_ids: list[int] = self.free.candidate_id.tolist()
        self._at = {identifier: k for k, identifier in enumerate(self.free_ids)}
        self._place = next((k for k, identifier in enumerate(self.ids) if identifier == self.found.id), None)
        self._wishes = [self._wish(objective) for objective in self.rule.objectives]
        self._before = self._those_before()
        self._steps = self._single_constraints()

    def _wish(self, objective: Objective) -> np.ndarray:
        """Return the desirability of each candidate, (n,), on the scale of the ranked ones.

        Where the limits follow from the ranked candidates, others may lie beyond: they keep what they would have.
        """
        values = np.asarray(self.free.columns[objective.column], dtype=float)
        sigmas = None
        if objective.confidence:
            sigmas = np.asarray(self.free.columns[f"sigma({objective.column})"], dtype=float)
        if objective.limits is not None:
            return desirability(values, objective, sigmas)
        # among all of them: linear in what is wanted, so another scale is another line through it
        wish = desirability(values, objective, sigmas)
        held = wish[[self._at[i] for i in self.ids]] if self.ids else wish
        held = held[np.isfinite(held)]
        if not len(held):
            return wish
        low, high = float(held.min()), float(held.max())
        return (wish - low) / (high - low) if high > low else 1.0 + wish - low

    def _those_before(self) -> list[int]:
        """Return the candidates that would stand before this one if there were no constraints, the first first."""
        oldest = {batch: k for k, batch in enumerate(self.run.batch_ids)}
        age = np.array([oldest[b] for b in self.free.batch_id.tolist()], dtype=np.int64)
        place = np.lexsort((self.free.row, age))
        ties = np.empty(len(place), dtype=np.int64)
        ties[place] = np.arange(len(place))
        known = [w[np.isfinite(w)] for w in self._wishes]
        low = min((float(w.min()) for w in known if len(w)), default=0.0)
        high = max((float(w.max()) for w in known if len(w)), default=1.0)
        # one scale for all objectives changes neither means nor fronts
        wanted = [
            dataclasses.replace(o, direction="higher", target=None, confidence=0.0, limits=(low, high))
            for o in self.rule.objectives
        ]
        order = Ranker(ties, self._wishes, wanted, self.rule.method).best().positions
        mine = self._at[self.found.id]
        return [self.free_ids[k] for k in order[: int(np.flatnonzero(order == mine)[0])]]

    def _everybody(self, runs: list[int]) -> Selection:
        """Return all candidates of the run with what they are ordered by."""
        named = list(dict.fromkeys(["reduced_formula", *(o.column for o in self.rule.objectives)]))
        if any(o.confidence for o in self.rule.objectives):  # uncertainties are found where they are ranked by
            free = dataclasses.replace(self.rule, constraints=(), diversity=())
            return rank_candidates(self.index, free, runs=runs, columns=named, prefer=self.prefer)
        return select_candidates(self.index, runs=runs, columns=named, prefer=self.prefer)

    def _single_constraints(self) -> list[tuple[str, list[str], set[int]]]:
        """Return for each constraint its words, the columns it names, and the candidates that meet it alone."""
        expressions = [step for c in self.rule.constraints for step in steps(from_plain(c))]
        expressions += [step for text in self.where for step in steps(parse(text))]
        found = []
        with reading(self.index, list(self.run.batch_ids), self.prefer) as held:
            for expression in expressions:
                met = held.rows(held.condition([expression]), []).candidate_id
                names = [operand.name for operand in operands(expression)] or ["reduced_formula"]
                found.append((str(expression.place), list(dict.fromkeys(names)), set(met.tolist())))
        return found

    @property
    def place(self) -> int | None:
        """Position among the ranked, from 0, or None if a constraint keeps it out."""
        return self._place

    def would_be(self) -> int:
        """Return how many ranked candidates come before it in the order without constraints."""
        before = set(self._before)
        return sum(i in before for i in self.ids)

    def constraints(self) -> list[dict[str, Any]]:
        """Return each constraint with the candidate's value and whether it is met; caps for diversity come last."""
        found = [
            {
                "constraint": words,
                "columns": names,
                "value": {name: self.wide.get(name) for name in names},
                "met": self.found.id in met,
                "met_by": len(met),
            }
            for words, names, met in self._steps
        ]
        if self.rule.diversity and all(one["met"] for one in found):
            words, met = diversity_label(self.rule), self.place is not None
            found.append({"constraint": words, "columns": [], "value": {}, "met": met, "met_by": len(self.ids)})
        return found

    def objectives(self) -> list[dict[str, Any]]:
        """Return each objective with the value, its desirability and its place by this objective alone."""
        at, info = self._at[self.found.id], self.index.columns()
        found = []
        for wish, good in zip(self.rule.objectives, self._wishes, strict=True):
            mine = good[at]
            among = good[[self._at[i] for i in self.ids]] if self.place is not None else good
            column = info.get(wish.column)
            found.append(
                {
                    "objective": wish.column,
                    "wanted": f"near {wish.target:g}" if wish.target is not None else wish.direction,
                    "value": _plain(self.free.columns[wish.column][at]),
                    "unit": column.unit if column is not None else None,
                    "desirability": _plain(mine),
                    "weight": wish.weight,
                    "place": None if mine != mine else 1 + int((among > mine).sum()),
                }
            )
        return found

    def neighbours(self, places: range) -> list[dict[str, Any]]:
        """Return ranked candidates with what decides between each and the one asked about."""
        records = []
        for k in places:
            identifier = self.ids[k]
            record = self._who(identifier)
            records.append({"rank": k + 1, **record, "decides": self._decides(identifier, k)})
        return records

    def kept_out(self, most: int) -> dict[str, Any]:
        """Return the candidates that would stand before it but for a constraint, the nearest first."""
        ranked = set(self.ids)
        out = [i for i in self._before if i not in ranked][::-1]
        by = {words: sum(i not in met for i in out) for words, _, met in self._steps}
        by["diversity"] = sum(all(i in met for _, _, met in self._steps) for i in out)
        return {
            "kept_out_total": len(out),
            "kept_out_by": {words: n for words, n in by.items() if n},
            "kept_out": [{**self._who(i), "fails": self._fails(i)} for i in out[:most]],
        }

    def _fails(self, identifier: int) -> list[dict[str, Any]]:
        failed = [(words, names) for words, names, met in self._steps if identifier not in met]
        if not failed:  # it meets all of them, but better ones like it were kept already
            failed = [(diversity_label(self.rule), [])]
        return [{"constraint": words, "columns": names} for words, names in failed]

    def _who(self, identifier: int) -> dict[str, Any]:
        at = self._at[identifier]
        values = {o.column: _plain(self.free.columns[o.column][at]) for o in self.rule.objectives}
        return {
            "address": f"{self.free.relaxed[int(self.free.batch_id[at])]}:{int(self.free.row[at])}",
            "reduced_formula": self.free.columns["reduced_formula"][at],
            "values": values,
        }

    def _decides(self, other: int, place: int) -> str:
        """Return what puts a neighbour before or after the candidate asked about."""
        mine, theirs = self._at[self.found.id], self._at[other]
        gaps = []
        for wish, good in zip(self.rule.objectives, self._wishes, strict=True):
            unknown = np.isnan(good[[mine, theirs]])
            if unknown[0] != unknown[1]:
                return f"{'this one' if unknown[0] else 'it'} has nothing to rank by in {wish.column}"
            gaps.append((wish, 0.0 if unknown.all() else float(good[theirs] - good[mine])))
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


def _plain(value: Any) -> float | None:
    number = float(value) if value is not None else float("nan")
    return None if number != number else number
