"""Make jobs in real folders and do them in real worker processes, with a generator made for tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOY = Path(__file__).parent / "toy"


@dataclass
class Jobs:
    """Makes jobs and starts workers on them."""

    root: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def make(self, name: str, verb: str, inputs: dict[str, Any] | None = None, **job: Any) -> Path:
        """Write a job folder: sets and generator folders are put under inputs/, everything else into job.json."""
        folder = self.root / name
        (folder / "inputs").mkdir(parents=True)
        paths: dict[str, Any] = {}
        for label, source in (inputs or {}).items():
            paths[label] = (
                {sub: _put(folder, f"{label}.{sub}", s) for sub, s in source.items()}
                if isinstance(source, dict)
                else _put(folder, label, source)
            )
        held = {"job_schema": 1, "worker_api": "1", "verb": verb, "inputs": paths, "seed": 7, **job}
        if verb in ("prepare", "train", "sample", "decode"):
            held.setdefault("generator", {"name": "toy", "spec": {}, "preset": None})
        (folder / "job.json").write_text(json.dumps(held))
        return folder

    def edit(self, folder: Path, **changes: Any) -> None:
        """Change keys of a job."""
        held = json.loads((folder / "job.json").read_text())
        (folder / "job.json").write_text(json.dumps({**held, **changes}))

    def start(self, folder: Path, verb: str | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start a worker and return its process."""
        verb = verb or json.loads((folder / "job.json").read_text())["verb"]
        command = [sys.executable, "-m", "crysgen_aiida.worker.main", verb, str(folder / "job.json")]
        environment = self.environment | options.pop("env", {})
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | options
        process = subprocess.Popen(command, env=environment, text=True, start_new_session=True, **options)
        self.started.append(process)
        return process

    def run(self, folder: Path, verb: str | None = None, **options: Any) -> dict[str, Any]:
        """Do a job and return its result; its exit status must be that of the result."""
        process = self.start(folder, verb, **options)
        _, log = process.communicate(timeout=120)
        assert (folder / "result.json").is_file(), log
        held: dict[str, Any] = json.loads((folder / "result.json").read_text())
        code = held["exit_code"]
        assert process.returncode == (code - 256 if code else 0), log
        return held | {"log": log}

    def kill(self, process: subprocess.Popen[str]) -> None:
        """kill -9 the worker."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stderr:
            process.stderr.close()


def _put(folder: Path, label: str, source: Any) -> str:
    if isinstance(source, Path) and source.is_dir():
        shutil.copytree(source, folder / "inputs" / label)
        return f"inputs/{label}"
    target = folder / "inputs" / f"{label}.parquet"
    if isinstance(source, Path):
        shutil.copyfile(source, target)
    else:
        source.write(target)
    return f"inputs/{label}.parquet"


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file, none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def work_done(folder: Path) -> list[tuple[str, int, int]]:
    """Return (stage, row, pid) of every row the toy worked on."""
    path = folder / "work.log"
    if not path.exists():
        return []
    return [(s, int(r), int(p)) for s, r, p in (line.split() for line in path.read_text().splitlines())]


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Return what ``condition`` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")
