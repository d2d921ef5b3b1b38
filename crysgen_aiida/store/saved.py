"""Queries somebody gave a name. They live in the index, and are kept when it is made anew."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.data.ranking import Query
from crysgen_aiida.store.index.models import SavedQuery
from crysgen_aiida.store.language.parser import parse
from crysgen_aiida.store.language.place import shown, suggestion

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import Index

_NAME = re.compile(r"\w[\w .+-]{0,99}")


@dataclass(frozen=True)
class SavedSearch:
    """A query with a name.

    :param query: constraints, objectives, method, limit and diversity.
    :param where: further constraints, in the filter language.
    :param columns: the columns it shows, None for the usual ones.
    :param prefer: property to the methods that stand for it.
    """

    query: Query = field(default_factory=Query)
    where: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    prefer: Mapping[str, str | Sequence[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_dict` turns back into this search."""
        return {
            "query": self.query.to_dict(),
            "where": list(self.where),
            "columns": None if self.columns is None else list(self.columns),
            "prefer": {k: v if isinstance(v, str) else list(v) for k, v in self.prefer.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SavedSearch:
        """Build a search from plain values.

        :raises BadInput: if its query or a filter is malformed.
        """
        columns = values.get("columns")
        where = tuple(str(text) for text in values.get("where", ()))
        for text in where:
            parse(text)
        query = Query.from_dict(values.get("query", {}))
        return cls(query, where, None if columns is None else tuple(columns), dict(values.get("prefer", {})))


def save_query(
    index: Index,
    name: str,
    query: Query | Mapping[str, Any] | None = None,
    *,
    where: str | Sequence[str] = (),
    columns: Sequence[str] | None = None,
    prefer: Mapping[str, str | Sequence[str]] | None = None,
    overwrite: bool = False,
) -> SavedSearch:
    """Save a query and filters under a name, and return them as a search.

    :param overwrite: replace one of the same name.
    :raises BadInput: if the query or a filter is malformed.
    :raises ImpossibleRequest: if the name is none, or is taken.
    """
    if not _NAME.fullmatch(name):
        raise ImpossibleRequest(
            f"{shown(name)} cannot name a query; use letters, digits, spaces and . + - _, at most 100, a letter first."
        )
    held = SavedSearch.from_dict(
        {
            "query": query.to_dict() if isinstance(query, Query) else query or {},
            "where": [where] if isinstance(where, str) else where,
            "columns": columns,
            "prefer": prefer or {},
        }
    )
    with index.write() as connection:
        taken = connection.scalar(select(SavedQuery.name).where(SavedQuery.name == name)) is not None
        if taken and not overwrite:
            raise ImpossibleRequest(f"There is already a query {shown(name)}; choose another name, or overwrite it.")
        if taken:
            connection.execute(delete(SavedQuery).where(SavedQuery.name == name))
        connection.execute(insert(SavedQuery).values(name=name, query=held.to_dict()))
    return held


def load_query(index: Index, name: str) -> SavedSearch:
    """Return a saved search.

    :raises ImpossibleRequest: if there is none of this name.
    """
    with index.read() as connection:
        held = connection.scalar(select(SavedQuery.query).where(SavedQuery.name == name))
    if held is None:
        raise _unknown(index, name)
    return SavedSearch.from_dict(held)


def list_queries(index: Index) -> dict[str, SavedSearch]:
    """Return all saved searches by name, in alphabetical order."""
    with index.read() as connection:
        rows = connection.execute(select(SavedQuery.name, SavedQuery.query)).all()
    return {name: SavedSearch.from_dict(query) for name, query in sorted((r.name, r.query) for r in rows)}


def delete_query(index: Index, name: str) -> None:
    """Forget a saved search.

    :raises ImpossibleRequest: if there is none of this name.
    """
    with index.write() as connection:
        gone = connection.execute(delete(SavedQuery).where(SavedQuery.name == name)).rowcount
    if not gone:
        raise _unknown(index, name)


def _unknown(index: Index, name: str) -> ImpossibleRequest:
    return ImpossibleRequest(f"There is no saved query {shown(name)}. {suggestion(name, list_queries(index))}")
