"""Let SQLite wait for its lock: AiiDA's connections give up after five seconds, and what was running is lost."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
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


def _wait_for_locks(connection: Any, record: Any, _: Any) -> None:
    if _DONE in record.info:
        return
    record.info[_DONE] = True
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
