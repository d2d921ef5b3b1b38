"""``crysgen dataset join``: labels of another source for the crystals of a set, by an id that both know."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from crysgen_aiida.cli.output import emit_record, format_option
from crysgen_aiida.cli.profiles import with_profile

#: Label of the process that joins.
JOINED = "join_labels"


@click.command("join")
@click.argument("dataset_id", metavar="DATASET")
@click.argument("table", type=click.Path(exists=True, path_type=Path, dir_okay=False))
@click.option("--on", required=True, metavar="COLUMN[=COLUMN]", help="Column of ids in the set, and in the table.")
@click.option(
    "--property", "properties", multiple=True, required=True, metavar="NAME=COLUMN",
    help="Property to take from a column of the table; repeatable.",
)  # fmt: skip
@click.option(
    "--scale", "scales", multiple=True, metavar="NAME=FACTOR",
    help="What to multiply the values of a property by, to have its registered unit; repeatable.",
)  # fmt: skip
@click.option("--method", required=True, help="What produced the values, e.g. boltztrap-pbe.")
@click.option("--label", default="", help="Name of the new set; by default it says of what it was made.")
@click.option("--source", help="Where the table comes from: a DOI or an address.")
@click.option("--license", "license_", help="Licence of the table.")
@format_option
@with_profile
def join(dataset_id: str, table: Path, on: str, properties: tuple[str, ...], scales: tuple[str, ...], method: str,
         label: str, source: str | None, license_: str | None, fmt: str) -> None:  # fmt: skip
    """Make a set with labels of another source: a CSV file (may be .gz) with an id in each row.

    A crystal whose id is not in the table, or has an empty value there, has no label; the set stays as it was.
    """
    from aiida import orm

    from crysgen_aiida.calculations.functions import join_labels
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.crystals.labels import join_labels as joined
    from crysgen_aiida.crystals.labels import read_labels
    from crysgen_aiida.data.packed import CrystalSetData, PropertyTableData

    node = load(dataset_id, CrystalSetData, "data set")
    own, _, key = (part.strip() for part in on.partition("="))
    chosen = columns_of(properties)
    labels = read_labels(table, key or own, chosen, method, _factors(scales))
    stated = {k: v for k, v in {"source": source, "license": license_}.items() if v}
    labels = labels.with_metadata(**stated)
    _, match = joined(node.table, labels, own)  # what is wrong is said before a process is there
    held = PropertyTableData.get_or_create(labels)
    held.label = held.label or table.name
    made: Any = join_labels(node, held, orm.Str(own))
    made.label = label or f"{node.label or node.uuid[:8]} with {', '.join(chosen)}"
    record = {"pk": made.pk, "uuid": made.uuid, "label": made.label, "rows": match.rows}
    record |= {"rows matched": match.rows_matched, **{f"labels {name}": n for name, n in match.labels.items()}}
    emit_record({**record, "ids of the table": match.ids, "ids without a row": match.ids_without_row}, fmt)


def columns_of(texts: Iterable[str]) -> dict[str, str]:
    """Return ``{property: column}`` of texts like ``band_gap=gap``, or ``band_gap`` if the column has its name."""
    chosen = {}
    for text in texts:
        name, equals, column = text.partition("=")
        chosen[name.strip()] = column.strip() if equals else name.strip()
    return chosen


def _factors(texts: Iterable[str]) -> dict[str, float]:
    from crysgen_aiida.crystals.errors import ImpossibleRequest

    found = {}
    for text in texts:
        name, _, factor = text.partition("=")
        try:
            found[name.strip()] = float(factor)
        except ValueError:
            raise ImpossibleRequest(f"{text!r} is not a factor; write NAME=FACTOR, e.g. band_gap=0.001.") from None
    return found
