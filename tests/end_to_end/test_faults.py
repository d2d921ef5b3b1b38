"""Processes killed at random, limits reached, memory and disk run out: everything ends, nothing is done twice.

``CRYSGEN_KILLS`` sets the number of daemon kills (3 by default); ``benchmarks/faults.py`` runs twenty.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

ROOT = Path(__file__).resolve().parents[2]
CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def faults():
    """The driver of the benchmark."""
    spec = importlib.util.spec_from_file_location("faults", ROOT / "benchmarks" / "faults.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def code(aiida_profile):
    from aiida_fixtures import make_code, make_computer

    return make_code(make_computer("localhost", "core.direct"))


@pytest.fixture(scope="module")
def small(faults, code, sixth_generator):
    """A generator of the sixth kind."""
    return faults.trained(code)


def test_the_daemon_killed_at_random_times(faults, daemon, code, small):
    hashes = faults.undisturbed(code, small)
    for kind, phase, delay in faults.plan(int(os.environ.get("CRYSGEN_KILLS", "3")), seed=7):
        trial = faults.run_trial(daemon, code, small, hashes, kind, phase, delay)
        assert trial.ended_ok == trial.processes, trial
        assert trial.units_once == trial.hashes_equal == trial.jobs, trial


# -- the worker itself -------------------------------------------------------------------------------------------------


def inputs_of(verb, code, small, crystals, sequences):
    """A job of each verb that takes a few parts or checkpoints."""
    from aiida import orm

    common = {"code": code, "metadata": {"options": CPU, "disable_cache": True}}
    return {
        "train": {
            **common,
            "training_set": sequences["training_set"],
            "generator_name": orm.Str("mattergpt"),
            "preset": orm.Str("test"),
            "spec": orm.Dict({"training": {"epochs": 60, "checkpoint_steps": 1}}),
        },
        "sample": {**common, "generator": small, "parameters": orm.Dict({"n": 9600, "conditions": {}})},
        "decode": {**common, "sequences": sequences["sequences"], "generator_name": orm.Str("exchange")},
        "relax": {**common, "crystals": crystals, "parameters": orm.Dict({"relax": {"max_steps": 40, "fmax": 0.001}})},
    }[verb]


@pytest.fixture(scope="module")
def material(code, small, salts):
    """Enough of everything for a job of several parts."""
    from aiida import orm
    from aiida.engine import run_get_node

    from crysgen_aiida.calculations.verbs import PrepareCalculation, SampleCalculation
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.data.packed import CrystalSetData

    options = {"code": code, "metadata": {"options": CPU}}
    many = CrystalSet.concat([salts] * 8)  # 96 rows: three parts of a relaxation
    parameters = orm.Dict({"n": 1280, "conditions": {}})
    sampled = run_get_node(SampleCalculation, generator=small, parameters=parameters, **options)[1]
    prepared = run_get_node(
        PrepareCalculation,
        crystals=CrystalSetData.get_or_create(salts),
        generator_name="mattergpt",
        preset="test",
        **options,
    )[1]
    assert prepared.is_finished_ok, prepared.exit_message
    return CrystalSetData.get_or_create(many), {
        "sequences": sampled.outputs.sequences,
        "training_set": prepared.outputs.training_set,
    }


@pytest.mark.parametrize("verb", ["train", "sample", "decode", "relax"])
def test_the_worker_killed_goes_on_from_its_parts(daemon, code, small, material, await_processes, verb):
    from aiida.engine import submit

    from crysgen_aiida.workchains.base import BY_VERB

    chain = submit(BY_VERB[verb], **{verb: inputs_of(verb, code, small, *material)})
    folder = kill_worker_after_some_work(chain, verb)
    await_processes([chain], timeout=240)
    assert chain.is_finished_ok, chain.exit_message
    first, second = (node for node in sorted(chain.called, key=lambda n: n.pk))
    assert (first.exit_status, second.exit_status) == (300, 0)
    assert second.inputs.parent_folder.uuid == first.outputs.remote_folder.uuid
    journals = [lines(Path(node.get_remote_workdir()) / "journal.jsonl") for node in (first, second)]
    done = [{unit(u) for u in journal if not u.get("from_parent")} for journal in journals]
    assert not done[0] & done[1], "finished parts were computed again"
    if verb == "train":
        assert progress_of(second)[0]["done"] > 1, "training started over"
    else:
        assert done[0]
        taken = {unit(u) for u in journals[1] if u.get("from_parent")}
        assert taken == done[0]
    assert folder == Path(first.get_remote_workdir())


@pytest.fixture
def run_toy(daemon, code, toy, await_processes):
    """Sample with the toy in its restart chain; return the chain and its jobs in order."""
    from aiida import orm
    from aiida.engine import submit

    from crysgen_aiida.workchains.base import SampleBaseWorkChain

    def run(n, spec, **options):
        job = {"code": code, "generator": toy, "parameters": orm.Dict({"n": n}), "spec": orm.Dict(spec)}
        job["metadata"] = {"options": {**CPU, **options}, "disable_cache": True}
        chain = submit(SampleBaseWorkChain, sample=job)
        await_processes([chain], timeout=240)
        return chain, sorted(chain.called, key=lambda n: n.pk)

    return run


def test_walltime_is_resumed(run_toy):
    """Twelve seconds of work under a limit that leaves the worker less than ten."""
    chain, jobs = run_toy(60, {"delay": 0.2}, max_wallclock_seconds=20)
    assert chain.exit_status == 0, chain.exit_message
    assert len(jobs) >= 2
    assert {job.exit_status for job in jobs[:-1]} == {320}
    assert jobs[1].inputs.parent_folder.uuid == jobs[0].outputs.remote_folder.uuid
    once_over(jobs, parts=12)
    assert chain.outputs.sequences.n_rows == 60


def test_memory_runs_out_and_batches_become_smaller(run_toy):
    """Under a real limit of 3 GiB a batch of 3.2 GB does not fit, a smaller one does."""
    chain, jobs = run_toy(10, {"megabytes": 3200.0}, prepend_text=f"ulimit -v {3 * 2**20}")
    assert chain.exit_status == 0, chain.exit_message
    assert len(jobs) >= 2
    assert [job.exit_status for job in jobs] == [321] * (len(jobs) - 1) + [0]
    written = [json.loads(job.base.repository.get_object_content("job.json")) for job in jobs]
    assert [job["resources"]["batch_scale"] for job in written] == [0.5**k for k in range(len(jobs))]


def test_a_full_disk_ends_the_chain_with_the_remedy(run_toy):
    """No file larger than 40 kB: some finished part does not fit."""
    chain, jobs = run_toy(10, {"padding": 12_000}, prepend_text="ulimit -f 40")
    assert chain.exit_status == 322, chain.exit_message
    assert "free space, run again" in chain.exit_message
    assert len(jobs) == 1


def once_over(jobs, parts):
    """Each part was computed by exactly one of the jobs."""
    journals = [lines(Path(job.get_remote_workdir()) / "journal.jsonl") for job in jobs]
    done = [unit(u) for journal in journals for u in journal if not u.get("from_parent")]
    assert len(done) == len(set(done)) == parts


def unit(line):
    return line["stage"], line["start"], line["stop"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def progress_of(node):
    return [p for p in lines(Path(node.get_remote_workdir()) / "progress.jsonl") if "done" in p]


def kill_worker_after_some_work(chain, verb, timeout=120.0):
    """Kill -9 the worker of the chain's first job once it has left something to go on from; return its folder."""
    deadline = time.monotonic() + timeout
    folder = until(deadline, lambda: first_folder(chain))
    worker = until(deadline, lambda: worker_in(folder))  # found before it works: some work is soon done
    until(deadline, lambda: has_worked(folder, verb), pause=0.002)
    worker.kill()
    return folder


def until(deadline, found, pause=0.02):
    """Return what ``found`` returns as soon as it is something."""
    while time.monotonic() < deadline:
        if held := found():
            return held
        time.sleep(pause)
    raise TimeoutError("the worker could not be killed in the middle of its work")


def first_folder(chain):
    folders = (getattr(node, "get_remote_workdir", lambda: None)() for node in chain.called)
    return next((Path(folder) for folder in folders if folder), None)


def worker_in(folder):
    import psutil

    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = process.info["cmdline"] or [""]
        if process.info["cwd"] == str(folder) and "crysgen-worker" in " ".join(command) and "bash" not in command[0]:
            return process
    return None


def has_worked(folder, verb):
    if verb == "train":
        steps = [p["done"] for p in lines(folder / "progress.jsonl") if p.get("stage") == "train" and "done" in p]
        return max(steps, default=0) >= 5
    return bool(lines(folder / "journal.jsonl"))
