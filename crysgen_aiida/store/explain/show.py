"""Everything the index and the graph hold about one candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from crysgen_aiida.store.address import Address, load_node
from crysgen_aiida.store.explain.runs import Found, find_candidate, runs_of_batch
from crysgen_aiida.store.index.clashes import taken_names
from crysgen_aiida.store.index.models import Batch, Candidate, Generator, PropertyColumn, PropertyValue
from crysgen_aiida.store.index.wide import ELEMENT_BITS, method_column, sigma_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crysgen_aiida.store.index.database import Index

#: Columns of the wide table that say where a row is rather than what it is.
_PRIVATE = {"candidate_id", "batch_id", "row", *ELEMENT_BITS}

#: Prefix of columns that hold what was asked for.
TARGET = "target."


def show(index: Index, text: str, *, graph: bool = True) -> dict[str, Any]:
    """Return a candidate with every value and where it came from.

    :param text: its address.
    :param graph: read the graph of the loaded profile as well: reasons of single verdicts, the crystal itself, and
        the structures promoted from it. Without it the index alone answers.
    :return: ``address``, ``status``, ``reduced_formula``…; ``properties``, one record a value with unit, standard
        uncertainty, method and source node, the current one of each property marked; ``verdicts``; ``requested``
        (wishes, never results); ``facts`` (every other column); ``origin``; ``equal`` candidates of this and other
        batches; with the graph also ``reason``, ``crystal`` and ``promoted``.
    :raises ImpossibleRequest: if there is no such candidate.
    """
    found = find_candidate(index, text)
    wide = wide_row(index, found)
    kinds = index.columns()
    asked = _asked(index, found)
    values = {name: wide[name] for name in kinds if name in wide}
    record: dict[str, Any] = {"address": found.address.full}
    record.update({name: values.pop(name) for name in ("status", "reduced_formula", "n_atoms", "n_elements")})
    properties = properties_of(index, found, wide)
    stated = {p["property"] for p in properties}
    record["properties"] = properties
    flags = {n: v for n, v in values.items() if kinds[n].kind == "flag" and n in asked}
    record["verdicts"] = [{"verdict": name, "answer": answer, "reason": None} for name, answer in flags.items()]
    record["requested"] = {
        n.removeprefix(TARGET): v for n, v in values.items() if n.startswith(TARGET) and v is not None
    }
    record["facts"] = {
        n: {"value": v, "unit": kinds[n].unit}
        for n, v in values.items()
        if n not in flags and n not in stated and not n.startswith(TARGET) and v is not None
    }
    record["origin"] = origin_of(index, found)
    record["equal"] = equals_of(index, found)
    if graph:
        record.update(_from_graph(found, record["verdicts"]))
    return record


def _asked(index: Index, found: Found) -> set[str]:
    """Return the columns its own screening has: the wide table also has those of all others."""
    with index.read() as connection:
        names = connection.execute(select(Batch.names).where(Batch.id == found.batch_id)).scalar_one()
    return set(taken_names(names))


def wide_row(index: Index, found: Found) -> dict[str, Any]:
    """Return the current values of a candidate by column name."""
    table = index.wide()
    columns = [column.label(name) for name, column in table.c.items()]
    with index.read() as connection:
        row = connection.execute(select(*columns).where(table.c["candidate_id"] == found.id)).one()
    return {name: value for name, value in row._mapping.items() if name not in _PRIVATE}


def properties_of(index: Index, found: Found, wide: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every value of every property of a candidate, by property, the current one first.

    :param wide: its row of current values.
    """
    query = (
        select(
            PropertyColumn.property,
            PropertyValue.value,
            PropertyColumn.unit,
            PropertyValue.sigma,
            PropertyColumn.method,
            PropertyColumn.source_uuid,
        )
        .join(PropertyColumn, PropertyColumn.id == PropertyValue.column_id)
        .where(
            PropertyValue.candidate_id == found.id,
            or_(PropertyColumn.batch_id == found.batch_id, PropertyColumn.results_id.is_not(None)),
        )
    )
    methods = index.methods()
    with index.read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(query)]
    for row in rows:
        name = row["property"]
        number = wide.get(method_column(name))
        row["source"] = row.pop("source_uuid")
        row["current"] = (
            number is not None
            and methods[number] == row["method"]
            and wide.get(name) == row["value"]
            and wide.get(sigma_column(name)) == row["sigma"]
        )
    return sorted(rows, key=lambda r: (r["property"], not r["current"], r["method"], r["source"]))


def origin_of(index: Index, found: Found) -> dict[str, Any]:
    """Return the sets and rows a candidate came from, and the runs that led to it."""
    query = (
        select(
            Batch.relaxed_uuid,
            Batch.table_uuid,
            Batch.decoded_uuid,
            Batch.sequences_uuid,
            Batch.reference_uuid,
            Batch.reference_name,
            Batch.protocol,
            Batch.seed,
            Candidate.decoded_row,
            Candidate.sequence_row,
            Candidate.content_id,
            Generator.uuid.label("generator_uuid"),
            Generator.label.label("generator_label"),
            Generator.name.label("generator"),
        )
        .join(Candidate, Candidate.batch_id == Batch.id)
        .outerjoin(Generator, Generator.id == Batch.generator_id)
        .where(Candidate.id == found.id)
    )
    with index.read() as connection:
        origin = dict(connection.execute(query).one()._mapping)
    runs = [{"pk": r.pk, "uuid": r.uuid, "label": r.label} for r in runs_of_batch(index, found.batch_id)]
    return {**origin, "runs": runs}


def equals_of(index: Index, found: Found) -> list[str]:
    """Return the addresses of candidates that are the same structure, as the screening or `store match` found."""
    here = select(Candidate.duplicate_of, Candidate.group_id).where(Candidate.id == found.id)
    with index.read() as connection:
        mine = connection.execute(here).one()
        first = found.row if mine.duplicate_of is None else mine.duplicate_of
        same = (Candidate.batch_id == found.batch_id) & ((Candidate.duplicate_of == first) | (Candidate.row == first))
        wanted = [same] if mine.group_id is None else [same, Candidate.group_id == mine.group_id]
        query = (
            select(Batch.relaxed_uuid, Candidate.row)
            .join(Batch, Batch.id == Candidate.batch_id)
            .where(or_(*wanted), Candidate.id != found.id)
            .order_by(Batch.relaxed_uuid, Candidate.row)
        )
        return [f"{row.relaxed_uuid}:{row.row}" for row in connection.execute(query)]


# -- the graph --------------------------------------------------------------------------------------------------------


def _from_graph(found: Found, verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    from crysgen_aiida.store.candidates import promoted
    from crysgen_aiida.store.explain.reasons import why_not

    crystal, judged = RowReader().rows(found)
    for verdict in verdicts:
        if verdict["answer"] is not True:
            verdict["reason"] = why_not(verdict["verdict"], judged)
    shape = None if crystal["lattice"] is None else {k: crystal[k] for k in ("lattice", "numbers", "frac_coords")}
    return {
        "reason": crystal["reason"],
        "crystal": shape,
        "promoted": [{"pk": node.pk, "uuid": node.uuid} for node in promoted(found.address)],
    }


class RowReader:
    """Reads rows from the graph; the sets of one screening are opened once."""

    def __init__(self) -> None:
        self._tables: dict[str, Any] = {}

    def rows(self, found: Found) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the row of the relaxed crystals, and that of the table that judged it (empty if none did)."""
        import pyarrow.compute as pc

        crystals, table = self._table(found.address.uuid), self._table(found.table_uuid)
        at = pc.index(table.arrow["parent_row"], found.row).as_py()
        return crystals.get(found.row), table.get(at) if at >= 0 else {}

    def _table(self, uuid: str) -> Any:
        if uuid not in self._tables:
            self._tables[uuid] = load_node(Address(uuid, 0)).table
        return self._tables[uuid]
