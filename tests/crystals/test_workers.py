"""Work shared among processes: the same results, errors as errors, and nothing left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from crysgen_aiida.crystals import workers
from crysgen_aiida.crystals.errors import OutOfMemory, OutOfTime
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.workers import CHUNK, Workers


def power(x: int, exponent: int) -> int:
    if x < 0:
        raise ValueError(f"{x} is negative")
    return int(x**exponent)


def killed_at(x: int, where: int) -> int:
    if x == where:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def pid_and_threads(_: int) -> tuple[int, str | None]:
    time.sleep(0.01)
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start processes for few items too."""
    monkeypatch.setattr(workers, "CHUNKS_PER_PROCESS", 1)


def test_few_items_and_one_thread_need_no_process() -> None:
    for run, n in (
        (InProcess(threads=1), 10_000),
        (InProcess(threads=8), 50),
        (InProcess(threads=2, batch_scale=0.5), 999),
    ):
        with Workers(pid_and_threads, run, n) as pool:
            assert pool.processes == 1
            assert pool.map([0])[0][0] == os.getpid()


@pytest.mark.usefixtures("eager")
def test_results_are_those_of_one_process_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = set(multiprocessing.active_children())
    with Workers(partial(power, exponent=2), InProcess(threads=2), 100) as pool:
        for items in (list(range(5 * CHUNK + 1)), [], [3]):
            assert pool.map(items) == [x * x for x in items]
        with pytest.raises(ValueError, match="-1 is negative"):
            pool.map([*range(20), -1, *range(20)])
        assert pool.map([4]) == [16]  # an error of an item is no end of the processes
    assert set(multiprocessing.active_children()) == before
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.usefixtures("eager")
def test_every_process_computes_with_one_thread() -> None:
    with Workers(pid_and_threads, InProcess(threads=2), 100) as pool:
        found = pool.map(range(20 * CHUNK))
    assert os.getpid() not in {pid for pid, _ in found}
    assert {threads for _, threads in found} == {"1"}


@pytest.mark.usefixtures("eager")
def test_a_killed_process_is_noticed_and_said() -> None:
    before = set(multiprocessing.active_children())
    with (
        pytest.raises(OutOfMemory, match="was killed"),
        Workers(partial(killed_at, where=30), InProcess(threads=2), 99) as pool,
    ):
        pool.map(range(60))
    assert set(multiprocessing.active_children()) == before


class Late(InProcess):
    """A run whose time is up at the second look at the clock."""

    looks = 0

    def check_time(self) -> None:
        self.looks += 1
        if self.looks > 1:
            raise OutOfTime("The limit is near.")


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_limit_ends_the_work(threads: int) -> None:
    with pytest.raises(OutOfTime), Workers(pid_and_threads, Late(threads=threads), 10_000) as pool:
        pool.map(range(10_000))


@pytest.mark.usefixtures("eager")
def test_a_signal_that_reaches_the_children_too_is_no_want_of_memory() -> None:
    with pytest.raises(OutOfTime), Workers(partial(killed_at, where=30), Late(threads=2), 99) as pool:
        pool.map(range(60))


def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal\n"
        "from crysgen_aiida.crystals import workers\n"
        "from crysgen_aiida.crystals.run import InProcess\n"
        "workers.CHUNKS_PER_PROCESS = 1\n"
        "def me(_):\n"
        "    return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    with workers.Workers(me, InProcess(threads=2), 99) as pool:\n"
        "        print(*set(pool.map(range(99))), flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, str(script)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    children = [int(pid) for pid in done.stdout.split()]
    assert children
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in children):
        assert time.monotonic() < deadline, "a child outlived its parent"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # an orphan that ended waits for whatever adopted it
