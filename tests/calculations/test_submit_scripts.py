"""What each scheduler is told, by regression files: GPUs are asked for in its own words, slots are not."""

from __future__ import annotations

import json
import re

import pytest

SCHEDULERS = {
    "core.slurm": {"num_machines": 1, "num_mpiprocs_per_machine": 1, "num_cores_per_mpiproc": 4},
    "core.pbspro": {"num_machines": 1, "num_mpiprocs_per_machine": 1, "num_cores_per_mpiproc": 4},
    "core.lsf": {"tot_num_mpiprocs": 4, "parallel_env": ""},
    "core.sge": {"tot_num_mpiprocs": 4, "parallel_env": "smp"},
    "core.direct": {"num_machines": 1, "num_mpiprocs_per_machine": 1},
}


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_submit_script(write_job, file_regression, scheduler, gpus):
    options = {"resources": SCHEDULERS[scheduler], "gpus": gpus, "max_wallclock_seconds": 3600, "queue_name": "gpu"}
    if scheduler == "core.direct":
        options["gpu_slots"] = {"directory": "slots", "count": 2}
    folder, _, process = write_job("train", scheduler, options)
    script = (folder / "_aiidasubmit.sh").read_text()
    file_regression.check(re.sub(rf"aiida-{process.node.pk}\b", "aiida-PK", script), extension=".sh")
    slots = json.loads((folder / "job.json").read_text())["resources"]["gpu_slots"]
    assert slots == ({"directory": "slots", "count": 2, "take": gpus} if scheduler == "core.direct" else None)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_without_gpus_the_script_is_the_schedulers_own(write_job, scheduler):
    folder, _, _ = write_job("train", scheduler, {"resources": SCHEDULERS[scheduler]})
    assert "gpu" not in (folder / "_aiidasubmit.sh").read_text()


def test_a_site_may_name_its_gpus_itself(write_job):
    from aiida_fixtures import make_computer

    computer = make_computer("sge", "core.sge")
    computer.set_property("crysgen_gpu_directive", "#$ -l nvidia_a100={gpus}")
    try:
        folder, _, _ = write_job("train", "core.sge", {"resources": SCHEDULERS["core.sge"], "gpus": 2})
        assert "#$ -l nvidia_a100=2\n" in (folder / "_aiidasubmit.sh").read_text()
    finally:
        computer.metadata = {k: v for k, v in computer.metadata.items() if k != "crysgen_gpu_directive"}


@pytest.mark.parametrize(
    ("scheduler", "line"),
    [("core.slurm", "#SBATCH --cpus-per-task=6\n"), ("core.pbspro", "#PBS -l select=1:mpiprocs=1:ncpus=6\n")],
)
def test_threads_get_their_cores(write_job, scheduler, line):
    resources = {"num_machines": 1, "num_mpiprocs_per_machine": 1}
    folder, _, _ = write_job("train", scheduler, {"resources": resources, "threads": 6})
    assert line in (folder / "_aiidasubmit.sh").read_text()
    script = (write_job("train", scheduler, {"resources": resources})[0] / "_aiidasubmit.sh").read_text()
    assert "cpus" not in script, "one is what a scheduler gives anyway"


@pytest.mark.parametrize("scheduler", ["core.slurm", "core.pbspro"])
def test_cores_that_were_asked_for_by_hand_stay(write_job, scheduler):
    script = (write_job("train", scheduler, {"resources": SCHEDULERS[scheduler], "threads": 2})[0]) / "_aiidasubmit.sh"
    assert len(re.findall(r"(?:cpus-per-task=|ncpus=)(\d+)", script.read_text())) == 1
    assert re.search(r"(?:cpus-per-task=|ncpus=)4\b", script.read_text())


def test_the_shell_outlives_the_signal_that_the_worker_answers(tmp_path):
    """As a scheduler does: SIGTERM to everything at once, and the end of the shell is the end of the job."""
    import os
    import signal
    import subprocess
    import sys
    import time

    from crysgen_aiida.calculations.base import PATIENT_SHELL

    worker = tmp_path / "worker.py"
    worker.write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), print('put away', flush=True), sys.exit(64)))\n"
        "print('works', flush=True)\ntime.sleep(60)\n"
    )
    script = f"{PATIENT_SHELL}\n{sys.executable} {worker} > {tmp_path / 'log'}\necho ended $?\n"
    shell = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 30
    while not ((tmp_path / "log").exists() and (tmp_path / "log").read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(shell.pid, signal.SIGTERM)
    said, _ = shell.communicate(timeout=30)
    assert (tmp_path / "log").read_text().split() == ["works", "put", "away"]
    assert said == "ended 64\n"


def test_slots_declared_once_on_the_computer_are_used(write_job):
    from aiida_fixtures import make_computer

    computer = make_computer("direct", "core.direct")
    computer.set_property("crysgen_gpu_slots", {"directory": "shared", "count": 4})
    try:
        folder, _, _ = write_job("train", "core.direct", {"gpus": 3})
        slots = json.loads((folder / "job.json").read_text())["resources"]["gpu_slots"]
        assert slots == {"directory": "shared", "count": 4, "take": 3}
    finally:
        computer.metadata = {k: v for k, v in computer.metadata.items() if k != "crysgen_gpu_slots"}


@pytest.mark.parametrize(
    ("scheduler", "options", "remedy"),
    [
        ("core.direct", {"gpus": 1}, "gpu_slots"),
        ("core.direct", {"gpus": 3, "gpu_slots": {"directory": "x", "count": 2}}, "only 2 slots"),
        ("core.direct", {"gpus": 1, "gpu_slots": {"folder": "x"}}, "'directory': folder"),
        ("core.torque", {"gpus": 1}, "crysgen_gpu_directive"),
    ],
)
def test_gpus_that_cannot_be_had_are_refused_before_submission(write_job, scheduler, options, remedy):
    with pytest.raises(ValueError, match=remedy):
        write_job("train", scheduler, options)


def test_resources_do_not_change_the_hash(write_job):
    """Threads, device, GPUs, slots and batches change no result, so they must not defeat the cache."""
    other = {
        "gpus": 1,
        "gpu_slots": {"directory": "x", "count": 2},
        "threads": 7,
        "device": "cpu",
        "batch_scale": 0.5,
        "max_wallclock_seconds": 600,
    }
    hashes = [write_job("train", options=options)[2].node.base.caching.compute_hash() for options in ({}, other)]
    assert hashes[0] == hashes[1]
    slurm = [write_job("train", "core.slurm", {"gpus": gpus})[2].node.base.caching.compute_hash() for gpus in (0, 2)]
    assert slurm[0] == slurm[1]
