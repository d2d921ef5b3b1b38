"""The :class:`~crysgen_aiida.crystals.run.Run` that the worker hands to the science: parts, progress, time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from crysgen_aiida.crystals.errors import CrysgenError, OutOfTime
from crysgen_aiida.crystals.run import part_ranges
from crysgen_aiida.crystals.table import PackedTable
from crysgen_aiida.worker.folder import PROGRESS, append_line, mend_lines
from crysgen_aiida.worker.parts import PartStore
from crysgen_aiida.worker.stop import Stop

T = TypeVar("T", bound=PackedTable)

#: Progress lines of one stage come at least these seconds apart, except its first and last.
_PROGRESS_SECONDS = 0.1


class WorkerRun:
    """Runs long work in parts that survive the process.

    :param folder: for state that survives a restart, e.g. training checkpoints.
    :param batch_scale: factor by which compute batches shrink after memory ran out; parts never depend on it.
    """

    def __init__(
        self,
        folder: Path,
        parts: PartStore,
        stop: Stop,
        *,
        device: str = "cpu",
        threads: int = 1,
        batch_scale: float = 1.0,
    ) -> None:
        self.folder = folder
        self.device = device
        self.threads = threads
        self.batch_scale = batch_scale
        self.warnings: list[str] = []
        self.timings: dict[str, float] = {}  #: seconds per stage, of this start
        self.units_done = 0  #: parts computed by this start
        self.units_reused = 0  #: parts found finished
        self.log = ProgressLog(folder.parent / PROGRESS)
        self._parts = parts
        self._stop = stop
        self._stopped: OutOfTime | None = None
        self._stages: set[str] = set()

    @property
    def rates(self) -> dict[str, float]:
        """Last known rate of each stage [rows or steps per second]."""
        return self.log.rates

    def map_rows(self, stage: str, n: int, function: Callable[[range], T], *, part_rows: int) -> T:
        """Apply ``function`` to ranges of rows, keeping each finished part (see :class:`Run`).

        :raises OutOfTime: if the next part would not be finished before the limit.
        :raises CrysgenError: if a stage of this name has already run: its parts would be mistaken for each other.
        """
        if stage in self._stages:
            raise CrysgenError(f"The stage {stage!r} ran twice in one job; give each call of map_rows its own name.")
        self._stages.add(stage)
        parts: list[PackedTable] = []
        longest = 0.0
        for rows in part_ranges(n, part_rows):
            part, complaint = self._parts.load(stage, rows)
            if complaint:
                self.warn(complaint)
            if part is not None:
                self.units_reused += 1
            else:
                if longest == 0.0:
                    self.progress(stage, rows.start, n)
                self._check(longest)
                began = time.monotonic()
                part = self._compute(stage, rows, function)
                took = time.monotonic() - began
                longest = max(longest, took)
                self.timings[stage] = self.timings.get(stage, 0.0) + took
            parts.append(part)
            self.progress(stage, rows.stop, n)
        return cast(T, type(parts[0]).concat(parts))

    def _compute(self, stage: str, rows: range, function: Callable[[range], T]) -> PackedTable:
        part = function(rows)
        if self._stopped is not None:
            # the work met the limit and took it for the failure of a row: what it returned is not the result
            raise self._stopped
        held = self._parts.save(stage, rows, part)
        self.units_done += 1
        return held

    def progress(self, stage: str, done: int, total: int, **metrics: float) -> None:
        """Append a line to ``progress.jsonl``, with the rate since this process began the stage."""
        self.log.add(stage, done, total, metrics)

    def check_time(self) -> None:
        """Raise :class:`OutOfTime` if the limit is near or a signal asked to stop."""
        self._check(0.0)

    def _check(self, needed: float) -> None:
        try:
            self._stop.check(needed)
        except OutOfTime as error:
            self._stopped = error
            raise

    def warn(self, message: str) -> None:
        """Record a warning for ``result.json`` and say it in the log."""
        if message not in self.warnings:
            self.warnings.append(message)
            say(f"warning: {message}")


class ProgressLog:
    """``progress.jsonl``: how far each stage is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rates: dict[str, float] = {}
        self._first: dict[str, tuple[int, float]] = {}
        self._last: dict[str, float] = {}
        mend_lines(path)

    def add(self, stage: str, done: int, total: int, metrics: dict[str, Any]) -> None:
        """Append a line, unless one of the stage was written a moment ago."""
        now = time.monotonic()
        first_done, began = self._first.setdefault(stage, (done, now))
        if stage in self._last and now - self._last[stage] < _PROGRESS_SECONDS and done < total:
            return
        self._last[stage] = now
        line: dict[str, Any] = {"stage": stage, "done": done, "total": total, **metrics}
        if done > first_done and now > began:
            line["rate"] = self.rates[stage] = round((done - first_done) / (now - began), 4)
        append_line(self.path, line)

    def waiting(self, for_what: str) -> None:
        """Say that the job waits for something and has not begun."""
        append_line(self.path, {"stage": "waiting", "done": 0, "total": 1, "for": for_what})

    def clear(self) -> None:
        """Forget everything: the folder now belongs to another job."""
        self.path.unlink(missing_ok=True)


def say(text: str) -> None:
    """Write a line to the log (standard error); a log on a full disk must not stop the work."""
    try:
        sys.stderr.write(f"crysgen-worker: {text}\n")
        sys.stderr.flush()
    except OSError:
        pass
