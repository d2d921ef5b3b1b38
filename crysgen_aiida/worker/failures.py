"""Turn whatever went wrong into one of the documented errors, with a sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from crysgen_aiida.crystals.errors import CrysgenError, DiskFull, OutOfMemory, OutOfTime

#: A full disk, an exceeded quota, a file larger than the limit on file sizes.
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# libraries written in C++ and Rust lose the errno and keep the text
_DISK_TEXTS = (
    "no space left on device",
    "disk quota exceeded",
    "file too large",
    "(os error 28)",
    "(os error 27)",
    "(os error 122)",
    "pytorchstreamwriter failed writing",
)
_MEMORY_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "failed to allocate memory",
    "failed to map segment",  # a library that no longer fits
    "bad_alloc",
    "malloc of size",
    "realloc of size",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


class StopNow(BaseException):
    """Raised by a signal when no safe point came in time.

    Not an :class:`Exception`: code that turns the failure of one row into a reason must not swallow it.
    """


def classify(error: BaseException) -> CrysgenError:
    """Return the documented error that ``error`` amounts to.

    The chain of causes is searched, because a library may wrap a full disk or an exhausted memory in an error of its
    own ("cannot import", "cannot read"), and the remedy follows from the first cause.
    """
    for link in _chain(error):
        if isinstance(link, OutOfMemory | DiskFull | OutOfTime):
            return link
        if isinstance(link, StopNow | KeyboardInterrupt):
            said = str(link) or "the worker was interrupted"
            return OutOfTime(f"Stopped before the end: {said}. Finished parts are kept; start the job again to resume.")
        if _is_disk(link):
            return DiskFull(
                f"The disk is full, over quota or over the limit on file sizes ({_first_line(link)}). Finished parts "
                "are kept: free some space where the job runs and start it again."
            )
        if _is_memory(link):
            return OutOfMemory(
                f"Memory ran out ({_first_line(link)}). Finished parts are kept: start the job again with a smaller "
                "resources.batch_scale, or give it more memory."
            )
    if isinstance(error, CrysgenError):
        return error
    return CrysgenError(
        f"The worker failed unexpectedly with {type(error).__name__}: {_first_line(error)}. The traceback is in its "
        "standard error; finished parts are kept."
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _is_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _DISK:
        return True
    return _foreign(error) and any(text in str(error).lower() for text in _DISK_TEXTS)


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return _foreign(error) and any(text in str(error).lower() for text in _MEMORY_TEXTS)


def _foreign(error: BaseException) -> bool:
    # our own sentences and complaints about values may quote a user's text; only library failures are read for theirs
    return not isinstance(error, CrysgenError | KeyError | ValueError | TypeError)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
