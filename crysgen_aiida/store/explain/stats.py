"""What the index holds, in numbers: every count by a query, nothing kept beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from crysgen_aiida.store.index.models import (
    Batch,
    Campaign,
    Candidate,
    Dataset,
    Generator,
    LineageEdge,
    PropertyColumn,
    PropertyValue,
    Results,
    SavedQuery,
    Screening,
    Verdict,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from crysgen_aiida.store.index.database import Index

_COUNTED = (
    ("runs", Campaign),
    ("data sets", Dataset),
    ("generators", Generator),
    ("screenings", Screening),
    ("batches", Batch),
    ("candidates", Candidate),
    ("results tables", Results),
    ("lineage steps", LineageEdge),
    ("saved queries", SavedQuery),
)


def stats(index: Index) -> dict[str, Any]:
    """Return ``{"counts", "status", "properties", "verdicts", "generators"}``.

    Properties are listed by method, with how many values there are and the lowest and highest; verdicts are added up
    over all batches, with the interval of their share among those that could be told.
    """
    with index.read() as connection:
        counts = {name: _count(connection, model) for name, model in _COUNTED}
        looked_at = select(func.count(Candidate.group_id))
        counts["matched across runs"] = int(connection.execute(looked_at).scalar_one())
        counts["equal to an earlier one"] = int(
            connection.execute(looked_at.where(Candidate.group_id != Candidate.id)).scalar_one()
        )
        return {
            "counts": counts,
            "status": _by_status(connection, index),
            "properties": _properties(connection),
            "verdicts": _verdicts(connection),
            "generators": _generators(connection),
        }


def _count(connection: Connection, model: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(model)).scalar_one())


def _by_status(connection: Connection, index: Index) -> dict[str, int]:
    status = index.wide().c["status"].label("status")
    query = select(status, func.count().label("n")).group_by(status).order_by(func.count().desc(), status)
    return {str(row.status): int(row.n) for row in connection.execute(query)}


def _properties(connection: Connection) -> list[dict[str, Any]]:
    query = (
        select(
            PropertyColumn.property,
            PropertyColumn.method,
            PropertyColumn.unit,
            func.count().label("values"),
            func.count(PropertyValue.sigma).label("sigmas"),
            func.min(PropertyValue.value).label("low"),
            func.max(PropertyValue.value).label("high"),
        )
        .join(PropertyValue, PropertyValue.column_id == PropertyColumn.id)
        .group_by(PropertyColumn.property, PropertyColumn.method, PropertyColumn.unit)
        .order_by(PropertyColumn.property, PropertyColumn.method)
    )
    return [
        {
            "property": row.property,
            "method": row.method,
            "unit": row.unit,
            "values": row._mapping["values"],  # a row has a method of that name
            "with uncertainty": row.sigmas,
            "min": row.low,
            "max": row.high,
        }
        for row in connection.execute(query)
    ]


def _verdicts(connection: Connection) -> list[dict[str, Any]]:
    from crysgen_aiida.screening.statistics import wilson

    query = (
        select(Verdict.name, func.sum(Verdict.n_true), func.sum(Verdict.n_false), func.sum(Verdict.n_unknown))
        .group_by(Verdict.name)
        .order_by(Verdict.name)
    )
    found = []
    for name, yes, no, unknown in connection.execute(query):
        yes, told = int(yes), int(yes) + int(no)
        found.append(
            {
                "verdict": name,
                "yes": yes,
                "judged": told,
                "share": yes / told if told else None,
                "wilson95": list(wilson(yes, told)) if told else None,
                "unknown": int(unknown),
            }
        )
    return found


def _generators(connection: Connection) -> list[dict[str, Any]]:
    query = (
        select(
            Generator.uuid,
            Generator.label,
            Generator.name,
            func.count(Batch.id).label("batches"),
            func.coalesce(func.sum(Batch.n_rows), 0).label("candidates"),
        )
        .outerjoin(Batch, Batch.generator_id == Generator.id)
        .group_by(Generator.id, Generator.uuid, Generator.label, Generator.name)
        .order_by(Generator.uuid)
    )
    return [{**row._mapping, "candidates": int(row.candidates)} for row in connection.execute(query)]
