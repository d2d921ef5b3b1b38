"""RabbitMQ as a profile's broker: reached or not, its version, its consumer timeout, and who listens to the queue."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from crysgen_aiida.crystals.errors import ImpossibleRequest

if TYPE_CHECKING:
    from aiida.manage.configuration.profile import Profile

BACKEND = "core.rabbitmq"

#: From this version on a task that is not finished within the consumer timeout is taken away and handed out again.
TIMEOUT_SINCE = (3, 8, 15)

#: How to switch the consumer timeout off, for whoever runs the server.
TIMEOUT_REMEDY = (
    "put `[{rabbit, [{consumer_timeout, undefined}]}].` into /etc/rabbitmq/advanced.config and restart the server"
)

#: Addresses that are this machine.
LOCAL = ("127.0.0.1", "localhost", "::1")


class BrokerUnreachable(ImpossibleRequest):
    """No RabbitMQ answers, or it refuses us."""


@dataclass(frozen=True)
class Answer:
    """What a RabbitMQ server says of itself and of one queue."""

    host: str
    port: int
    version: str
    node: str  #: its cluster name: by default the node's name
    exists: bool = False  #: whether there is such a queue
    ready: int = 0  #: messages that no worker has taken
    consumers: int = 0

    @property
    def where(self) -> str:
        """Name and address, for sentences."""
        return f"RabbitMQ {self.version} at {self.host}:{self.port}"

    @property
    def has_timeout(self) -> bool:
        """Whether a server of this version takes tasks away."""
        numbers = [int("".join(filter(str.isdigit, part)) or 0) for part in self.version.split(".")[:3]]
        return tuple(numbers) >= TIMEOUT_SINCE


def url_of(profile: Profile) -> str:
    """Return the address of a profile's RabbitMQ, with its password."""
    from aiida.brokers.rabbitmq.broker import RabbitmqBroker

    return str(RabbitmqBroker(profile).get_url())


def queue_of(profile: Profile) -> str:
    """Return the name of the queue a profile's workers take tasks from."""
    from aiida.brokers.rabbitmq.utils import get_launch_queue_name

    return str(get_launch_queue_name(f"aiida-{profile.uuid}"))


def ask(url: str, queue: str | None = None, *, timeout: float = 5.0) -> Answer:
    """Ask a server who it is, and about a queue; nothing is changed there.

    :param timeout: seconds to wait for an answer.
    :raises BrokerUnreachable: saying what to do, without the password.
    """
    # in a thread of its own: an event loop may run in this one, and AiiDA expects to find the one it left there
    with ThreadPoolExecutor(1) as pool, _quiet():
        return pool.submit(asyncio.run, _ask(url, queue, timeout)).result()


async def _ask(url: str, queue: str | None, timeout: float) -> Answer:
    import aiormq
    from pamqp.exceptions import PAMQPException

    parts = urlsplit(url)
    host, port, user = parts.hostname or "localhost", parts.port or 5672, unquote(parts.username or "")
    where = f"RabbitMQ at {host}:{port}"
    try:
        connection = await asyncio.wait_for(aiormq.connect(url), timeout)
    except (aiormq.exceptions.AuthenticationError, aiormq.exceptions.ProbableAuthenticationError) as error:
        raise BrokerUnreachable(
            f"{where} refuses the user {user}: check the password; `guest` may only come from the same machine."
        ) from error
    except PAMQPException as error:
        raise BrokerUnreachable(
            f"{where} does not let the user {user} into the virtual host {unquote(parts.path) or '/'}: name another "
            f"with --broker-vhost, or run `rabbitmqctl set_permissions -p VHOST {user} '.*' '.*' '.*'` on the server."
        ) from error
    except (asyncio.TimeoutError, OSError, aiormq.exceptions.AMQPError) as error:
        reason = str(error) or "no answer in time"
        raise BrokerUnreachable(
            f"No {where} ({reason}); start it, or give host and port with --broker-host and --broker-port."
        ) from error
    try:
        told = {k: v.decode() if isinstance(v, bytes) else v for k, v in connection.server_properties.items()}
        answer = Answer(host, port, str(told.get("version", "0")), str(told.get("cluster_name", "")))
        if queue is None:
            return answer
        try:
            found = await (await connection.channel()).queue_declare(queue, passive=True, timeout=timeout)
        except aiormq.exceptions.AMQPChannelError:  # no worker has ever listened: the first one makes it
            return answer
        return Answer(answer.host, answer.port, answer.version, answer.node, True,
                      found.message_count or 0, found.consumer_count or 0)  # fmt: skip
    finally:
        await connection.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client library from logging what becomes a sentence here."""
    loggers = [logging.getLogger(name) for name in ("aiormq.connection", "aio_pika.robust_connection")]
    held = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, held, strict=True):
            logger.setLevel(level)


# -- consumer timeout --------------------------------------------------------------------------------------------------


def consumer_timeout(answer: Answer) -> float | None:
    """Return after how many seconds the server takes an unfinished task away: infinity if never, None if unseen.

    No client can ask this, only ``rabbitmqctl`` on the same machine, as root or with the server's Erlang cookie.
    """
    if not answer.has_timeout:
        return math.inf
    if answer.host not in LOCAL or not _name_server_listens():
        return None
    program = _rabbitmqctl()
    if program is None:
        return None
    short = answer.node.partition("@")[0]
    hosts = (socket.gethostname(), "localhost")
    names = [os.environ.get("RABBITMQ_NODENAME", ""), answer.node, *(f"{short}@{host}" for host in hosts)]
    for name in dict.fromkeys(filter(None, names)):
        held = _environment_of_node(program, name)
        if held is not None:
            milliseconds = held.get("rabbit", {}).get("consumer_timeout")
            return milliseconds / 1000 if isinstance(milliseconds, (int, float)) else math.inf
    return None


def timeout_wording(seconds: float | None) -> str:
    """Return the consumer timeout in words."""
    if seconds is None:
        return "consumer timeout not visible from here (the server's default is 30 min)"
    if math.isinf(seconds):
        return "consumer timeout off"
    return f"consumer timeout {seconds / 60:.0f} min: a longer task would be given to a second worker"


def _rabbitmqctl() -> str | None:
    """Return the command, unless it would fail for want of a cookie, and leave a new one behind."""
    wrapper, direct = shutil.which("rabbitmqctl"), "/usr/lib/rabbitmq/bin/rabbitmqctl"
    if os.geteuid() == 0:
        return wrapper
    has_cookie = "RABBITMQ_ERLANG_COOKIE" in os.environ or (Path.home() / ".erlang.cookie").exists()
    return (direct if os.access(direct, os.X_OK) else wrapper) if has_cookie else None


def _name_server_listens() -> bool:
    """Whether Erlang's name server runs: `rabbitmqctl` would start one that stays, and listens to the network."""
    try:
        socket.create_connection(("127.0.0.1", int(os.environ.get("ERL_EPMD_PORT", "4369"))), timeout=1).close()
    except (OSError, ValueError):
        return False
    return True


def _environment_of_node(program: str, name: str) -> dict[str, Any] | None:
    command = [program, "--quiet", "--node", name, "environment", "--formatter", "json"]
    environment = {**os.environ, "ERL_EPMD_ADDRESS": "127.0.0.1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, env=environment)
        held = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return held if isinstance(held, dict) else None
