"""GPU slots without a scheduler: never more than one job a slot, and a dead holder holds nothing."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

from worker_jobs import Jobs, lines, wait_for

from crysgen_aiida.worker.job import GpuSlotsChoice
from crysgen_aiida.worker.slots import GpuSlots


def test_eight_jobs_on_two_slots(jobs: Jobs, trained: Path) -> None:
    """Two at a time, one a slot, all in the end; a job whose holder was killed -9 gives its slot to the next."""
    shared = jobs.root / "spans.jsonl"
    environment = {"CRYSGEN_TOY_LOG": str(shared), "CUDA_VISIBLE_DEVICES": ""}
    slots = {"directory": str(jobs.root / "slots"), "count": 2}
    generator = {"name": "toy", "spec": {"delay": 0.05}}

    def make(name: str, n: int) -> Path:
        resources = {"gpu_slots": slots}
        return jobs.make(
            name, "sample", {"generator": trained}, parameters={"n": n}, generator=generator, resources=resources
        )

    # a holder that would never end, killed: had it kept its slot, one device would serve all eight
    endless = jobs.start(make("endless", 10_000), env=environment)
    wait_for(lambda: lines(shared))
    folders = [make(f"job{k}", 4) for k in range(8)]
    processes = [jobs.start(folder, env=environment) for folder in folders]
    waiting = wait_for(
        lambda: [f for f in folders if any(p["stage"] == "waiting" for p in lines(f / "progress.jsonl"))]
    )
    assert waiting
    jobs.kill(endless)
    for process in processes:
        assert process.wait(timeout=60) == 0
    spans = [line for line in lines(shared) if "stop" in line]
    assert len(spans) == 8
    assert {span["device"] for span in spans} == {"0", "1"}
    for device in ("0", "1"):
        held = sorted((s["start"], s["stop"]) for s in spans if s["device"] == device)
        assert all(stop <= start for (_, stop), (start, _) in pairwise(held)), held
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert all(str(r["gpu_slots"][0]) == s["device"] for r, s in zip(results, _in_order(spans, processes), strict=True))


def _in_order(spans: list[dict], processes: list) -> list[dict]:
    by_pid = {span["pid"]: span for span in spans}
    return [by_pid[process.pid] for process in processes]


def test_several_slots_are_taken_all_or_none(tmp_path: Path, monkeypatch) -> None:
    """A job that wants two of two waits for both and holds none meanwhile, so two such jobs cannot block each other."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    one = GpuSlots(GpuSlotsChoice(tmp_path, 2))
    both = GpuSlots(GpuSlotsChoice(tmp_path, 2, take=2))
    assert one.acquire(lambda: None, lambda: None) == [0]
    assert not both._try()
    assert both.taken == []
    third = GpuSlots(GpuSlotsChoice(tmp_path, 2))
    assert third._try()
    assert third.taken == [1]
    one.release()
    third.release()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert both.acquire(lambda: None, lambda: None) == [0, 1]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"
    both.release()
