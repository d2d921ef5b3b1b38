"""What a profile's broker says of itself: the built-in ZeroMQ one from its files, RabbitMQ from its server."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: A status file older than this was left by a broker that is dead or hangs; it is rewritten every 5 s.
STATUS_MAX_AGE = 20.0


@dataclass(frozen=True)
class BrokerState:
    """What the broker says of itself, and whether that can be believed."""

    alive: bool
    pid: int | None
    pending: int = 0
    processing: int | None = 0  #: None if the broker does not tell
    workers: int = 0  #: daemon workers that listen for tasks
    age: float | None = None  #: seconds since it said so
    reason: str = ""  #: why it is not alive, if that is known

    @property
    def stale(self) -> bool:
        """Whether the status is too old to be believed."""
        return self.age is None or self.age > STATUS_MAX_AGE


def broker_state(profile: str) -> BrokerState | None:
    """Return the state of the profile's broker, or None if it has none or one of another kind."""
    from crysgen_aiida.cli import rabbitmq
    from crysgen_aiida.cli.profiles import get_config

    held = get_config().get_profile(profile)
    if held.process_control_backend == rabbitmq.BACKEND:
        try:
            answer = rabbitmq.ask(rabbitmq.url_of(held), rabbitmq.queue_of(held))
        except rabbitmq.BrokerUnreachable as error:
            return BrokerState(False, None, processing=None, age=0.0, reason=str(error))
        return BrokerState(True, None, answer.ready, None, answer.consumers, age=0.0)
    layout = zeromq_layout(profile)
    return None if layout is None else _zeromq_state(layout)


def zeromq_layout(profile: str) -> Any:
    """Return where the profile's ZeroMQ broker keeps its files, or None if it uses another broker."""
    from aiida.brokers.zeromq.service import ZeromqBrokerService

    from crysgen_aiida.cli.profiles import get_config

    config = get_config()
    held = config.get_profile(profile)
    if held.process_control_backend != "core.zeromq":
        return None
    return ZeromqBrokerService.FilepathLayout(config.filepaths(held)["broker_service"]["dir"])


def zeromq_pid(pid_file: Path) -> int | None:
    """Return the broker's pid if the process with it is a broker (pids are reused)."""
    import psutil

    from crysgen_aiida.cli.processes import _role

    try:
        pid = int(pid_file.read_text().split()[-1])
        process = psutil.Process(pid)
        cmdline = process.cmdline()
        # a test fixture may run the service as a module rather than through verdi
        ours = _role(cmdline) == "broker" or any("brokers.zeromq" in part for part in cmdline)
        return pid if ours and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, IndexError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def _zeromq_state(layout: Any) -> BrokerState:
    pid = zeromq_pid(layout.pid_file)
    try:
        status: dict[str, Any] = json.loads(layout.status_file.read_text())
        age: float | None = max(0.0, time.time() - float(status["timestamp"]))
    except (OSError, ValueError, KeyError):
        return BrokerState(pid is not None, pid)
    return BrokerState(
        pid is not None,
        pid,
        int(status.get("pending_tasks", 0)),
        int(status.get("processing_tasks", 0)),
        int(status.get("task_subscribers", 0)),
        age,
    )
