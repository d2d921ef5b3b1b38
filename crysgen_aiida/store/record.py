"""Record a ranking of the index as a decision in the graph. Ranking itself only reads.

The decision is made by a calculation function from the packed tables that were ranked: screenings and tables of results
are its inputs. It fills an index of its own with just these and asks it, so a decision is what was shown, whatever the
rule needs: methods, uncertainties, values of later results.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from aiida import orm
from aiida.engine import calcfunction
from sqlalchemy import select

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.data.decision import DecisionSet
from crysgen_aiida.data.packed import DecisionData
from crysgen_aiida.data.ranking import Query
from crysgen_aiida.store import harvest
from crysgen_aiida.store.explain.runs import Run
from crysgen_aiida.store.index.batches import Screened, add_batch
from crysgen_aiida.store.index.bulk import as_row, number_methods, read_listed, require_columns, store_setting
from crysgen_aiida.store.index.database import Index
from crysgen_aiida.store.index.models import Batch, Candidate, Results, WideColumn
from crysgen_aiida.store.index.results import add_results, read_results
from crysgen_aiida.store.query import plain_query, rank_candidates
from crysgen_aiida.store.selection import RankedSelection
from crysgen_aiida.store.sync import load_rows, result_columns

#: Link labels of the sets of a screening to what the index calls them; those of the second one end in ``_2``.
SETS = {"crystals": "relaxed", "table": "table", "unrelaxed": "decoded", "sequences": "sequences"}


@calcfunction
def rank_tables(rule: orm.Dict, **sets: orm.Data) -> DecisionData:
    """Rank the rows of screened crystals and keep the order as a decision.

    :param rule: what :func:`record` writes: ``query``, ``where``, ``prefer``, ``policy``, the ``columns`` and
        ``methods`` of the index that was asked, and the uuids of the ``sets``. Which value is the newest, and which
        candidate a result is about, depends on them, and AiiDA's hash of a set does not: with them in the rule a
        decision is served from the cache only if it was about the same nodes.
    :param sets: ``crystals``, ``table``, ``unrelaxed`` and ``sequences`` of the oldest screening, those of the next
        with ``_2`` after the name, and so on; tables of results as ``results``, ``results_2``, …
    """
    return DecisionData(_decide(rule.get_dict(), {label: node.uuid for label, node in sets.items()}))


def record(
    index: Index, run: Run, query: Query, where: Sequence[str] = (), prefer: Mapping[str, Any] | None = None
) -> DecisionData:
    """Store a ranking of a run's candidates as a decision.

    :raises ImpossibleRequest: if the tables alone give another order than the index, which knows what they do not say.
    """
    whole = dataclasses.replace(query, limit=None)
    with index.read():
        sets = _sets_of(index, run)
        rule = {
            "query": whole.to_dict(),
            "where": list(where),
            "prefer": dict(prefer or {}),
            "policy": index.policy().to_dict(),
            "sets": sets,
            **_known_to(index),
        }
        shown = rank_candidates(index, whole, where=where, runs=list(run.batch_ids), prefer=prefer)
    stored = orm.Dict(rule)  # keeps 16 digits of a number: what is decided now and then must be the same
    decided = _decide(stored.get_dict(), sets)
    order = [sets[label] for label in decided.column("parent_input")]
    addresses = [f"{uuid}:{row}" for uuid, row in zip(order, decided.column("parent_row"), strict=True)]
    if addresses != [*shown.address] or decided.column("score") != shown.scores.tolist():
        raise ImpossibleRequest(
            "The tables of this run alone give another order than the index, which also knows from `crysgen store "
            "match` which structures of different screenings are the same, and of results for copies of these sets. To "
            "record it, name one screening instead of the run, or leave out the diversity by structure."
        )
    nodes: dict[str, Any] = {label: orm.load_node(uuid=uuid) for label, uuid in sets.items()}
    decision: Any = rank_tables(stored, **nodes)
    return decision  # type: ignore[no-any-return]


def _known_to(index: Index) -> dict[str, Any]:
    """Return the columns and methods of an index: a filter may name those that only other runs have."""
    with index.read() as connection:
        return {"columns": [as_row(c) for c in read_listed(connection)], "methods": index.methods(connection)}


def _sets_of(index: Index, run: Run) -> dict[str, str]:
    """Return the uuids of what a ranking of a run is made from, by link label."""
    with index.read() as connection:
        held = connection.execute(
            select(Batch.relaxed_uuid, Batch.table_uuid, Batch.decoded_uuid, Batch.sequences_uuid)
            .where(Batch.id.in_(run.batch_ids))
            .order_by(Batch.created, Batch.key)
        ).all()
        results = connection.execute(select(Results.uuid, Results.addressed).order_by(Results.created, Results.uuid))
        ours = {row.relaxed_uuid for row in held}
        about = [row.uuid for row in results if ours & set(row.addressed)]
    found: dict[str, str] = {}
    for number, row in enumerate(held, start=1):
        found |= {_numbered(label, number): uuid for label, uuid in zip(SETS, row, strict=True) if uuid}
    return found | {_numbered("results", number): uuid for number, uuid in enumerate(about, start=1)}


def _numbered(label: str, number: int) -> str:
    return label if number == 1 else f"{label}_{number}"


# -- an index of these tables -----------------------------------------------------------------------------------------


def _decide(rule: Mapping[str, Any], sets: Mapping[str, str]) -> DecisionSet:
    query = Query.from_dict(rule["query"])
    with _index_of(sets, rule) as index:
        used = [o.column for o in query.objectives]
        ranked = rank_candidates(index, query, where=rule["where"], prefer=rule["prefer"], columns=None)
        content = _content_ids(index, ranked)
        plain, text = _written(index, query, rule["where"])
    # its batches are numbered as they were added
    inputs = [_numbered("crystals", int(number)) for number in ranked.batch_id]
    columns: dict[str, Any] = {
        "rank": pa.array(range(len(ranked)), pa.int64()),
        "score": pa.array(ranked.scores, pa.float64()),
        "front": pa.array(ranked.fronts, pa.int64()),
        "content_id": pa.array(content, pa.string()),
        "parent_input": pa.array(inputs, pa.string()),
        "parent_row": pa.array(ranked.row, pa.int64()),
    }
    frame = ranked.frame()
    for name in dict.fromkeys(["reduced_formula", *ranked.columns, *used]):
        if name not in columns and name != "status":
            columns[name] = pa.array(frame[name], from_pandas=True)
    metadata = {"query": plain.to_dict(), "funnel": [list(step) for step in ranked.funnel], "where": text}
    return DecisionSet(pa.table(columns), {k: json.dumps(v) for k, v in metadata.items() if v})


@contextmanager
def _index_of(sets: Mapping[str, str], rule: Mapping[str, Any]) -> Iterator[Index]:
    """Yield an index of these screenings and tables of results alone, with the columns of the one that was asked."""
    created = harvest.created(sets.values())
    with tempfile.TemporaryDirectory(prefix="crysgen-") as folder:
        index = Index.open(f"sqlite:///{Path(folder) / 'index.sqlite'}")
        with index.write() as connection:
            store_setting(connection, "policy", rule["policy"])
            require_columns(connection, {c["name"]: WideColumn(**c) for c in rule["columns"]})
            number_methods(connection, rule["methods"])
        number = 1
        while _numbered("crystals", number) in sets:
            labels = {name: _numbered(label, number) for label, name in SETS.items()}
            uuids = {name: sets[label] for name, label in labels.items() if label in sets}
            described = {
                "sets": uuids,
                "created": {name: created[uuids[name]] for name in ("relaxed", "table")},
                "campaign": None,
            }
            rows, funnel = load_rows(described)
            facts = {"n_sequences": None, "n_decoded": None, "funnel": funnel}
            add_batch(index, Screened(str(number), f"{number:06}", str(number), described), rows, facts)
            number += 1
        number = 1
        while (label := _numbered("results", number)) in sets:
            uuid = sets[label]
            held = harvest.read_columns(uuid, harvest.load_files([uuid])[uuid], result_columns)
            with index.write() as connection:
                add_results(connection, index.policy(connection), uuid, created[uuid], "", read_results(held))
            number += 1
        try:
            yield index
        finally:
            index.close()


def _content_ids(index: Index, ranked: RankedSelection) -> list[str | None]:
    with index.read() as connection:
        held = dict(connection.execute(select(Candidate.id, Candidate.content_id)).tuples().all())
    return [held[int(key)] for key in ranked.candidate_id]


def _written(index: Index, query: Query, where: Sequence[str]) -> tuple[Query, list[str]]:
    """Return the rule with all filters that plain constraints can say, and the others as text."""
    text: list[str] = []
    for one in where:
        try:
            query = plain_query(index, query, one)
        except ImpossibleRequest:
            text.append(one)
    return query, text
