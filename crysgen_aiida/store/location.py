"""Where the index of a profile is, found out without AiiDA: a query must not wait for its import."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import Index

#: File name of the index in the storage folder of an SQLite profile.
FILE = "crysgen-index.sqlite"

#: Schema of the index in the database of a PostgreSQL profile.
SCHEMA = "crysgen"


@dataclass(frozen=True)
class Location:
    """Where an index is.

    :param url: of its database; passwords included, so do not print it.
    :param schema: its schema there, PostgreSQL only.
    :param archive: whether the profile is an archive, which never changes.
    """

    url: str
    schema: str | None
    archive: bool


def location_of(profile: str | None = None) -> Location:
    """Return where the index of a profile is; of the loaded or else the default profile if None.

    :raises ImpossibleRequest: if there is no such profile, or its storage can hold no index.
    :raises BadInput: if AiiDA's configuration cannot be read.
    """
    storage = _loaded(profile) or _configured(profile)
    backend, config = str(storage.get("backend", "")), dict(storage.get("config") or {})
    if backend == "core.psql_dos":
        return Location(_postgresql_url(config), SCHEMA, False)
    if backend == "core.sqlite_zip":
        return Location(_sqlite_url(_cache_folder() / f"{_archive_hash(Path(config['filepath']))}.sqlite"), None, True)
    if backend.startswith("core.sqlite_") and config.get("filepath"):
        return Location(_sqlite_url(Path(config["filepath"]) / FILE), None, False)
    raise ImpossibleRequest(
        f"The storage {backend or 'of this profile'} has no place for a candidate index; use a profile on "
        "core.sqlite_dos or core.psql_dos, or an archive."
    )


def open_index(profile: str | None = None, create: bool = True) -> Index:
    """Open the index of a profile, see :func:`location_of` and ``Index.open``.

    :raises EmptySet: if there is none and ``create`` is false.
    """
    from crysgen_aiida.store.index.database import Index

    place = location_of(profile)
    return Index.open(place.url, place.schema, create=create)


def config_folder() -> Path:
    """Return AiiDA's configuration folder, by AiiDA's own rule."""
    default = Path("~").expanduser() / ".aiida"
    given = os.environ.get("AIIDA_PATH")
    if not given:
        return default
    folder = default
    for path in (Path(p).expanduser() for p in given.split(":") if p):
        folder = path if path.name == ".aiida" else path / ".aiida"
        if folder.is_dir():
            break
    return folder


def _loaded(profile: str | None) -> Mapping[str, Any] | None:
    """Return the storage of the profile this process has loaded, if that is the one."""
    manager = sys.modules.get("aiida.manage.manager")
    held = manager.get_manager().get_profile() if manager is not None else None
    if held is None or profile not in (None, held.name):
        return None
    return {"backend": held.storage_backend, "config": held.storage_config}


def _configured(profile: str | None) -> Mapping[str, Any]:
    file = config_folder() / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        profiles = config["profiles"]
    except FileNotFoundError:
        raise ImpossibleRequest("AiiDA has no configuration yet; run `crysgen setup`.") from None
    except (ValueError, KeyError, OSError) as error:
        raise BadInput(
            f"AiiDA's configuration {file.name} cannot be read ({error}); see `verdi config list`."
        ) from None
    name = profile or config.get("default_profile")
    if not name:
        raise ImpossibleRequest("There is no default profile; name one with -p, or run `crysgen setup`.")
    if name not in profiles:
        raise ImpossibleRequest(f"There is no profile {name!r}; there are {', '.join(sorted(profiles)) or 'none'}.")
    return dict(profiles[name].get("storage", {}))


def _postgresql_url(config: Mapping[str, Any]) -> str:
    def part(key: str) -> str:
        return quote(str(config.get(key) or ""), safe="")

    login = part("database_username")
    if config.get("database_password"):
        login += ":" + part("database_password")
    host = str(config.get("database_hostname") or "localhost")
    port = f":{config['database_port']}" if config.get("database_port") else ""
    # a host that is a folder is that of a socket
    if host.startswith("/"):
        return f"postgresql+psycopg://{login}@/{part('database_name')}?host={quote(host, safe='')}" + (
            f"&port={config['database_port']}" if port else ""
        )
    return f"postgresql+psycopg://{login}@{host}{port}/{part('database_name')}"


def _sqlite_url(path: Path) -> str:
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~").expanduser() / ".cache") / "crysgen"


def _archive_hash(path: Path) -> str:
    """Return the SHA-256 of an archive, remembered by path, size and time of change: an archive can be large."""
    try:
        found = path.stat()
    except OSError as error:
        raise BadInput(f"The archive {path.name} cannot be read ({error.strerror}); check the profile.") from None
    key = f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"
    memory = _cache_folder() / "archives.json"
    known: dict[str, str] = {}
    try:
        known = {str(k): str(v) for k, v in json.loads(memory.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError):
        known = {}
    if key not in known:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        known[key] = digest.hexdigest()
        _remember(memory, known)
    return known[key]


def _remember(memory: Path, known: Mapping[str, str]) -> None:
    from crysgen_aiida.crystals.files import atomic_path

    memory.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(memory) as temporary:
        Path(temporary).write_text(json.dumps(dict(known), indent=1), encoding="utf-8")
