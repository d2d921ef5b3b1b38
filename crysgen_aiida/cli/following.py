"""Watch processes: what they are doing, from the worker's own progress file, read on demand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from crysgen_aiida.cli.output import Progress
from crysgen_aiida.crystals.errors import CrysgenError

if TYPE_CHECKING:
    from aiida.orm import CalcJobNode, ProcessNode

#: Bytes read from the end of a progress file: the last line is all that is wanted.
TAIL = 4096
#: Seconds between two looks at what has taken minutes.
SELDOM = 5.0


class ProcessFailed(CrysgenError):
    """A process that was waited for ended badly."""


def active_jobs(process: ProcessNode) -> list[CalcJobNode]:
    """Return the calculation jobs below ``process`` (or itself) that have not ended, newest last."""
    from aiida.orm import CalcJobNode

    nodes = [process, *process.called_descendants] if hasattr(process, "called_descendants") else [process]
    jobs = [n for n in nodes if isinstance(n, CalcJobNode) and not n.is_terminated]
    return sorted(jobs, key=lambda n: n.pk or 0)


def last_progress(job: CalcJobNode) -> dict[str, Any] | None:
    """Return the last line of the job's ``progress.jsonl``, or None while there is none.

    On this machine the file is opened directly; elsewhere it is fetched through the computer's transport, once.
    """
    folder = job.get_remote_workdir()
    if not folder or job.computer is None:
        return None
    path = f"{folder}/progress.jsonl"
    try:
        text = _tail_local(path) if job.computer.transport_type == "core.local" else _fetch(job, path)
    except OSError:
        return None
    for line in reversed(text.splitlines()):
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the line being written right now
        if isinstance(record, dict):
            return record
    return None


def describe(job: CalcJobNode) -> str:
    """Return one line: which verb, how far."""
    name = str(job.process_label or "").replace("Calculation", "").lower() or "job"
    record = last_progress(job)
    if record is None:
        state = job.get_state() or job.process_state
        return f"{name}: {state.value if state is not None else 'created'}"
    done, total = record.get("done", 0), record.get("total", 0)
    share = f" ({100 * done / total:.0f} %)" if total else ""
    hidden = ("stage", "done", "total", "rate", "timestamp")
    metrics = {k: v for k, v in record.items() if k not in hidden and isinstance(v, float)}
    extra = "".join(f", {k} {v:.3g}" for k, v in list(metrics.items())[:3])
    rate = f", {record['rate']:.3g}/s" if isinstance(record.get("rate"), (int, float)) else ""
    return f"{name}: {record.get('stage', '')} {done}/{total}{share}{rate}{extra}"


def follow(
    processes: Sequence[ProcessNode],
    label: str = "",
    *,
    every: float = 1.0,
    timeout: float | None = None,
    tell: Callable[[str], None] | None = None,
    on_tick: Callable[[], None] | None = None,
) -> None:
    """Wait until all processes have ended, showing what their jobs do.

    :param tell: called with the state about once a minute, for logs; the live line appears on terminals only.
    :param on_tick: called each time round, e.g. to look after the daemon.
    :raises ProcessFailed: if ``timeout`` seconds pass first. The processes go on.
    """
    line = Progress(label)
    started = told = time.monotonic()
    try:
        while not all(p.is_terminated for p in processes):
            text = " | ".join(describe(job) for p in processes if not p.is_terminated for job in active_jobs(p))
            line.update(text or "waiting for the daemon")
            if tell is not None and time.monotonic() - told > 60:
                told = time.monotonic()
                tell(text or "waiting for the daemon")
            if timeout is not None and time.monotonic() - started > timeout:
                pks = ", ".join(str(p.pk) for p in processes if not p.is_terminated)
                raise ProcessFailed(f"Process {pks} did not end within {timeout:.0f} s; see `crysgen run status`.")
            if on_tick is not None:
                on_tick()
            waited = time.monotonic() - started
            time.sleep(max(every, min(waited / 60, SELDOM)))  # each look is a question to the database
    finally:
        line.done()


def require_ok(processes: Iterable[ProcessNode]) -> None:
    """Raise for the first process that did not end well, naming the job that failed and why.

    :raises ProcessFailed: with the exit message of the deepest failed process.
    """
    for process in processes:
        if process.is_finished_ok:
            continue
        raise ProcessFailed(failure(process))


def failure(process: ProcessNode) -> str:
    """Return a sentence about why a process did not end well."""
    culprit = process
    below = getattr(process, "called_descendants", [])
    failed = [n for n in below if n.is_terminated and not n.is_finished_ok]
    if failed:
        culprit = max(failed, key=lambda n: n.pk or 0)
    status = culprit.exit_status
    message = culprit.exit_message or culprit.exception or "no message"
    name = culprit.process_label or type(culprit).__name__
    code = f" [{status}]" if status is not None else ""
    state = culprit.process_state.value if culprit.process_state is not None else "in an unknown state"
    return f"{name} {culprit.pk} ended {state}{code}: {message}"


def paused(process: ProcessNode) -> Iterator[str]:
    """Yield a sentence for each job below that AiiDA has put aside: why, and what lets it go on."""
    for job in active_jobs(process):
        if job.paused:
            yield (
                f"Job {job.pk} is paused: {job.process_status or 'by a person'}. {_last_complaint(job)}Once that is "
                f"put right, `verdi process play {job.pk}` lets it go on; `verdi process kill {job.pk}` gives it up."
            )


def _last_complaint(job: CalcJobNode) -> str:
    """Return the last line of the traceback AiiDA logged when it failed to upload, submit or retrieve a job."""
    from aiida.orm import Log

    for log in reversed(list(Log.collection.get_logs_for(job))):
        lines = [line.strip() for line in log.message.splitlines() if line.strip()]
        if "Traceback" in log.message:
            said = next((line for line in lines if line.startswith("stderr=") and line != "stderr="), lines[-1])
            return f"The last complaint was: {said.removeprefix('stderr=').rstrip('.')}. "
    return ""


def _tail_local(path: str) -> str:
    with open(path, "rb") as handle:
        handle.seek(0, 2)
        handle.seek(max(0, handle.tell() - TAIL))
        return handle.read().decode("utf8", "replace")


def _fetch(job: CalcJobNode, path: str) -> str:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "progress.jsonl"
        with job.get_transport() as transport:
            transport.getfile(path, target)
        return _tail_local(str(target))
