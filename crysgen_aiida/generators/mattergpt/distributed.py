"""Data-parallel training: one process a device, started by torchrun, joined by accelerate.

Every process reads the same global batches and computes its share, so the result is that of one process up to the order
of a sum. The parent waits, passes progress on and stops the children in time; ``python -m`` this module is a child.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crysgen_aiida.crystals.errors import ALL_ERRORS, CrysgenError, OutOfTime
from crysgen_aiida.crystals.run import InProcess, Run
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.checkpoint_files import write_atomic
from crysgen_aiida.generators.contract import build_spec
from crysgen_aiida.generators.mattergpt.spec import MatterGPTSpec
from crysgen_aiida.generators.mattergpt.training import fit_generator

_POLL_SECONDS = 0.2


class Together:
    """Several processes, joined by accelerate (gloo on CPU, nccl on GPUs)."""

    def __init__(self, device: str) -> None:
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=device == "cpu")
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device

    def wrap(self, model: nn.Module) -> nn.Module:
        wrapped: nn.Module = self.accelerator.prepare(model)
        return wrapped

    def sum(self, values: Sequence[float]) -> list[float]:
        # float64 is exact enough that the sum does not depend on how the batch was shared
        total = self.accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=self.device), "sum")
        return [float(v) for v in total]

    def no_sync(self, model: nn.Module) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self.accelerator.no_sync(model)
        return context


class ChildRun(InProcess):
    """The run of a child: progress goes to a file, and all children decide together to stop."""

    def __init__(self, job: dict[str, Any], folder: Path, workers: Together) -> None:
        super().__init__(device=workers.device.type, threads=job["threads"], folder=Path(job["run_folder"]))
        self.batch_scale = float(job["batch_scale"])
        self._exchange, self._workers, self._parent = folder, workers, int(job["parent"])

    def progress(self, stage: str, done: int, total: int, **metrics: float) -> None:
        if self._workers.rank == 0:
            line = json.dumps({"stage": stage, "done": done, "total": total, "metrics": metrics})
            with (self._exchange / "progress.jsonl").open("a") as file:
                file.write(line + "\n")

    def warn(self, message: str) -> None:
        with (self._exchange / "warnings.jsonl").open("a") as file:
            file.write(json.dumps(message) + "\n")

    def check_time(self) -> None:
        told = (self._exchange / "stop").exists() or not _alive(self._parent)
        if self._workers.sum([float(told)])[0] > 0:
            raise OutOfTime("The wall-time limit was near; the training state is saved and the run can be resumed.")


def launch(
    training_set: SequenceSet, spec: MatterGPTSpec, *, seed: int, run: Run, start_from: Path | None = None
) -> Path:
    """Train with ``spec.training.processes`` processes and return the checkpoint folder.

    :raises CrysgenError: whatever stopped the children.
    """
    exchange = run.folder / "distributed"
    exchange.mkdir(parents=True, exist_ok=True)
    for name in ("stop", "outcome.json", "progress.jsonl", "warnings.jsonl"):
        (exchange / name).unlink(missing_ok=True)
    training_set.write(exchange / "training_set.parquet")
    n = spec.training.processes
    job = {
        "spec": asdict(spec),
        "seed": seed,
        "device": run.device,
        "threads": max(1, run.threads // n) if run.device == "cpu" else run.threads,
        "batch_scale": float(getattr(run, "batch_scale", 1.0)),
        "run_folder": str(run.folder),
        "start_from": str(start_from) if start_from else None,
        "parent": os.getpid(),
    }
    write_atomic(exchange / "job.json", json.dumps(job).encode())
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}",
        "-m", "crysgen_aiida.generators.mattergpt.distributed", str(exchange),
    ]  # fmt: skip
    with (exchange / "children.log").open("w") as log:
        children = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            _attend(children, exchange, run)
        finally:
            _end(children)
    return _outcome(children.returncode, exchange, run)


def _attend(children: subprocess.Popen[bytes], exchange: Path, run: Run) -> None:
    """Pass progress on until the children end; tell them to stop when time is short."""
    seen, told = 0, False
    while True:
        ended = children.poll() is not None
        seen = _relay(exchange / "progress.jsonl", seen, run)
        if ended:
            return
        try:
            run.check_time()
        except OutOfTime:
            if not told:
                (exchange / "stop").touch()
            told = True
        time.sleep(_POLL_SECONDS)


def _relay(path: Path, seen: int, run: Run) -> int:
    if not path.exists():
        return seen
    lines = path.read_text().split("\n")[:-1]
    for line in lines[seen:]:
        entry = json.loads(line)
        run.progress(entry["stage"], entry["done"], entry["total"], **entry["metrics"])
    return len(lines)


def _end(children: subprocess.Popen[bytes]) -> None:
    """End the children's process group if it still runs: an exception in the parent must not leave orphans."""
    if children.poll() is None:
        os.killpg(children.pid, signal.SIGTERM)
        try:
            children.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(children.pid, signal.SIGKILL)
            children.wait()


def _outcome(code: int, exchange: Path, run: Run) -> Path:
    warnings = exchange / "warnings.jsonl"
    for line in warnings.read_text().splitlines() if warnings.exists() else []:
        run.warn(json.loads(line))
    outcome = exchange / "outcome.json"
    if not outcome.exists():
        tail = (exchange / "children.log").read_text(errors="replace").strip().splitlines()[-1:]
        raise CrysgenError(
            f"The training processes ended with code {code} and no result ({' '.join(tail)}); "
            "see distributed/children.log in the run's state folder."
        )
    result = json.loads(outcome.read_text())
    if result["exit_code"]:
        kinds = {kind.exit_code: kind for kind in ALL_ERRORS}
        raise kinds.get(result["exit_code"], CrysgenError)(result["message"])
    return Path(result["folder"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(folder: str) -> int:
    """Be one of the children: train and, in the first process, write the outcome."""
    exchange = Path(folder)
    job = json.loads((exchange / "job.json").read_text())
    torch.set_num_threads(job["threads"])
    workers = Together(job["device"])
    run = ChildRun(job, exchange, workers)
    result: dict[str, Any] = {"exit_code": 0, "message": ""}
    try:
        spec: MatterGPTSpec = build_spec(MatterGPTSpec, job["spec"])
        training_set = SequenceSet.read(exchange / "training_set.parquet")
        start_from = Path(job["start_from"]) if job["start_from"] else None
        written = fit_generator(training_set, spec, workers, seed=job["seed"], run=run, start_from=start_from)
        result["folder"] = str(written)
    except CrysgenError as error:
        result = {"exit_code": error.exit_code, "message": str(error)}
        # an error of a single process (memory, say) leaves the others waiting: whoever fails says so and ends them
        write_atomic(exchange / "outcome.json", json.dumps(result).encode())
        return error.exit_code % 256 or 1
    if workers.rank == 0:
        write_atomic(exchange / "outcome.json", json.dumps(result).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
