"""The lock of those who synchronise an index. It ends with its process, however that ends."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, func, select

from crysgen_aiida.crystals.errors import BadInput

#: How long a synchronisation waits for another one [s]; one of a million candidates takes about a minute.
PATIENCE = 600.0


@contextmanager
def exclusive(
    engine: Engine, path: Path | None, schema: str | None, where: str, patience: float | None = None
) -> Iterator[None]:
    """Hold the lock: of a file beside an SQLite file, of the database itself on PostgreSQL.

    :raises BadInput: if another process holds it for longer than ``patience`` seconds.
    """
    limit = PATIENCE if patience is None else patience
    with _file_lock(path, where, limit) if path is not None else _advisory_lock(engine, schema, where, limit):
        yield


@contextmanager
def _file_lock(path: Path, where: str, patience: float) -> Iterator[None]:
    import fcntl

    beside = path.with_name(path.name + ".lock")
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        handle = beside.open("a")
    except OSError as error:
        raise BadInput(
            f"{where} cannot be written: {beside.parent} {error.strerror or error}; make the folder writable, or read "
            "the index with `--no-sync`."
        ) from None

    def taken() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    with handle:
        _wait(taken, where, patience)
        yield  # closing the file lets go


@contextmanager
def _advisory_lock(engine: Engine, schema: str | None, where: str, patience: float) -> Iterator[None]:
    digest = hashlib.sha256(f"crysgen-index {schema}".encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        _wait(lambda: bool(connection.scalar(select(func.pg_try_advisory_lock(key)))), where, patience)
        yield  # closing the connection lets go


def _wait(taken: Callable[[], bool], where: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not taken():
        if time.monotonic() > deadline:
            raise BadInput(
                f"{where} is being synchronised by another process for more than {patience:.0f} s; wait for it, or "
                "end it."
            )
        time.sleep(0.05)
