"""The private servers themselves: nobody else can reach them, and nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest
from service_homes import servers

TOOL = Path(servers.__file__)


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _connections(process: psutil.Process) -> list[Any]:
    try:
        return process.net_connections("inet")
    except psutil.NoSuchProcess:  # a backend that ended meanwhile
        return []


def test_the_servers_listen_on_this_machine_alone(services: servers.Services) -> None:
    listening = {
        connection.laddr.ip
        for started in services.processes
        for process in _family(started.pid)
        for connection in _connections(process)
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::1"}
    assert "127.0.0.1" in listening


def test_no_server_runs_as_root_and_no_password_is_readable(services: servers.Services) -> None:
    assert all(p.uids().real != 0 for s in services.processes if s.name != "epmd" for p in _family(s.pid))
    folder = Path(services.folder)
    assert (folder / servers.STATE).stat().st_mode & 0o077 == 0
    assert all(part.stat().st_mode & 0o077 == 0 for part in (folder / "pg", folder / "mq"))


def test_stop_ends_everything_even_after_a_hard_kill(services: servers.Services) -> None:
    folder = Path(tempfile.mkdtemp(prefix="cgs", dir="/tmp"))
    made = servers.start(folder)
    everything = {p for started in made.processes for p in _family(started.pid)}
    assert subprocess.run([sys.executable, str(TOOL), "status", str(folder)], check=False).returncode == 0
    with pytest.raises(servers.ServiceTrouble, match=r"run in .* already"):
        servers.start(folder)
    script = next(p for p in made.processes if p.name == "rabbitmq")
    os.kill(script.pid, signal.SIGKILL)  # the server it started lives on
    assert subprocess.run([sys.executable, str(TOOL), "status", str(folder)], check=False).returncode == 3
    servers.stop(folder)
    _, alive = psutil.wait_procs(list(everything), timeout=10)
    assert not alive
    assert not folder.exists()


def test_start_refuses_a_folder_in_use(services: servers.Services, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(servers.ServiceTrouble, match=r"holds mine.txt"):
        servers.start(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"
