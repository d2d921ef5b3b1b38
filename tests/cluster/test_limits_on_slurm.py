"""What Slurm does to a job, and what becomes of it: every chain ends with the result of an undisturbed run.

All chains are submitted at once, because Slurm counts wall time in minutes and looks at it twice a minute; each test
then waits for its own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
from slurm_computers import LOCAL, SSH, computed, jobs_of, lines, until

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

#: Rows of the toy and seconds each takes: more than one minute together, less than two.
ROWS, DELAY = 100, 1.0

#: Parts of the toy have five rows.
PARTS = [("sample", start, start + 5) for start in range(0, ROWS, 5)]

#: A limit that the worker is not told of, in minutes.
UNTOLD = "#SBATCH --time=1"

#: The worker respects what it was started with, as it must for nohup.
DEAF = "trap '' TERM INT"


#: Chains whose first job is ended from outside once it has done two parts: where, and how.
DISTURBED = {
    f"cancelled {LOCAL}": (LOCAL, ()),
    f"cancelled {SSH}": (SSH, ()),
    "killed": (SSH, ("--signal=KILL", "--full")),
}


@pytest.fixture(scope="module")
def chains(submit_toy: Callable[..., Any], cluster: Any) -> dict[str, Any]:
    """One chain for each thing that can happen, all begun at once."""
    work = {"delay": DELAY}
    started = {
        "undisturbed": submit_toy("localhost", ROWS, {}),
        f"told {LOCAL}": submit_toy(LOCAL, ROWS, {"delay": DELAY / 2}, max_wallclock_seconds=45),
        f"told {SSH}": submit_toy(SSH, ROWS, {"delay": DELAY / 2}, max_wallclock_seconds=45),
        "untold": submit_toy(LOCAL, ROWS, work, custom_scheduler_commands=UNTOLD),
        "deaf": submit_toy(SSH, ROWS, work, custom_scheduler_commands=UNTOLD, prepend_text=DEAF),
    }
    for name, (computer, _) in DISTURBED.items():
        started[name] = submit_toy(computer, ROWS, {"delay": DELAY / 2})
    waiting = dict(DISTURBED)
    deadline = time.monotonic() + 300
    while waiting and time.monotonic() < deadline:
        for name, (_, how) in list(waiting.items()):
            if job := next((job for job in jobs_of(started[name]) if len(computed(job)) >= 2), None):
                done = cluster.run("scancel", *how, job.get_job_id())
                assert done.returncode == 0, done.stderr
                del waiting[name]
        time.sleep(0.2)
    assert not waiting, f"never began: {', '.join(waiting)}"
    return started


def complete(chain: Any, undisturbed: Any, timeout: float = 600.0) -> list[Any]:
    """Wait for a chain; it must have computed every part once, with the result of an undisturbed run."""
    from aiida_fixtures import wait_for

    wait_for([chain, undisturbed], timeout=timeout)
    assert chain.exit_status == 0, chain.exit_message
    assert chain.outputs.sequences.content_hash == undisturbed.outputs.sequences.content_hash
    jobs = jobs_of(chain)
    done = [unit for job in jobs for unit in computed(job)]
    assert sorted(done) == PARTS, "a part was computed twice, or never"
    for before, after in itertools.pairwise(jobs):
        assert after.inputs.parent_folder.uuid == before.outputs.remote_folder.uuid
    return jobs


def stderr(job: Any) -> str:
    """What Slurm wrote into the job's standard error."""
    return str(job.outputs.retrieved.base.repository.get_object_content("_scheduler-stderr.txt", mode="r"))


@pytest.mark.parametrize("label", [LOCAL, SSH])
def test_a_job_cancelled_from_outside_puts_its_work_away_and_goes_on(chains, label):
    jobs = complete(chains[f"cancelled {label}"], chains["undisturbed"])
    assert [job.exit_status for job in jobs] == [320, 0]
    assert "the signal SIGTERM" in jobs[0].exit_message


def test_a_job_killed_from_outside_goes_on_from_its_parts(chains):
    first, last = complete(chains["killed"], chains["undisturbed"])
    assert first.exit_status in (300, 320), "on a busy machine its wall time may end before it is killed"
    assert last.exit_status == 0


@pytest.mark.parametrize("label", [LOCAL, SSH])
def test_the_worker_stops_before_a_limit_it_was_told_of(chains, label):
    jobs = complete(chains[f"told {label}"], chains["undisturbed"])
    assert len(jobs) >= 2
    assert {job.exit_status for job in jobs[:-1]} == {320}
    for job in jobs[:-1]:
        assert "wall-time limit of 45 s is near" in job.exit_message
        assert "TIME LIMIT" not in stderr(job)


def test_slurms_limit_is_heard_by_a_worker_that_was_not_told(chains):
    first, *rest = complete(chains["untold"], chains["undisturbed"])
    assert "DUE TO TIME LIMIT" in stderr(first)
    assert first.exit_status == 320
    assert "the signal SIGTERM" in first.exit_message
    assert [job.exit_status for job in rest] == [0]


def test_slurm_kills_a_worker_that_does_not_listen_and_it_goes_on(chains):
    first, *rest = complete(chains["deaf"], chains["undisturbed"])
    assert "DUE TO TIME LIMIT" in stderr(first)
    assert "result.json" not in first.outputs.retrieved.base.repository.list_object_names()
    assert first.exit_status == 120, "AiiDA's code for a wall time that the scheduler enforced"
    assert [job.exit_status for job in rest] == [0]
    reports = [log.message for log in _logs(chains["deaf"])]
    assert any("the wall-time limit was reached; going on" in text for text in reports)


def test_memory_that_slurm_refuses_makes_batches_smaller(submit_toy, await_processes):
    """A part needs 2.4 GB and a moment, the job may have 1 GB."""
    from aiida.orm import load_node

    chain = submit_toy(LOCAL, 20, {"megabytes": 2400.0, "delay": 0.6}, max_memory_kb=1024 * 1024)
    await_processes([chain], timeout=500)
    assert chain.exit_status == 0, chain.exit_message
    jobs = [load_node(job.pk) for job in jobs_of(chain)]
    assert [job.exit_status for job in jobs] == [110] * (len(jobs) - 1) + [0]
    assert len(jobs) >= 3
    scales = [job.base.repository.get_object_content("job.json") for job in jobs]
    assert [f'"batch_scale": {0.5**k}' in text for k, text in enumerate(scales)] == [True] * len(jobs)


def test_threads_get_their_cores(submit_toy, await_processes):
    chain = submit_toy(SSH, 5, {}, threads=2)
    await_processes([chain], timeout=300)
    assert chain.exit_status == 0, chain.exit_message
    (job,) = jobs_of(chain)
    assert job.get_last_job_info().num_mpiprocs == 2
    assert lines(job, "progress.jsonl")


def test_the_controller_is_down_for_some_seconds(submit_toy, cluster, await_processes):
    with cluster.pause_controller():
        chain = submit_toy(LOCAL, 5, {})
        until(lambda: _retried(chain), "AiiDA tries to submit and fails", timeout=150)
    began = time.monotonic()
    await_processes([chain], timeout=300)
    assert chain.exit_status == 0, chain.exit_message
    (job,) = jobs_of(chain)
    assert job.exit_status == 0
    assert time.monotonic() - began < 300


def _retried(chain: Any) -> bool:
    """Whether AiiDA has noted a failed submission; it stores the traceback, not the sentence about it."""
    return any("Unable to contact slurm controller" in log.message for job in jobs_of(chain) for log in _logs(job))


def _logs(node: Any) -> list[Any]:
    from aiida.orm import Log

    return list(Log.collection.get_logs_for(node))
