"""A hash of everything in an index that the graph and the policy decide.

Integer keys, the order of synchronisation and columns that are empty everywhere do not matter; saved queries and what
``match`` found are not part of it, because no synchronisation makes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, select

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
    Screening,
    Verdict,
    WideColumn,
)
from crysgen_aiida.store.index.wide import ELEMENT_BITS, FIXED, method_column, sigma_column

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import Index

_WHO = ("row", "content_id", "decoded_row", "sequence_row", "duplicate_of")


def fingerprint(index: Index, connection: Connection) -> str:
    """Return the hash; every row of the index is read."""
    digest = hashlib.sha256()
    held: dict[str, Any] = {
        "policy": index.policy(connection).to_dict(),
        "columns": sorted((c.name, c.kind, c.unit or "", c.is_property) for c in index.columns(connection).values()),
    }
    for model in (Campaign, Dataset, Generator):
        held[model.__tablename__] = sorted(_records(connection, model.__table__, "id"), key=lambda r: str(r["uuid"]))  # type: ignore[arg-type]
    held["edges"] = sorted(map(_text, _records(connection, LineageEdge.__table__)))  # type: ignore[arg-type]
    digest.update(_text(held))
    for batch_id, _ in _batches(connection):
        digest.update(batch_hash(index, connection, batch_id).encode())
    for results_id in connection.scalars(select(Results.id).order_by(Results.uuid)).all():
        digest.update(_results(connection, results_id))
    return digest.hexdigest()


def batch_hash(index: Index, connection: Connection, batch_id: int) -> str:
    """Return the hash of one batch with all its rows and values."""
    uuids = {
        model: dict(connection.execute(select(model.id, model.uuid)).tuples().all()) for model in (Campaign, Generator)
    }
    (batch,) = _records(connection, Batch.__table__, "id", where=Batch.id == batch_id)  # type: ignore[arg-type]
    batch["campaign_id"] = uuids[Campaign].get(batch["campaign_id"])
    batch["generator_id"] = uuids[Generator].get(batch["generator_id"])
    screenings = _records(connection, Screening.__table__, "batch_id", where=Screening.batch_id == batch_id)  # type: ignore[arg-type]
    verdicts = _records(connection, Verdict.__table__, "id", "batch_id", where=Verdict.batch_id == batch_id)  # type: ignore[arg-type]
    digest = hashlib.sha256(_text([batch, sorted(map(_text, map(_public, screenings))), sorted(map(_text, verdicts))]))
    columns = [getattr(Candidate, name) for name in _WHO]
    who = connection.execute(select(Candidate.id, *columns).where(Candidate.batch_id == batch_id).order_by("row")).all()
    digest.update(_text([tuple(row[1:]) for row in who]))
    row_of = {row.id: row.row for row in who}
    digest.update(_current(index, connection, batch_id))
    for column in _columns(connection, PropertyColumn.batch_id == batch_id):
        values = _values(connection, column["id"])
        digest.update(_text([_identity(column), [(row_of[key], value, sigma) for key, value, sigma in values]]))
    return digest.hexdigest()


def _current(index: Index, connection: Connection, batch_id: int) -> bytes:
    table, methods = index.wide(connection), index.methods(connection)
    listed = connection.execute(select(WideColumn.name, WideColumn.is_property).order_by(WideColumn.name)).all()
    plain = ["row", *(name for name, _ in FIXED), *ELEMENT_BITS, *(name for name, _ in listed)]
    by_method = [method_column(name) for name, is_property in listed if is_property]
    plain += [sigma_column(name) for name, is_property in listed if is_property]
    names = [*plain, *by_method]
    rows = connection.execute(
        select(*(table.c[name] for name in names)).where(table.c.batch_id == batch_id).order_by(table.c.row)
    ).all()
    digest = hashlib.sha256()
    for name, values in zip(names, zip(*rows, strict=True), strict=False):
        if any(v is not None for v in values):
            shown: Iterable[Any] = values
            if name in by_method:
                shown = (None if v is None else methods[v] for v in values)
            digest.update(_text([name, [_same(v) for v in shown]]))
    return digest.digest()


def _results(connection: Connection, results_id: int) -> bytes:
    (results,) = _records(connection, Results.__table__, "id", where=Results.id == results_id)  # type: ignore[arg-type]
    found: list[Any] = [results]
    for column in _columns(connection, PropertyColumn.results_id == results_id):
        values = connection.execute(
            select(Batch.key, Candidate.row, PropertyValue.value, PropertyValue.sigma)
            .join_from(PropertyValue, Candidate, Candidate.id == PropertyValue.candidate_id)
            .join(Batch, Batch.id == Candidate.batch_id)
            .where(PropertyValue.column_id == column["id"])
            .order_by(Batch.key, Candidate.row)
        )
        found.append([_identity(column), [tuple(row) for row in values]])
    return hashlib.sha256(_text(found)).digest()


def _batches(connection: Connection) -> list[tuple[int, str]]:
    return list(connection.execute(select(Batch.id, Batch.key).order_by(Batch.key)).tuples().all())


def _columns(connection: Connection, where: Any) -> list[dict[str, Any]]:
    found = _records(connection, PropertyColumn.__table__, "batch_id", "results_id", where=where)  # type: ignore[arg-type]
    return sorted(found, key=lambda c: _text(_identity(c)))


def _identity(column: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in column.items() if name != "id"}


def _values(connection: Connection, column_id: int) -> Sequence[Any]:
    return connection.execute(
        select(PropertyValue.candidate_id, PropertyValue.value, PropertyValue.sigma)
        .where(PropertyValue.column_id == column_id)
        .order_by(PropertyValue.candidate_id)
    ).all()


def _records(connection: Connection, table: Table, *private: str, where: Any = None) -> list[dict[str, Any]]:
    query = select(*(c for c in table.c if c.name not in private))
    return [dict(row._mapping) for row in connection.execute(query if where is None else query.where(where))]


def _public(value: Any) -> Any:
    """Leave out the primary keys of the profile: another copy of the same graph has other ones."""
    if isinstance(value, dict):
        return {k: _public(v) for k, v in value.items() if k != "pk"}
    return value


def _same(value: Any) -> Any:
    """Make one of what the two databases tell apart: 3 and 3.0, 1 and true."""
    return value if value is None or isinstance(value, str) else float(value)


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=repr).encode()
