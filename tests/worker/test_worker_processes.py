"""Preparation by several processes below one worker: the same result, a killed child, a signal to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure
from worker_jobs import Jobs

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.table import SequenceSet

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Processes are looked up in /proc.")

#: Enough for two processes.
ROWS = 256


@pytest.fixture(scope="module")
def salts() -> CrystalSet:
    cells = [Structure(Lattice.cubic(3.5 + 0.002 * k), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]) for k in range(ROWS)]
    return CrystalSet.from_structures(cells)


def job(jobs: Jobs, name: str, salts: CrystalSet, threads: int, augmentation: int) -> Path:
    spec = {"data": {"augmentation": augmentation, "part_rows": 64}}
    return jobs.make(
        name, "prepare", {"crystals": salts}, resources={"threads": threads, "device": "cpu"},
        generator={"name": "mattergpt", "spec": spec, "preset": "test"},
    )  # fmt: skip


def spawned_by(parent: int) -> list[int]:
    """Return the working processes of a worker."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"spawn_main" in (entry / "cmdline").read_bytes():
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(status[1]) == parent and status[0] != "Z":
                    found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def wait_for_children(worker: subprocess.Popen[str]) -> list[int]:
    """Return the working processes as soon as both are there."""
    for _ in range(1200):
        found = spawned_by(worker.pid)
        if len(found) == 2:
            return found
        assert worker.poll() is None, "the worker ended before it had children"
        time.sleep(0.05)
    raise AssertionError("there were never two working processes")


def content(folder: Path, result: dict[str, Any]) -> str:
    return SequenceSet.read(folder / result["outputs"]["training_set"]["path"]).content_hash


def test_processes_change_nothing_and_a_killed_one_is_said(jobs: Jobs, salts: CrystalSet) -> None:
    alone = job(jobs, "alone", salts, threads=1, augmentation=12)
    expected = content(alone, jobs.run(alone))
    shared = job(jobs, "shared", salts, threads=2, augmentation=12)
    worker = jobs.start(shared)
    children = wait_for_children(worker)
    os.kill(children[0], signal.SIGKILL)
    worker.communicate(timeout=120)
    assert worker.returncode == 321 - 256
    assert not spawned_by(worker.pid)
    again = jobs.run(shared)
    assert again["exit_code"] == 0
    assert content(shared, again) == expected


def test_a_signal_to_stop_ends_all_processes(jobs: Jobs, salts: CrystalSet) -> None:
    folder = job(jobs, "stopped", salts, threads=2, augmentation=12)
    worker = jobs.start(folder)
    children = wait_for_children(worker)
    os.killpg(worker.pid, signal.SIGTERM)  # as a scheduler does
    worker.communicate(timeout=120)
    assert worker.returncode == 320 - 256
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
