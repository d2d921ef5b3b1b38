"""Rows into the index and out of it, many at a time.

Statements are SQLAlchemy's; only the parameters of inserts go to the driver as tuples, because a dictionary a row
costs more than the insert itself. PostgreSQL is fed by COPY.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    SmallInteger,
    Table,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.types import TypeEngine

from crysgen_aiida.store.index.engine import is_sqlite
from crysgen_aiida.store.index.models import Candidate, PropertyColumn, PropertyValue, Setting, WideColumn
from crysgen_aiida.store.index.wide import NAME, method_column, sigma_column, sql_columns, wide_table

#: Keys in one IN list: SQLite takes 32,766 parameters at most.
SOME = 5000


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector away from rows that are made by the ten thousand and gone a moment later.

    It takes each thousand of them as a reason to look through everything Python holds.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def insert_columns(connection: Connection, table: Table, columns: Mapping[str, Sequence[Any]]) -> None:
    """Insert rows given column by column, by the key of each column."""
    names = list(columns)
    if not names or not len(columns[names[0]]):
        return
    rows = zip(*columns.values(), strict=True)
    if is_sqlite(connection):
        statement = insert(table).compile(dialect=connection.dialect, column_keys=names)
        order = [names.index(name) for name in statement.positiontup or names]
        if order != list(range(len(names))):
            rows = zip(*(columns[names[k]] for k in order), strict=True)
        connection.exec_driver_sql(str(statement), list(rows))
        return
    from psycopg import sql

    cursor = connection.connection.cursor()
    into = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table.name), sql.SQL(", ").join(sql.Identifier(table.c[name].name) for name in names)
    )
    with cursor.copy(into) as copy:
        for row in rows:
            copy.write_row(row)


def next_key(connection: Connection, column: Any) -> int:
    """Return a key greater than all in use; the caller is the only writer."""
    return int(connection.scalar(select(func.max(column))) or 0) + 1


def require_columns(connection: Connection, wanted: Mapping[str, WideColumn]) -> list[str]:
    """Make sure ``current`` has these columns; return those it cannot have, because the name means something else.

    A column of whole numbers becomes one of numbers when a fraction appears.
    """
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from sqlalchemy import inspect

    listed = {c.name: c for c in read_listed(connection)}
    refused: list[str] = []
    new: list[WideColumn] = []
    for name, column in wanted.items():
        held = listed.get(name)
        if held is None:
            new.append(column)
        elif held.kind != column.kind or held.is_property != column.is_property:
            if {held.kind, column.kind} <= {"number", "whole"} and held.is_property == column.is_property:
                if held.kind == "whole":
                    _widen(connection, held)
            else:
                refused.append(name)
    if not new:
        return refused
    there = {c["name"]: c["type"] for c in inspect(connection).get_columns(NAME)}
    operations = Operations(MigrationContext.configure(connection))
    # numbers first: PostgreSQL finds them faster, and leaves no gaps to align them
    for added in sorted((c for listing in new for c in sql_columns(listing)), key=_width, reverse=True):
        if added.name in there:  # nobody fills it any more
            if _sql(connection, there[added.name]) == _sql(connection, added.type):
                continue
            operations.drop_column(NAME, added.name)
        operations.add_column(NAME, Column(added.name, added.type))
    connection.execute(insert(WideColumn), [as_row(c) for c in new])
    return refused


def _sql(connection: Connection, kind: TypeEngine[Any]) -> str:
    return str(kind.compile(connection.dialect))


def _width(column: Column[Any]) -> int:
    return {Double: 8, BigInteger: 7, SmallInteger: 2, Boolean: 1}.get(type(column.type), 0)


def as_row(column: WideColumn) -> dict[str, Any]:
    """Return the fields of a listed column."""
    return {"name": column.name, "kind": column.kind, "unit": column.unit, "is_property": column.is_property}


def read_listed(connection: Connection) -> list[WideColumn]:
    """Return the columns ``current`` has, as they are listed."""
    rows = connection.execute(select(WideColumn.name, WideColumn.kind, WideColumn.unit, WideColumn.is_property))
    return [WideColumn(**row._mapping) for row in rows]


def _widen(connection: Connection, held: WideColumn) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from sqlalchemy import Double

    # SQLite keeps fractions in a column of whole numbers as they are
    if not is_sqlite(connection):
        stored = sql_columns(held)[0].name
        Operations(MigrationContext.configure(connection)).alter_column(NAME, stored, type_=Double())
    connection.execute(update(WideColumn).where(WideColumn.name == held.name).values(kind="number"))


def number_methods(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Return the number of each method, which stands for it in ``current``; new ones are appended."""
    held = list((connection.scalar(select(Setting.value).where(Setting.name == "methods")) or {}).get("names", []))
    new = [name for name in dict.fromkeys(names) if name not in held]
    if new:
        held += new
        store_setting(connection, "methods", {"names": held})
    return {name: number for number, name in enumerate(held)}


def store_setting(connection: Connection, name: str, value: Mapping[str, Any]) -> None:
    """Write a setting of the index."""
    done = connection.execute(update(Setting).where(Setting.name == name).values(value=dict(value)))
    if not done.rowcount:
        connection.execute(insert(Setting).values(name=name, value=dict(value)))


def copy_values(connection: Connection, current: Table, column_id: int, name: str, first: int, last: int) -> None:
    """Fill ``property_value`` with the values of a property that ``current`` holds for these candidates."""
    value = current.c[name]
    chosen = select(literal(column_id), current.c.candidate_id, value, current.c[sigma_column(name)]).where(
        current.c.candidate_id.between(first, last), value.is_not(None)
    )
    connection.execute(
        insert(PropertyValue).from_select(
            ["column_id", "candidate_id", "value", "sigma"], chosen.order_by(current.c.candidate_id)
        )
    )


def remove_candidates(connection: Connection, batch_id: int) -> None:
    """Remove the candidates of a batch with all their values."""
    first, last = connection.execute(
        select(func.min(Candidate.id), func.max(Candidate.id)).where(Candidate.batch_id == batch_id)
    ).one()
    own = select(PropertyColumn.id).where(PropertyColumn.batch_id == batch_id)
    connection.execute(delete(PropertyValue).where(PropertyValue.column_id.in_(own)))
    if first is None:
        return
    # candidates of a batch are numbered in one go
    elsewhere = connection.scalars(select(PropertyColumn.id).where(PropertyColumn.results_id.is_not(None))).all()
    for column_id in elsewhere:
        connection.execute(
            delete(PropertyValue).where(
                PropertyValue.column_id == column_id, PropertyValue.candidate_id.between(first, last)
            )
        )
    current = wide_table([])
    connection.execute(delete(current).where(current.c.candidate_id.between(first, last)))
    connection.execute(update(Candidate).where(Candidate.group_id.between(first, last)).values(group_id=None))
    connection.execute(delete(Candidate).where(Candidate.id.between(first, last)))


def paint(
    connection: Connection, current: Table, name: str, sources: Sequence[tuple[int, int]], candidates: Sequence[int]
) -> None:
    """Write the current value of a property anew.

    :param sources: ``(column, number of the method)`` of all columns of the property, the worst first: each paints
        over those before it.
    :param candidates: whose value may have changed.
    """
    value, method, sigma = (current.c[n] for n in (name, method_column(name), sigma_column(name)))
    for start in range(0, len(candidates), SOME):
        some = list(candidates[start : start + SOME])
        mine = current.c.candidate_id.in_(some)
        connection.execute(update(current).where(mine).values({value: None, method: None, sigma: None}))
        for column_id, number in sources:
            connection.execute(
                update(current)
                .where(
                    mine,
                    PropertyValue.column_id == column_id,
                    PropertyValue.candidate_id == current.c.candidate_id,
                )
                .values({value: PropertyValue.value, method: number, sigma: PropertyValue.sigma})
            )
