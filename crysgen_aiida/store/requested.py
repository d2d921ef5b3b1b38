"""What the crystals of a set were asked for, found by following its rows up to the sequences they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crysgen_aiida.store.candidates import creator_of, inputs_of

if TYPE_CHECKING:
    from crysgen_aiida.data.packed import PackedData

TARGET = "target."


def requested(node: PackedData, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return the conditions of each row, name to value: wishes, never results. Empty for what nobody asked for.

    :param rows: positions in the set, in any order.
    """
    table = node.table
    names = [name for name in table.columns if name.startswith(TARGET)]
    taken = table.take(rows)
    if names:
        columns = {name.removeprefix(TARGET): taken.column(name) for name in names}
        return [{name: column[i] for name, column in columns.items() if column[i] is not None}
                for i in range(len(rows))]  # fmt: skip
    asked: list[dict[str, Any]] = [{} for _ in rows]
    creator = creator_of(node)
    given = inputs_of(creator) if creator is not None else {}
    labels, parents = taken.column("parent_input"), taken.column("parent_row")
    for label in sorted({label for label in labels if label in given and hasattr(given[label], "table")}):
        here = [i for i, own in enumerate(labels) if own == label and parents[i] is not None]
        for i, found in zip(here, requested(given[label], [parents[i] for i in here]), strict=True):
            asked[i] = found
    return asked
