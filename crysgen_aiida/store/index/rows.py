"""What the index takes of a batch: scalar columns of its packed sets, joined row by row, as plain lists.

Works on Arrow tables read by column: crystals themselves (cells, coordinates) are never read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.store.arrays import flags_of, floats_of, integers_of, mask_of, places_of
from crysgen_aiida.store.explain.reasons import count_reasons, reason_column
from crysgen_aiida.store.index.wide import FIXED, LOW, TAKEN

#: Columns that are bookkeeping, or too long for a table of scalars.
SKIPPED = frozenset(
    {"row", "content_id", "status", "reason", "parent_input", "parent_row", "duplicate_of"}
    | {"lattice", "numbers", "frac_coords"}
)

#: Longest text a column of the index holds; longer ones are prose, and are read from the set itself.
LONGEST_TEXT = 200

#: Suffix of the column that holds the standard uncertainty of a property of the same table.
UNCERTAINTY = "_uncertainty"

#: The method of a property column that does not say it.
UNSTATED = "unstated"

Values = list[Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Plain:
    """A column that is no property: a verdict, a count, a word, a wish."""

    kind: str
    unit: str | None
    values: Values


@dataclass(frozen=True)
class Measured:
    """Values of a property by one method, NaN where there is none."""

    name: str
    unit: str
    method: str
    source: str  #: table or relaxed
    values: Floats
    sigma: Floats | None


@dataclass
class Rows:
    """The rows of a batch, in the order of the relaxed set."""

    n: int
    candidate: dict[str, Values] = field(default_factory=dict)
    fixed: dict[str, Values] = field(default_factory=dict)
    plain: dict[str, Plain] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    requested: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)  #: columns that could not be taken, with the reason

    def only(self, names: Collection[str]) -> Rows:
        """Return the same rows with no more than these plain columns and what was counted of them."""
        plain = {name: column for name, column in self.plain.items() if name in names}
        verdicts = [verdict for verdict in self.verdicts if verdict["name"] in names]
        return Rows(self.n, {"row": self.candidate["row"]}, plain=plain, verdicts=verdicts)


def read_rows(
    relaxed: pa.Table, table: pa.Table, decoded: pa.Table | None = None, sequences: pa.Table | None = None
) -> Rows:
    """Join the sets of a batch.

    :param relaxed: columns of the relaxed crystals, ``numbers`` among them.
    :param table: the table that judged them; each of its rows names the row it judged.
    :raises BadInput: if the table judges rows that are not there, or one twice.
    """
    judged = _judged(relaxed.num_rows, table)
    order = np.argsort(judged, kind="stable")
    if not np.array_equal(order, np.arange(len(order))):
        table = table.take(places_of(order))
    if len(judged) != relaxed.num_rows:
        relaxed = relaxed.take(places_of(judged[order]))
    rows = Rows(n=len(judged))
    decoded_row = _whole(relaxed, "parent_row")
    sequence_row = _at(_whole(decoded, "parent_row"), decoded_row) if decoded is not None else [None] * rows.n
    rows.candidate = {
        "row": judged[order].tolist(),
        "content_id": relaxed["content_id"].to_pylist(),
        "decoded_row": decoded_row,
        "sequence_row": sequence_row,
        "duplicate_of": _whole(table, "duplicate_of"),
    }
    rows.fixed = _fixed(relaxed)
    _take_columns(rows, table, "table")
    _take_columns(rows, relaxed, "relaxed")
    if sequences is not None:
        _take_wishes(rows, sequences, sequence_row)
    rows.verdicts = list(_verdicts(rows, table))
    told = {verdict["name"] for verdict in rows.verdicts}
    rows.verdicts += [verdict for verdict in _verdicts(rows, relaxed) if verdict["name"] not in told]
    return rows


def scalar_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of a set that :func:`read_rows` wants to see."""
    wanted = [f.name for f in schema if _kind(f.type) is not None]
    return [*wanted, "numbers"] if "numbers" in schema.names else wanted


def _judged(n: int, table: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    column = table["parent_row"]
    if column.null_count:
        raise BadInput("the table has rows that do not say which crystal they judge (parent_row is empty)")
    judged = integers_of(column)
    if len(judged) and (judged.min() < 0 or judged.max() >= n):
        stranger = judged[(judged < 0) | (judged >= n)][-1]
        raise BadInput(f"the table judges row {stranger}, but the relaxed set has rows 0 to {n - 1}")
    if len(np.unique(judged)) != len(judged):
        raise BadInput("the table judges a row twice")
    return judged


def _fixed(relaxed: pa.Table) -> dict[str, Values]:
    numbers = relaxed["numbers"].combine_chunks()
    lengths = integers_of(pc.list_value_length(numbers))
    flat = integers_of(numbers.flatten())
    some = lengths > 0
    starts = (np.cumsum(lengths) - lengths)[some]
    low, high = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    if len(starts):
        one = np.int64(1)
        in_low, in_high = (flat >= 1) & (flat <= LOW), (flat > LOW) & (flat <= LOW + 60)
        low[some] = np.bitwise_or.reduceat(np.where(in_low, one << np.clip(flat - 1, 0, 62), 0), starts)
        high[some] = np.bitwise_or.reduceat(np.where(in_high, one << np.clip(flat - LOW - 1, 0, 62), 0), starts)
    count = np.bitwise_count(low).astype(np.int64) + np.bitwise_count(high).astype(np.int64)
    return {
        "status": relaxed["status"].to_pylist(),
        "reduced_formula": relaxed["reduced_formula"].to_pylist(),
        "n_atoms": _whole(relaxed, "n_atoms"),
        "n_elements": _with_gaps(count, ~some),
        "elements_low": _with_gaps(low, ~some),
        "elements_high": _with_gaps(high, ~some),
    }


def _take_columns(rows: Rows, table: pa.Table, source: str) -> None:
    """Take properties and plain columns of a set; what is already there by the same name and method stays."""
    held = {(m.name, m.method) for m in rows.measured}
    fixed = {name for name, _ in FIXED}
    for column in table.schema:
        name, kind = column.name, _kind(column.type)
        if kind is None or name in SKIPPED or name in fixed or name.endswith(("_reason", UNCERTAINTY)):
            continue
        if name in TAKEN or ":" in name or not name.isprintable() or not name.strip():
            rows.left_out.append(f"the column {name!r} has a name the index needs for itself")
            continue
        if name in PROPERTIES and not PROPERTIES[name].shape and kind in ("number", "whole"):
            measured = _measured(table, column, source)
            if (name, measured.method) not in held:
                rows.measured.append(measured)
        elif name in PROPERTIES:
            rows.left_out.append(f"the column {name!r} has the name of a property, but holds no numbers")
        elif name not in rows.plain:
            values = values_of(table[name], kind)
            if kind == "text" and any(v is not None and len(v) > LONGEST_TEXT for v in values):
                continue
            rows.plain[name] = Plain(kind, _metadata(column).get("unit"), values)


def _measured(table: pa.Table, column: pa.Field, source: str) -> Measured:
    said = _metadata(column)
    sigma = None
    if (beside := column.name + UNCERTAINTY) in table.column_names:
        sigma = floats_of(table[beside])
    unit = said.get("unit") or PROPERTIES[column.name].unit
    method = said.get("method") or UNSTATED
    return Measured(column.name, unit, method, source, floats_of(table[column.name]), sigma)


def _take_wishes(rows: Rows, sequences: pa.Table, sequence_row: Values) -> None:
    """Take what was asked for of each row's sequence. It is a wish: never a property."""
    for column in sequences.schema:
        kind = _kind(column.type)
        if not column.name.startswith("target.") or kind is None:
            continue
        values = values_of(sequences[column.name], kind)
        asked = list(dict.fromkeys(v for v in values if v is not None))
        rows.requested[column.name.removeprefix("target.")] = asked[0] if len(asked) == 1 else asked
        if column.name not in rows.plain:
            rows.plain[column.name] = Plain(kind, _metadata(column).get("unit"), _at(values, sequence_row))


def _verdicts(rows: Rows, table: pa.Table) -> Iterator[dict[str, Any]]:
    for name in table.column_names:
        plain = rows.plain.get(name)
        if plain is None or plain.kind != "flag":
            continue
        counts = Counter(plain.values)
        because = reason_column(name, table.column_names)
        reasons: dict[str, int] = {}
        if because is not None:
            told = table[because]
            reasons = count_reasons(told.filter(mask_of(~flags_of(table[name]))))
        yield {
            "name": name,
            "n_true": counts[True],
            "n_false": counts[False],
            "n_unknown": counts[None],
            "reasons": reasons,
        }


# -- Arrow to lists ---------------------------------------------------------------------------------------------------


def values_of(column: pa.ChunkedArray, kind: str) -> Values:
    """Return a column as Python values of its kind, None where there is none; NaN is none."""
    if kind == "text":
        return [v if v is None else v.replace("\0", "") for v in column.to_pylist()]
    if kind == "number":
        numbers = floats_of(column)
        return _with_gaps(numbers, np.isnan(numbers))
    missing = flags_of(column.is_null())
    return _with_gaps(flags_of(column) if kind == "flag" else integers_of(column), missing)


def _whole(table: pa.Table, name: str) -> Values:
    return values_of(table[name], "whole") if name in table.column_names else [None] * table.num_rows


def _with_gaps(values: np.ndarray[Any, Any], missing: np.ndarray[Any, Any]) -> Values:
    if not missing.any():
        return list(values.tolist())
    held = values.astype(object)
    held[missing] = None
    return list(held.tolist())


def _at(values: Values, places: Values) -> Values:
    """Return ``values[place]`` for each place, None where there is no such place."""
    n = len(values)
    return [values[p] if p is not None and 0 <= p < n else None for p in places]


def _kind(dtype: pa.DataType) -> str | None:
    if pa.types.is_boolean(dtype):
        return "flag"
    if pa.types.is_integer(dtype):
        return "whole"
    if pa.types.is_floating(dtype):
        return "number"
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype):
        return "text"
    return None


def _metadata(column: pa.Field) -> Mapping[str, str]:
    return {k.decode(): v.decode() for k, v in (column.metadata or {}).items()}
