"""``crysgen run``: what is running, what ended, and what ran elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.output import emit, emit_record, format_option
from crysgen_aiida.cli.profiles import with_profile

#: Process types that are ours.
OURS = ("aiida.workflows:crysgen.%", "aiida.calculations:crysgen.%")


@click.group("run", cls=VerdiCommandGroup)
def run() -> None:
    """Look at runs, and import those that were made elsewhere."""


@run.command("list")
@click.option("--all", "everything", is_flag=True, help="Also the steps that other runs started.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@format_option
@with_profile
def list_(everything: bool, limit: int, fmt: str) -> None:
    """List runs, newest first: those a user started."""
    from aiida import orm

    kinds = [{"process_type": {"like": pattern}} for pattern in OURS]
    query = orm.QueryBuilder().append(orm.ProcessNode, filters={"or": kinds}, tag="run")
    query.order_by({"run": {"id": "desc"}})
    rows: list[dict[str, Any]] = []
    for process in query.iterall():
        node = process[0]
        if not everything and node.caller is not None:
            continue
        rows.append({**_state(node), "started": node.ctime.strftime("%Y-%m-%d %H:%M")})
        if len(rows) == limit:
            break
    emit(rows, fmt, empty="No runs yet; `crysgen quickstart` makes one.")


@run.command("status")
@click.argument("pk")
@format_option
@with_profile
def status(pk: str, fmt: str) -> None:
    """Show how far a run is: each step with its state and, while it works, the worker's own progress."""
    from aiida.manage import get_manager

    from crysgen_aiida.cli.following import describe, failure, last_progress, paused
    from crysgen_aiida.cli.processes import inspect

    process = _load(pk)
    steps = []
    for node in sorted([process, *getattr(process, "called_descendants", [])], key=lambda n: n.pk or 0):
        record = _state(node)
        if hasattr(node, "get_remote_workdir"):
            progress = None if node.is_terminated else last_progress(node)
            if fmt == "table":
                record["progress"] = describe(node).partition(": ")[2] if progress else ""
            else:
                record["progress"] = progress
        steps.append(record)
    emit(steps, fmt, columns=["pk", "what", "label", "state", "exit", "progress"])
    if fmt != "table":
        return
    for sentence in paused(process):
        click.echo(f"\n{sentence}")
    if process.is_terminated:
        if not process.is_finished_ok:
            click.echo(f"\n{failure(process)}")
        return
    profile = get_manager().get_profile()
    if profile is not None and inspect(profile.name).circus is None:
        click.echo("\nThe daemon is not running, so nothing moves; run `crysgen daemon start`.")


@run.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--label", default="", help="Name to call the run by.")
@format_option
@with_profile
def import_(folder: Path, label: str, fmt: str) -> None:
    """Import a worker folder that ran elsewhere (job.json, result.json, inputs, outputs).

    Hashes are checked against the files, the run is marked as imported, and its outputs become nodes.
    """
    from crysgen_aiida.calculations.importer import import_run
    from crysgen_aiida.store.candidates import outputs_of

    process = import_run(folder)
    if label:
        process.label = label
    made = {k: v.uuid for k, v in outputs_of(process).items() if k not in ("retrieved", "remote_folder")}
    emit_record({**_state(process), "outputs": made}, fmt)
    if not process.is_finished_ok:
        raise click.ClickException(f"The run was imported as it is: {process.exit_message or 'it did not finish'}")


def _load(text: str) -> Any:
    from aiida import orm

    from crysgen_aiida.cli.nodes import load

    return load(text, orm.ProcessNode, "run")


def _state(node: Any) -> dict[str, Any]:
    state = node.process_state.value if node.process_state is not None else "unknown"
    if not node.is_terminated and getattr(node, "paused", False):
        state = "paused"
    cached = node.base.caching.is_created_from_cache
    return {
        "pk": node.pk,
        "uuid": node.uuid,
        "what": node.process_label,
        "label": node.label,
        "state": f"{state}, from cache" if cached else state,
        "exit": node.exit_status,
    }
