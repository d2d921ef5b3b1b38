"""The filters of a protocol laid over each other: which rows pass all of them, and what stopped the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.table import PropertyTable


def judge_filters(crystals: CrystalSet, table: PropertyTable, filters: Sequence[str]) -> dict[pa.Field, list[Any]]:
    """Return ``passed`` and ``stopped_by``: the first filter, in their order, that a row does not pass.

    A verdict that is unknown, or was not given at all, does not pass. Rows without a crystal have neither.

    :param filters: names of verdicts of ``table``, or of ``crystals``.
    """
    columns = [_verdicts(crystals, table, name) for name in filters]
    stopped: list[str | None] = []
    for row in range(len(table)):
        first = (name for name, held in zip(filters, columns, strict=True) if held[row] is not True)
        stopped.append(next(first, None))
    there = [status == schema.STATUS_OK for status in table.column("status")]
    return {
        pa.field("passed", pa.bool_()): [s is None if ok else None for s, ok in zip(stopped, there, strict=True)],
        pa.field("stopped_by", pa.string()): [s if ok else None for s, ok in zip(stopped, there, strict=True)],
    }


def _verdicts(crystals: CrystalSet, table: PropertyTable, name: str) -> list[bool | None]:
    for held in (table, crystals):
        if name in held.columns:
            return held.column(name)
    return [None] * len(table)
