"""Rank the candidates of one run: what a user wants becomes a query, and a query an ordered frame.

The order itself (constraints, desirability, Pareto fronts, stable ties) is :mod:`crysgen_aiida.data.ranking`, shared
with the work chains, so that a ranking on a screen and one recorded in the graph are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.data.constraints import columns_of
from crysgen_aiida.data.ranking import Query, Ranking, rank_frame
from crysgen_aiida.store.language.place import shown, suggestion

if TYPE_CHECKING:
    import pandas as pd

    from crysgen_aiida.store.candidates import CandidateSet

__all__ = ["DEFAULT", "Query", "Ranking", "build_query", "query_of", "rank", "rank_frame"]

#: The rule of a run that recorded none.
DEFAULT: dict[str, Any] = {"constraints": [["status", "==", "ok"]], "objectives": {"e_above_reference": "lower"}}


def build_query(
    *,
    minimize: Sequence[str] = (),
    maximize: Sequence[str] = (),
    target: Mapping[str, float] | None = None,
    method: str = "weighted",
    limit: int | None = None,
    base: Mapping[str, Any] | None = None,
) -> Query:
    """Return the query of a command line, laid over ``base`` (a recorded one or a recipe's).

    Constraints are those of ``base``; objectives, if any are given, replace its objectives. Filters stay text, see
    :mod:`crysgen_aiida.store.language`.

    :raises ImpossibleRequest: for a column wanted in two directions.
    """
    values: dict[str, Any] = dict(base or {})
    objectives: dict[str, Any] = {}
    wanted: list[tuple[str, dict[str, Any]]] = [(name, {"direction": "lower"}) for name in minimize]
    wanted += [(name, {"direction": "higher"}) for name in maximize]
    wanted += [(name, {"direction": "target", "target": value}) for name, value in (target or {}).items()]
    for name, objective in wanted:
        if name in objectives:
            raise ImpossibleRequest(f"The column {name} is wanted in two directions; give it one.")
        objectives[name] = objective
    if objectives:
        values["objectives"] = objectives
        values["method"] = method
    elif method != "weighted":
        values["method"] = method
    if limit is not None:
        values["limit"] = limit
    return Query.from_dict(values)


def rank(frame: pd.DataFrame, query: Query) -> tuple[pd.DataFrame, Ranking]:
    """Return the ranked rows of a candidate frame, best first, with columns ``rank`` (from 1), ``score`` and ``front``.

    :raises ImpossibleRequest: if the query names a column that is not there; the message suggests close names.
    """
    _require_columns(frame, query)
    ranking = rank_frame(frame, query)
    ordered = frame.set_index("row", drop=False).loc[ranking.rows].reset_index(drop=True)
    ordered.insert(0, "rank", range(1, len(ordered) + 1))
    ordered.insert(1, "score", ranking.scores)
    ordered.insert(2, "front", ranking.fronts)
    return ordered, ranking


def query_of(candidates: CandidateSet) -> dict[str, Any] | None:
    """Return the query a design ranked its candidates by; without a design that of the newest decision about them.

    None if nothing was recorded.
    """
    from crysgen_aiida.store.candidates import decisions_of

    decision, _ = decisions_of(candidates)
    held = decision.metadata.get("query") if decision is not None else None
    return dict(held) if isinstance(held, Mapping) else None


def _require_columns(frame: pd.DataFrame, query: Query) -> None:
    for name in [n for c in query.constraints for n in columns_of(c)] + [o.column for o in query.objectives]:
        if name not in frame.columns:
            raise ImpossibleRequest(
                f"The candidates have no column {shown(name)}. {suggestion(name, map(str, frame.columns))}"
            )
