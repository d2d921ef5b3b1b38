"""Killed, interrupted or out of time: started again, the worker goes on, and nothing differs in the end."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from worker_jobs import Jobs, lines, wait_for, work_done

from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.worker.parts import Journal, PartStore

SLOW = {"name": "toy", "spec": {"rows_per_part": 3, "delay": 0.02}}
LABEL = {"prepare": "training_set", "train": "generator", "sample": "sequences", "decode": "crystals"}


def job_of(jobs: Jobs, name: str, verb: str, salt: Any, trained: Path, **job: Any) -> Path:
    """Make a job of several parts."""
    inputs: dict[str, Any] = {}
    if verb == "prepare":
        inputs = {"crystals": salt}
    elif verb == "sample":
        inputs, job = {"generator": trained}, {"parameters": {"n": 30}, **job}
    else:
        sequences = jobs.root / "sequences.parquet"
        if not sequences.exists():
            made = job_of(jobs, "sequences", "sample", salt, trained)
            assert jobs.run(made)["exit_code"] == 0
            shutil.copy(made / "outputs" / "sequences.parquet", sequences)
        inputs = {"training_set" if verb == "train" else "sequences": sequences}
    return jobs.make(name, verb, inputs, **{"generator": SLOW, **job})


def units(folder: Path) -> list[tuple[str, int, int]]:
    """Return the units of the journal."""
    return [(line["stage"], line["start"], line["stop"]) for line in lines(folder / "journal.jsonl")]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return the content of every output file."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "outputs").rglob("*")) if p.is_file()}


@pytest.mark.parametrize("verb", ["prepare", "train", "sample", "decode"])
def test_killed_at_random_times_gives_the_undisturbed_bytes(jobs: Jobs, salt: Any, trained: Path, verb: str) -> None:
    """kill -9 at random times, started again in the same folder: same bytes, each unit once, no finished row again."""
    undisturbed = job_of(jobs, "undisturbed", verb, salt, trained)
    assert jobs.run(undisturbed)["exit_code"] == 0
    folder = job_of(jobs, "killed", verb, salt, trained)
    rng, finished_before = random.Random(verb), {}
    for kill in range(3):
        process = jobs.start(folder)
        rows = len(work_done(folder))
        # the first kill comes before the first row, the others while rows are worked on
        wait_for(lambda: kill == 0 or len(work_done(folder)) > rows or process.poll() is not None)  # noqa: B023
        time.sleep(rng.uniform(0.0, 0.2))
        jobs.kill(process)
        finished_before[process.pid] = set(units(folder))
    result = jobs.run(folder)
    assert result["exit_code"] == 0
    assert bytes_of(folder) == bytes_of(undisturbed)
    assert units(folder) == units(undisturbed)
    assert len(set(units(folder))) == len(units(folder))
    pids = list(dict.fromkeys(pid for *_, pid in work_done(folder)))
    for stage, row, pid in work_done(folder):
        earlier = [p for p in finished_before if p in pids[: pids.index(pid)]]
        known = set().union(*(finished_before[p] for p in earlier)) if earlier else set()
        assert not any(s == stage and start <= row < stop for s, start, stop in known), "a finished row was done again"
    if verb == "train":
        steps = [row for _, row, _ in work_done(folder)]
        assert steps == sorted(steps), "a training step that was saved was done again"


@pytest.mark.parametrize("verb", ["train", "sample"])
def test_a_parent_folder_brings_its_finished_parts(jobs: Jobs, salt: Any, trained: Path, verb: str) -> None:
    """In a new folder with parent_folder the killed run's parts and state are taken over, not computed again."""
    undisturbed = job_of(jobs, "undisturbed", verb, salt, trained)
    assert jobs.run(undisturbed)["exit_code"] == 0
    parent = job_of(jobs, "parent", verb, salt, trained)
    process = jobs.start(parent)
    wait_for(lambda: len(work_done(parent)) >= 5)
    jobs.kill(process)
    done_before = {(stage, row) for stage, row, _ in work_done(parent)}
    finished = units(parent)
    state_before = json.loads((parent / "state/state.json").read_text())["step"] if verb == "train" else 0

    child = job_of(jobs, "child", verb, salt, trained, parent_folder="parent")
    shutil.copytree(parent, child / "parent")
    result = jobs.run(child)
    assert result["exit_code"] == 0
    assert result["warnings"] == []
    assert bytes_of(child) == bytes_of(undisturbed)
    assert units(child) == units(undisturbed)
    taken = [line for line in lines(child / "journal.jsonl") if line.get("from_parent")]
    assert [(line["stage"], line["start"], line["stop"]) for line in taken] == finished
    again = {(stage, row) for stage, row, _ in work_done(child)} & done_before
    if verb == "train":
        assert state_before > 0
        assert min(row for _, row, _ in work_done(child)) == state_before
    else:
        assert len(finished) >= 1
        assert not {row for _, row in again} & {row for _, start, stop in finished for row in range(start, stop)}


def test_a_parent_that_was_cleaned_or_is_another_job_is_said_so(jobs: Jobs, trained: Path) -> None:
    """A useless parent folder costs time, not the run: it starts over with a warning."""
    other = jobs.make("other", "sample", {"generator": trained}, parameters={"n": 4}, seed=1)
    jobs.run(other)
    for name, source in (("cleaned", None), ("stranger", other)):
        folder = jobs.make(name, "sample", {"generator": trained}, parameters={"n": 4}, parent_folder="parent")
        if source:
            shutil.copytree(source, folder / "parent")
        result = jobs.run(folder)
        assert result["exit_code"] == 0
        assert "starts over" in " ".join(result["warnings"])
        assert len(work_done(folder)) == 4
        assert not any(line.get("from_parent") for line in lines(folder / "journal.jsonl"))


def test_an_edited_job_does_not_use_the_parts_of_the_old_one(jobs: Jobs, trained: Path) -> None:
    """Another seed in the same folder: everything is new, and the warning says why."""
    folder = jobs.make("edited", "sample", {"generator": trained}, parameters={"n": 4}, seed=1)
    first = jobs.run(folder)
    jobs.edit(folder, seed=2)
    second = jobs.run(folder)
    assert first["job_hash"] != second["job_hash"]
    assert first["outputs"]["sequences"]["content_hash"] != second["outputs"]["sequences"]["content_hash"]
    assert "another job" in second["warnings"][0]
    fresh = jobs.make("fresh", "sample", {"generator": trained}, parameters={"n": 4}, seed=2)
    jobs.run(fresh)
    assert bytes_of(folder) == bytes_of(fresh)


def test_resources_change_neither_hash_nor_bytes(jobs: Jobs, trained: Path) -> None:
    """Threads, batch scale and limits are not part of what is computed."""
    results = []
    for name, resources in (("one", {}), ("two", {"threads": 2, "batch_scale": 0.5, "max_wallclock_seconds": 600})):
        folder = jobs.make(name, "sample", {"generator": trained}, parameters={"n": 7}, resources=resources)
        results.append((jobs.run(folder)["job_hash"], bytes_of(folder)))
    assert results[0] == results[1]


def test_two_starts_in_one_folder_work_once(jobs: Jobs, trained: Path) -> None:
    """The second start waits for the first, then does nothing and ends 0, as does a third after the end."""
    folder = jobs.make("twice", "sample", {"generator": trained}, parameters={"n": 30}, generator=SLOW)
    pair = [jobs.start(folder), jobs.start(folder)]
    logs = [process.communicate(timeout=60)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], logs
    assert sorted(row for _, row, _ in work_done(folder)) == list(range(30))
    assert any("nothing to do" in log for log in logs)
    third = jobs.start(folder)
    assert "nothing to do" in third.communicate(timeout=60)[1]
    assert third.returncode == 0
    assert len(work_done(folder)) == 30


def test_a_start_that_waited_for_a_failure_repeats_its_code(jobs: Jobs, trained: Path) -> None:
    """A scheduler that starts a script twice must not begin a failed job again under the parser's eyes."""
    failing = {"name": "toy", "spec": {"delay": 1.0, "fail": "it broke"}}
    folder = jobs.make("twice", "sample", {"generator": trained}, parameters={"n": 4}, generator=failing)
    first = jobs.start(folder)
    wait_for(lambda: work_done(folder))
    second = jobs.start(folder)
    assert "340" in second.communicate(timeout=60)[1]
    assert (first.wait(), second.returncode) == (340 - 256, 340 - 256)
    assert len(work_done(folder)) == 1


def test_damaged_parts_are_computed_again(jobs: Jobs, trained: Path) -> None:
    """A part that is truncated, or is not what the journal says, is never trusted."""
    folder = jobs.make("damaged", "sample", {"generator": trained}, parameters={"n": 15})
    jobs.run(folder)
    before = bytes_of(folder)
    (folder / "result.json").unlink()
    parts = folder / "parts"
    (parts / "sample-0-5.parquet").write_bytes((parts / "sample-0-5.parquet").read_bytes()[:100])
    shutil.copy(parts / "sample-10-15.parquet", parts / "sample-5-10.parquet")
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('{"stage": "sam')  # cut short by a power failure
    result = jobs.run(folder)
    assert result["exit_code"] == 0
    assert len(result["warnings"]) == 2
    assert result["units"] == {"done": 2, "reused": 1}
    assert bytes_of(folder) == before
    assert all("stage" in line for line in lines(folder / "journal.jsonl"))


@pytest.mark.parametrize("swallow", [False, True])
def test_wall_time_ends_with_320_and_resumes(jobs: Jobs, trained: Path, swallow: bool) -> None:
    """The worker stops before its limit and goes on when started again, even if the science swallows the stop."""
    spec = {"rows_per_part": 1, "delay": 0.3, "swallow": swallow}
    limited = {"max_wallclock_seconds": 12.5}  # it stops 10 s before
    job = {"parameters": {"n": 9}, "generator": {"name": "toy", "spec": spec}}
    folder = jobs.make("short", "sample", {"generator": trained}, resources=limited, **job)
    result = jobs.run(folder)
    assert result["exit_code"] == 320
    assert "wall-time limit" in result["message"]
    assert result["outputs"] == {}
    assert result["timings"]["total"] < 10
    kept = len(units(folder))
    assert kept < 9
    jobs.edit(folder, resources={})
    again = jobs.run(folder)
    assert again["exit_code"] == 0
    assert again["units"] == {"done": 9 - kept, "reused": kept}
    sampled = SequenceSet.read(folder / "outputs" / "sequences.parquet")
    assert not any("failed" in sequence for sequence in sampled.column("sequence"))


def test_work_that_never_asks_for_the_time_is_broken_off(jobs: Jobs, trained: Path) -> None:
    """One long part without a safe point still ends before the limit, with 320."""
    job = {"parameters": {"n": 4}, "generator": {"name": "toy", "spec": {"delay": 30.0, "polite": False}}}
    folder = jobs.make("rude", "sample", {"generator": trained}, resources={"max_wallclock_seconds": 10.5}, **job)
    result = jobs.run(folder)
    assert result["exit_code"] == 320
    assert result["timings"]["total"] < 10.5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_gracefully(jobs: Jobs, trained: Path, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C: 320, finished parts kept, no temporary file left, and the next start finishes."""
    folder = jobs.make("ended", "sample", {"generator": trained}, parameters={"n": 30}, generator=SLOW)
    # a shell that runs its tests in the background makes them ignore Ctrl-C, which the worker would respect
    process = jobs.start(folder, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    wait_for(lambda: lines(folder / "journal.jsonl"))
    process.send_signal(number)
    process.communicate(timeout=30)
    result = json.loads((folder / "result.json").read_text())
    assert process.returncode == 320 - 256
    assert result["exit_code"] == 320
    assert number.name in result["message"]
    assert not [p for p in folder.rglob(".*") if p.is_file()]
    kept = len(units(folder))
    final = jobs.run(folder)
    assert final["exit_code"] == 0
    assert final["units"]["reused"] == kept >= 1


def test_rows_the_clock_stopped_are_tried_again(jobs: Jobs, trained: Path) -> None:
    """A part with rows of status timeout is finished for the start that made it, and retried by the next."""
    folder = jobs.root
    part = SequenceSet.read(_parts_of(jobs, trained) / "sample-0-5.parquet")
    table = part.arrow.set_column(2, "status", pa.array(["ok"] * 4 + ["timeout"]))
    table = table.set_column(3, "reason", pa.array([None] * 4 + ["the time box ended"]))
    stopped = SequenceSet(table)
    store = PartStore(folder, Journal(folder))
    store.save("relax", range(5), stopped)
    assert store.load("relax", range(5))[0] is not None
    later = PartStore(folder, Journal(folder))
    found, why = later.load("relax", range(5))
    assert found is None
    assert "tried again" in str(why)
    later.save("relax", range(5), part)
    assert [line.get("retried") for line in lines(folder / "journal.jsonl")] == [None, True]


def _parts_of(jobs: Jobs, trained: Path) -> Path:
    folder = jobs.make("made", "sample", {"generator": trained}, parameters={"n": 5})
    jobs.run(folder)
    return folder / "parts"
