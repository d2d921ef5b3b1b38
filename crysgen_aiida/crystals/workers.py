"""Many small independent calls, shared among processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Generic, TypeVar

from typing_extensions import Self

from crysgen_aiida.crystals.errors import OutOfMemory
from crysgen_aiida.crystals.run import Run

A = TypeVar("A")
B = TypeVar("B")

#: Items a process takes at a time, if they take milliseconds each.
CHUNK = 8
#: A process is started only if so many chunks come on it: starting one takes as long as some ten of them.
CHUNKS_PER_PROCESS = 16
#: Seconds between two looks at the clock while processes work.
_POLL_SECONDS = 0.2

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Workers(Generic[A, B]):
    """Applies a function to items in ``run.threads`` processes, or in this one if there are few threads or items.

    What an item gives must depend on that item only; then results do not depend on the number of processes. Every
    process computes with one thread and ends when this one does, however that ends. Use it as a context manager around
    all parts of a stage: the processes are started once, when the first part needs them.

    :param function: a function of a module, or a :func:`functools.partial` of one: processes import it (they are
        spawned, so a script that uses several threads must guard its work with ``if __name__ == "__main__"``).
    :param run: says how many threads, and when to stop.
    :param n_items: how many items there are in all.
    :param chunk: items a process takes at a time; 1 if they take tenths of a second.
    """

    def __init__(self, function: Callable[[A], B], run: Run, n_items: int, chunk: int = CHUNK) -> None:
        self.function, self.run, self.chunk = function, run, chunk
        self.processes = max(1, min(int(run.threads * run.batch_scale), n_items // (chunk * CHUNKS_PER_PROCESS)))
        self._pool: ProcessPoolExecutor | None = None
        self._environment: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        if self.processes > 1:
            # numerical libraries read these when a process loads them
            self._environment = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
            os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
            self._pool = ProcessPoolExecutor(
                self.processes, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, items: Sequence[A]) -> list[B]:
        """Return what the function gives for every item, in their order; what it raises is raised here.

        :raises OutOfTime: if the limit is near.
        :raises OutOfMemory: if a process was killed, which is what an operating system short of memory does.
        """
        chunks = [items[k : k + self.chunk] for k in range(0, len(items), self.chunk)]
        if self._pool is None:
            results = []
            for chunk in chunks:
                self.run.check_time()
                results += _apply(self.function, chunk)
            return results
        try:
            futures = [self._pool.submit(_apply, self.function, chunk) for chunk in chunks]
            self._attend(futures)
            return [result for future in futures for result in future.result()]
        except BrokenProcessPool as error:
            self.run.check_time()  # a signal to stop reaches all processes of a job
            raise OutOfMemory(
                f"One of {self.processes} working processes was killed, probably because memory ran out. Finished "
                "parts are kept: start the job again with fewer threads, or give it more memory."
            ) from error

    def _attend(self, futures: list[Future[list[B]]]) -> None:
        """Wait until all are done or one failed, and look at the clock meanwhile."""
        pending = set(futures)
        while pending:
            done, pending = wait(pending, _POLL_SECONDS, FIRST_EXCEPTION)
            for future in done:
                future.result()
            self.run.check_time()


def _apply(function: Callable[[A], B], items: Sequence[A]) -> list[B]:
    return [function(item) for item in items]


def _end_with_parent() -> None:
    """End this process when its parent is gone, even if that was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
