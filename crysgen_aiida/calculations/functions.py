"""Small deterministic steps that run inside AiiDA: one call a batch, every output linked to what it came from."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
from aiida import orm
from aiida.engine import calcfunction

from crysgen_aiida.crystals import labels as id_labels
from crysgen_aiida.crystals.errors import BadInput, EmptySet
from crysgen_aiida.data.constraints import columns_of
from crysgen_aiida.data.decision import DecisionSet
from crysgen_aiida.data.packed import (
    CrystalSetData,
    DecisionData,
    PackedData,
    PropertyTableData,
    ReferenceEnergiesData,
    SequenceSetData,
)
from crysgen_aiida.data.ranking import Query, Ranking, candidate_frame, rank_frame
from crysgen_aiida.data.structures import to_structure_data


@calcfunction
def record_ranking(crystals: CrystalSetData, table: PropertyTableData, query: orm.Dict) -> DecisionData:
    """Rank the rows of relaxed ``crystals`` that ``table`` judged, and keep the order as a decision.

    :param query: see :class:`~crysgen_aiida.data.ranking.Query`; further keys ``proposer`` and ``note`` are kept.
    """
    asked = query.get_dict()
    said = {key: str(asked.pop(key)) for key in ("proposer", "note") if key in asked}
    parsed = Query.from_dict(asked)
    frame = candidate_frame(crystals.table, table.table)
    ranking = rank_frame(frame, parsed)
    return DecisionData(decision_set(frame, ranking, parsed, said))


@calcfunction
def promote(
    crystals: CrystalSetData,
    table: PropertyTableData,
    reference: ReferenceEnergiesData,
    decision: DecisionData,
    rows: orm.List,
) -> dict[str, Any]:
    """Make structure nodes of the given rows of ``crystals``, all in one call: ``structures.r<row>``.

    Table, reference and decision are inputs, so that the whole case for a structure is among its ancestors and travels
    with it in an archive.
    """
    wanted = [int(row) for row in rows.get_list()]
    if not wanted:
        raise EmptySet("There is nothing to promote: the list of rows is empty.")
    table_of = zip(decision.table.column("parent_input"), decision.table.column("parent_row"), strict=True)
    labels = _labels(decision, crystals)
    ranked = {row for label, row in table_of if label in labels}
    strangers = sorted(set(wanted) - ranked)
    if strangers:
        raise BadInput(f"Rows {strangers} are not in the decision; rank with a query that keeps them, then promote.")
    return {"structures": {f"r{row}": _structure(crystals, row) for row in wanted}}


def _labels(decision: DecisionData, crystals: CrystalSetData) -> set[str]:
    """Return what a decision calls these crystals: one may be about several sets."""
    maker = decision.creator
    if maker is None:
        return {"crystals"}
    given = maker.base.links.get_incoming().all()
    return {link.link_label for link in given if getattr(link.node, "content_hash", None) == crystals.content_hash}


@calcfunction
def select_rows(crystals: CrystalSetData, rows: orm.List) -> CrystalSetData:
    """Return some rows of a set as a set, in the order given."""
    return CrystalSetData(crystals.table.take([int(row) for row in rows.get_list()], parent_input="crystals"))


@calcfunction
def join_labels(crystals: CrystalSetData, labels: PropertyTableData, on: orm.Str) -> CrystalSetData:
    """Return a set with the labels of a table, where the ids in its column ``on`` are those of the table."""
    joined, _ = id_labels.join_labels(crystals.table, labels.table, on.value)
    return CrystalSetData(joined.take(range(len(joined)), parent_input="crystals"))


@calcfunction
def materialize(source: PackedData, row: orm.Int) -> orm.Data:
    """Make a node of one row: a structure of a crystal, text of a sequence, a dictionary of anything else."""
    if isinstance(source, CrystalSetData):
        return _structure(source, row.value)
    record = {k: v for k, v in source.get(row.value).items() if v is not None}
    if isinstance(source, SequenceSetData) and "sequence" in record:
        node: orm.Data = orm.Str(str(record["sequence"]))
    else:
        node = orm.Dict({k: v for k, v in record.items() if not (isinstance(v, float) and not math.isfinite(v))})
    node.label = f"row {row.value}"
    return node


def decision_set(frame: Any, ranking: Ranking, query: Query, said: dict[str, str]) -> DecisionSet:
    """Return a ranking as rows: rank, score, the row ranked, its formula and the values it was ranked by."""
    chosen = frame.set_index("row", drop=False).loc[ranking.rows]
    columns: dict[str, Any] = {
        "rank": pa.array(range(len(ranking.rows)), pa.int64()),
        "score": pa.array(ranking.scores, pa.float64()),
        "front": pa.array(ranking.fronts, pa.int64()),
        "content_id": pa.array(chosen["content_id"].tolist(), pa.string()),
        "parent_input": pa.array(["crystals"] * len(ranking.rows), pa.string()),
        "parent_row": pa.array(ranking.rows, pa.int64()),
        "reduced_formula": pa.array(chosen["reduced_formula"].tolist(), pa.string()),
    }
    asked = [name for constraint in query.constraints for name in columns_of(constraint)]
    used = dict.fromkeys([*asked, *(o.column for o in query.objectives)])
    for name in used:
        if name not in columns:
            columns[name] = pa.array(chosen[name], from_pandas=True)
    metadata = {"query": query.to_dict(), "funnel": [list(step) for step in ranking.funnel], **said}
    return DecisionSet(pa.table(columns), {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()})


def _structure(crystals: CrystalSetData, row: int) -> orm.StructureData:
    node = to_structure_data(crystals.table, row)
    node.label = str(crystals.get(row)["reduced_formula"])
    node.description = f"row {row} of {crystals.uuid}"
    return node
