"""Two declared GPU slots of a computer without a scheduler, eight jobs through the daemon."""

from __future__ import annotations

import json
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.daemon]


def test_never_more_than_one_job_a_slot_and_a_killed_holder_frees_it(
    daemon, worker_code, toy, tmp_path, await_processes
):
    """A job that would hold a slot for ever is killed: had it kept the slot, one device would serve all eight."""
    from aiida import orm
    from aiida.engine import submit

    from crysgen_aiida.calculations.verbs import SampleCalculation

    log = tmp_path / "spans.jsonl"
    options = {
        "device": "auto",  # a job told to use the CPU takes no slot
        "gpus": 1,
        "gpu_slots": {"directory": str(tmp_path / "slots"), "count": 2},
        "prepend_text": f"export CRYSGEN_TOY_LOG={log} CUDA_VISIBLE_DEVICES=",
    }

    def sample(n, delay, seed):
        spec, parameters = orm.Dict({"delay": delay}), orm.Dict({"n": n})
        metadata = {"options": options, "disable_cache": True}
        job = {"code": worker_code, "generator": toy, "parameters": parameters, "spec": spec, "seed": orm.Int(seed)}
        return submit(SampleCalculation, **job, metadata=metadata)

    endless = sample(10_000, 0.1, seed=99)
    holder = wait_for(lambda: spans(log))[0]
    jobs = [sample(8, 0.1, seed=seed) for seed in range(8)]
    wait_for(lambda: [line for line in spans(log) if "stop" in line])
    os.kill(holder["pid"], signal.SIGKILL)
    await_processes([*jobs, endless], timeout=180)
    assert [job.exit_status for job in jobs] == [0] * 8
    assert endless.exit_status == 300

    held = [line for line in spans(log) if "stop" in line]
    assert len({line["pid"] for line in held}) == len(held) == 8
    assert {line["device"] for line in held} == {"0", "1"}
    for device in ("0", "1"):
        times = sorted((line["start"], line["stop"]) for line in held if line["device"] == device)
        assert all(stop <= start for (_, stop), (start, _) in pairwise(times)), times
    slots = [json.loads(job.outputs.retrieved.get_object_content("result.json"))["gpu_slots"] for job in jobs]
    assert sorted(str(slot) for (slot,) in slots) == sorted(line["device"] for line in held)


def spans(log: Path) -> list[dict]:
    """Return what jobs wrote when they held a device: once at the start, once more with the stop."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def wait_for(happened, timeout=90.0):
    """Return what ``happened`` returns once that is something."""
    deadline = time.monotonic() + timeout
    while not (found := happened()):
        if time.monotonic() > deadline:
            raise TimeoutError("nothing happened")
        time.sleep(0.1)
    return found
