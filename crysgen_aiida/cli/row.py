"""``crysgen row``: single rows of packed sets."""

from __future__ import annotations

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.output import emit, emit_record, format_option
from crysgen_aiida.cli.profiles import with_profile


@click.group("row", cls=VerdiCommandGroup)
def row() -> None:
    """Look at one row of a set, or make a node of it."""


@row.command("show")
@click.argument("address")
@format_option
@with_profile
def show(address: str, fmt: str) -> None:
    """Show a row: every column, as it is in the set."""
    from crysgen_aiida.store.address import resolve

    node, number = resolve(address)
    emit_record({"address": f"{node.uuid}:{number}", **node.get(number)}, fmt)


@row.command("materialize")
@click.argument("addresses", nargs=-1, required=True)
@format_option
@with_profile
def materialize(addresses: tuple[str, ...], fmt: str) -> None:
    """Make a node of each row, linked to its set: a StructureData of a crystal, a Dict of anything else.

    A row that has a node already gets no second one.
    """
    from crysgen_aiida.store.materialize import materialize_row

    rows = []
    for text in addresses:
        address, node, made = materialize_row(text)
        rows.append(
            {"address": str(address), "pk": node.pk, "uuid": node.uuid, "type": type(node).__name__, "made": made}
        )
    emit(rows, fmt)
