"""``crysgen doctor``: one row a thing that must work, each with what to do if it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from crysgen_aiida.cli import profiles
from crysgen_aiida.cli.output import emit, format_option
from crysgen_aiida.crystals.errors import CrysgenError

OK, WARN, FAIL, NOTE = "ok", "warn", "fail", "note"

#: SQLite lets one writer in at a time: beyond this many workers, waiting shows.
SQLITE_WORKERS = 4


#: Where servers are explained.
SERVERS_PAGE = "see docs/how-to/postgresql-and-rabbitmq.md"

#: Share of PostgreSQL's connections beyond which a further worker may be turned away.
FULL = 0.8


@dataclass(frozen=True)
class Finding:
    """What one probe found."""

    check: str
    status: str
    detail: str
    fix: str = ""


def examine(*, patience: float = 30.0) -> Iterator[Finding]:
    """Yield the findings, in an order in which each only needs the ones before it."""
    config = profiles.get_config()
    name, why = profiles.choose(config, profiles.explicit_profile())
    if name is None or name not in config.profile_names:
        what = f"there is no profile {name} (asked for by {why})" if name else "there is no AiiDA profile"
        setup = f"crysgen -p {name} setup" if name and why != "no profile exists" else "crysgen setup"
        yield Finding("profile", FAIL, what, f"run `{setup}`")
        yield from _without_profile()
        return
    profiles.open_profile(name)
    default = config.default_profile_name
    yield Finding("profile", OK, f"{name} ({why}); the default profile is {default or 'not set'}")
    database = None
    for check, probe, fix in _servers(name):
        finding = _isolated(check, probe, fix)
        database = finding if check == "database" else database
        yield finding
    fix = "restore the profile's storage, or make another profile with `crysgen -p NAME setup`"
    if database is not None and database.status == FAIL:
        storage = Finding("storage", FAIL, "not looked at: the database does not answer")
    else:
        storage = _isolated("storage", _storage, fix)
    yield storage
    if storage.status != FAIL:
        for check, probe, fix in (
            ("daemon", lambda: _daemon(name), "run `crysgen daemon start`"),
            ("broker", lambda: _broker(name, patience), "run `crysgen daemon start`: it ends what hangs first"),
            ("computer", _computer, "run `crysgen setup`"),
            ("code", _code, "run `crysgen setup`"),
            ("starter", _starter, "reinstall crysgen-aiida"),
        ):
            yield _isolated(check, probe, fix)
    yield from _without_profile()


def _servers(name: str) -> Iterator[tuple[str, Callable[[], tuple[str, str]], str]]:
    """Yield a probe for each server the profile needs, with the remedy; SQLite and ZeroMQ need none."""
    from crysgen_aiida.cli import postgresql, rabbitmq

    profile = profiles.get_config().get_profile(name)
    if profile.storage_backend == postgresql.BACKEND:
        yield "database", lambda: _database(profile.storage_config), SERVERS_PAGE
    if profile.process_control_backend == rabbitmq.BACKEND:
        yield "messages", lambda: _messages(profile), SERVERS_PAGE


def _without_profile() -> Iterator[Finding]:
    for check, probe, fix in (
        ("worker", _worker, "reinstall crysgen-aiida in this environment"),
        ("generators", _generators, "reinstall crysgen-aiida in this environment"),
        ("potentials", _potentials, "run `pip install chgnet`"),
        ("gpu", _gpu, ""),
        ("disk", _disk, "make room, or move the AiiDA folder with AIIDA_PATH"),
    ):
        yield _isolated(check, probe, fix)


def _isolated(check: str, probe: Callable[[], tuple[str, str]], fix: str) -> Finding:
    """Run one probe: whatever goes wrong in it is its finding and no other's."""
    try:
        status, detail = probe()
    except Exception as error:
        status, detail = FAIL, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    return Finding(check, status, detail, fix if status in (FAIL, WARN) else "")


def _storage() -> tuple[str, str]:
    from aiida import orm
    from aiida.manage import get_manager

    n = orm.QueryBuilder().append(orm.Node).count()
    profile = get_manager().get_profile()
    assert profile is not None
    return OK, f"{profile.storage_backend}, {n} nodes"


def _database(config: dict[str, Any]) -> tuple[str, str]:
    from crysgen_aiida.cli import postgresql

    database = postgresql.database_of(config)
    try:
        server = postgresql.ask(database)
    except CrysgenError as error:
        return FAIL, str(error)
    detail = (
        f"PostgreSQL {server.version} at {database.host}:{database.port}, database {database.name}, "
        f"{server.connections} of {server.max_connections} connections, answers in {server.milliseconds:.1f} ms"
    )
    if not server.has_aiida:
        return FAIL, f"{detail}, but there is no AiiDA storage in it"
    if not server.can_create:
        return WARN, f"{detail}; its user {database.user} may not make the schema of the candidate index"
    return (WARN if server.connections > FULL * server.max_connections else OK), detail


def _messages(profile: Any) -> tuple[str, str]:
    from crysgen_aiida.cli import rabbitmq

    try:
        answer = rabbitmq.ask(rabbitmq.url_of(profile))
    except CrysgenError as error:
        return FAIL, str(error)
    timeout = rabbitmq.consumer_timeout(answer)
    if timeout == float("inf"):
        return OK, f"{answer.where}, {rabbitmq.timeout_wording(timeout)}"
    if timeout is None and not profiles.get_config().get_option("warnings.rabbitmq_version", profile.name):
        # who silences AiiDA's warning says with it that the timeout was taken care of
        return OK, f"{answer.where}; the profile says that its consumer timeout is off"
    return WARN, f"{answer.where}, {rabbitmq.timeout_wording(timeout)}; {rabbitmq.TIMEOUT_REMEDY}"


def _daemon(profile: str) -> tuple[str, str]:
    from aiida.manage import get_manager

    from crysgen_aiida.cli.processes import inspect

    state = inspect(profile)
    if state.circus is None:
        left = f"; {len(state.orphans)} leftover process(es) of a killed one" if state.orphans else ""
        return FAIL, f"not running{left}"
    if state.orphans:
        return FAIL, f"running, with {len(state.orphans)} leftover process(es) of an earlier one"
    loaded = get_manager().get_profile()
    sqlite = loaded is not None and "sqlite" in str(loaded.storage_backend)
    if sqlite and len(state.workers) > SQLITE_WORKERS:
        return WARN, f"{len(state.workers)} workers share one SQLite file and will wait for each other; use PostgreSQL"
    return OK, f"pid {state.circus}, {len(state.workers)} worker(s)"


def _broker(profile: str, patience: float) -> tuple[str, str]:
    from crysgen_aiida.cli.processes import consuming

    takes, sentence = consuming(profile, patience=patience)
    return (OK if takes else FAIL), sentence


def _computer() -> tuple[str, str]:
    from aiida import orm

    from crysgen_aiida.engines.local import COMPUTER

    computer = orm.load_computer(COMPUTER)
    if not computer.is_configured:
        return FAIL, f"{COMPUTER} is not configured"
    if not os.access(os.path.dirname(computer.get_workdir().rstrip("/")) or "/", os.W_OK) and not os.access(
        computer.get_workdir(), os.W_OK
    ):
        return WARN, f"{COMPUTER} runs jobs in {computer.get_workdir()}, which cannot be written to"
    return OK, f"{COMPUTER}, polled every {computer.get_minimum_job_poll_interval():g} s"


def _code() -> tuple[str, str]:
    from crysgen_aiida.cli.processes import own_bin
    from crysgen_aiida.cli.setup import default_code

    code = default_code()
    path = str(code.filepath_executable)
    if not os.access(path, os.X_OK):
        return FAIL, f"{code.full_label} points at {path}, which is not there any more"
    if os.path.dirname(path) != str(own_bin()):
        return WARN, f"{code.full_label} is of another environment ({path})"
    return OK, code.full_label


def _starter() -> tuple[str, str]:
    from crysgen_aiida.cli.starter import find, manifest

    try:
        wanted = manifest()
    except CrysgenError as error:
        return WARN, str(error)
    held = find(wanted)
    if len(held) < len(wanted):
        return NOTE, "not imported yet; `crysgen quickstart` does that"
    return OK, f"imported, generator {held['generator'].uuid[:8]}"


def _worker() -> tuple[str, str]:
    from crysgen_aiida.cli.processes import own_bin

    path = own_bin() / "crysgen-worker"
    if not path.exists():
        return FAIL, f"there is no crysgen-worker in {own_bin()}"
    done = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=60, check=False)
    said = (done.stdout or done.stderr).strip().splitlines()
    return (OK if done.returncode == 0 else FAIL), said[-1] if said else f"it ended with code {done.returncode}"


def _generators() -> tuple[str, str]:
    from crysgen_aiida.generators.contract import generator_names, get_generator

    names = generator_names()
    if not names:
        return FAIL, "none is installed"
    return OK, ", ".join(f"{n} {get_generator(n).version}" for n in names)


def _potentials() -> tuple[str, str]:
    from crysgen_aiida.physics.potentials import potentials

    found = [info.method for info in potentials().values() if info.missing() is None]
    return (OK, ", ".join(found)) if found else (FAIL, "none is installed")


def _gpu() -> tuple[str, str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return NOTE, "none seen on this machine: jobs run on the CPU"
    done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
    cards = [line.partition(" (UUID")[0] for line in done.stdout.splitlines() if line.startswith("GPU")]
    return (OK, "; ".join(cards)) if cards else (NOTE, "the driver reports no GPU: jobs run on the CPU")


def _disk() -> tuple[str, str]:
    free = shutil.disk_usage(profiles.get_config().dirpath).free / 1e9
    return (OK if free > 2 else WARN if free > 0.3 else FAIL), f"{free:.1f} GB free for the AiiDA folder"


@click.command("doctor")
@click.option(
    "--patience",
    type=click.FloatRange(0, 600),
    default=30.0,
    show_default=True,
    help="Seconds to watch a queue that does not move before calling it stuck.",
)
@format_option
def doctor(patience: float, fmt: str) -> None:
    """Check profile, daemon, broker, codes, potentials and GPU. Exit code 1 if something must be fixed."""
    findings = list(examine(patience=patience))
    marks = {OK: "✓", WARN: "!", FAIL: "✗", NOTE: "·"}
    rows = [
        {"check": f.check, "status": f.status if fmt != "table" else marks[f.status], "detail": f.detail, "fix": f.fix}
        for f in findings
    ]
    if fmt == "table" and not any(f.fix for f in findings):
        rows = [{k: v for k, v in row.items() if k != "fix"} for row in rows]
    emit(rows, fmt)
    raise SystemExit(1 if any(f.status == FAIL for f in findings) else 0)
