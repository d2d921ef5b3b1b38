"""The private cluster's tool, and its two computers registered with the lines of docs/how-to/clusters-and-gpus.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import cluster as tool  # noqa: E402

BIN = Path(sys.executable).parent

#: Slurm as a program of this machine, and as one behind SSH.
LOCAL, SSH = "slurm-local", "slurm-ssh"


def verdi(profile: str, *words: str, code: int = 0) -> str:
    """Run ``verdi`` as a user would and return what it said; its exit code must be ``code``."""
    return _run("verdi", profile, words, code)


def crysgen(profile: str, *words: str, code: int = 0) -> str:
    """Run ``crysgen`` as a user would and return what it said; its exit code must be ``code``."""
    return _run("crysgen", profile, words, code)


def _run(program: str, profile: str, words: tuple[str, ...], code: int) -> str:
    command = [str(BIN / program), "-p", profile, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def register(profile: str, made: tool.Cluster, label: str, work: Path) -> None:
    """Make a computer of the private cluster, configure it and give it the worker's code."""
    ssh = label == SSH
    transport = "core.ssh" if ssh else "core.local"
    verdi(
        profile, "computer", "setup", "--non-interactive", "--label", label, "--description", "A private Slurm",
        "--hostname", made.ssh_host if ssh else "localhost", "--transport", transport, "--scheduler", "core.slurm",
        "--shebang", "#!/bin/bash", "--work-dir", str(work), "--mpirun-command", "srun -n {tot_num_mpiprocs}",
        "--mpiprocs-per-machine", "1", "--prepend-text", f"export PYTHONPATH={os.environ.get('PYTHONPATH', '')}",
    )  # fmt: skip
    shared = ("--non-interactive", "--no-use-login-shell", "--safe-interval", "0.5" if ssh else "0")
    at = (
        "--username", made.ssh_user, "--port", str(made.ssh_port), "--key-filename", made.ssh_key, "--key-policy",
        "AutoAddPolicy", "--no-load-system-host-keys", "--no-look-for-keys", "--no-allow-agent",
    )  # fmt: skip
    verdi(profile, "computer", "configure", transport, label, *shared, *(at if ssh else ()))
    verdi(
        profile, "code", "create", "core.code.installed", "--non-interactive", "--computer", label,
        "--label", "crysgen-worker", "--filepath-executable", str(BIN / "crysgen-worker"),
    )  # fmt: skip


def until(found: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    """Return what ``found`` returns as soon as it is something."""
    deadline = time.monotonic() + timeout
    while not (held := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:.0f} s")
        time.sleep(0.2)
    return held


def jobs_of(chain: Any) -> list[Any]:
    """Return the jobs of a restart chain in their order."""
    return sorted(chain.called, key=lambda node: node.pk)


def lines(job: Any, name: str) -> list[dict[str, Any]]:
    """Return the objects in a file of lines of a job's folder."""
    path = Path(job.get_remote_workdir() or "/nowhere") / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def computed(job: Any) -> list[tuple[str, int, int]]:
    """Return the parts a job computed itself, rather than took over from the one before."""
    journal = lines(job, "journal.jsonl")
    return [(u["stage"], u["start"], u["stop"]) for u in journal if not u.get("from_parent")]
