"""Which columns ``current`` has to show: those some batch or some table of results fills."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.store.index.bulk import as_row
from crysgen_aiida.store.index.clashes import taken_names
from crysgen_aiida.store.index.models import Batch, PropertyColumn, WideColumn


def list_again(connection: Connection) -> None:
    """List the columns anew after batches came or went.

    A column nobody fills any more stays in the table, empty, and is not listed. Units that differ from batch to batch
    are no unit.
    """
    found: dict[str, dict[str, object]] = {}
    for names in connection.scalars(select(Batch.names).order_by(Batch.key)):
        for name, held in taken_names(names).items():
            known = found.setdefault(name, dict(held))
            if known["unit"] != held["unit"]:
                known["unit"] = None
            if "number" in (known["kind"], held["kind"]):
                known["kind"] = "number"
    results = select(PropertyColumn.property, PropertyColumn.unit).where(PropertyColumn.results_id.is_not(None))
    for name, unit in connection.execute(results.distinct()):
        if unit == PROPERTIES[name].unit:
            found.setdefault(name, {"kind": "number", "unit": unit, "is_property": True})
    wanted = [as_row(WideColumn(name=name, **held)) for name, held in sorted(found.items())]
    connection.execute(delete(WideColumn))
    if wanted:
        connection.execute(insert(WideColumn), wanted)
