"""``crysgen daemon``: start, stop and look at the processes that run a profile's work."""

from __future__ import annotations

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.output import emit_record, format_option
from crysgen_aiida.cli.profiles import open_profile


@click.group("daemon", cls=VerdiCommandGroup)
def daemon() -> None:
    """Start, stop and inspect the daemon of the profile."""


@daemon.command("start")
@click.option("--workers", type=click.IntRange(1, 32), default=1, show_default=True, help="Daemon workers to start.")
def start(workers: int) -> None:
    """Start the daemon; one that hangs, or the remains of one that was killed, is ended first."""
    from crysgen_aiida.cli.processes import start_daemon

    click.echo(start_daemon(open_profile(), workers))


@daemon.command("stop")
def stop() -> None:
    """Stop the daemon and end everything that is left of it."""
    from crysgen_aiida.cli.processes import stop_daemon

    click.echo(stop_daemon(open_profile()))


@daemon.command("status")
@format_option
def status(fmt: str) -> None:
    """Show what runs. Exit code 0 if the daemon consumes, 3 otherwise."""
    from crysgen_aiida.cli.processes import consuming, inspect

    profile = open_profile()
    state = inspect(profile)
    takes, sentence = consuming(profile, patience=10.0) if state.circus is not None else (False, "not running")
    emit_record(
        {
            "profile": profile,
            "running": state.circus is not None,
            "consuming": takes,
            "broker": sentence,
            "circus_pid": state.circus,
            "worker_pids": list(state.workers),
            "orphan_pids": list(state.orphans),
        },
        fmt,
    )
    raise SystemExit(0 if takes else 3)
