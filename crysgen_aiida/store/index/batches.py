"""Batches written, taken over and removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, Table, delete, insert, select, update

from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.store.index.bulk import (
    copy_values,
    insert_columns,
    next_key,
    number_methods,
    read_listed,
    remove_candidates,
    require_columns,
)
from crysgen_aiida.store.index.clashes import REFUSED
from crysgen_aiida.store.index.current import repaint_batch
from crysgen_aiida.store.index.models import (
    Batch,
    Campaign,
    Candidate,
    Generator,
    PropertyColumn,
    PropertyValue,
    Screening,
    Verdict,
    WideColumn,
)
from crysgen_aiida.store.index.wide import method_column, sigma_column, wide_table

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import Index
    from crysgen_aiida.store.index.policy import Policy
    from crysgen_aiida.store.index.rows import Measured, Rows

#: Rows written in one transaction.
TRANSACTION_ROWS = 20_000


@dataclass(frozen=True)
class Screened:
    """A finished screening as the graph tells it.

    :param key: hash of the contents of its sets; equal screenings are one batch.
    :param described: what its batch says of it, see :class:`~crysgen_aiida.store.index.models.Screening`.
    """

    uuid: str
    created: str
    key: str
    described: Mapping[str, Any]

    @property
    def relaxed_uuid(self) -> str:
        """The set its addresses begin with."""
        return str(self.described["sets"]["relaxed"])


def add_batch(index: Index, screened: Screened, rows: Rows, facts: Mapping[str, Any]) -> None:
    """Write a batch that is not there yet. The caller holds the lock of the index.

    Up to :data:`TRANSACTION_ROWS` rows it is one transaction; a larger one is marked incomplete until it is whole.

    :param facts: counts of its stages: ``n_sequences``, ``n_decoded``, ``funnel``.
    """
    whole = rows.n <= TRANSACTION_ROWS
    with index.write() as connection:
        writer = _open_batch(connection, index.policy(connection), screened, rows, facts, complete=whole)
        writer.rows(connection, range(min(rows.n, TRANSACTION_ROWS)))
        if whole:
            _join(connection, writer.batch_id, screened)
    if whole:
        return
    for start in range(TRANSACTION_ROWS, rows.n, TRANSACTION_ROWS):
        with index.write() as connection:
            writer.rows(connection, range(start, min(start + TRANSACTION_ROWS, rows.n)))
    with index.write() as connection:
        connection.execute(update(Batch).where(Batch.id == writer.batch_id).values(complete=True))
        _join(connection, writer.batch_id, screened)


def join_batch(connection: Connection, policy: Policy, batch_id: int, screened: Screened) -> None:
    """Add a screening to the batch it repeats; the earliest gives the addresses."""
    _join(connection, batch_id, screened)
    repaint_batch(connection, policy, batch_id)


def remove_screening(connection: Connection, policy: Policy, uuid: str) -> None:
    """Remove a screening, and its batch if it was the last one of it."""
    batch_id = connection.scalar(select(Screening.batch_id).where(Screening.uuid == uuid))
    connection.execute(delete(Screening).where(Screening.uuid == uuid))
    if batch_id is None:
        return
    if connection.scalar(select(Screening.uuid).where(Screening.batch_id == batch_id).limit(1)) is None:
        remove_batch(connection, batch_id)
    else:
        _take_over(connection, batch_id)
        repaint_batch(connection, policy, batch_id)


def remove_batch(connection: Connection, batch_id: int) -> None:
    """Remove a batch with everything that hangs on it."""
    remove_candidates(connection, batch_id)
    for model in (PropertyColumn, Verdict, Screening):
        connection.execute(delete(model).where(model.batch_id == batch_id))
    connection.execute(delete(Batch).where(Batch.id == batch_id))


def describe_again(connection: Connection, policy: Policy, uuid: str, described: Mapping[str, Any]) -> None:
    """Write what changed about a screening, e.g. the label of its campaign."""
    connection.execute(update(Screening).where(Screening.uuid == uuid).values(described=dict(described)))
    batch_id = connection.scalar(select(Screening.batch_id).where(Screening.uuid == uuid))
    if batch_id is not None:
        _take_over(connection, batch_id)
        repaint_batch(connection, policy, batch_id)


def _open_batch(
    connection: Connection,
    policy: Policy,
    screened: Screened,
    rows: Rows,
    facts: Mapping[str, Any],
    *,
    complete: bool,
) -> _Writer:
    listing = _listing(rows)
    names = {n: {"kind": c.kind, "unit": c.unit, "is_property": c.is_property} for n, c in listing.items()}
    for name in require_columns(connection, listing):
        names[name][REFUSED] = True
        rows.plain.pop(name, None)
    batch_id = next_key(connection, Batch.id)
    sets = screened.described["sets"]
    connection.execute(
        insert(Batch).values(
            id=batch_id,
            key=screened.key,
            requested=rows.requested,
            n_rows=rows.n,
            names=names,
            complete=complete,
            screen_uuid=screened.uuid,
            relaxed_uuid=sets["relaxed"],
            table_uuid=sets["table"],
            created=screened.created,
            **facts,
        )
    )
    verdicts = [v for v in rows.verdicts if v["name"] in rows.plain]
    if verdicts:
        connection.execute(insert(Verdict), [{"batch_id": batch_id, **v} for v in verdicts])
    methods = number_methods(connection, sorted(m.method for m in rows.measured))
    columns = _open_columns(connection, batch_id, screened, rows)
    return _Writer(
        batch_id,
        next_key(connection, Candidate.id),
        rows,
        columns,
        wide_table(read_listed(connection)),
        policy,
        methods,
        screened.described["created"],
        sets,
    )


def _open_columns(connection: Connection, batch_id: int, screened: Screened, rows: Rows) -> list[tuple[int, Measured]]:
    """Write the property columns of a batch; return them with their keys."""
    first_column = next_key(connection, PropertyColumn.id)
    columns: list[tuple[int, Measured]] = []
    for number, measured in enumerate(rows.measured, start=first_column):
        connection.execute(
            insert(PropertyColumn).values(
                id=number,
                batch_id=batch_id,
                property=measured.name,
                unit=measured.unit,
                method=measured.method,
                source=measured.source,
                source_uuid=screened.described["sets"][measured.source],
                created=screened.described["created"][measured.source],
            )
        )
        columns.append((number, measured))
    return columns


def _listing(rows: Rows) -> dict[str, WideColumn]:
    listing = {
        name: WideColumn(name=name, kind=plain.kind, unit=plain.unit, is_property=False)
        for name, plain in rows.plain.items()
    }
    for measured in rows.measured:
        unit = PROPERTIES[measured.name].unit
        if measured.unit == unit:
            listing[measured.name] = WideColumn(name=measured.name, kind="number", unit=unit, is_property=True)
    return listing


@dataclass(frozen=True)
class _Writer:
    """Writes the rows of one batch, some at a time."""

    batch_id: int
    first: int  #: key of the first candidate; the others follow in order
    held: Rows
    columns: list[tuple[int, Measured]]
    current: Table
    policy: Policy
    methods: Mapping[str, int]
    created: Mapping[str, str]
    sets: Mapping[str, str]

    def rows(self, connection: Connection, part: range) -> None:
        """Write some rows: who they are, their current values, all their values."""
        if not len(part):
            return
        ids = range(self.first + part.start, self.first + part.stop)
        cut = slice(part.start, part.stop)
        batch = [self.batch_id] * len(part)
        who = {name: values[cut] for name, values in self.held.candidate.items()}
        insert_columns(connection, Candidate.__table__, {"id": ids, "batch_id": batch, **who})  # type: ignore[arg-type]
        wide: dict[str, Any] = {"candidate_id": ids, "batch_id": batch, "row": who["row"]}
        wide |= {name: values[cut] for name, values in self.held.fixed.items()}
        wide |= {name: plain.values[cut] for name, plain in self.held.plain.items()}
        alone: list[tuple[int, str]] = []
        for name, sources in self._by_name().items():
            wide |= self._best(name, sources, cut)
            if len(sources) == 1:
                alone.append((sources[0][0], name))
        insert_columns(connection, self.current, wide)
        for column_id, name in alone:
            copy_values(connection, self.current, column_id, name, ids[0], ids[-1])
        copied = {column_id for column_id, _ in alone}
        for column_id, measured in self.columns:
            if column_id not in copied:
                _insert_values(connection, column_id, measured, ids, cut)

    def _by_name(self) -> dict[str, list[tuple[int, Measured]]]:
        """Return the columns of each property in its registered unit: only they can be current."""
        found: dict[str, list[tuple[int, Measured]]] = {}
        for column_id, measured in self.columns:
            if measured.unit == PROPERTIES[measured.name].unit:
                found.setdefault(measured.name, []).append((column_id, measured))
        return found

    def _best(self, name: str, sources: list[tuple[int, Measured]], cut: slice) -> dict[str, list[Any]]:
        """Return value, method and uncertainty of the method that the policy prefers, row by row."""
        order = self.policy.best_first(
            name, [(m.method, self.created[m.source], self.sets[m.source]) for _, m in sources]
        )
        value = np.full(cut.stop - cut.start, np.nan)
        sigma, method = value.copy(), np.full(len(value), -1)
        for k in reversed(order):
            measured = sources[k][1]
            found = measured.values[cut]
            there = ~np.isnan(found)
            value[there], method[there] = found[there], self.methods[measured.method]
            sigma[there] = measured.sigma[cut][there] if measured.sigma is not None else np.nan
        missing, unstated = method < 0, np.isnan(sigma)
        best = {name: _or_none(value, missing), method_column(name): _or_none(method, missing)}
        if not unstated.all():  # most columns state no uncertainty: a column that is not written costs nothing
            best[sigma_column(name)] = _or_none(sigma, unstated)
        return best


def _or_none(values: np.ndarray[Any, Any], missing: np.ndarray[Any, Any]) -> list[Any]:
    if not missing.any():
        return list(values.tolist())
    if missing.all():
        return [None] * len(values)
    held = values.astype(object)
    held[missing] = None
    return list(held.tolist())


def _insert_values(connection: Connection, column_id: int, measured: Measured, ids: range, cut: slice) -> None:
    values = measured.values[cut]
    there = ~np.isnan(values)
    n = int(there.sum())
    sigma = measured.sigma[cut][there] if measured.sigma is not None else np.full(n, np.nan)
    columns = {
        "column_id": [column_id] * n,
        "candidate_id": np.arange(ids.start, ids.stop)[there].tolist(),
        "value": values[there].tolist(),
        "sigma": _or_none(sigma, np.isnan(sigma)),
    }
    insert_columns(connection, PropertyValue.__table__, columns)  # type: ignore[arg-type]


def _join(connection: Connection, batch_id: int, screened: Screened) -> None:
    connection.execute(
        insert(Screening).values(
            uuid=screened.uuid,
            batch_id=batch_id,
            relaxed_uuid=screened.relaxed_uuid,
            described=dict(screened.described),
            created=screened.created,
        )
    )
    _take_over(connection, batch_id)


def _take_over(connection: Connection, batch_id: int) -> None:
    """Let the batch say what its earliest screening says."""
    uuid, created, described = connection.execute(
        select(Screening.uuid, Screening.created, Screening.described)
        .where(Screening.batch_id == batch_id)
        .order_by(Screening.created, Screening.uuid)
        .limit(1)
    ).one()
    sets = described["sets"]
    connection.execute(
        update(Batch)
        .where(Batch.id == batch_id)
        .values(
            screen_uuid=uuid,
            created=created,
            campaign_id=_key_of(connection, Campaign, described["campaign"]),
            generator_id=_key_of(connection, Generator, described.get("generator")),
            seed=described.get("seed"),
            protocol=described.get("protocol"),
            reference_name=described.get("reference_name"),
            relaxed_uuid=sets["relaxed"],
            table_uuid=sets["table"],
            decoded_uuid=sets.get("decoded"),
            sequences_uuid=sets.get("sequences"),
            reference_uuid=sets.get("reference"),
        )
    )
    for source in ("table", "relaxed"):
        connection.execute(
            update(PropertyColumn)
            .where(PropertyColumn.batch_id == batch_id, PropertyColumn.source == source)
            .values(source_uuid=sets[source], created=described["created"][source])
        )


def _key_of(connection: Connection, model: Any, values: Mapping[str, Any] | None) -> int | None:
    """Return the key of the row with this uuid, written or brought up to date."""
    if values is None:
        return None
    held = {k: v for k, v in values.items() if k != "pk"}
    key = connection.scalar(select(model.id).where(model.uuid == held["uuid"]))
    if key is None:
        key = next_key(connection, model.id)
        connection.execute(insert(model).values(id=key, **held))
    else:
        connection.execute(update(model).where(model.id == key).values(**held))
    return int(key)
