"""What long work may ask of whoever runs it: parts, progress, keyed random numbers and time.

Generators, physics and screening take a :class:`Run`. The worker hands in one that writes parts to disk and can be
stopped and resumed; :class:`InProcess` is the plain one for use as a library.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from crysgen_aiida.crystals.table import PackedTable

T = TypeVar("T", bound=PackedTable)


def keyed_rng(seed: int, stage: str, row: int) -> np.random.Generator:
    """Return the generator of one row of one stage: batch size and resumption cannot change what it draws."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, zlib.crc32(stage.encode()), row])))


class Run(Protocol):
    """The services a long computation may use."""

    folder: Path  #: for state that survives a restart, e.g. training checkpoints
    device: str  #: "cpu" or "cuda"
    threads: int  #: threads this process may use
    batch_scale: float  #: factor on compute batches (1, 0.5, …) after memory ran out; never on part boundaries

    def map_rows(self, stage: str, n: int, function: Callable[[range], T], *, part_rows: int) -> T:
        """Apply ``function`` to consecutive ranges of ``part_rows`` rows and join what it returns.

        Ranges depend on ``n`` and ``part_rows`` only. Finished parts are kept and not computed again on resume, so
        every call in a job has its own ``stage``.
        ``function`` must give the same table whenever it is given the same range.
        """

    def progress(self, stage: str, done: int, total: int, **metrics: float) -> None:
        """Report how far a stage is, with any metrics (never clock times)."""

    def check_time(self) -> None:
        """Raise :class:`~crysgen_aiida.crystals.errors.OutOfTime` if the limit is near; call it at safe points."""

    def warn(self, message: str) -> None:
        """Record a warning that the user should see."""


def _passing_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="crysgen-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # not sooner: a checkpoint in it may still be used
    return folder


@dataclass
class InProcess:
    """A :class:`Run` for library use: everything in memory, no time limit."""

    device: str = "cpu"
    threads: int = 1
    batch_scale: float = 1.0
    folder: Path = field(default_factory=_passing_folder)
    warnings: list[str] = field(default_factory=list)
    on_progress: Callable[[str, int, int, dict[str, Any]], None] | None = None

    def map_rows(self, stage: str, n: int, function: Callable[[range], T], *, part_rows: int) -> T:
        parts: list[T] = []
        for rows in part_ranges(n, part_rows):
            parts.append(function(rows))
            self.progress(stage, rows.stop, n)
        return type(parts[0]).concat(parts)

    def progress(self, stage: str, done: int, total: int, **metrics: float) -> None:
        if self.on_progress:
            self.on_progress(stage, done, total, dict(metrics))

    def check_time(self) -> None:
        return None

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def part_ranges(n: int, part_rows: int) -> list[range]:
    """Return the row ranges of the parts of ``n`` rows; an empty set has one empty part."""
    return [range(start, min(start + part_rows, n)) for start in range(0, n, part_rows)] or [range(0)]
