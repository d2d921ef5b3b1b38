"""Turns the many faces of exhausted memory into one error that the worker can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from crysgen_aiida.crystals.errors import OutOfMemory

_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "unable to allocate")


@contextmanager
def memory_guard(setting: str, size: int) -> Iterator[None]:
    """Raise :class:`OutOfMemory`, naming the setting to lower, if what is inside runs out of memory.

    :param setting: name of the batch size, e.g. ``training.batch_size``.
    :param size: its effective value.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory(_sentence(setting, size)) from error
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in _SIGNS):
            raise OutOfMemory(_sentence(setting, size)) from error
        raise


def _sentence(setting: str, size: int) -> str:
    return f"Memory ran out with {size} rows computed together; use a smaller {setting} or more memory."
