"""Columns of one name that mean different things in different screenings.

One column of ``current`` has one kind of values. Which one must not depend on what was synchronised first, so the kinds
have an order: the best one there is has the column, and the screenings whose column is of another kind do without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, select

from crysgen_aiida.store.index.bulk import require_columns
from crysgen_aiida.store.index.models import Batch, WideColumn

#: From the best to the worst; whole numbers are numbers. Names of properties never clash: see `rows`.
ORDER = ("number", "flag", "text")

#: Key in ``Batch.names`` of a column that the batch does without.
REFUSED = "refused"


def taken_names(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of ``Batch.names`` the batch fills."""
    return {name: held for name, held in names.items() if not held.get(REFUSED)}


def clashing(connection: Connection) -> bool:
    """Whether a column has not the best kind there is."""
    return bool(_clashes(connection)[0])


def settle(connection: Connection) -> list[int]:
    """Give every column to the best kind there is; return the keys of the batches to be written anew for it."""
    wanted, batches = _clashes(connection)
    if wanted:
        connection.execute(delete(WideColumn).where(WideColumn.name.in_(sorted(wanted))))
        require_columns(connection, {name: WideColumn(name=name, **held) for name, held in sorted(wanted.items())})
    return sorted(key for key, names in batches.items() if set(wanted) & set(names))


def _clashes(connection: Connection) -> tuple[dict[str, dict[str, Any]], dict[int, dict[str, Any]]]:
    """Return the columns that have not their kind, as they must be, and the columns of all batches."""
    batches: dict[int, dict[str, Any]] = dict(connection.execute(select(Batch.id, Batch.names)).tuples().all())
    there: dict[str, dict[str, Any]] = {}
    for names in batches.values():
        for name, held in names.items():
            there.setdefault(name, {}).setdefault(_kind(held), held)
    best = {name: min(kinds, key=ORDER.index) for name, kinds in there.items()}
    wrong = {
        name
        for names in batches.values()
        for name, held in names.items()
        if (_kind(held) == best[name]) == bool(held.get(REFUSED))
    }
    wanted = {name: {k: v for k, v in there[name][best[name]].items() if k != REFUSED} for name in wrong}
    return wanted, batches


def _kind(held: Mapping[str, Any]) -> str:
    return "number" if held["kind"] == "whole" else str(held["kind"])
