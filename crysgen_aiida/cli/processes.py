"""The daemon of a profile seen as processes: start, stop, broker state, and what a hard kill leaves behind.

AiiDA's own commands trust files that outlive the processes that wrote them. After ``kill -9`` of circus its workers,
broker and statistics process live on; after ``kill -9`` of everything the broker's files point at a socket nobody
serves. Both look green and stall. Here a pid is believed only if the process with it is what it should be, belongs to
this configuration folder and to this profile.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysgen_aiida.cli.brokers import STATUS_MAX_AGE, BrokerState, broker_state, zeromq_layout, zeromq_pid
from crysgen_aiida.crystals.errors import CrysgenError

if TYPE_CHECKING:
    import psutil
    from aiida.engine.daemon.client import DaemonClient

#: Tasks that wait this long while nothing is processed mean that nobody consumes.
STALL_SECONDS = 30.0


class DaemonTrouble(CrysgenError):
    """The daemon cannot be started, stopped or reached."""


@dataclass(frozen=True)
class DaemonState:
    """What runs of a profile's daemon."""

    circus: int | None
    workers: tuple[int, ...]
    orphans: tuple[int, ...]
    broker: BrokerState | None  #: None if the profile has no broker, or one of another kind


def own_bin() -> Path:
    """Return the folder of the scripts of this Python environment."""
    return Path(sys.executable).parent


def put_own_bin_first() -> None:
    """Make this environment's ``verdi`` the one that AiiDA starts, whatever is first on PATH."""
    folder = str(own_bin())
    entries = [p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if p and p != folder]
    os.environ["PATH"] = os.pathsep.join([folder, *entries])
    verdi = own_bin() / "verdi"
    if not verdi.exists():
        raise DaemonTrouble(f"There is no verdi beside {Path(sys.executable).name}; reinstall aiida-core there.")
    from aiida.engine.daemon import client

    client.VERDI_BIN = str(verdi)  # found once at import: another environment's may have been


def daemon_client(profile: str) -> DaemonClient:
    """Return AiiDA's daemon client, set to this environment's ``verdi``."""
    put_own_bin_first()
    from aiida.engine.daemon.client import get_daemon_client

    return get_daemon_client(profile)


def start_daemon(profile: str, workers: int = 1, *, timeout: float = 60.0) -> str:
    """Start the daemon of a profile, or repair it, and wait until it consumes.

    A daemon that runs and consumes is left alone. One that runs but does not, or whose remains are still there, is
    ended first, by pid.

    :return: a sentence saying what was done.
    :raises DaemonTrouble: if no worker listens after ``timeout`` seconds.
    """
    client = daemon_client(profile)
    state = inspect(profile)
    if state.broker is not None and state.broker.reason:
        raise DaemonTrouble(state.broker.reason)  # without it, no worker could listen
    said = "started"
    if state.circus is not None and not state.orphans and _listening(state):
        missing = workers - len(state.workers)
        if missing > 0:
            client.increase_workers(missing, wait=True)
            _wait(lambda: _listening(inspect(profile), minimum=workers), timeout)
        return f"The daemon of {profile} runs already with {max(workers, len(state.workers))} worker(s)."
    if state.circus is not None or state.workers or state.orphans:
        stop_daemon(profile)
        said = "was not consuming; its processes were ended and it was started anew"
    clear_stale_files(profile)
    lost = _reconcile_queue(profile)
    from aiida.engine.daemon.client import DaemonException

    try:
        client.start_daemon(number_workers=workers, timeout=int(timeout))
    except DaemonException as error:
        raise DaemonTrouble(f"The daemon of {profile} did not start: {error}") from error
    if not _wait(lambda: _listening(inspect(profile), minimum=workers), timeout):
        raise DaemonTrouble(
            f"The daemon of {profile} started, but after {timeout:.0f} s no worker listens to the broker; "
            f"its log is {client.daemon_log_file}."
        )
    found = f" {lost} process(es) that no queue knew of were taken up again." if lost else ""
    return f"The daemon of {profile} {said} with {workers} worker(s).{found}"


def stop_daemon(profile: str, *, timeout: float = 20.0) -> str:
    """Stop the daemon of a profile and end whatever of it is left, then clear its stale files.

    :return: a sentence saying what was done.
    """
    client = daemon_client(profile)
    from aiida.engine.daemon.client import DaemonException

    state = inspect(profile)
    if state.circus is not None:
        with contextlib.suppress(DaemonException):  # it hangs or died meanwhile: ended by pid below
            client.stop_daemon(wait=True, timeout=int(timeout))
        _wait(lambda: inspect(profile).circus is None, 5.0)
    left = _end(_processes_of(profile))
    clear_stale_files(profile)
    if state.circus is None and not left:
        return f"The daemon of {profile} was not running."
    return f"The daemon of {profile} was stopped" + (f"; {left} leftover process(es) were ended." if left else ".")


def inspect(profile: str) -> DaemonState:
    """Return what runs of the daemon of a profile, from the process table rather than from files."""
    import psutil

    circus: int | None = None
    children: set[int] = set()
    found = _processes_of(profile)
    for process in found:
        if _role(_cmdline(process)) == "circus":
            try:
                children |= {c.pid for c in process.children(recursive=True)}
                circus = process.pid
            except psutil.NoSuchProcess:
                continue
    workers = [p.pid for p in found if _role(_cmdline(p)) == "worker"]
    orphans = [p.pid for p in found if p.pid != circus and p.pid not in children]
    return DaemonState(circus, tuple(workers), tuple(orphans), broker_state(profile))


def consuming(profile: str, *, patience: float = STALL_SECONDS) -> tuple[bool, str]:
    """Return whether queued work is being taken, and a sentence about it.

    The broker may say "10 pending, 0 processing" for ever while every worker idles and ``verdi status`` is green: it is
    watched for up to ``patience`` seconds, and believed as soon as something moves.
    """
    state = inspect(profile)
    broker = state.broker
    if broker is None:
        return True, "no broker, or one that is not known here: not checked"
    if not broker.alive:
        return False, broker.reason or "the broker is not running"
    if not _wait(lambda: not (_broker(profile).stale), min(patience, STATUS_MAX_AGE)):
        return False, "the broker runs but has stopped reporting"
    broker = _broker(profile)
    if broker.workers < len(state.workers):  # workers on the socket of a broker that is gone
        _wait(lambda: _broker(profile).workers >= len(state.workers), min(patience, 12.0))
        broker = _broker(profile)
        if broker.workers < len(state.workers):
            return False, f"only {broker.workers} of {len(state.workers)} workers listen to the broker"
    if not broker.pending or broker.processing:
        busy = "" if broker.processing is None else f"{broker.processing} processing, "
        return True, f"{broker.pending} pending, {busy}{broker.workers} listening"
    first = broker.pending

    def moved() -> bool:
        now = _broker(profile)
        return bool(now.processing) or now.pending < first

    if _wait(moved, patience):
        return True, "tasks are being taken"
    if broker.processing is None and broker.workers:  # RabbitMQ hands out at once what a worker has a slot for
        slots = _slots(profile)
        return True, f"{first} pending: {broker.workers} worker(s) of {slots} slots are full; start more workers"
    return False, f"{first} tasks have been pending for {patience:.0f} s and none is being processed"


def clear_stale_files(profile: str) -> list[str]:
    """Delete pid, socket and status files whose process is dead; return the names of those deleted."""
    import psutil

    gone: list[str] = []
    layout = zeromq_layout(profile)
    if layout is not None and zeromq_pid(layout.pid_file) is None:
        gone += [f.name for f in (layout.pid_file, layout.status_file, layout.sockets_file) if f.exists()]
        for file in (layout.pid_file, layout.status_file, layout.sockets_file):
            file.unlink(missing_ok=True)
    client = daemon_client(profile)
    pid = client.get_daemon_pid()
    pid_file = Path(client.circus_pid_file)
    alive = pid is not None and psutil.pid_exists(pid) and pid in {p.pid for p in _processes_of(profile)}
    if pid_file.exists() and not alive:
        gone.append(pid_file.name)
        pid_file.unlink(missing_ok=True)
    return gone


# -- which processes are ours ------------------------------------------------------------------------------------------


def _role(cmdline: list[str]) -> str | None:
    """Return circus, worker, broker or stats for the command line of a daemon process, else None."""
    if "daemon" in cmdline:
        after = cmdline[cmdline.index("daemon") + 1 :]
        roles = {"start-circus": "circus", "worker": "worker", "broker": "broker"}
        return roles.get(after[0]) if after else None
    if any("circus import stats" in part for part in cmdline):
        return "stats"
    return None


def _processes_of(profile: str) -> list[psutil.Process]:
    """Return the daemon processes of this profile in this configuration folder, and of this user."""
    import psutil

    client = daemon_client(profile)
    home = _config_dir()
    try:
        sockets = Path(client.circus_socket_file).read_text().strip()
    except OSError:
        sockets = ""
    me = psutil.Process().username()
    found = []
    for process in psutil.process_iter():
        try:
            cmdline = process.cmdline()
            role = _role(cmdline)
            if role is None or process.username() != me or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if role == "stats":  # it does not name the profile, but the folder of the profile's sockets
                if sockets and any(sockets in part for part in cmdline):
                    found.append(process)
            elif _names_profile(cmdline, profile) and Path(process.environ().get("AIIDA_PATH", "")).resolve() == home:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _names_profile(cmdline: list[str], profile: str) -> bool:
    return any(a in ("-p", "--profile") and b == profile for a, b in itertools.pairwise(cmdline))


def _config_dir() -> Path:
    from crysgen_aiida.cli.profiles import get_config

    # AiiDA hands its processes the configuration folder itself as AIIDA_PATH
    return Path(get_config().dirpath).resolve()


def _cmdline(process: psutil.Process) -> list[str]:
    import psutil

    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def _end(processes: list[psutil.Process], grace: float = 5.0) -> int:
    """Terminate, then kill, exactly these processes; circus first, so that it starts nothing again."""
    import psutil

    order = {"circus": 0, "worker": 1, "stats": 2, "broker": 3}
    ranked = sorted(processes, key=lambda p: order.get(_role(_cmdline(p)) or "", 4))
    for process in ranked:
        with _gone_is_fine():
            process.terminate()
    _, alive = psutil.wait_procs(ranked, timeout=grace)
    for process in alive:
        with _gone_is_fine():
            process.kill()
    psutil.wait_procs(alive, timeout=grace)
    return len(ranked)


def _gone_is_fine() -> Any:
    import psutil

    return contextlib.suppress(psutil.NoSuchProcess)


# -- broker ------------------------------------------------------------------------------------------------------------


def _broker(profile: str) -> BrokerState:
    return broker_state(profile) or BrokerState(True, None, age=0.0)


def _reconcile_queue(profile: str) -> int:
    """Make the queue agree with the graph while nobody consumes; return how many lost processes were queued again."""
    from crysgen_aiida.cli import queue

    layout = zeromq_layout(profile)
    if layout is not None:
        return queue.reconcile(profile, layout.storage_path / "tasks")[0] if zeromq_pid(layout.pid_file) is None else 0
    broker = broker_state(profile)
    return queue.reconcile_rabbitmq(profile)[0] if broker is not None and not broker.workers else 0


def _slots(profile: str) -> int:
    from crysgen_aiida.cli.profiles import get_config

    return int(get_config().get_option("daemon.worker_process_slots", profile))


def _listening(state: DaemonState, minimum: int = 1) -> bool:
    """Whether every worker of a running daemon is known to a live broker."""
    if state.circus is None or len(state.workers) < minimum:
        return False
    broker = state.broker
    if broker is None:
        return True
    return broker.alive and not broker.stale and broker.workers >= len(state.workers)


def _wait(condition: Callable[[], bool], seconds: float, every: float = 0.25) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
