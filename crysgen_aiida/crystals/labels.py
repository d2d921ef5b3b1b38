"""Labels of crystals from a table of another source, joined to a set by an id that both know."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, EmptySet, ImpossibleRequest
from crysgen_aiida.crystals.files import read_text
from crysgen_aiida.crystals.joining import join
from crysgen_aiida.crystals.properties import Property, get_property
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import PropertyTable

#: Column of a table of labels that holds the ids of its source.
ID = "source_id"


@dataclass(frozen=True)
class Match:
    """How a set and a table of labels fit together.

    :ivar rows: rows of the set.
    :ivar rows_matched: of them, those whose id is in the table.
    :ivar labels: values added, by property.
    :ivar ids: different ids in the table.
    :ivar ids_without_row: of them, those that no row of the set has.
    """

    rows: int
    rows_matched: int
    labels: Mapping[str, int]
    ids: int
    ids_without_row: int


def read_labels(
    path: Path, key: str, properties: Mapping[str, str], method: str, scale: Mapping[str, float] | None = None
) -> PropertyTable:
    """Read labels from a CSV file (``.gz`` is unpacked), one row a row of the file.

    An empty value or NaN is a missing label. A row without an id has failed; one that repeats an earlier row is
    skipped.

    :param key: the column that holds the ids.
    :param properties: registered property -> its column; properties that are single numbers.
    :param method: what produced the values.
    :param scale: property -> factor that turns its values into the registered unit; 1 if it is not named.
    :raises BadInput: if the file cannot be read, a value is no number, or an id has two different values.
    :raises EmptySet: if there is no value at all.
    :raises ImpossibleRequest: if a property or column is not known, or a factor cannot be one.
    """
    factors = _factors(properties, scale or {})
    csv.field_size_limit(1 << 30)
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    header = [name for name in reader.fieldnames or [] if name]
    for wanted, what in [(key, "the id"), *((column, name) for name, column in properties.items())]:
        if wanted not in header:
            raise ImpossibleRequest(
                f"{path.name} has no column {wanted!r} (for {what}); it has {', '.join(header) or 'none'}."
            )
    rows = list(reader)
    ids = [(row[key] or "").strip() or None for row in rows]
    values = {
        name: [
            factors[name] * v for v in _numbers(path.name, column, get_property(name), [row[column] for row in rows])
        ]
        for name, column in properties.items()
    }
    if not any(math.isfinite(v) for column in values.values() for v in column):
        raise EmptySet(f"{path.name} holds no value of {', '.join(properties)}; check its columns.")
    status, reasons = _judged(path.name, key, ids, list(zip(*values.values(), strict=True)))
    table = pa.table(
        {
            ID: pa.array(ids, type=pa.string()),
            "status": pa.array(status, type=pa.string()),
            "reason": pa.array(reasons, type=pa.string()),
        }
    )
    said = {"id_column": key, "columns": dict(properties), "scale": factors, "file": path.name, "method": method}
    return PropertyTable(table, said).with_columns({property_field(n, method): v for n, v in values.items()})


def join_labels(crystals: CrystalSet, labels: PropertyTable, on: str) -> tuple[CrystalSet, Match]:
    """Return the set with the labels of the rows whose id the table knows; rows and their order stay.

    Several rows may share an id. What was joined is kept in the set's metadata, ``joined``.

    :param on: the column of the set that holds the ids, e.g. ``material_id``.
    :raises ImpossibleRequest: if the set has no such column.
    :raises BadInput: if the set has one of the properties already, or there is no id in common.
    """
    if on not in crystals.columns:
        texts = [f.name for f in crystals.arrow.schema if pa.types.is_string(f.type) and f.name not in _NO_IDS]
        raise ImpossibleRequest(
            f"The set has no column {on!r} to join by; columns that may hold ids: {', '.join(texts) or 'none'}. Ids "
            "are kept when a file is imported that has a column material_id, id or name."
        )
    names = list(labels.column_stats())
    for name in names:
        if name in crystals.columns:
            raise BadInput(
                f"The set has {name} already, of method {crystals.method(name) or 'unknown'!r}; a column holds the "
                "values of one method. Join to a set without it."
            )
    usable = labels.select([("status", "==", schema.STATUS_OK)])
    joined = join(crystals, usable, on=(on, ID), columns=names)
    match = _match(joined, usable, on, names)
    if not match.rows_matched:
        raise BadInput(
            f"None of the {match.rows} rows of the set has an id that is among the {match.ids} of the table: "
            f"{on} is e.g. {_example(crystals.column(on))}, {labels.metadata.get('id_column', ID)} e.g. "
            f"{_example(usable.column(ID))}."
        )
    if not any(match.labels.values()):
        raise BadInput(
            f"{match.rows_matched} of {match.rows} rows have an id of the table, but it has no value for any of them."
        )
    return joined.with_metadata(joined=[*_earlier(crystals), _record(labels, match, on)]), match


#: Columns of text that are no ids.
_NO_IDS = frozenset(("content_id", "status", "reason", "parent_input", "reduced_formula"))


def _factors(properties: Mapping[str, str], scale: Mapping[str, float]) -> dict[str, float]:
    if not properties:
        raise ImpossibleRequest("No property is named; say which to take, and from which column.")
    for name in properties:
        if get_property(name).shape:
            raise ImpossibleRequest(f"{name} is no single number, so no label can be taken from a column.")
    for name, factor in scale.items():
        if get_property(name).name not in properties:
            raise ImpossibleRequest(f"There is a factor for {name}, which is not among the properties to take.")
        if not math.isfinite(factor) or factor == 0:
            raise ImpossibleRequest(f"The factor for {name} must be a finite number other than 0, not {factor!r}.")
    return {name: float(scale.get(name, 1.0)) for name in properties}


def _numbers(file: str, column: str, prop: Property, texts: Sequence[str | None]) -> list[float]:
    """Return the numbers of a column, NaN where there is none."""
    found = []
    for row, text in enumerate(texts, 1):
        try:
            number = prop.number(text) if (text or "").strip() else math.nan
        except ValueError:
            number = math.inf
        if math.isinf(number):
            raise BadInput(
                f"{file}, row {row}, column {column!r}: {(text or '')[:30]!r} is not {prop.kind}. Correct it; leave it "
                "empty if the value is not known."
            )
        found.append(number)
    return found


def _judged(
    file: str, key: str, ids: Sequence[str | None], values: Sequence[tuple[float, ...]]
) -> tuple[list[str], list[str | None]]:
    """Return status and reason of each row.

    :raises BadInput: if an id has two different values.
    """
    first: dict[str, int] = {}
    status: list[str] = []
    reasons: list[str | None] = []
    for row, name in enumerate(ids):
        earlier = None if name is None else first.setdefault(name, row)
        if name is None or earlier is None:
            status.append(schema.STATUS_FAILED)
            reasons.append(f"It has no id in the column {key!r}.")
        elif earlier == row:
            status.append(schema.STATUS_OK)
            reasons.append(None)
        elif np.array_equal(values[earlier], values[row], equal_nan=True):
            status.append(schema.STATUS_SKIPPED)
            reasons.append(f"It repeats row {earlier}.")
        else:
            raise BadInput(
                f"{file} has different values for {name!r} (column {key!r}) in its rows {earlier + 1} and {row + 1}; "
                "keep one of them."
            )
    return status, reasons


def _match(joined: CrystalSet, usable: PropertyTable, on: str, names: Sequence[str]) -> Match:
    held, known = joined.column(on), set(usable.column(ID))
    return Match(
        rows=len(joined),
        rows_matched=sum(name in known for name in held),
        labels={name: int(np.isfinite(joined.values(name)).sum()) for name in names},
        ids=len(known),
        ids_without_row=len(known - set(held)),
    )


def _example(ids: Sequence[Any]) -> str:
    return next((repr(name) for name in ids if name is not None), "empty")


def _earlier(crystals: CrystalSet) -> list[dict[str, Any]]:
    held: list[dict[str, Any]] = json.loads(crystals.metadata.get("joined", "[]"))
    return held


def _record(labels: PropertyTable, match: Match, on: str) -> dict[str, Any]:
    held = labels.metadata
    said: dict[str, Any] = {name: held[name] for name in ("file", "method", "source", "license") if name in held}
    told: dict[str, Any] = {name: json.loads(held[name]) for name in ("columns", "scale") if name in held}
    return {**said, **told, "on": [on, held.get("id_column", ID)], **asdict(match)}
