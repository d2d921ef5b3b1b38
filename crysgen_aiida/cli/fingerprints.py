"""Fingerprints of known sets, found where they were made before or shipped with the starter set."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from crysgen_aiida.data.packed import CrystalSetData, PropertyTableData

STARTER_FILE = "fingerprints.parquet"
PROCESS = "aiida.calculations:crysgen.fingerprint"


def fingerprints_for(
    known: Mapping[str, CrystalSetData], asked: tuple[str, ...], *, needed: bool
) -> dict[str, PropertyTableData]:
    """Return tables of fingerprints by label: those asked for, else what there is of the known sets.

    :param asked: tables named by the user.
    :param needed: whether to refuse if a known set has none.
    :raises click.ClickException: if they are needed and a known set has none.
    """
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.data.packed import PropertyTableData

    if asked:
        return {f"set{i}": load(text, PropertyTableData, "table of fingerprints") for i, text in enumerate(asked)}
    if not needed:
        return {}
    if find_spec("matminer") is None:
        click.echo(
            "Warning: matminer is not installed here; unless the worker has it, no candidate can pass the filter by "
            "dissimilarity. See docs/how-to/install.md.",
            err=True,
        )
    found = {label: table for label, node in known.items() if (table := made_of(node) or shipped_of(node)) is not None}
    if lacking := sorted(set(known) - set(found)):
        nodes = ", ".join(str(known[label].pk) for label in lacking)
        raise click.ClickException(
            f"This recipe asks how unlike known crystals a candidate is, and set {nodes} has no fingerprints yet: run "
            f"`crysgen dataset fingerprint {known[lacking[0]].pk}` (0.15 s a crystal and core), or name a table with "
            "--fingerprints."
        )
    return found


def made_of(node: CrystalSetData) -> Any:
    """Return the newest table of fingerprints made of a set with this content, None if there is none."""
    from aiida import orm

    from crysgen_aiida.data.packed import CrystalSetData, PropertyTableData

    query = orm.QueryBuilder()
    query.append(CrystalSetData, filters={"attributes.content_hash": node.content_hash}, tag="set")
    query.append(orm.CalcJobNode, with_incoming="set", filters={"process_type": PROCESS}, tag="job")
    query.append(PropertyTableData, with_incoming="job", tag="table")
    return query.order_by({"table": {"id": "desc"}}).limit(1).first(flat=True)


def shipped_of(node: CrystalSetData) -> Any:
    """Return the table that ships with the starter set if the node is that set, None otherwise."""
    from crysgen_aiida.cli.starter import starter_file
    from crysgen_aiida.crystals.errors import BadInput
    from crysgen_aiida.crystals.table import PropertyTable
    from crysgen_aiida.data.packed import PropertyTableData

    try:
        table = PropertyTable.read(starter_file(STARTER_FILE))
    except BadInput:
        return None
    if table.metadata.get("crystals") != node.content_hash:
        return None
    made = PropertyTableData.get_or_create(table)
    if not made.label:
        made.label = "fingerprints of the starter crystals with a piezoelectric tensor"
    return made
