"""Text files read whole, and atomic files: the final name holds a whole file or nothing new."""

from __future__ import annotations

import errno
import gzip
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crysgen_aiida.crystals.errors import BadInput, DiskFull

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


def read_text(path: Path) -> str:
    """Return the text (UTF-8) of a file; one that is compressed with gzip is unpacked, whatever its name.

    :raises BadInput: if it cannot be read, or is no text.
    """
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path.name} is not text in UTF-8; check that it is the file you mean.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path.name} cannot be read ({error}); it is probably truncated: fetch it again.") from error


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
