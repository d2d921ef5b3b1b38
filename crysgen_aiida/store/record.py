"""Record a ranking of the index as a decision in the graph. Ranking itself only reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crysgen_aiida.crystals.errors import ImpossibleRequest

if TYPE_CHECKING:
    from crysgen_aiida.data.packed import DecisionData
    from crysgen_aiida.data.ranking import Query
    from crysgen_aiida.store.explain.runs import Run
    from crysgen_aiida.store.index.database import Index


def record(
    index: Index, run: Run, query: Query, where: Sequence[str] = (), prefer: Mapping[str, str] | None = None
) -> DecisionData:
    """Store a ranking of a run's candidates as a decision.

    A calculation function ranks the tables of the run anew, so that they are its inputs in the graph; filters are
    written into the rule in their plain form.

    :raises ImpossibleRequest: if the run has several screenings, a filter asks for what its tables do not hold, or the
        tables alone give another order than the index (values of later results count there).
    """
    from aiida import orm

    from crysgen_aiida.calculations.functions import record_ranking
    from crysgen_aiida.data.ranking import rank_frame
    from crysgen_aiida.store.candidates import of_screen
    from crysgen_aiida.store.query import plain_query, rank_candidates

    if len(run.batch_ids) != 1:
        raise ImpossibleRequest(
            f"The run {run.pk or run.uuid[:8]} has {len(run.batch_ids)} screenings; a decision is about one: name it."
        )
    rule = dataclasses.replace(plain_query(index, query, where), limit=None)
    screen: Any = orm.load_node(uuid=run.screens[-1])
    found = of_screen(screen)
    shown = rank_candidates(index, query, where=list(where), runs=list(run.batch_ids), prefer=prefer)
    rows = [int(str(address).rpartition(":")[2]) for address in shown.address]
    if rows != rank_frame(found.frame, rule).rows:
        raise ImpossibleRequest(
            "The tables of this run alone give another order: values of later results, or of another method, count in "
            "the index. Say whose values to rank by, e.g. --prefer band_gap=METHOD with the method `crysgen candidate "
            "show` gives for the screening's own table."
        )
    decision: Any = record_ranking(found.relaxed, found.table, orm.Dict(rule.to_dict()))
    return decision  # type: ignore[no-any-return]
