"""One job from start to end: lock, resume, work, outputs, result."""

from __future__ import annotations

import os
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from crysgen_aiida import __version__
from crysgen_aiida.crystals.errors import CrysgenError
from crysgen_aiida.generators.contract import get_generator
from crysgen_aiida.worker.device import choose_device, device_name
from crysgen_aiida.worker.failures import classify
from crysgen_aiida.worker.folder import (
    RESULT,
    STATE,
    FolderLock,
    mend_lines,
    read_json,
    remove_leftovers,
    set_reserve,
)
from crysgen_aiida.worker.inputs import Inputs, description_hash, job_hash, read_inputs
from crysgen_aiida.worker.job import Job, load_job, parse_job
from crysgen_aiida.worker.outputs import count_rows, write_outputs
from crysgen_aiida.worker.parts import Journal, PartStore
from crysgen_aiida.worker.result import Report, write_result
from crysgen_aiida.worker.resume import settle
from crysgen_aiida.worker.run import WorkerRun, say
from crysgen_aiida.worker.slots import GpuSlots
from crysgen_aiida.worker.stop import Stop


def execute(path: Path, verb_name: str | None, started: float) -> int:
    """Do the job described in ``path``, in its folder, and return its exit code.

    A second start in a folder waits for the first; if that one finished the job, it does nothing.

    :param started: when the process started (:func:`time.monotonic`).
    """
    path = path.resolve()
    folder = path.parent
    before = _stamp(folder / RESULT)
    lock = FolderLock(folder)
    lock.acquire(on_wait=lambda: say("another worker holds this folder; waiting for it"))
    try:
        code = _finished(folder, path, before if lock.waited else None, waited=lock.waited)
        if code is not None:
            return code
        if lock.waited:
            started = time.monotonic()  # the time spent waiting was the other worker's
        os.chdir(folder)
        return _Execution(folder, path, verb_name, started, lock.supported).go()
    finally:
        lock.release()


def _finished(folder: Path, path: Path, before: tuple[int, int] | None, *, waited: bool) -> int | None:
    """Return the exit code if there is nothing to do, else None."""
    result = read_json(folder / RESULT)
    if result is None:
        return None
    code = result.get("exit_code")
    if code == 0:
        outputs = result.get("outputs") or {}
        whole = all((folder / str(entry.get("path"))).exists() for entry in outputs.values())
        try:
            same = result.get("description_hash") == description_hash(load_job(path))
        except CrysgenError:
            same = False
        if whole and same:
            say("the job is finished already; nothing to do")
            return 0
    elif waited and isinstance(code, int) and _stamp(folder / RESULT) != before:
        # the worker we waited for ended with an error just now: the same start twice, not a new attempt
        say(f"the worker that held this folder ended with {code}; not started again")
        return code
    return None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        held = path.stat()
    except OSError:
        return None
    return held.st_ino, held.st_mtime_ns


class _Execution:
    """The steps of one job, with what is needed to report on it wherever it ends."""

    def __init__(self, folder: Path, path: Path, verb_name: str | None, started: float, locked: bool) -> None:
        self.folder = folder
        self.path = path
        self.verb_name = verb_name
        self.locked = locked
        self.report = Report(started)
        self.stop = Stop(started)
        self.run: WorkerRun | None = None
        self.slots: GpuSlots | None = None

    def go(self) -> int:
        """Do the job, write the result and return the exit code."""
        self.stop.install()
        try:
            (self.folder / RESULT).unlink(missing_ok=True)
            remove_leftovers(self.folder)
            set_reserve(self.folder)
            self._work()
        except BaseException as error:
            self.stop.finish()
            self._fail(error)
        self.stop.finish()
        self._collect()
        write_result(self.folder, self.report)
        say(f"{self.report.exit_code} {self.report.message}")
        if self.slots:
            self.slots.release()
        self.stop.restore()
        return self.report.exit_code

    def _work(self) -> None:
        held = load_job(self.path)
        self.report.description_hash = description_hash(held)
        job = parse_job(held, self.verb_name)
        report, resources = self.report, job.resources
        report.verb, report.seed = job.verb.name, job.seed
        report.threads, report.batch_scale = resources.threads, resources.batch_scale
        self.stop.set_limit(resources.max_wallclock_seconds)
        code = {"crysgen-aiida": __version__}
        if job.generator is not None:
            info = get_generator(job.generator.name)
            job.generator.check_version(info.version)
            generator_version = {f"generator {info.name}": info.version}
            report.versions |= generator_version
            code |= generator_version
        inputs = read_inputs(job, self.folder)
        report.input_hashes = inputs.hashes
        report.job_hash = job_hash(job, inputs.hashes)
        report.timings["read_inputs"] = time.monotonic() - report.started

        run = self._make_run(job, {"job_hash": report.job_hash, "code": code})
        self._choose_device(job, run)
        outputs = self._call(job, inputs, run)
        report.outputs = write_outputs(self.folder, outputs)
        report.counts = count_rows(outputs.get(job.verb.output))
        report.message = _summary(job.verb.name, report)

    def _make_run(self, job: Job, identity: dict[str, Any]) -> WorkerRun:
        mend_lines(self.folder / "progress.jsonl")
        journal = Journal(self.folder)
        parts = PartStore(self.folder, journal)
        resources = job.resources
        self.run = run = WorkerRun(
            self.folder / STATE, parts, self.stop, threads=resources.threads, batch_scale=resources.batch_scale
        )
        if not self.locked:
            run.warn("The file system has no locks: a second start of this job would not be held back.")
        parent = self.folder / job.parent_folder if job.parent_folder else None
        settle(self.folder, identity, parent, journal, parts, run.warn)
        return run

    def _choose_device(self, job: Job, run: WorkerRun) -> None:
        resources = job.resources
        if resources.gpu_slots is not None and resources.device != "cpu":
            self.slots = GpuSlots(resources.gpu_slots)
            self.report.gpu_slots = self.slots.acquire(lambda: run.log.waiting("gpu slot"), run.check_time)
        run.device = choose_device(resources.device)
        self.report.device, self.report.device_name = run.device, device_name(run.device)

    def _call(self, job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, Any]:
        began = time.monotonic()
        work = import_module(f"crysgen_aiida.worker.verbs.{job.verb.name}")
        outputs: dict[str, Any] = work.run(job, inputs, run)
        self.report.timings[job.verb.name] = time.monotonic() - began
        return outputs

    def _fail(self, error: BaseException) -> None:
        failure = classify(error)
        if type(failure) is CrysgenError or failure is not error:
            say("".join(traceback.format_exception(error)))
        # the frames hold what filled the memory
        traceback.clear_frames(error.__traceback__)
        self.report.exit_code, self.report.message = failure.exit_code, str(failure) or type(failure).summary
        self.report.outputs, self.report.counts = {}, {}

    def _collect(self) -> None:
        run = self.run
        if run is None:
            return
        self.report.warnings = list(run.warnings)
        self.report.timings |= {f"stage {stage}": seconds for stage, seconds in run.timings.items()}
        self.report.rates = run.rates
        self.report.units = {"done": run.units_done, "reused": run.units_reused}


def _summary(verb: str, report: Report) -> str:
    counts = report.counts
    if not counts:
        return f"{verb} finished."
    total = sum(n for status, n in counts.items() if status != "reasons")
    return f"{verb} finished: {counts['ok']} of {total} rows are ok."
