"""The worker's folder: its lock, its whole-or-nothing files and its lists of lines."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

RESULT, PROGRESS, JOURNAL, ORIGIN, LOCK = "result.json", "progress.jsonl", "journal.jsonl", "origin.json", "lock"
PARTS, STATE, OUTPUTS = "parts", "state", "outputs"

#: Space set aside so that the result can still be written when the disk has become full.
_RESERVE, _RESERVE_BYTES = ".reserve", 256 * 1024

# some network file systems have no locks
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


class FolderLock:
    """An exclusive lock on a folder. The kernel frees it when its holder dies, however it dies."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.waited = False  #: whether somebody else held it when we came
        self.supported = True  #: whether the file system knows locks
        self._handle: int | None = None

    def acquire(self, on_wait: Callable[[], None] | None = None) -> None:
        """Take the lock, waiting as long as another holds it."""
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not self._try():
                self.waited = True
                if on_wait:
                    on_wait()
                fcntl.flock(self._handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self.supported = False

    def release(self) -> None:
        """Give the lock back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _try(self) -> bool:
        assert self._handle is not None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def is_locked(folder: Path) -> bool:
    """Whether a worker holds the folder now."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file, then give it its name: the name holds a whole file or nothing new.

    The content is on the disk before the name is, so a power cut cannot leave an empty file under it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    text = json.dumps(finite(value), indent=1, sort_keys=True) + "\n"
    write_whole(path, lambda temporary: _write_text(temporary, text))


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in ``path``, or None if there is no whole one."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) else None


def append_line(path: Path, value: Mapping[str, Any], *, durable: bool = False) -> None:
    """Append one JSON line in a single write; ``durable`` waits until it is on the disk."""
    data = (json.dumps(finite(value)) + "\n").encode()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        written = os.write(handle, data)
        if written != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file of lines; a last line cut short by a crash is left out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    lines: list[dict[str, Any]] = []
    for line in data.splitlines():
        try:
            held = json.loads(line)
        except ValueError:
            continue
        if isinstance(held, dict):
            lines.append(held)
    return lines


def mend_lines(path: Path) -> None:
    """Cut off a last line that a crash left unfinished, so that the next one starts on its own."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.truncate(path, whole)


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # some file systems cannot sync folders
            raise
    finally:
        os.close(handle)


def set_reserve(folder: Path) -> None:
    """Set space aside for the result, as far as the disk allows."""
    try:
        handle = os.open(folder / _RESERVE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return
    try:
        os.posix_fallocate(handle, 0, _RESERVE_BYTES)
    except OSError:
        pass
    finally:
        os.close(handle)


def free_reserve(folder: Path) -> None:
    """Give the space set aside back."""
    (folder / _RESERVE).unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a worker that was killed; only the holder of the lock may."""
    for place in (folder, folder / PARTS, folder / OUTPUTS):
        for leftover in place.glob(".*.tmp"):
            if leftover.is_dir():
                remove_tree(leftover)
            else:
                leftover.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder and what is in it, if it is there."""
    import shutil

    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def files_in(folder: Path) -> Iterator[Path]:
    """Iterate over the plain files below a folder, in a fixed order."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def finite(value: Any) -> Any:
    """Return a copy in which numbers that JSON cannot hold are null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
