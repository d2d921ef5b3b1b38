"""Atomic files: the final name holds a whole file or nothing new."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crysgen_aiida.crystals.errors import DiskFull

#: What the system says when there is no room: device full, quota reached, file-size limit.
_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the final name, otherwise it is removed.

    :raises DiskFull: if there is no room; what was under the final name is untouched.
    """
    final = Path(path)
    with disk_full(final):
        handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            os.replace(temporary, final)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file (UTF-8) atomically.

    :raises DiskFull: if there is no room.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def disk_full(path: Path) -> Iterator[None]:
    """Turn the system's "no space left" into :class:`~crysgen_aiida.crystals.errors.DiskFull`, with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(
                f"There is no room to write {path.name} ({os.strerror(error.errno)}); free some space in its folder "
                "and run again: nothing that was there before has been changed."
            ) from error
        raise
