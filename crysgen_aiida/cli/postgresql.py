"""PostgreSQL as a profile's storage: reached or not, and its database and user, made where that is allowed."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from crysgen_aiida.crystals.errors import ImpossibleRequest

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

BACKEND = "core.psql_dos"

#: Environment variables that carry passwords: a command line can be read by everybody on the machine.
PASSWORD, ADMIN_PASSWORD = "CRYSGEN_DB_PASSWORD", "CRYSGEN_DB_ADMIN_PASSWORD"

#: A table of every AiiDA storage.
AIIDA_TABLE = "db_dbsetting"

CONNECT_TIMEOUT = 5


@dataclass(frozen=True)
class Database:
    """A database, and as whom to use it. ``host`` may be a folder: that of a Unix socket."""

    host: str
    port: int
    name: str
    user: str
    password: str = field(default="", repr=False)

    @property
    def server(self) -> str:
        """The server in words."""
        return f"PostgreSQL at {self.host}:{self.port}"

    def config(self, repository_uri: str) -> dict[str, Any]:
        """Return the storage configuration of an AiiDA profile."""
        return {
            "database_engine": "postgresql_psycopg",
            "database_hostname": self.host,
            "database_port": self.port,
            "database_username": self.user,
            "database_password": self.password,
            "database_name": self.name,
            "repository_uri": repository_uri,
        }


@dataclass(frozen=True)
class Server:
    """What a server says of itself and of the database asked about."""

    version: str
    connections: int
    max_connections: int
    milliseconds: float  #: of one question and its answer
    encoding: str
    can_create: bool  #: whether the user may make tables and schemas in the database
    has_aiida: bool  #: whether an AiiDA storage is in it


@dataclass
class Made:
    """A database ready for a profile, and what was made for it."""

    database: Database
    made: list[str] = field(default_factory=list)
    admin: Database | None = None  #: who made it


def database_of(config: dict[str, Any]) -> Database:
    """Return the database of an AiiDA profile's storage configuration."""
    return Database(
        str(config.get("database_hostname") or "localhost"),
        int(config.get("database_port") or 5432),
        str(config["database_name"]),
        str(config["database_username"]),
        str(config.get("database_password") or ""),
    )


def ask(database: Database) -> Server:
    """Ask a server about itself and this database, as its user.

    :raises ImpossibleRequest: if it does not answer or refuses, saying what to do.
    """
    _require_listening(database)
    try:
        with _connect(database) as connection:
            began = time.perf_counter()
            version = _value(connection, "SHOW server_version")
            milliseconds = 1e3 * (time.perf_counter() - began)
            return Server(
                version=str(version).split()[0],
                connections=int(_value(connection, "SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL")),
                max_connections=int(_value(connection, "SHOW max_connections")),
                milliseconds=milliseconds,
                encoding=str(_value(connection, "SHOW server_encoding")),
                can_create=bool(
                    _value(
                        connection,
                        "SELECT has_database_privilege(current_database(), 'CREATE')"
                        " AND has_schema_privilege('public', 'CREATE')",
                    )
                ),
                has_aiida=_value(connection, "SELECT to_regclass(%s)", [f"public.{AIIDA_TABLE}"]) is not None,
            )
    except _errors() as error:
        raise ImpossibleRequest(
            f"{database.server} refuses the user {database.user} for the database {database.name}: {_first(error)}. "
            f"Give another with --db-user and --db-name, and the password in {PASSWORD}."
        ) from error


def ensure(wanted: Database, admin: Database) -> Made:
    """Return ``wanted`` ready to use: as it is, or its user and database made as ``admin``, each only if missing.

    An existing user keeps its password; a new one without a given password gets a random one.

    :raises ImpossibleRequest: if that is not possible, with the SQL an administrator can run.
    """
    _require_listening(wanted)
    try:
        server = ask(wanted)
    except ImpossibleRequest as refused:
        made = _make(wanted, admin, refused)
        try:
            server = ask(made.database)
        except ImpossibleRequest:
            undo(made)
            raise
    else:
        made = Made(wanted)
    if not server.can_create:
        raise ImpossibleRequest(
            f"The user {wanted.user} may not make tables in the database {wanted.name} of {wanted.server}; let an "
            f"administrator run there:\n{_grants(wanted)}"
        )
    if server.encoding != "UTF8":
        raise ImpossibleRequest(
            f"The database {wanted.name} is encoded in {server.encoding}; AiiDA needs UTF8: name another with "
            "--db-name, and it is made."
        )
    return made


def undo(made: Made) -> None:
    """Drop what was made for a profile that then could not be made; a database that was there before stays."""
    if made.admin is None:
        return
    from psycopg import sql

    with contextlib.suppress(*_errors()), _connect(made.admin) as connection:
        if any(text.startswith("database ") for text in made.made):
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(made.database.name)))
        if any(text.startswith("database user ") for text in made.made):
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(made.database.user)))


def statements(wanted: Database, password: str | None = None) -> list[sql.Composed]:
    """Return the SQL that makes user and database.

    Text is sorted by its code points, as SQLite does it: a ranking has the same order on both.
    """
    from psycopg import sql

    user, name = sql.Identifier(wanted.user), sql.Identifier(wanted.name)
    secret = sql.Literal(password or "choose-a-password")
    return [
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(user, secret),
        sql.SQL(
            "CREATE DATABASE {} OWNER {} ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ).format(name, user),
    ]  # fmt: skip


def _make(wanted: Database, admin: Database, refused: ImpossibleRequest) -> Made:
    """Make user and database as ``admin``; ``refused`` is why they could not be used as they are."""
    from psycopg import sql

    try:
        with _connect(admin) as connection:
            has_user = _value(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", [wanted.user]) is not None
            has_name = _value(connection, "SELECT 1 FROM pg_database WHERE datname = %s", [wanted.name]) is not None
            if has_user and not has_name and not wanted.password:
                raise ImpossibleRequest(
                    f"{wanted.server} has a user {wanted.user} already: give its password in {PASSWORD}, or name "
                    "another with --db-user, and it is made."
                )
            if has_user and has_name:
                raise ImpossibleRequest(str(refused))
            password = wanted.password or secrets.token_hex(16)
            made = Made(replace(wanted, password=password), [], admin)
            new_user, new_database = statements(wanted, password)
            try:
                if not has_user:
                    connection.execute(new_user)
                    made.made.append(f"database user {wanted.user}")
                if not has_name:
                    # an administrator who is no superuser must belong to the role that is to own the database
                    if _value(connection, "SELECT NOT rolsuper FROM pg_roles WHERE rolname = current_user"):
                        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(wanted.user)))
                    connection.execute(new_database)
                    made.made.append(f"database {wanted.name}")
            except BaseException:
                undo(made)
                raise
            return made
    except _errors() as error:
        script = "\n".join(f"    {s.as_string()};" for s in statements(wanted))
        raise ImpossibleRequest(
            f"{refused}\nMaking them as {admin.user} failed too: {_first(error)}. Give the administrator's name with "
            f"--db-admin and the password in {ADMIN_PASSWORD}, or let somebody run as administrator (`psql`):\n"
            f"{script}\nThen put the password into {PASSWORD} and repeat this command."
        ) from error


def _grants(wanted: Database) -> str:
    from psycopg import sql

    user, name = sql.Identifier(wanted.user), sql.Identifier(wanted.name)
    both = (
        sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(name, user),
        sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(user),
    )
    return "\n".join(f"    {statement.as_string()};" for statement in both)


@contextlib.contextmanager
def _connect(database: Database) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    import psycopg

    with psycopg.connect(
        host=database.host,
        port=database.port,
        dbname=database.name,
        user=database.user,
        password=database.password,  # if empty, ~/.pgpass counts, but not PGPASSWORD: a daemon would not have it
        connect_timeout=CONNECT_TIMEOUT,
        application_name="crysgen",
        autocommit=True,  # databases are not made inside a transaction
    ) as connection:
        yield connection


def _value(connection: psycopg.Connection[tuple[Any, ...]], query: Any, arguments: list[Any] | None = None) -> Any:
    row = connection.execute(query, arguments).fetchone()
    return None if row is None else row[0]


def _require_listening(database: Database) -> None:
    """Raise if nothing listens where the database should be; a socket folder is left to the client library.

    :raises ImpossibleRequest: saying how to start or name a server.
    """
    if database.host.startswith("/"):
        return
    try:
        socket.create_connection((database.host, database.port), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        raise ImpossibleRequest(
            f"No {database.server} ({error.strerror or error}); start it, or give host and port with --db-host and "
            "--db-port."
        ) from error


def _errors() -> tuple[type[Exception], ...]:
    import psycopg

    return (psycopg.Error,)


def _first(error: Exception) -> str:
    """Return what the server said, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    for before in (" failed: ", "FATAL:"):  # whom it was asked is said already
        text = text.rpartition(before)[2]
    return text.strip().rstrip(".")
