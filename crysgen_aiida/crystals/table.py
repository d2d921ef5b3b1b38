"""PackedTable: an immutable, validated, hashable Parquet-backed set of rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.crystals.files import atomic_path
from crysgen_aiida.crystals.hashing import table_hash

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self

#: ``("band_gap", ">", 1.5)``; several are joined by *and* (the DNF filters of :mod:`pyarrow.parquet`).
Filter = tuple[str, str, Any]


class PackedTable:
    """A set of rows of one kind, held as an Arrow table and stored as one Parquet file.

    Schema-level ``metadata`` is a flat mapping of text to text; ``kind`` and ``schema_version`` are always in it.

    :param table: the Arrow table; base columns that are missing are filled in (``row`` = position, ``status`` = ok).
    :param metadata: merged over the metadata the table already carries; values that are not text become JSON.
    :raises BadInput: if a required column is missing or has the wrong type, or a failed row has no reason.
    """

    kind: ClassVar[str] = schema.TABLE

    def __init__(self, table: pa.Table, metadata: Mapping[str, Any] | None = None) -> None:
        held = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        held.pop("pandas", None)
        stated = held.get("kind", self.kind)
        if stated != self.kind:
            raise BadInput(f"This is a set of kind {stated!r}, but one of kind {self.kind!r} is needed here.")
        version = int(held.get("schema_version", schema.SCHEMA_VERSION))
        if version > schema.SCHEMA_VERSION:
            raise BadInput(
                f"The set has schema version {version}, but this program knows up to {schema.SCHEMA_VERSION}; "
                "upgrade crysgen-aiida to read it."
            )
        held.update(
            {k: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for k, v in (metadata or {}).items()}
        )
        held.update(kind=self.kind, schema_version=str(schema.SCHEMA_VERSION))
        table = _with_base_columns(table.combine_chunks())
        table = _cast(table, schema.required_schema(self.kind))
        self._table = table.replace_schema_metadata(held)
        self._validate()

    # -- construction and storage ---------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a Parquet file.

        :raises BadInput: if the file is missing, truncated, not Parquet or of another kind.
        """
        try:
            return cls(pq.read_table(path))
        except FileNotFoundError:
            raise BadInput(f"There is no file {Path(path).name}; check the path.") from None
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise BadInput(
                f"{Path(path).name} cannot be read as Parquet ({str(error).splitlines()[0]}); it is probably "
                "truncated or corrupt: fetch or write it again."
            ) from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file atomically: the final name holds a whole file or nothing new.

        :raises DiskFull: if there is no room.
        """
        with atomic_path(path) as temporary:
            pq.write_table(self._table, temporary, compression="zstd")

    @classmethod
    def concat(cls, parts: Sequence[PackedTable], metadata: Mapping[str, Any] | None = None) -> Self:
        """Join sets end to end; rows are renumbered, columns missing from a part are null there.

        :raises BadInput: if there is nothing to join, or a property is of one method here and of another there.
        """
        if not parts:
            raise BadInput("Nothing to join: no parts were given.")
        _refuse_mixed_methods(parts)
        tables = [p.arrow.drop_columns(["row"]) for p in parts]
        joined = pa.concat_tables(tables, promote_options="default")
        return cls(joined, {**parts[0].metadata, **(metadata or {})})

    # -- reading --------------------------------------------------------------------------------------------------

    @property
    def arrow(self) -> pa.Table:
        """The Arrow table itself."""
        return self._table

    @property
    def metadata(self) -> dict[str, str]:
        """Schema-level metadata."""
        return {k.decode(): v.decode() for k, v in self._table.schema.metadata.items()}

    @property
    def columns(self) -> list[str]:
        """Column names, base columns first."""
        return list(self._table.column_names)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the canonical content (:func:`~crysgen_aiida.crystals.hashing.table_hash`)."""
        return table_hash(self._table)

    @property
    def ok(self) -> np.ndarray:
        """Boolean mask of the rows whose status is ``ok``."""
        return np.asarray(pc.equal(self._table["status"], schema.STATUS_OK), dtype=bool)

    def column(self, name: str) -> list[Any]:
        """Return a column as Python values.

        :raises ImpossibleRequest: if there is no such column.
        """
        return list(self._chunk(name).to_pylist())

    def values(self, name: str) -> np.ndarray:
        """Return a numeric column as float64 with NaN for missing values, shape (n,) or (n, size)."""
        array = self._chunk(name)
        if pa.types.is_fixed_size_list(array.type):
            size = array.type.list_size
            filled = [v if v is not None else [np.nan] * size for v in array.to_pylist()]
            return np.array(filled, dtype=np.float64).reshape(len(self), size)
        return np.array([np.nan if v is None else v for v in array.to_pylist()], dtype=np.float64)

    def method(self, name: str) -> str | None:
        """Return the method a property column was produced by, or None."""
        self._chunk(name)
        return (self._table.schema.field(name).metadata or {}).get(b"method", b"").decode() or None

    def get(self, row: int) -> dict[str, Any]:
        """Return one row as a dictionary.

        :raises ImpossibleRequest: if the row does not exist.
        """
        if not 0 <= row < len(self):
            raise ImpossibleRequest(f"Row {row} does not exist: this set has rows 0 to {len(self) - 1}.")
        return dict(self._table.slice(row, 1).to_pylist()[0])

    def iter(self) -> Iterator[dict[str, Any]]:
        """Iterate over the rows as dictionaries."""
        for batch in self._table.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas frame."""
        return self._table.to_pandas()

    def column_stats(self) -> dict[str, dict[str, float | int]]:
        """Return ``{column: {min, max, n_valid}}`` of the scalar property columns, for pruning in the graph."""
        stats: dict[str, dict[str, float | int]] = {}
        for field in self._table.schema:
            if not (pa.types.is_floating(field.type) and b"property" in (field.metadata or {})):
                continue
            valid = self.values(field.name)
            valid = valid[np.isfinite(valid)]
            entry: dict[str, float | int] = {"n_valid": len(valid)}
            if len(valid):
                entry.update(min=float(valid.min()), max=float(valid.max()))
            stats[field.name] = entry
        return stats

    # -- deriving -------------------------------------------------------------------------------------------------

    def take(self, rows: Iterable[int], *, parent_input: str | None = None) -> Self:
        """Return the given rows, renumbered. With ``parent_input``, lineage points at the rows of this set."""
        index = pa.array(list(rows), type=pa.int64())
        taken = self._table.take(index)
        if parent_input is not None:
            names = taken.column_names
            label = pa.array([parent_input] * len(index), type=pa.string())
            taken = taken.set_column(names.index("parent_input"), "parent_input", label)
            taken = taken.set_column(names.index("parent_row"), "parent_row", index)
        return type(self)(taken.drop_columns(["row"]))

    def slice(self, rows: range) -> Self:
        """Return a contiguous range of rows, renumbered from 0, lineage pointing where it pointed."""
        return type(self)(self._table.slice(rows.start, len(rows)).drop_columns(["row"]))

    def select(self, filters: Sequence[Filter], *, parent_input: str | None = None) -> Self:
        """Return the rows that satisfy all ``filters``.

        :raises ImpossibleRequest: if a filter names a column that is not there.
        """
        for name, *_ in filters:
            self._chunk(name)
        expression = pq.filters_to_expression(list(filters))
        kept = self._table.select(["row", *{f[0] for f in filters} - {"row"}]).filter(expression)
        return self.take(kept["row"].to_pylist(), parent_input=parent_input)

    def with_columns(self, columns: Mapping[pa.Field, Any], metadata: Mapping[str, Any] | None = None) -> Self:
        """Return a copy with columns added or replaced; NaN becomes null."""
        table = self._table
        for field, values in columns.items():
            array = values if isinstance(values, pa.Array) else pa.array(values, type=field.type, from_pandas=True)
            if field.name in table.column_names:
                table = table.set_column(table.column_names.index(field.name), field, array)
            else:
                table = table.append_column(field, array)
        return type(self)(table, metadata)

    def with_metadata(self, **metadata: Any) -> Self:
        """Return a copy with schema-level metadata added or replaced."""
        return type(self)(self._table, metadata)

    # -- internals ------------------------------------------------------------------------------------------------

    def _chunk(self, name: str) -> pa.Array:
        if name not in self._table.column_names:
            raise ImpossibleRequest(f"There is no column {name!r}; this set has {', '.join(self.columns)}.")
        chunked = self._table.column(name)
        return chunked.combine_chunks() if chunked.num_chunks != 1 else chunked.chunk(0)

    def _validate(self) -> None:
        rows = np.asarray(self._chunk("row"))
        if not np.array_equal(rows, np.arange(len(rows))):
            raise BadInput("The column 'row' must count 0, 1, 2, …: it is the key of the set.")
        status = self._table["status"]
        if len(self) and not pc.all(pc.is_in(status, value_set=pa.array(schema.STATUSES))).as_py():
            raise BadInput(f"The column 'status' may hold only {', '.join(schema.STATUSES)}.")
        silent = pc.and_(pc.not_equal(status, schema.STATUS_OK), pc.is_null(self._table["reason"]))
        if len(self) and pc.any(silent).as_py():
            first = int(np.flatnonzero(np.asarray(silent))[0])
            raise BadInput(f"Row {first} is not ok but has no reason; every failure says why.")


def _refuse_mixed_methods(parts: Sequence[PackedTable]) -> None:
    methods: dict[str, bytes] = {}
    for part in parts:
        for field in part.arrow.schema:
            if b"method" not in (field.metadata or {}):
                continue
            method = field.metadata[b"method"]
            if methods.setdefault(field.name, method) != method:
                raise BadInput(
                    f"The column {field.name!r} is of method {methods[field.name].decode()!r} in one set and of "
                    f"{method.decode()!r} in another; values of different methods are never mixed."
                )


def _with_base_columns(table: pa.Table) -> pa.Table:
    n = table.num_rows
    defaults = {
        "row": pa.array(np.arange(n), type=pa.int64()),
        "content_id": pa.nulls(n, pa.string()),
        "status": pa.array([schema.STATUS_OK] * n, type=pa.string()),
        "reason": pa.nulls(n, pa.string()),
        "parent_input": pa.nulls(n, pa.string()),
        "parent_row": pa.nulls(n, pa.int64()),
    }
    missing = [name for name in defaults if name not in table.column_names]
    for name in missing:
        table = table.append_column(name, defaults[name])
    order = [*defaults, *(c for c in table.column_names if c not in defaults)]
    return table.select(order)


def _cast(table: pa.Table, required: pa.Schema) -> pa.Table:
    for field in required:
        if field.name not in table.column_names:
            raise BadInput(f"The column {field.name!r} ({field.type}) is missing.")
        index = table.column_names.index(field.name)
        held = table.schema.field(index)
        if held.type != field.type:
            try:
                column = table.column(index).cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise BadInput(f"The column {field.name!r} must be {field.type}, not {held.type}.") from error
            table = table.set_column(index, field.with_metadata(held.metadata or field.metadata), column)
        elif held.nullable != field.nullable or (field.metadata and not held.metadata):
            table = table.set_column(index, field.with_metadata(held.metadata or field.metadata), table.column(index))
    rest = [c for c in table.column_names if c not in required.names]
    return table.select([*required.names, *rest])


class SequenceSet(PackedTable):
    """Encoded or generated sequences: strings, genes, formulas or latents, one a row."""

    kind = schema.SEQUENCES


class PropertyTable(PackedTable):
    """Verdicts and properties of the rows of another set; ``parent_row`` is the row judged."""

    kind = schema.TABLE


class ReferenceSet(PackedTable):
    """Reference energies. Metadata: ``name``, ``scheme``, ``method`` and, for a potential, its ``potential`` JSON."""

    kind = schema.REFERENCE
