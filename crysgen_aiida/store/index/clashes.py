"""Columns of one name that mean different things in different screenings.

One column of ``current`` has one kind of values. Which one must not depend on what was synchronised first, so the kinds
have an order: the best one there is has the column, and the screenings whose column is of another kind do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from crysgen_aiida.store.index.bulk import read_listed, require_columns
from crysgen_aiida.store.index.models import Batch, Candidate, Verdict, WideColumn
from crysgen_aiida.store.index.wide import wide_table

if TYPE_CHECKING:
    from crysgen_aiida.store.index.rows import Rows

#: From the best to the worst; whole numbers are numbers. Names of properties never clash: see `rows`.
ORDER = ("number", "flag", "text")

#: Key in ``Batch.names`` of a column that the batch does without.
REFUSED = "refused"


@dataclass(frozen=True)
class Clashes:
    """What is to be done so that every column has the best kind there is.

    :param columns: the columns that clash, as they have to be.
    :param fill: batches to the names they have values of, which are not in the index yet.
    :param empty: batches to the names they have to do without.
    """

    columns: Mapping[str, WideColumn]
    fill: Mapping[int, Sequence[str]]
    empty: Mapping[int, Sequence[str]]

    def __bool__(self) -> bool:
        return bool(self.columns)


def taken_names(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of ``Batch.names`` the batch fills."""
    return {name: held for name, held in names.items() if not held.get(REFUSED)}


def refused(connection: Connection) -> dict[tuple[str, str], str]:
    """Return the columns that batches do without: key of the batch and name, to the uuid of its screening."""
    rows = connection.execute(select(Batch.key, Batch.screen_uuid, Batch.names)).tuples()
    return {(key, name): uuid for key, uuid, names in rows for name in set(names) - set(taken_names(names))}


def find_clashes(connection: Connection) -> Clashes:
    """Return what is wrong with the columns as they are."""
    by_name: dict[str, dict[int, dict[str, Any]]] = {}
    for key, names in connection.execute(select(Batch.id, Batch.names)).tuples():
        for name, held in names.items():
            by_name.setdefault(name, {})[key] = held
    columns: dict[str, WideColumn] = {}
    fill: dict[int, list[str]] = {}
    empty: dict[int, list[str]] = {}
    for name, batches in sorted(by_name.items()):
        best = min((_kind(held["kind"]) for held in batches.values()), key=ORDER.index)
        ours = {key: held for key, held in batches.items() if _kind(held["kind"]) == best}
        lacking = [key for key, held in ours.items() if held.get(REFUSED)]
        others = [key for key, held in batches.items() if key not in ours and not held.get(REFUSED)]
        for key in lacking:
            fill.setdefault(key, []).append(name)
        for key in others:
            empty.setdefault(key, []).append(name)
        if lacking or others:
            # one of numbers holds whole numbers too
            like = next((held for held in ours.values() if held["kind"] == "number"), next(iter(ours.values())))
            columns[name] = WideColumn(name=name, kind=like["kind"], unit=like["unit"], is_property=False)
    return Clashes(columns, fill, empty)


def settle(connection: Connection, clashes: Clashes, rows: Mapping[int, Rows]) -> None:
    """Give every column to the best kind there is.

    :param rows: of the batches to be filled, with these columns only. One that cannot be read goes on without them.
    """
    listed = {column.name: _kind(column.kind) for column in read_listed(connection)}
    wrong = [name for name, column in clashes.columns.items() if listed.get(name) != _kind(column.kind)]
    connection.execute(delete(WideColumn).where(WideColumn.name.in_(wrong)))
    require_columns(connection, clashes.columns)
    for key, names in clashes.empty.items():
        _mark(connection, key, names, refused=True)
        connection.execute(delete(Verdict).where(Verdict.batch_id == key, Verdict.name.in_(names)))
    for key, held in rows.items():
        _mark(connection, key, list(held.plain), refused=False)
        _fill(connection, key, held)


def _mark(connection: Connection, key: int, names: Sequence[str], refused: bool) -> None:
    held: dict[str, Any] = dict(connection.execute(select(Batch.names).where(Batch.id == key)).scalar_one())
    for name in names:
        held[name] = {k: v for k, v in held[name].items() if k != REFUSED} | ({REFUSED: True} if refused else {})
    connection.execute(update(Batch).where(Batch.id == key).values(names=held))


def _fill(connection: Connection, key: int, rows: Rows) -> None:
    """Write columns of a batch that is there otherwise."""
    current = wide_table(read_listed(connection))
    ids = dict(connection.execute(select(Candidate.row, Candidate.id).where(Candidate.batch_id == key)).tuples().all())
    if rows.verdicts:
        connection.execute(insert(Verdict), [{"batch_id": key, **verdict} for verdict in rows.verdicts])
    columns = [column.values for column in rows.plain.values()]
    written = [
        {"key": ids[row], **{f"v{n}": value for n, value in enumerate(values)}}
        for row, *values in zip(rows.candidate["row"], *columns, strict=True)
        if row in ids
    ]
    if columns and written:
        values: dict[Any, Any] = {current.c[name]: bindparam(f"v{n}") for n, name in enumerate(rows.plain)}
        connection.execute(update(current).where(current.c.candidate_id == bindparam("key")).values(values), written)


def _kind(kind: str) -> str:
    return "number" if kind == "whole" else kind
