"""Join two sets by a key column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import pyarrow as pa

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.schema import required_schema
from crysgen_aiida.crystals.table import PackedTable

T = TypeVar("T", bound=PackedTable)


def join(left: T, right: PackedTable, *, on: str | tuple[str, str], columns: Sequence[str] | None = None) -> T:
    """Return ``left`` with columns of ``right`` added where the keys agree, null where nothing does.

    Rows and order of ``left`` do not change; several of its rows may take the same row of ``right``.

    :param on: the key column, or its names in ``left`` and ``right``: ``("row", "parent_row")`` joins verdicts.
    :param columns: columns to take; by default all of ``right`` that are not required of every set of its kind.
    :raises ImpossibleRequest: if a column does not exist.
    :raises BadInput: if keys repeat in ``right`` or are of another type, or a column is there already.
    """
    left_key, right_key = (on, on) if isinstance(on, str) else on
    here, there = left.column(left_key), right.column(right_key)
    repeated = [key for key, n in Counter(k for k in there if k is not None).items() if n > 1]
    if repeated:
        raise BadInput(
            f"The key {right_key!r} of the set to join repeats ({repeated[0]!r} and {len(repeated) - 1} more); "
            "select one row for each key first."
        )
    kinds = {type(key) for key in (*here, *there) if key is not None}
    if len(kinds) > 1:
        raise BadInput(f"The keys {left_key!r} and {right_key!r} hold different types of values; convert one first.")
    base = set(required_schema(right.kind).names)
    names = list(columns) if columns is not None else [c for c in right.columns if c not in base and c != right_key]
    clash = [name for name in names if name in left.columns]
    if clash:
        raise BadInput(f"The column {clash[0]!r} is in both sets; name the columns to take with 'columns'.")
    position = {key: row for row, key in enumerate(there) if key is not None}
    index = pa.array([position.get(key) if key is not None else None for key in here], type=pa.int64())
    added = {}
    for name in names:
        right.column(name)  # says which columns there are if this one is not
        taken = right.arrow.column(name).take(index)
        # a key may be required of the right, but what did not match is null here
        field = right.arrow.schema.field(name).with_nullable(True)
        added[field] = taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken
    return left.with_columns(added)
