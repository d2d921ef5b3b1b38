#!/usr/bin/env python
"""Start and stop a private Slurm of one node and an SSH server in a folder, for tests and for trying things out.

    python tools/cluster.py missing          # name what is not installed; exit code 1 if anything is
    python tools/cluster.py install          # install it with apt-get, if root
    python tools/cluster.py start FOLDER     # print how to reach it, as JSON
    python tools/cluster.py status FOLDER    # exit code 3 unless everything runs
    python tools/cluster.py stop FOLDER      # cancel its jobs, end exactly what was started, by pid

munge, slurmctld, slurmd and sshd run as the user who starts them, root or not, and listen on 127.0.0.1, on ports that
are free. Configuration, state, logs, spool and keys are in the folder: /etc/slurm, /etc/munge and ~/.ssh are
neither read nor written. Whoever wants to talk to this Slurm sets SLURM_CONF to the file named in cluster.json; in a
session of this SSH server it is set. The one thing outside the folder is the empty /run/sshd, which sshd demands when
root starts it and which is made if it is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from cluster_config import PARTITION, slurm_conf, sshd_config
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
    write_file,
)

#: What runs in a folder, and how to reach it.
STATE = "cluster.json"

#: Debian's packages, and the programs of each that are needed here.
PACKAGES = {
    "slurmctld": ("slurmctld",),
    "slurmd": ("slurmd",),
    "slurm-client": ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun"),
    "munge": ("munged", "munge"),
    "openssh-server": ("sshd",),
    "openssh-client": ("ssh-keygen",),
}

#: Servers are not on the PATH of everybody.
SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

#: Seconds for jobs to be gone after they were cancelled, before their processes are killed by pid.
PATIENCE_WITH_JOBS = 5.0


@dataclass(frozen=True)
class Cluster:
    """How to reach what runs in a folder."""

    folder: str
    name: str  #: of the cluster; the jobs' environment has it as SLURM_CLUSTER_NAME
    slurm_conf: str  #: what SLURM_CONF must be for sbatch and the others
    partition: str
    ssh_host: str
    ssh_port: int
    ssh_user: str
    ssh_key: str  #: file of the private key
    processes: list[Started] = field(default_factory=list)

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's programs against this cluster."""
        return _slurm(Path(self.slurm_conf), program, *words)

    def pause_controller(self) -> contextlib.AbstractContextManager[None]:
        """Within this context slurmctld is down; afterwards it runs again, with the jobs it had."""
        return _without_controller(self)


# -- what is installed -------------------------------------------------------------------------------------------------


def program(name: str) -> str | None:
    """Return the path of a program, wherever servers are kept."""
    return shutil.which(name, path=SEARCHED)


def missing() -> list[str]:
    """Return the Debian packages whose programs are not there."""
    return [package for package, names in PACKAGES.items() if not all(map(program, names))]


# -- start and stop ----------------------------------------------------------------------------------------------------


def start(folder: Path) -> Cluster:
    """Start everything below ``folder``, which is made, and return how to reach it.

    :raises ServiceTrouble: if something is not installed, runs there already, or does not come up in time.
    """
    folder = folder.resolve()
    if absent := missing():
        raise ServiceTrouble(f"Not installed: {', '.join(absent)}; run `apt-get install {' '.join(absent)}` as root.")
    folder.mkdir(parents=True, exist_ok=True)
    if any(map(living, _held(folder))):
        raise ServiceTrouble(f"A cluster runs in {folder} already; stop it with `cluster.py stop {folder}`.")
    if left := [p.name for p in folder.iterdir() if p.name != STATE]:
        raise ServiceTrouble(f"{folder} holds {left[0]}; name an empty folder, or one that is to be made.")
    if len(str(folder)) > 70:
        raise ServiceTrouble(f"The path of {folder} is too long for munge's socket; use a folder in /tmp.")
    name = f"crysgen{secrets.token_hex(4)}"
    processes: list[Started] = []
    try:
        munge = _start_munge(folder, processes)
        conf = _start_slurm(folder, name, munge, processes)
        port, key = _start_sshd(folder, conf, processes)
    except BaseException:
        end(processes, grace=5.0)
        _clear(folder)
        raise
    made = Cluster(
        folder=str(folder),
        name=name,
        slurm_conf=str(conf),
        partition=PARTITION,
        ssh_host=HOST,
        ssh_port=port,
        ssh_user=getpass.getuser(),
        ssh_key=str(key),
        processes=processes,
    )
    _note(made)
    return made


def stop(folder: Path) -> int:
    """Cancel the jobs, end what was started in ``folder``, delete what it wrote; return how many servers were ended."""
    folder = folder.resolve()
    made = load(folder)
    ended = 0
    if made is not None:
        made.run("scancel", "--signal=KILL", "--full", "--partition", PARTITION)
        deadline = time.monotonic() + PATIENCE_WITH_JOBS
        while any(_remains(made)) and time.monotonic() < deadline:
            time.sleep(0.2)
        for server in filter(None, (living(each) for each in made.processes if each.name == "sshd")):
            for session in server.children():  # else its end would wait for clients that keep their connection
                _kill(session)
        ended = end(made.processes)
        for process in _remains(made):
            _kill(process)
    _clear(folder)
    (folder / STATE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody else's files are in it
        folder.rmdir()
    return ended


def load(folder: Path) -> Cluster | None:
    """Return the cluster noted in a folder, None if there is none."""
    try:
        held = json.loads((folder / STATE).read_text())
        return Cluster(**{**held, "processes": [Started(**entry) for entry in held["processes"]]})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _held(folder: Path) -> list[Started]:
    made = load(folder)
    return made.processes if made is not None else []


def _note(made: Cluster) -> None:
    write_file(Path(made.folder) / STATE, json.dumps(asdict(made), indent=2), _mine(Path(made.folder)))


def _clear(folder: Path) -> None:
    for name in ("munge", "slurm", "ssh"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def _remains(made: Cluster) -> Iterator[psutil.Process]:
    """Yield what jobs and their supervisors have left: neither is a child of slurmd."""
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.info["name"] == "slurmstepd":  # its title lies over its environment; its log is in the folder
                ours = any(file.path.startswith(f"{made.folder}/") for file in process.open_files())
            else:
                ours = process.environ().get("SLURM_CLUSTER_NAME") == made.name
            if ours:
                yield process


def _mine(folder: Path) -> Owned:
    folder.mkdir(mode=0o700, exist_ok=True)
    return Owned(folder, None, {})


def _environment(**more: str) -> dict[str, str]:
    return {"PATH": SEARCHED, "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C", **more}


# -- the servers -------------------------------------------------------------------------------------------------------


def _start_munge(folder: Path, processes: list[Started]) -> Path:
    own = _mine(folder / "munge")
    key, where = own.folder / "key", own.folder / "socket"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    command = [
        str(program("munged")), "--foreground", "--force", f"--key-file={key}", f"--socket={where}",
        f"--pid-file={own.folder / 'pid'}", f"--log-file={own.folder / 'log'}", f"--seed-file={own.folder / 'seed'}",
    ]  # fmt: skip

    def ready(_: int) -> bool:
        asked = [str(program("munge")), f"--socket={where}", "--no-input", "--output=/dev/null"]
        return where.exists() and _succeeds(asked, _environment())

    launch("munged", _no_port, lambda _: command, ready, _environment(), own, processes)
    return where


def _start_slurm(folder: Path, name: str, munge: Path, processes: list[Started]) -> Path:
    own = _mine(folder / "slurm")
    for part in ("state", "spool"):
        (own.folder / part).mkdir(mode=0o755)
    conf = own.folder / "slurm.conf"

    def configure() -> int:
        ctld, slurmd = free_ports(2)
        text = slurm_conf(name, own.folder, munge, ctld, slurmd)
        write_file(conf, text, own, mode=0o644)
        return ctld

    _launch_controller(conf, own, processes, configure)
    launch(
        "slurmd", _no_port, lambda _: [str(program("slurmd")), "-D", "-f", str(conf)],
        lambda _: _slurm(conf, "sinfo", "--noheader", "--format=%t").stdout.strip() == "idle",
        _environment(SLURM_CONF=str(conf)), own, processes,
    )  # fmt: skip
    return conf


def _launch_controller(conf: Path, own: Owned, processes: list[Started], configure: Callable[[], int]) -> None:
    launch(
        "slurmctld", configure, lambda _: [str(program("slurmctld")), "-D", "-f", str(conf)],
        lambda _: _slurm(conf, "scontrol", "ping").returncode == 0, _environment(SLURM_CONF=str(conf)), own, processes,
    )  # fmt: skip


def _start_sshd(folder: Path, conf: Path, processes: list[Started]) -> tuple[int, Path]:
    own = _mine(folder / "ssh")
    for name in ("host_key", "key"):
        made = [str(program("ssh-keygen")), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(own.folder / name)]
        subprocess.run(made, env=_environment(), check=True, stdin=subprocess.DEVNULL)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    config = own.folder / "sshd_config"

    def command(port: int) -> list[str]:
        write_file(config, sshd_config(own.folder, port, conf), own)
        return [str(program("sshd")), "-D", "-e", "-f", str(config)]

    port = launch("sshd", lambda: free_ports(1)[0], command, _greets, _environment(), own, processes)
    return port, own.folder / "key"


@contextlib.contextmanager
def _without_controller(made: Cluster) -> Iterator[None]:
    end([p for p in made.processes if p.name == "slurmctld"])
    try:
        yield
    finally:
        made.processes[:] = [p for p in made.processes if p.name != "slurmctld"]
        own = Owned(Path(made.slurm_conf).parent, None, {})
        _launch_controller(Path(made.slurm_conf), own, made.processes, _no_port)
        _note(made)


def _slurm(conf: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(program(name)), *words]
    environment = _environment(SLURM_CONF=str(conf))
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired as late:
        return subprocess.CompletedProcess(command, 124, "", str(late))


def _succeeds(command: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


def _no_port() -> int:
    return 0


def _greets(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


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
