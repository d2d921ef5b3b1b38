"""Rank the candidates of a set: what a user writes becomes a query, and a query an ordered frame.

The order itself (constraints, desirability, Pareto fronts, stable ties) is :mod:`crysgen_aiida.data.ranking`, shared
with the work chains, so that a ranking on a screen and one recorded in the graph are the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.data.ranking import Query, Ranking, rank_frame

if TYPE_CHECKING:
    import pandas as pd

    from crysgen_aiida.store.candidates import CandidateSet

__all__ = ["DEFAULT", "Query", "Ranking", "build_query", "parse_constraint", "query_of", "rank", "rank_frame"]

#: The rule of a run that recorded none.
DEFAULT: dict[str, Any] = {"constraints": [["status", "==", "ok"]], "objectives": {"e_above_reference": "lower"}}

_CONSTRAINT = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(<=|>=|==|!=|=|<|>)\s*(.+?)\s*$")
_FLAG = re.compile(r"^\s*(not\s+|!)?([A-Za-z_][\w.]*)\s*$")


def parse_constraint(text: str) -> tuple[str, str, Any]:
    """Return ``(column, operator, value)`` of ``band_gap>=1.5``, ``valid`` or ``not is_centrosymmetric``.

    :raises ImpossibleRequest: if it is neither.
    """
    found = _CONSTRAINT.match(text)
    if found:
        column, operator, raw = found.groups()
        return column, "==" if operator == "=" else operator, _value(raw)
    flag = _FLAG.match(text)
    if flag:
        return flag.group(2), "==", flag.group(1) is None
    raise ImpossibleRequest(
        f"{text!r} is not a constraint; write column>=value (also <= > < == !=), or the name of a yes/no column, "
        "with `not` before it to turn it round."
    )


def build_query(
    where: Sequence[str] = (),
    minimize: Sequence[str] = (),
    maximize: Sequence[str] = (),
    target: Mapping[str, float] | None = None,
    *,
    method: str = "weighted",
    limit: int | None = None,
    base: Mapping[str, Any] | None = None,
) -> Query:
    """Return the query of a command line, laid over ``base`` (a recorded one or a recipe's).

    Constraints are added to those of ``base``; objectives, if any are given, replace its objectives.

    :raises ImpossibleRequest: for a malformed constraint, or a column wanted in two directions.
    """
    values: dict[str, Any] = dict(base or {})
    constraints = [list(c) for c in values.get("constraints", [])]
    constraints += [list(parse_constraint(text)) for text in where]
    objectives: dict[str, Any] = {}
    wanted: list[tuple[str, dict[str, Any]]] = [(name, {"direction": "lower"}) for name in minimize]
    wanted += [(name, {"direction": "higher"}) for name in maximize]
    wanted += [(name, {"direction": "target", "target": float(value)}) for name, value in (target or {}).items()]
    for name, objective in wanted:
        if name in objectives:
            raise ImpossibleRequest(f"The column {name} is wanted in two directions; give it one.")
        objectives[name] = objective
    values["constraints"] = constraints
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
    from aiida import orm

    from crysgen_aiida.data.packed import DecisionData
    from crysgen_aiida.store.candidates import outputs_of

    decision = outputs_of(candidates.design).get("decision") if candidates.design is not None else None
    if decision is None:
        query = orm.QueryBuilder().append(orm.Node, filters={"uuid": candidates.table.uuid}, tag="table")
        query.append(orm.CalcFunctionNode, with_incoming="table", tag="call")
        query.append(DecisionData, with_incoming="call", tag="decision")
        query.order_by({"decision": {"id": "desc"}}).limit(1)
        decision = query.first(flat=True)
    held = decision.metadata.get("query") if decision is not None else None
    return dict(held) if isinstance(held, Mapping) else None


def _require_columns(frame: pd.DataFrame, query: Query) -> None:
    import difflib

    for name in [c[0] for c in query.constraints] + [o.column for o in query.objectives]:
        if name not in frame.columns:
            close = difflib.get_close_matches(name, list(frame.columns), n=3)
            hint = f"Did you mean {', '.join(close)}?" if close else f"There are {', '.join(sorted(frame.columns))}."
            raise ImpossibleRequest(f"The candidates have no column {name!r}. {hint}")


def _value(raw: str) -> Any:
    import json

    if raw.lower() in ("true", "yes"):
        return True
    if raw.lower() in ("false", "no"):
        return False
    try:
        return json.loads(raw)
    except ValueError:
        return raw.strip("'\"")
