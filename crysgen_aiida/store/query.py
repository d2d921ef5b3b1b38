"""Ask the index: select candidates by a filter, rank them, save queries.

The same in Python and on the command line; answers are arrays, records or pandas frames. Only the index is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Select, select

from crysgen_aiida.data.elements import elements_of
from crysgen_aiida.data.ordering import Order, Ranker
from crysgen_aiida.data.ranking import Query, diversity_label
from crysgen_aiida.store.index.models import Candidate
from crysgen_aiida.store.language.nodes import Expression, operands, steps
from crysgen_aiida.store.language.parser import parse
from crysgen_aiida.store.language.place import printable
from crysgen_aiida.store.language.plain import from_plain, to_plain
from crysgen_aiida.store.nearest import emptied
from crysgen_aiida.store.reading import CHUNK, Prefer, Reading, Rows, Wanted, reading, taken, written
from crysgen_aiida.store.saved import SavedSearch, delete_query, list_queries, load_query, save_query
from crysgen_aiida.store.selection import RankedSelection, Selection
from crysgen_aiida.store.uncertainty import uncertainties, wished

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import Index

__all__ = [
    "RankedSelection",
    "SavedSearch",
    "Selection",
    "delete_query",
    "list_queries",
    "load_query",
    "plain_query",
    "rank_candidates",
    "save_query",
    "select_candidates",
]


def select_candidates(
    index: Index,
    where: str | Sequence[str] = "",
    *,
    runs: Sequence[int] | None = None,
    columns: Sequence[str] | None = None,
    prefer: Prefer | None = None,
    limit: int | None = None,
) -> Selection:
    """Return the candidates that satisfy a filter, in the order of their batches' age and their rows.

    :param where: the filter, see :mod:`crysgen_aiida.store.language`; of several all must hold.
    :param runs: batches to look in, as keys of the index; all if None.
    :param columns: what to read: columns, ``sigma(x)``, ``method(x)``, ``x['method']``, or ``*`` for all columns. With
        None those every candidate has and those the filter names.
    :param prefer: property to the method, or class of methods, whose values stand for it in this query.
    :param limit: how many to return, None for all.
    :raises BadInput: for a malformed filter.
    :raises ImpossibleRequest: for an unknown column, method or batch, or a unit of another quantity.
    """
    expressions = _parsed(where)
    with reading(index, runs, prefer) as held:
        condition = held.condition(expressions)
        wanted = held.listed(columns, _used(expressions))
        found = held.rows(condition, wanted)
        sentence = None
        if not len(found.candidate_id):
            sentence = emptied(held, expressions, held.sifted(expressions, [])[0])
    found = taken(found, np.argsort(found.place)[:limit])
    return Selection(**_described(held, found, wanted), emptied=sentence)


def rank_candidates(
    index: Index,
    query: Query | Mapping[str, Any],
    *,
    where: str | Sequence[str] = "",
    runs: Sequence[int] | None = None,
    columns: Sequence[str] | None = None,
    prefer: Prefer | None = None,
) -> RankedSelection:
    """Return the candidates that meet all constraints, best first.

    The uncertainty of a value is the one it states; where it states none, how far potentials disagree about it (see
    :mod:`crysgen_aiida.store.uncertainty`); where there is only one, what the objective assumes.

    :param query: constraints, objectives, method, limit and diversity, as in a recipe. An objective may name anything
        with numbers: ``band_gap['pbe-mp2020']``.
    :param where: further constraints in the filter language; of several all must hold.
    :param runs: batches to look in, as keys of the index; all if None.
    :param columns: as in :func:`select_candidates`; with None also the columns of the objectives.
    :param prefer: property to the method, or class of methods, whose values stand for it in this query.
    :raises BadInput: for a malformed query.
    :raises ImpossibleRequest: for an unknown column, method or batch, or a unit of another quantity.
    """
    asked = query if isinstance(query, Query) else Query.from_dict(query)
    expressions = [step for c in asked.constraints for step in steps(from_plain(c))] + _parsed(where)
    with reading(index, runs, prefer) as held:
        condition = held.condition(expressions)
        wanted = held.listed(columns, [o.column for o in asked.objectives] + _used(expressions))
        needed = wished(held, asked.objectives)
        counts, rows = held.sifted(expressions, needed)
        sigmas = uncertainties(held, asked.objectives, rows, condition)
        ranker = Ranker(
            rows.place,
            [rows.columns[o.column].astype(float) for o in asked.objectives],
            asked.objectives,
            asked.method,
            [sigmas.get(o.column) for o in asked.objectives],
        )
        order = _ordered(held, asked, rows, ranker)
        best = held.rows_of(rows.candidate_id[order.positions], condition, wanted)
        sentence = emptied(held, expressions, counts)
    funnel = [
        ("all", counts[0]),
        *((printable(str(e.place)), n) for e, n in zip(expressions, counts[1:], strict=True)),
    ]
    if asked.diversity:
        funnel.append((diversity_label(asked), len(order.positions)))
    described = _described(held, best, wanted)
    for name, values in sigmas.items():
        described["columns"][f"sigma({name})"] = values[order.positions]
        described["kinds"][f"sigma({name})"] = "number"
    notes = _notes(asked, rows, sigmas, ranker)
    return RankedSelection(
        **described, emptied=sentence, scores=order.scores, fronts=order.fronts, funnel=funnel, notes=notes
    )


def plain_query(index: Index, query: Query, where: str | Sequence[str] = "") -> Query:
    """Return a query with filters turned into plain constraints, so that it can be recorded and asked of a frame.

    :raises ImpossibleRequest: if a filter asks what only the index knows: methods and uncertainties.
    """
    expressions = _parsed(where)
    with reading(index) as held:
        constraints = [c for e in expressions for c in to_plain(e, held.names)]
    return replace(query, constraints=(*query.constraints, *constraints))


def _parsed(where: str | Sequence[str]) -> list[Expression]:
    texts = [where] if isinstance(where, str) else where
    return [step for text in texts for step in steps(parse(text))]


def _used(expressions: Sequence[Expression]) -> list[str]:
    return [written(operand) for e in expressions for operand in operands(e)]


def _ordered(held: Reading, asked: Query, rows: Rows, ranker: Ranker) -> Order:
    if not asked.diversity:
        return ranker.best(asked.limit)
    caps = [cap for _, cap in asked.diversity]
    return ranker.diverse(caps, lambda at: _kinds(held, asked, rows.candidate_id[at]), asked.limit)


def _kinds(held: Reading, asked: Query, ids: np.ndarray) -> list[list[Any]]:
    """Return what candidates have in common with others: a list for each cap, None where it is not known."""
    formulas: list[Any] = []
    if any(what != "structure" for what, _ in asked.diversity):
        wanted = [held.column("reduced_formula")]
        formulas = held.rows_of(ids, held.condition(()), wanted).columns["reduced_formula"].tolist()
    kinds: list[list[Any]] = []
    for what, _ in asked.diversity:
        if what == "structure":
            kinds.append(_groups(held, ids))
        elif what == "formula":
            kinds.append(formulas)
        else:
            kinds.append([None if f is None else elements_of(f) for f in formulas])
    return kinds


def _groups(held: Reading, ids: np.ndarray) -> list[int]:
    """Return for each candidate the one that stands for all it equals: across batches if these were matched."""
    first = Candidate.__table__.alias("first")
    own = Candidate.__table__.c

    def asked(some: list[int]) -> Select[Any]:
        joined = Candidate.__table__.outerjoin(
            first, (first.c.batch_id == own.batch_id) & (first.c.row == own.duplicate_of)
        )
        columns = (own.id, own.group_id, first.c.group_id.label("group"), first.c.id.label("first"))
        return select(*columns).select_from(joined).where(own.id.in_(some))

    found: dict[int, int] = {}
    for k in range(0, len(ids), CHUNK):
        for key, group, of_first, its_first in held.connection.execute(asked(ids[k : k + CHUNK].tolist())):
            known = [g for g in (group, of_first, its_first) if g is not None]
            found[key] = known[0] if known else key
    return [found.get(int(key), int(key)) for key in ids]


def _notes(asked: Query, rows: Rows, sigmas: Mapping[str, np.ndarray], ranker: Ranker) -> list[str]:
    n, notes = len(rows.candidate_id), []
    for objective in asked.objectives:
        missing = int(np.isnan(rows.columns[objective.column].astype(float)).sum())
        if missing:
            notes.append(f"{missing} of {n} candidates have no {objective.column}; they come last.")
        unsure = int(np.isnan(sigmas[objective.column]).sum()) if objective.column in sigmas else 0
        if unsure and objective.sigma is None:
            notes.append(
                f"The uncertainty of {objective.column} is not known for {unsure} of {n} candidates; they come last. "
                "Give the objective a sigma to assume for them."
            )
        elif unsure:
            notes.append(f"For {unsure} of {n} candidates the uncertainty of {objective.column} is the assumed one.")
    return notes


def _described(held: Reading, rows: Rows, wanted: Sequence[Wanted]) -> dict[str, Any]:
    return {
        "candidate_id": rows.candidate_id,
        "batch_id": rows.batch_id,
        "row": rows.row,
        "columns": dict(rows.columns),
        "kinds": {w.name: w.resolved.kind for w in wanted},
        "units": {w.name: w.resolved.unit for w in wanted if w.resolved.unit is not None},
        "relaxed": held.relaxed,
    }
