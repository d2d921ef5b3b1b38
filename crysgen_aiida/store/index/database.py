"""The index itself: opened, made, migrated, read and written.

Opening reads one row. Alembic is imported only when there is something to make or to migrate, because a query has to
start fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, delete, insert, inspect, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.schema import CreateSchema

from crysgen_aiida.crystals.errors import BadInput, EmptySet
from crysgen_aiida.store.index import wide
from crysgen_aiida.store.index.engine import (
    in_words,
    is_damage,
    is_sqlite,
    keep_readers_going,
    make_engine,
    reading,
    writing,
)
from crysgen_aiida.store.index.locks import exclusive
from crysgen_aiida.store.index.migrations import HEAD, VERSION_TABLE, VERSIONS
from crysgen_aiida.store.index.models import Base, Batch, SavedQuery, Setting, WideColumn
from crysgen_aiida.store.index.policy import Policy

#: Where Alembic finds the migrations.
MIGRATIONS = "crysgen_aiida.store.index:migrations"

T = TypeVar("T")

_VERSION = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))


@dataclass(frozen=True)
class ColumnInfo:
    """A column a filter can name.

    :param kind: number, whole, flag or text.
    :param is_property: whether it is a registered property, with a method and perhaps an uncertainty a value.
    """

    name: str
    kind: str
    unit: str | None
    is_property: bool


class Index:
    """The candidate index of one profile or archive, for one thread. Use :meth:`open`."""

    def __init__(self, engine: Engine, schema: str | None) -> None:
        self.engine = engine
        self.schema = schema
        self.notes: list[str] = []  #: what opening it had to say, e.g. that a damaged file was set aside
        self._reading: Connection | None = None
        self._writing: Connection | None = None

    @classmethod
    def open(cls, url: str, schema: str | None = None, create: bool = True) -> Index:
        """Open an index, made or migrated if need be.

        :param url: ``sqlite:///<file>`` or ``postgresql://…``.
        :param schema: its schema, PostgreSQL only.
        :param create: make it if it is not there, and make a damaged file anew.
        :raises EmptySet: if it is not there and not to be made.
        :raises BadInput: if it is damaged, of a newer version, or the database cannot be reached.
        """
        index = cls(make_engine(url, schema), schema)
        path = index.path
        if path is not None and not path.exists() and not create:
            raise EmptySet(f"There is no candidate index yet ({path.name}); run `crysgen store sync`.")
        try:
            version = index._version()
        except DatabaseError as error:
            if path is None or not is_damage(error) or not create:
                with in_words(index.where):
                    raise
            version = index._replace_damaged()
        index._check(version)
        if version != HEAD:
            if version is None and not create:
                raise EmptySet(f"{index.where} is empty; run `crysgen store sync`.")
            index._upgrade()
        return index

    @property
    def path(self) -> Path | None:
        """The SQLite file, None on PostgreSQL."""
        return Path(self.engine.url.database or "") if is_sqlite(self.engine) else None

    @property
    def where(self) -> str:
        """The index in words, without passwords."""
        if self.path is not None:
            return f"The candidate index {self.path.name}"
        return f"The candidate index in the schema {self.schema} of the database {self.engine.url.database}"

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    # -- transactions ---------------------------------------------------------------------------------------------

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees one state of the index, whatever is written meanwhile.

        Readings within it see the same state: a question of several steps is asked within one.

        :raises BadInput: if the index is damaged or away.
        """
        if (held := self._writing or self._reading) is not None:
            yield held
            return
        with reading(self.engine, self.where) as connection:
            self._reading = connection
            try:
                yield connection
            finally:
                self._reading = None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that is committed at the end. Keep it short: writers take turns.

        Within another one it is a part of that: what is read there is as written so far.

        :raises BadInput: if the index is damaged or away, or another writer does not finish.
        """
        if self._writing is not None:
            with self._writing.begin_nested():
                yield self._writing
            return
        with writing(self.engine, self.where) as connection:
            self._writing = connection
            try:
                yield connection
            finally:
                self._writing = None

    @contextmanager
    def lock(self, patience: float | None = None) -> Iterator[None]:
        """Hold the one lock of those who synchronise; readers and short writes need it not.

        :raises BadInput: if another one holds it for longer than ``patience`` seconds.
        """
        with in_words(self.where), exclusive(self.engine, self.path, self.schema, self.where, patience):
            yield

    # -- what it says of itself -----------------------------------------------------------------------------------

    def columns(self, connection: Connection | None = None) -> dict[str, ColumnInfo]:
        """Return the columns a filter can name, those every candidate has first."""
        listed = self._listed(connection)
        fixed = {name: ColumnInfo(name, kind, None, False) for name, kind in wide.FIXED}
        return fixed | {c.name: ColumnInfo(c.name, c.kind, c.unit, c.is_property) for c in listed}

    def wide(self, connection: Connection | None = None) -> Table:
        """Return the wide table ``current`` as it is now."""
        return wide.wide_table(self._listed(connection))

    def methods(self, connection: Connection | None = None) -> list[str]:
        """Return the names of methods; the columns ``<property>:method`` hold positions in this list."""
        return list(self.setting("methods", connection).get("names", []))

    def policy(self, connection: Connection | None = None) -> Policy:
        """Return the policy that decides which value of a property is the current one."""
        return Policy.from_dict(self.setting("policy", connection))

    def set_policy(self, policy: Policy) -> int:
        """Make this the policy, and choose the current values anew; return how many were looked at."""
        from crysgen_aiida.store.index.current import set_policy

        return set_policy(self, policy)

    def incomplete(self, connection: Connection | None = None) -> list[int]:
        """Return the keys of batches that are being written just now: their candidates do not count yet."""
        with self._reader(connection) as held:
            return list(held.scalars(select(Batch.id).where(Batch.complete.is_(False))))

    def setting(self, name: str, connection: Connection | None = None) -> dict[str, Any]:
        """Return a setting, empty if it was never set."""
        with self._reader(connection) as held:
            return dict(held.scalar(select(Setting.value).where(Setting.name == name)) or {})

    def fingerprint(self) -> str:
        """Return a hash of everything the graph decides; equal graphs and policies give equal ones."""
        from crysgen_aiida.store.index.fingerprint import fingerprint

        with self.read() as connection:
            return fingerprint(self, connection)

    @contextmanager
    def _reader(self, connection: Connection | None) -> Iterator[Connection]:
        if connection is not None:
            yield connection
        else:
            with self.read() as held:
                yield held

    def _listed(self, connection: Connection | None) -> list[WideColumn]:
        with self._reader(connection) as held:
            rows = held.execute(select(WideColumn.name, WideColumn.kind, WideColumn.unit, WideColumn.is_property))
            return [WideColumn(**row._mapping) for row in rows]

    # -- made, migrated, made anew --------------------------------------------------------------------------------

    def _version(self) -> str | None:
        """Return the version of the index, None if there is nothing yet.

        :raises BadInput: if there are tables that are no index.
        """
        if self.path is not None and (not self.path.exists() or self.path.stat().st_size == 0):
            return None
        with self.engine.connect() as connection, connection.begin():
            names = set(inspect(connection).get_table_names())
            if VERSION_TABLE in names:
                return connection.scalar(select(_VERSION.c.version_num))
        if names:
            raise BadInput(
                f"{self.where} holds tables but no version ({', '.join(sorted(names)[:5])}): it is no index. Nothing "
                "was changed; move it away, then run `crysgen store sync`."
            )
        return None

    def _check(self, version: str | None) -> None:
        if version is not None and version not in VERSIONS:
            raise BadInput(
                f"{self.where} has version {version}, but this crysgen-aiida knows up to {HEAD}: it was made by a "
                "newer one. Run `pip install --upgrade crysgen-aiida`; nothing was changed."
            )

    def _upgrade(self) -> None:
        """Make or migrate the tables, in one transaction: there is never half an index."""
        with self.lock():
            self._make()

    def _make(self) -> None:
        if self.path is not None:
            keep_readers_going(self.engine)
        with self.write() as connection:
            if self.schema is not None:
                connection.execute(CreateSchema(self.schema, if_not_exists=True))
            run_migrations(connection)

    def refill(self, fill: Callable[[], T]) -> T:
        """Empty the index and fill it again; return what ``fill`` does. The caller holds :meth:`lock`.

        Saved queries and the policy stay. It is one transaction: until it ends readers see what was there before, and
        if it does not end that stays. A file too damaged for it is set aside and made anew.
        """
        kept = self._kept()
        try:
            with self.write() as connection:
                _empty(connection)
                _keep(connection, kept)
                return fill()
        except BadInput as error:
            if self.path is None or not (isinstance(error.__cause__, DatabaseError) and is_damage(error.__cause__)):
                raise
            self._set_aside(str(error.__cause__.orig), kept)
        self._make()
        with self.write() as connection:
            _keep(connection, kept)
        return fill()

    def _kept(self) -> dict[str, dict[str, Any]]:
        """Return what nobody can make again: saved queries and the policy; nothing if they cannot be read."""
        try:
            with self.read() as connection:
                queries: dict[str, Any] = dict(
                    connection.execute(select(SavedQuery.name, SavedQuery.query)).tuples().all()
                )
                return {"queries": queries, "policy": self.setting("policy", connection)}
        except BadInput:
            return {}

    def _replace_damaged(self) -> str | None:
        """Set a damaged file aside, unless another process did so meanwhile; return the version there is then."""
        with self.lock():
            try:
                return self._version()
            except DatabaseError as error:
                self._set_aside(str(error.orig), {})
                return None

    def _set_aside(self, why: str, kept: Mapping[str, Any]) -> None:
        """Rename a damaged file and what SQLite keeps beside it; the graph has everything that was in it."""
        path = self.path
        assert path is not None
        self.engine.dispose()
        number = 1
        while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
            number += 1
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        self.notes.append(
            f"The candidate index {path.name} was damaged ({why}); it is now {aside.name}, and a new one is made from "
            f"the graph. Queries that were saved in it are {'kept' if kept else 'gone'}."
        )


def run_migrations(connection: Connection) -> None:
    """Bring the tables to the newest version within the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _empty(connection: Connection) -> None:
    """Take everything out of the index. Readers of an earlier state go on reading it."""
    held = MetaData()
    held.reflect(connection)
    # PostgreSQL lets nobody read a table that is dropped; its rows may be
    if is_sqlite(connection) or not {wide.NAME, *Base.metadata.tables} <= set(held.tables):
        held.drop_all(connection)
        run_migrations(connection)
        return
    for table in reversed(held.sorted_tables):
        if table.name != VERSION_TABLE:
            connection.execute(delete(table))


def _keep(connection: Connection, kept: Mapping[str, Mapping[str, Any]]) -> None:
    if kept.get("queries"):
        connection.execute(insert(SavedQuery), [{"name": n, "query": q} for n, q in kept["queries"].items()])
    if kept.get("policy"):
        connection.execute(insert(Setting), [{"name": "policy", "value": dict(kept["policy"])}])
