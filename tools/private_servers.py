"""Servers as processes: started as a user that is not root, found again by pid and birth, ended by pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HOST = "127.0.0.1"

#: Seconds a server may take to come up on a busy machine.
PATIENCE = 60.0


class ServiceTrouble(Exception):
    """A server is not installed, or did not start or stop."""


@dataclass(frozen=True)
class Started:
    """One process that was started here; the time of its birth tells it from a later one with the same pid."""

    name: str
    pid: int
    born: float


@dataclass(frozen=True)
class Owned:
    """A folder of a server, and the arguments that make a subprocess run as its owner."""

    folder: Path
    user: str | None
    identity: dict[str, Any]


def own_folder(folder: Path, user: str) -> Owned:
    """Make a folder that belongs to ``user`` if we are root, else to us.

    :raises ServiceTrouble: if that user cannot get there.
    """
    folder.mkdir(mode=0o700)
    if os.geteuid() != 0:
        return Owned(folder, None, {})
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    user = user if user in known else "nobody"
    closed = [p for p in folder.parents if not p.stat().st_mode & stat.S_IXOTH]
    if closed:
        folder.rmdir()
        raise ServiceTrouble(f"The user {user}, who runs the server, may not enter {closed[0]}; use a folder in /tmp.")
    group = pwd.getpwnam(user).pw_gid
    shutil.chown(folder, user, group)
    return Owned(folder, user, {"user": user, "group": group, "extra_groups": []})


def write_file(file: Path, text: str, own: Owned, mode: int = 0o600) -> Path:
    file.touch(mode=0o600)
    file.write_text(text)
    file.chmod(mode)
    if own.user is not None:
        shutil.chown(file, own.user, own.identity["group"])
    return file


def free_ports(n: int) -> list[int]:
    """Return ``n`` different ports nobody listens on now."""
    with contextlib.ExitStack() as stack:
        claimed = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in claimed:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in claimed]


def launch(
    name: str,
    claim: Callable[[], int],
    command: Callable[[int], list[str]],
    ready: Callable[[int], bool],
    environment: dict[str, str],
    own: Owned,
    processes: list[Started],
    tries: int = 3,
) -> int:
    """Start a server and wait until it answers; on a port that somebody took meanwhile, try another."""
    log = own.folder / f"{name}.log"
    for _ in range(tries):
        port = claim()
        with log.open("ab") as said:
            process = subprocess.Popen(
                command(port), env=environment, cwd=own.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True, **own.identity,
            )  # fmt: skip
        started = Started(name, process.pid, psutil.Process(process.pid).create_time())
        processes.append(started)
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if ready(port):
                return port
            time.sleep(0.1)
        end([started])
        processes.remove(started)
    raise ServiceTrouble(f"{name} did not start: {log.read_text(errors='replace').strip()[-2000:] or 'no message'}")


def living(started: Started) -> psutil.Process | None:
    """Return the process if it is still the one that was started."""
    try:
        process = psutil.Process(started.pid)
        same = abs(process.create_time() - started.born) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def end(processes: list[Started], grace: float = 20.0) -> int:
    """Ask each to end, in the reverse order of their start, and kill what does not with all its children."""
    ended = 0
    for started in reversed(processes):
        process = living(started)
        if process is None:
            continue
        family = [process]
        with contextlib.suppress(psutil.NoSuchProcess):
            family += process.children(recursive=True)
            # PostgreSQL's "fast" shutdown: it does not wait for clients
            process.send_signal(signal.SIGINT if started.name == "postgres" else signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=grace)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(alive, timeout=5)
        ended += 1
    return ended
