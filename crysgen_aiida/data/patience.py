"""Let SQLite wait for its lock: AiiDA's connections give up after five seconds, and what was running is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import Pool

#: How long a connection waits for another writer before it fails with ``database is locked`` [s].
BUSY_SECONDS = 60

_DONE = "crysgen_busy_timeout"


def be_patient() -> None:
    """Make every SQLite connection of this interpreter wait :data:`BUSY_SECONDS`, those already open too.

    A process that meets a lock longer than AiiDA's five seconds while it stores an output ends as *excepted*. Storages
    offer no setting for it. Called where node types are defined, so that it holds wherever they are stored.
    """
    if not event.contains(Pool, "checkout", _wait_for_locks):
        event.listen(Pool, "checkout", _wait_for_locks)


@contextmanager
def write_transaction(storage: Any) -> Iterator[None]:
    """Open a transaction of the storage that is sure to be able to write.

    SQLite refuses at once, without waiting, to let a transaction write that has read before another one wrote. So the
    first thing done here is a write that changes nothing; only that is tried again.

    :raises OperationalError: if another writer holds the lock for longer than :data:`BUSY_SECONDS`.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    with ExitStack() as stack:
        while True:
            attempt = ExitStack()
            try:
                session = attempt.enter_context(storage.transaction())
                if session.get_bind().dialect.name == "sqlite":
                    session.execute(text("DELETE FROM db_dbsetting WHERE 1 = 0"))
            except OperationalError as error:
                attempt.__exit__(type(error), error, error.__traceback__)
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.02, 0.2))
                continue
            stack.push(attempt)
            break
        yield


def _wait_for_locks(connection: Any, record: Any, _: Any) -> None:
    if _DONE in record.info:
        return
    record.info[_DONE] = True
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
