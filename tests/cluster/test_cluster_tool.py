"""The private cluster itself: nobody else can reach it, and nothing of it stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cluster_config import leads_to_loopback
from slurm_computers import tool, until  # puts the tools on the path

TOOL = Path(tool.__file__)


@pytest.fixture
def folder(cluster: tool.Cluster) -> Iterator[Path]:
    """An empty folder for a second cluster."""
    made = Path(tempfile.mkdtemp(prefix="cgc", dir="/tmp"))
    yield made
    tool.stop(made)
    shutil.rmtree(made, ignore_errors=True)


def test_it_listens_on_this_machine_alone(cluster):
    listening = {
        connection.laddr.ip
        for started in cluster.processes
        for connection in psutil.Process(started.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    if leads_to_loopback():
        assert all(address.startswith("127.") for address in listening)


def test_its_keys_are_its_owners_alone(cluster):
    for name in ("munge/key", "ssh/key", "ssh/host_key", "cluster.json"):
        assert (Path(cluster.folder) / name).stat().st_mode & 0o077 == 0


def test_stop_ends_jobs_and_servers_even_after_a_hard_kill(folder):
    made = tool.start(folder)
    with pytest.raises(tool.ServiceTrouble, match=r"runs in .* already"):
        tool.start(folder)
    script = folder / "slurm" / "job.sh"
    script.write_text("#!/bin/bash\n#SBATCH --output=/dev/null\ntrap '' TERM\nsleep 600 & sleep 601\n")
    assert made.run("sbatch", str(script)).returncode == 0
    until(lambda: len(list(tool._remains(made))) >= 3, "the job runs", timeout=60)
    servers = [p for started in made.processes for p in [psutil.Process(started.pid)]]
    assert "slurmstepd" in {process.name() for process in tool._remains(made)}
    everything = [*servers, *tool._remains(made)]
    os.kill(next(p.pid for p in made.processes if p.name == "slurmd"), signal.SIGKILL)
    assert subprocess.run([sys.executable, str(TOOL), "status", str(folder)], check=False).returncode == 3
    tool.stop(folder)
    _, alive = psutil.wait_procs(everything, timeout=10)
    assert not alive
    assert not folder.exists()
    assert tool.stop(folder) == 0


def test_start_refuses_a_folder_in_use(cluster, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(tool.ServiceTrouble, match=r"holds mine.txt"):
        tool.start(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_the_machine_may_be_called_anything(folder):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("Only root may call the machine something else.")
    script = (
        f"hostname far-away.example.org && {sys.executable} {TOOL} start {folder} > /dev/null && "
        f"SLURM_CONF={folder}/slurm/slurm.conf timeout 60 srun hostname; {sys.executable} {TOOL} stop {folder}"
    )
    command = ["unshare", "--uts", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if "unshare" in done.stderr:
        pytest.skip(f"The machine's name cannot be changed here: {done.stderr.strip()}")
    assert "far-away" in done.stdout, done.stdout + done.stderr
