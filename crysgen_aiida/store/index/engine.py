"""Engines for the two databases an index can live in, and what their failures mean in words."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import DatabaseError, OperationalError

from crysgen_aiida.crystals.errors import BadInput, CrysgenError

#: How long a writer waits for another one [s].
PATIENCE = 60.0

#: Memory map of an SQLite file [bytes]: a scan reads pages where the system holds them instead of copying each.
MMAP_BYTES = 1 << 30

_BEGIN = "crysgen_begin"
_SCHEMA = re.compile(r"^[a-z_][a-z0-9_]{0,62}$")


def make_engine(url: str, schema: str | None) -> Engine:
    """Return an engine without a pool: connections are cheap here and a forked process must not share them.

    :param schema: PostgreSQL only: the schema all tables are in.
    :raises BadInput: for a database that is neither SQLite nor PostgreSQL, or a schema that is no plain name.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, poolclass=NullPool, connect_args={"timeout": PATIENCE})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() != "postgresql":
        raise BadInput(f"An index cannot live in {parsed.get_backend_name()}; use SQLite or PostgreSQL.")
    if schema is None or not _SCHEMA.match(schema):
        raise BadInput(f"{schema!r} is no name for the schema of an index; use lower-case letters, digits and _.")
    # compiling a query takes longer than running it: even a scan of a million rows is done in 0.2 s
    options = f"-c search_path={schema} -c lock_timeout={int(PATIENCE * 1000)} -c jit=off"
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        connect_args={"options": options, "application_name": "crysgen", "connect_timeout": 10},
    )


def is_sqlite(bind: Engine | Connection) -> bool:
    """Whether the database is an SQLite file."""
    return bind.dialect.name == "sqlite"


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # the driver must not begin transactions by itself: a reader needs BEGIN, a writer BEGIN IMMEDIATE
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}",
        "PRAGMA synchronous = NORMAL",
        f"PRAGMA mmap_size = {MMAP_BYTES}",
        "PRAGMA cache_size = -65536",
        "PRAGMA temp_store = MEMORY",
        "PRAGMA wal_autocheckpoint = 10000",
    ):
        cursor.execute(pragma)
    cursor.close()


def keep_readers_going(engine: Engine) -> None:
    """Let an SQLite file be read while it is written (write-ahead log); it stays so."""
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        raw.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


@contextmanager
def reading(engine: Engine, where: str) -> Iterator[Connection]:
    """Yield a connection that sees one state of the database.

    :raises BadInput: if the database is damaged, locked or away.
    """
    options = {} if is_sqlite(engine) else {"isolation_level": "REPEATABLE READ"}
    with in_words(where), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine, where: str) -> Iterator[Connection]:
    """Yield a connection in a transaction that is sure to be able to write; it is committed at the end.

    :raises BadInput: if the database is damaged or away, or another writer does not finish.
    """
    with in_words(where), engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection:
        transaction = _begin_patiently(connection)
        with transaction:
            if not is_sqlite(engine):
                _lock_postgresql(connection)
            yield connection


def _begin_patiently(connection: Connection) -> Any:
    """Begin; SQLite sometimes refuses at once, without waiting, when several processes open or recover a file."""
    deadline, pause = time.monotonic() + PATIENCE, 0.02
    while True:
        try:
            return connection.begin()
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(pause)
            pause = min(2 * pause, 0.5)


def tell_planner(connection: Connection) -> None:
    """Let PostgreSQL's planner know what the tables hold now; it would find out by itself, but later."""
    if not is_sqlite(connection):
        connection.execute(text('ANALYZE batch, candidate, "current", property_column, property_value'))


def _lock_postgresql(connection: Connection) -> None:
    # the table is not there while the first migration runs; the lock of a sync keeps others away then
    if connection.execute(text("SELECT to_regclass('batch')")).scalar() is not None:
        connection.execute(text("LOCK TABLE batch IN SHARE ROW EXCLUSIVE MODE"))


@contextmanager
def in_words(where: str) -> Iterator[None]:
    """Turn failures of the database into sentences.

    :raises BadInput: instead of the database's own error.
    """
    try:
        yield
    except CrysgenError:
        raise
    except DatabaseError as error:
        raise BadInput(sentence(error, where)) from error


def sentence(error: DatabaseError, where: str) -> str:
    """Return what went wrong in the database, and what to do."""
    first = (str(error.orig).strip().splitlines() or [type(error).__name__])[0]
    if is_damage(error):
        return f"{where} is damaged ({first}); nothing is lost: `crysgen store sync --rebuild` makes it again."
    if "locked" in first or "lock timeout" in first:
        return f"{where} is locked by another writer for more than {PATIENCE:.0f} s; wait for it, or end it."
    if "readonly" in first or "unable to open" in first or "read-only" in first:
        return f"{where} cannot be opened or written ({first}); check that its folder exists and is yours."
    if "too many SQL variables" in first or "Expression tree is too large" in first:
        return f"This is more than one question can ask ({first}); use fewer conditions, and fewer values in a list."
    if "full" in first:
        return f"There is no room for {where} ({first}); free some space and run `crysgen store sync` again."
    if "permission denied" in first:
        return (
            f"{where} cannot be used ({first}); let the owner of the database run "
            "`GRANT CREATE ON DATABASE <database> TO <user>`."
        )
    return f"{where} answered with an error ({first}); check that the database runs, then try again."


def is_damage(error: DatabaseError) -> bool:
    """Whether an error says that an SQLite file is no longer one."""
    words = str(error.orig)
    return any(phrase in words for phrase in ("malformed", "not a database", "disk I/O error", "file is encrypted"))
