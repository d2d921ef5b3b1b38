"""The starter archive: data set, reference energies and a small generator, with the graph that made them."""

from __future__ import annotations

import getpass
import json
import logging
import re
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysgen_aiida.crystals.errors import BadInput

if TYPE_CHECKING:
    from aiida.orm import Node

#: User and host names so common that finding them in text means nothing.
_COMMON = {"root", "user", "users", "admin", "localhost", "runner", "ubuntu", "debian", "docker", "home", "aiida", ""}

_EMAIL = re.compile(rb"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_NEUTRAL_EMAILS = {b"crysgen@localhost"}

#: What AiiDA notes of the scheduler's answer; it names the owner of the job and has no use in another profile.
_SCHEDULER_NOTES = ("last_job_info", "detailed_job_info", "scheduler_lastchecktime")


@dataclass(frozen=True)
class Starter:
    """The nodes of the starter archive in this profile."""

    dataset: Any
    relaxed: Any
    reference: Any
    generator: Any
    near_hull: Any
    imported: bool  #: whether this call brought them in


def starter_file(name: str = "starter.aiida") -> Path:
    """Return a file of the installed starter folder.

    :raises BadInput: if it is not there.
    """
    path = Path(str(resources.files("crysgen_aiida") / "starter" / name))
    if not path.exists():
        raise BadInput(
            f"This installation has no {name}; reinstall crysgen-aiida, or build it in a source tree with "
            "`python tools/build_starter_archive.py`."
        )
    return path


def manifest() -> dict[str, str]:
    """Return the uuids of the nodes the archive is about: dataset, relaxed, reference, generator."""
    held: dict[str, str] = json.loads(starter_file("starter.json").read_text())
    return held


def import_starter(archive: Path | None = None, uuids: dict[str, str] | None = None) -> Starter:
    """Bring the starter nodes into the loaded profile; what is there already stays as it is.

    :raises BadInput: if the archive cannot be read or does not hold the nodes its manifest names.
    """
    wanted = uuids or manifest()
    held = find(wanted)
    imported = False
    if len(held) < len(wanted):
        path = archive or starter_file()
        _import(path)
        imported = True
        held = find(wanted)
        missing = sorted(set(wanted) - set(held))
        if missing:
            raise BadInput(f"{path.name} holds no node for {', '.join(missing)}: its manifest is of another build.")
    names = ("dataset", "relaxed", "reference", "generator", "near_hull")
    return Starter(imported=imported, **{name: held.get(name) for name in names})


def find(uuids: dict[str, str]) -> dict[str, Node]:
    """Return those of the named nodes that are in the loaded profile."""
    from aiida import orm

    query = orm.QueryBuilder().append(orm.Node, filters={"uuid": {"in": list(uuids.values())}}, project=["uuid", "*"])
    by_uuid = dict(query.all())
    return {name: by_uuid[uuid] for name, uuid in uuids.items() if uuid in by_uuid}


def _import(path: Path) -> None:
    from aiida.common.exceptions import CorruptStorage, IncompatibleStorageSchema
    from aiida.tools.archive import import_archive
    from aiida.tools.archive.abstract import get_format

    logger = logging.getLogger("aiida.export")  # imports report there too
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        target: Path = path
        format_ = get_format()
        if format_.read_version(path) != format_.latest_version:
            target = Path(tempfile.mkdtemp(prefix="crysgen-")) / path.name
            format_.migrate(path, target, format_.latest_version, force=True)
        import_archive(target, create_group=False, archive_format=format_)
    except (CorruptStorage, IncompatibleStorageSchema, OSError, ValueError) as error:
        raise BadInput(f"{path.name} cannot be imported ({error}); reinstall crysgen-aiida.") from error
    finally:
        logger.setLevel(level)
    rehash(path)


def rehash(path: Path) -> None:
    """Give the imported nodes their hashes back, which an import strips: without them nothing is taken from cache."""
    from aiida import orm

    uuids = archive_uuids(path)
    for node in orm.QueryBuilder().append(orm.Node, filters={"uuid": {"in": uuids}}).all(flat=True):
        if node.base.caching.is_valid_cache or not hasattr(node, "is_sealed"):
            node.base.caching.rehash()


def archive_uuids(path: Path) -> list[str]:
    """Return the uuids of the nodes in an archive."""
    with tempfile.TemporaryDirectory() as folder:
        database = _database(path, Path(folder))
        connection = sqlite3.connect(database)
        try:
            rows = connection.execute("SELECT uuid FROM db_dbnode").fetchall()
        finally:
            connection.close()
    # AiiDA's archives store uuids without dashes
    return [_dashed(str(uuid)) for (uuid,) in rows]


# -- making one --------------------------------------------------------------------------------------------------------


def scrub(nodes: Iterable[Node]) -> None:
    """Drop the scheduler's notes on the jobs above ``nodes``: they name the owner of the job.

    They are AiiDA's own bookkeeping, outside the hash and of no meaning in another profile.
    """
    from aiida import orm

    for node in nodes:
        query = orm.QueryBuilder()
        query.append(orm.Node, filters={"uuid": node.uuid}, tag="node")
        query.append(orm.CalcJobNode, with_descendants="node")
        for job in query.all(flat=True):
            held = job.base.attributes.all
            for name in _SCHEDULER_NOTES:
                if name in held:
                    job.backend_entity.delete_attribute(name)  # sealed for users, not for this tool's own profile


def private_words(extra: Iterable[str] = ()) -> list[str]:
    """Return the words that would name this machine or its user: home, user, host, environment, working folder."""
    home = str(Path.home())
    words = {home, str(Path(sys.prefix).resolve()), sys.prefix, str(Path.cwd()), *extra}
    names = {getpass.getuser(), socket.gethostname(), socket.getfqdn()}
    words |= {name for name in names if name.lower() not in _COMMON and len(name) > 2}
    return sorted(word for word in words if len(word) > 2 and word != "/")


def scan_archive(path: Path, words: Iterable[str]) -> list[str]:
    """Return what an archive says that names a machine or a person: private words, home folders, e-mail addresses."""
    needles = [word.encode() for word in words]
    found: list[str] = []
    for place, content in _contents(path):
        found += [f"{place}: {needle.decode()}" for needle in needles if needle in content]
        found += [f"{place}: {m.decode()}" for m in set(re.findall(rb"/(?:home|Users)/[A-Za-z0-9._-]+", content))]
        if place.startswith(("database", "metadata")):
            mails = {m for m in _EMAIL.findall(content) if m not in _NEUTRAL_EMAILS and b"@crysgen-build" not in m}
            found += [f"{place}: {m.decode()}" for m in mails if b"." in m.partition(b"@")[2]]
    return sorted(set(found))


def _contents(path: Path) -> Iterable[tuple[str, bytes]]:
    """Yield every text column of the archive's database and every file of its repository."""
    import zipfile

    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(_database(path, Path(folder)))
        try:
            tables = [t for (t,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                for row in connection.execute(f'SELECT * FROM "{table}"'):
                    text = " ".join(str(v) for v in row if v is not None)
                    yield f"database table {table}", text.encode()
        finally:
            connection.close()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith(".sqlite3"):
                yield name, archive.read(name)


def _database(path: Path, folder: Path) -> Path:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return Path(archive.extract("db.sqlite3", folder))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise BadInput(f"{path.name} is not a whole AiiDA archive ({error}); fetch it again.") from error


def _dashed(uuid: str) -> str:
    from uuid import UUID

    return str(UUID(uuid))
