"""Arrow columns as numpy arrays, and back.

pyarrow imports pandas whenever it meets a Python or numpy value, and that takes 0.3 s: longer than filling the index
with ten thousand rows. These go by the memory the two libraries share.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array: TypeAlias = np.ndarray[Any, Any]
Column: TypeAlias = "pa.ChunkedArray | pa.Array"


def floats_of(column: Column) -> Array:
    """Return a numeric column as float64 (n,), NaN where there is no value; read-only."""
    return _filled(column.cast(pa.float64()), np.nan)


def integers_of(column: Column, missing: int = 0) -> Array:
    """Return a column of whole numbers as int64 (n,), ``missing`` where there is none; read-only."""
    return _filled(column.cast(pa.int64()), missing)


def flags_of(column: Column) -> Array:
    """Return a yes/no column as booleans (n,), False where there is no answer; read-only."""
    return _filled(column.cast(pa.uint8()), 0).view(np.bool_)


def where_text(column: Column, text: str) -> Array:
    """Return where (n,) a column of text is this text."""
    return flags_of(pc.equal(column, _text(text)))


def mask_of(flags: Array) -> pa.BooleanArray:
    """Return booleans (n,) as an Arrow array."""
    packed = pa.py_buffer(np.packbits(flags, bitorder="little"))
    return pa.BooleanArray.from_buffers(pa.bool_(), len(flags), [None, packed])


def places_of(positions: Array) -> pa.Int64Array:
    """Return positions (n,) as an Arrow array."""
    held = pa.py_buffer(np.ascontiguousarray(positions, dtype=np.int64))
    return pa.Int64Array.from_buffers(pa.int64(), len(positions), [None, held])


def _filled(column: Column, missing: float) -> Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = _numbers(whole)
    if not whole.null_count:
        return values
    filled = np.where(_numbers(whole.is_null().cast(pa.uint8())).view(np.bool_), values.dtype.type(missing), values)
    filled.flags.writeable = False  # as the others, which are Arrow's memory
    return filled


def _numbers(array: pa.Array) -> Array:
    """Return what an array of numbers holds, whatever where there is nothing."""
    if not len(array):
        return np.empty(0, array.type.to_pandas_dtype())
    return np.from_dlpack(
        pa.Array.from_buffers(array.type, len(array), [None, array.buffers()[1]], offset=array.offset)
    )


def _text(text: str) -> pa.StringScalar:
    data = text.encode()
    return pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, len(data)], np.int32)), pa.py_buffer(data))[0]
