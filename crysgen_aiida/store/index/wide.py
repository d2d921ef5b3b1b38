"""The wide table ``current``: one row a candidate, one column whatever a filter can name.

Its columns are not known beforehand (a new potential brings a new verdict), so it is not a model: the columns it has
are listed in ``wide_column``, and it is altered when one appears. A full scan of a million rows takes about 0.1 s on
SQLite, faster than any index on single columns unless that one constraint alone leaves almost nothing, so it has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, MetaData, SmallInteger, String, Table

from crysgen_aiida.store.index.models import Key, WideColumn

NAME = "current"

#: SQL type of each kind of column.
TYPES = {"number": Double, "whole": BigInteger, "flag": Boolean, "text": String}

#: Columns every candidate has; filters may name those that are not private.
FIXED: tuple[tuple[str, str], ...] = (
    ("status", "text"),
    ("reduced_formula", "text"),
    ("n_atoms", "whole"),
    ("n_elements", "whole"),
)

#: Elements as bits: Z = 1…60 in the first, 61…118 in the second, so that both fit into a signed 64-bit integer.
ELEMENT_BITS = ("elements_low", "elements_high")
LOW = 60


#: Names a column of a table may not take in ``current``.
TAKEN = frozenset({"candidate_id", "batch_id", "row", "elements", "address", *ELEMENT_BITS, *(n for n, _ in FIXED)})

#: Longest name kept as it is [bytes]: PostgreSQL cuts identifiers at 63, and ``:method`` comes after it.
LONGEST = 48


def physical(name: str) -> str:
    """Return what a column is called in the database: its name, unless that is long or has capital letters.

    SQLite does not tell ``Gap`` from ``gap``.
    """
    if name == name.lower() and len(name.encode()) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return name.lower().encode()[: LONGEST - 13].decode(errors="ignore") + "~" + digest


def method_column(name: str) -> str:
    """Return the column that says which method the current value of a property is by (see ``method_names``)."""
    return f"{name}:method"


def sigma_column(name: str) -> str:
    """Return the column of the standard uncertainty of a property's current value."""
    return f"{name}:sigma"


def element_mask(numbers: Iterable[int]) -> tuple[int, int]:
    """Return the two bit masks of a set of atomic numbers."""
    low = high = 0
    for z in set(numbers):
        if z <= LOW:
            low |= 1 << (z - 1)
        else:
            high |= 1 << (z - LOW - 1)
    return low, high


def wide_table(columns: Iterable[WideColumn]) -> Table:
    """Return the table as it is now: the fixed columns, and those listed.

    A property has two more: the method of its current value (a number, see the setting ``methods``) and its
    uncertainty. Columns are found by the name users know; :func:`physical` gives the database's. Statements name
    columns, never their positions: a column that appears later is appended.
    """
    return _table(tuple(sorted((c.name, c.kind, c.is_property) for c in columns)))


@lru_cache(maxsize=16)
def _table(listed: tuple[tuple[str, str, bool], ...]) -> Table:
    # one object for one layout: what SQLAlchemy compiled for it can be used again
    body = [column for name, kind, is_property in listed for column in _columns(name, kind, is_property)]
    return Table(
        NAME,
        MetaData(),
        Column("candidate_id", Key, primary_key=True, autoincrement=False),
        Column("batch_id", Key, nullable=False),
        Column("row", Integer, nullable=False),
        *(Column(name, TYPES[kind]) for name, kind in FIXED),
        *(Column(name, BigInteger) for name in ELEMENT_BITS),
        *body,
    )


def sql_columns(listed: WideColumn) -> list[Column[Any]]:
    """Return the columns of the database that hold one listed column."""
    return _columns(listed.name, listed.kind, listed.is_property)


def _columns(name: str, kind: str, is_property: bool) -> list[Column[Any]]:
    stored = physical(name)
    columns: list[Column[Any]] = [Column(stored, TYPES[kind], key=name)]
    if is_property:
        columns.append(Column(method_column(stored), SmallInteger, key=method_column(name)))
        columns.append(Column(sigma_column(stored), Double, key=sigma_column(name)))
    return columns
