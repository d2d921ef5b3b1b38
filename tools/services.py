#!/usr/bin/env python
"""Start and stop a private PostgreSQL and a private RabbitMQ in a folder, for tests and for trying things out.

    python tools/services.py missing          # name what is not installed; exit code 1 if anything is
    python tools/services.py install          # install it with apt-get, if root
    python tools/services.py start FOLDER     # print how to reach them, as JSON
    python tools/services.py status FOLDER    # exit code 3 unless everything runs
    python tools/services.py stop FOLDER      # end exactly what was started, by pid

Both listen on 127.0.0.1 only, on ports that are free, with passwords made for this folder (services.json, readable by
its owner alone). PostgreSQL has no Unix socket, whose path could be too long; Erlang's name server is started here as
well, because the one RabbitMQ would start by itself listens to the whole network and outlives it. Neither server wants
to run as root: started by root they run as the users of their Debian packages. They are set up to be fast and thrown
away (no fsync): never keep anything in them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import psutil
from debian import apt_install
from private_servers import (
    HOST,
    Owned,
    ServiceTrouble,
    Started,
    end,
    free_ports,
    launch,
    living,
    own_folder,
    write_file,
)

#: What runs in a folder, and how to reach it.
STATE = "services.json"

#: Debian's packages; the client programs come with them.
PACKAGES = ("postgresql", "rabbitmq-server")


@dataclass(frozen=True)
class Services:
    """How to reach the servers of a folder."""

    folder: str
    postgres_port: int
    postgres_admin: str
    postgres_password: str
    rabbitmq_port: int
    rabbitmq_user: str
    rabbitmq_password: str
    rabbitmqctl: dict[str, str]  #: what ``rabbitmqctl`` needs in its environment to find this node
    processes: list[Started] = field(default_factory=list)


# -- what is installed -------------------------------------------------------------------------------------------------


def postgres_bin() -> Path | None:
    """Return the folder of PostgreSQL's server programs, the newest version first."""
    held = Path("/usr/lib/postgresql")
    versions = sorted(held.glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]), reverse=True)
    found = versions[0] if versions else shutil.which("initdb")
    return Path(found).parent if found else None


def rabbitmq_server() -> Path | None:
    """Return the program that starts RabbitMQ: not Debian's wrapper, which has its own idea of user and folders."""
    return _program("/usr/lib/rabbitmq/bin/rabbitmq-server")


def epmd() -> Path | None:
    """Return Erlang's name server."""
    return _program("/usr/lib/erlang/bin/epmd")


def _program(direct: str) -> Path | None:
    found = direct if os.access(direct, os.X_OK) else shutil.which(Path(direct).name)
    return Path(found) if found else None


def missing() -> list[str]:
    """Return the Debian packages whose programs are not there."""
    there = (postgres_bin() is not None, rabbitmq_server() is not None and epmd() is not None)
    return [package for package, found in zip(PACKAGES, there, strict=True) if not found]


# -- start and stop ----------------------------------------------------------------------------------------------------


def start(folder: Path) -> Services:
    """Start both servers below ``folder``, which is made, and return how to reach them.

    :raises ServiceTrouble: if something is not installed, runs there already, or does not come up in time.
    """
    folder = folder.resolve()
    if absent := missing():
        raise ServiceTrouble(f"Not installed: {', '.join(absent)}; run `apt-get install {' '.join(absent)}` as root.")
    folder.mkdir(parents=True, exist_ok=True)
    if any(map(living, _held(folder))):
        raise ServiceTrouble(f"Services run in {folder} already; stop them with `services.py stop {folder}`.")
    if left := [p.name for p in folder.iterdir() if p.name != STATE]:
        raise ServiceTrouble(f"{folder} holds {left[0]}; name an empty folder, or one that is to be made.")
    folder.chmod(0o711)  # the servers' users pass through it to their own folders
    processes: list[Started] = []
    try:
        password, cookie = secrets.token_hex(16), secrets.token_hex(10).upper()
        port = _start_postgres(folder, password, processes)
        broker = _start_rabbitmq(folder, password, cookie, processes)
    except BaseException:
        end(processes)
        _clear(folder)
        raise
    made = Services(
        folder=str(folder),
        postgres_port=port,
        postgres_admin="postgres",
        postgres_password=password,
        rabbitmq_port=broker["amqp"],
        rabbitmq_user="crysgen",
        rabbitmq_password=password,
        rabbitmqctl={"ERL_EPMD_PORT": str(broker["epmd"]), "RABBITMQ_ERLANG_COOKIE": cookie},
        processes=processes,
    )
    file = folder / STATE
    file.touch(mode=0o600)
    file.write_text(json.dumps(asdict(made), indent=2))
    return made


def stop(folder: Path) -> int:
    """End what was started in ``folder`` and delete what it wrote; return how many processes were ended."""
    folder = folder.resolve()
    ended = end(_held(folder))
    _clear(folder)
    (folder / STATE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody else's files are in it
        folder.rmdir()
    return ended


def _clear(folder: Path) -> None:
    for name in ("pg", "mq"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _start_postgres(folder: Path, password: str, processes: list[Started]) -> int:
    programs = postgres_bin()
    assert programs is not None
    own = own_folder(folder / "pg", "postgres")
    secret = write_file(own.folder / "password", password, own)
    data, environment = own.folder / "data", {"PATH": os.defpath, "LC_ALL": "C", "HOME": str(own.folder)}
    made = subprocess.run(
        [str(programs / "initdb"), "--pgdata", str(data), "--username", "postgres", "--auth", "scram-sha-256",
         "--pwfile", str(secret), "--encoding", "UTF8", "--locale", "C", "--no-sync"],
        env=environment, cwd=own.folder, capture_output=True, text=True, check=False, **own.identity,
    )  # fmt: skip
    secret.unlink()
    if made.returncode:
        raise ServiceTrouble(f"initdb failed: {(made.stderr or made.stdout).strip()}")

    def attempt(port: int) -> list[str]:
        settings = {
            "listen_addresses": HOST, "unix_socket_directories": "", "max_connections": "80",
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(programs / "postgres"), "-D", str(data), "-p", str(port), *options]

    def ready(port: int) -> bool:
        asked = [str(programs / "pg_isready"), "-q", "-h", HOST, "-p", str(port)]
        return subprocess.run(asked, env=environment, check=False).returncode == 0

    return launch("postgres", lambda: free_ports(1)[0], attempt, ready, environment, own, processes)


def _start_rabbitmq(folder: Path, password: str, cookie: str, processes: list[Started]) -> dict[str, int]:
    server, names = rabbitmq_server(), epmd()
    assert server is not None
    assert names is not None
    own = own_folder(folder / "mq", "rabbitmq")
    bare = {"PATH": f"{Path(names).parent}:{os.defpath}", "HOME": str(own.folder), "ERL_EPMD_ADDRESS": HOST}
    # the timeout would take a task away from a worker that needs longer than half an hour for it
    write_file(own.folder / "advanced.config", "[{rabbit, [{consumer_timeout, undefined}]}].\n", own)
    write_file(own.folder / "enabled_plugins", "[].\n", own)
    write_file(own.folder / "rabbitmq-env.conf", "", own)
    write_file(own.folder / "rabbitmq.conf", f"default_user = crysgen\ndefault_pass = {password}\n", own)
    write_file(own.folder / ".erlang.cookie", cookie, own, mode=0o400)
    register = launch(
        "epmd", lambda: free_ports(1)[0], lambda port: [str(names), "-address", HOST, "-port", str(port)],
        _accepts, bare, own, processes,
    )  # fmt: skip
    amqp = _launch_rabbitmq(server, {**bare, "ERL_EPMD_PORT": str(register)}, own, processes)
    # the server proper is a child of the script: noted too, or it would outlive a script that was killed
    script = psutil.Process(processes[-1].pid)
    processes += [Started(p.name(), p.pid, p.create_time()) for p in script.children() if p.name() == "beam.smp"]
    return {"amqp": amqp, "epmd": register}


def _launch_rabbitmq(server: Path, environment: dict[str, str], own: Owned, processes: list[Started]) -> int:
    """Start RabbitMQ and return its port; if one of its ports is taken before it gets there, try others."""
    for last in (False, False, True):
        amqp, distribution = free_ports(2)
        variables = {**environment, **_rabbitmq_environment(own.folder, amqp, distribution)}
        claim, command = partial(int, amqp), partial(_command, server)
        try:
            return launch("rabbitmq", claim, command, _speaks_amqp, variables, own, processes, tries=1)
        except ServiceTrouble:
            if last:
                raise
    raise AssertionError("the last try returns or raises")


def _command(program: Path, _port: int) -> list[str]:
    return [str(program)]


def _rabbitmq_environment(folder: Path, amqp: int, distribution: int) -> dict[str, str]:
    """Return what keeps RabbitMQ to this folder and these ports, whatever /etc/rabbitmq says."""
    return {
        "RABBITMQ_NODENAME": f"crysgen{amqp}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(amqp),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
    }


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _speaks_amqp(port: int) -> bool:
    """Whether a broker answers AMQP's greeting; the port opens a moment before that."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False


def _held(folder: Path) -> list[Started]:
    """Return the processes noted in a folder's state file."""
    try:
        noted = json.loads((folder / STATE).read_text())["processes"]
    except (OSError, ValueError, KeyError):
        return []
    return [Started(**entry) for entry in noted]


def main() -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["missing", "install", "start", "status", "stop"])
    parser.add_argument("folder", nargs="?", type=Path)
    asked = parser.parse_args()
    if asked.command == "missing":
        print(*missing())
        return 1 if missing() else 0
    if asked.command == "install":
        return apt_install(missing())
    if asked.folder is None:
        parser.error("name the folder")
    try:
        if asked.command == "start":
            print(json.dumps(asdict(start(asked.folder)), indent=2))
            return 0
    except ServiceTrouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    if asked.command == "stop":
        print(f"{stop(asked.folder)} process(es) ended")
        return 0
    held = _held(asked.folder.resolve())
    for started in held:
        print(f"{started.name:<10} {started.pid:<8} {'runs' if living(started) else 'is gone'}")
    return 0 if held and all(map(living, held)) else 3


if __name__ == "__main__":
    raise SystemExit(main())
