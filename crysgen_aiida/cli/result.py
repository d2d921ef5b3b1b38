"""``crysgen result``: what verifications found, as values and as pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.output import emit, format_option
from crysgen_aiida.cli.pictures import check_output, overwrite_option, write_picture
from crysgen_aiida.cli.profiles import with_profile

_SHOWN = ("candidate", "property", "value", "unit", "uncertainty", "method", "stage", "engine", "verdict", "reason")


@click.group("result", cls=VerdiCommandGroup)
def result() -> None:
    """Look at what verifications found."""


@result.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@format_option
@with_profile
def list_(limit: int, fmt: str) -> None:
    """List verifications, newest first."""
    rows = []
    for process, table in _tables(limit):
        frame = table.to_frame()
        stopped = frame[frame["verdict"].notna() & (frame["verdict"] != "passed")]
        rows.append(
            {
                "pk": process.pk,
                "label": process.label,
                "results": table.uuid[:8],
                "candidates": frame["address"].nunique(),
                "stopped": stopped["address"].nunique(),
                "values": int(frame["property"].notna().sum()),
                "ended": process.mtime.strftime("%Y-%m-%d %H:%M"),
            }
        )
    emit(rows, fmt, empty="No verification yet; `crysgen verify` makes one.")


@result.command("show")
@click.argument("what", metavar="ADDRESS|VERIFICATION")
@click.option("--verdicts/--no-verdicts", default=True, show_default=True, help="Also how each stage judged.")
@format_option
@with_profile
def show(what: str, verdicts: bool, fmt: str) -> None:
    """Show the values and verdicts of one candidate (its address), or of a verification (pk or uuid).

    JSON and CSV carry all columns: the node each value comes from and the crystal it was computed on, too.
    """
    rows = [row for row in _rows(what) if verdicts or row["property"] is not None]
    for row in rows:
        uuid, _, number = row["address"].partition(":")
        row["candidate"] = f"{uuid[:8]}:{number}"
    columns = list(_SHOWN) if fmt == "table" else None
    emit(rows, fmt, columns=columns, empty=f"No verification says anything of {what}.")


@result.command("plot")
@click.argument("address")
@click.option("--what", type=click.Choice(["phonon", "bands", "elastic", "transport"]), required=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A file, .svg or .png.")
@overwrite_option
@with_profile
def plot(address: str, what: str, output: Path, overwrite: bool) -> None:
    """Draw phonon bands, electronic bands, Young's modulus by direction, or the power factor of a candidate.

    What is drawn is of the newest verification that computed it.
    """
    from crysgen_aiida.cli.plots import figure_of

    check_output(output, overwrite)
    figure, title = figure_of(_full(address), what)
    write_picture(output, figure, title)
    click.echo(f"Wrote {output}: {title}.", err=True)


def _tables(limit: int | None = None) -> Iterator[tuple[Any, Any]]:
    """Yield verifications with their results, newest first."""
    from aiida import orm

    from crysgen_aiida.data.packed import PropertyTableData

    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={"process_type": "aiida.workflows:crysgen.verify"}, tag="process")
    query.append(PropertyTableData, with_incoming="process", edge_filters={"label": "results"}, tag="table")
    query.add_projection("process", "*")
    query.add_projection("table", "*")
    query.order_by({"process": {"id": "desc"}})
    if limit:
        query.limit(limit)
    yield from query.iterall()  # type: ignore[misc]


def _full(text: str) -> str:
    from crysgen_aiida.store.address import resolve

    node, row = resolve(text)
    return f"{node.uuid}:{row}"


def _rows(what: str) -> list[dict[str, Any]]:
    if ":" in what:
        address = _full(what)
        return [row for _, table in _tables() for row in table.iter() if row["address"] == address]
    from aiida import orm

    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.data.packed import PropertyTableData

    node = load(what, (orm.WorkChainNode, PropertyTableData), "verification")
    if isinstance(node, orm.WorkChainNode):
        if "results" not in node.outputs:
            raise click.ClickException(f"Process {what} has no results; see `crysgen run status {what}`.")
        node = node.outputs.results
    return list(node.iter())
