"""Arrow columns become the arrays that pyarrow's own conversions would make, without pandas."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.store.arrays import flags_of, floats_of, integers_of, mask_of, places_of, where_text


def _chunked(values: list[Any], dtype: pa.DataType, cut: int) -> pa.ChunkedArray:
    """Return a column of two slices of a larger array, so that offsets and chunks are not trivial."""
    whole = pa.array([None, *values, None], type=dtype)
    return pa.chunked_array([whole.slice(1, min(cut, len(values))), whole.slice(1 + cut, max(len(values) - cut, 0))])


@settings(deadline=None)  # the first call imports more
@given(st.lists(st.none() | st.floats(allow_nan=True, width=32)), st.integers(0, 9), st.sampled_from(["f4", "f8"]))
def test_numbers(values: list[float | None], cut: int, kind: str) -> None:
    column = _chunked(values, {"f4": pa.float32(), "f8": pa.float64()}[kind], cut)
    wanted = np.array([np.nan if v is None else v for v in values], dtype=float)
    np.testing.assert_array_equal(floats_of(column), wanted)
    assert floats_of(column).dtype == np.float64


@settings(deadline=None)  # the first call imports more
@given(st.lists(st.none() | st.integers(-128, 127)), st.integers(0, 9))
def test_whole_numbers(values: list[int | None], cut: int) -> None:
    for dtype in (pa.int8(), pa.int32(), pa.int64()):
        found = integers_of(_chunked(values, dtype, cut), missing=-1)
        assert found.dtype == np.int64
        assert found.tolist() == [-1 if v is None else v for v in values]
        assert not len(found) or not found.flags.writeable


@settings(deadline=None)  # the first call imports more
@given(st.lists(st.none() | st.booleans()), st.integers(0, 9))
def test_flags(values: list[bool | None], cut: int) -> None:
    found = flags_of(_chunked(values, pa.bool_(), cut))
    assert found.dtype == bool
    assert found.tolist() == [v is True for v in values]


@settings(deadline=None)  # the first call imports more
@given(st.lists(st.none() | st.sampled_from(["ok", "failed", "ök", ""])), st.integers(0, 9))
def test_texts(values: list[str | None], cut: int) -> None:
    for text in ("ok", "ök", ""):
        assert where_text(_chunked(values, pa.string(), cut), text).tolist() == [v == text for v in values]


@settings(deadline=None)  # the first call imports more
@given(st.lists(st.booleans()), st.lists(st.integers(0, 2**40)))
def test_back_to_arrow(flags: list[bool], positions: list[int]) -> None:
    assert mask_of(np.array(flags, dtype=bool)).to_pylist() == flags
    assert places_of(np.array(positions, dtype=np.int64)).to_pylist() == positions


@pytest.mark.parametrize("dtype", [pa.bool_(), pa.float64(), pa.int32()])
def test_a_column_without_chunks(dtype: pa.DataType) -> None:
    empty = pa.chunked_array([], type=dtype)
    convert = {pa.bool_(): flags_of, pa.float64(): floats_of, pa.int32(): integers_of}[dtype]
    assert convert(empty).tolist() == []


def test_pandas_is_not_imported() -> None:
    code = """
import sys
import numpy as np
from crysgen_aiida.store.arrays import flags_of, floats_of, integers_of, mask_of, places_of, where_text
held = places_of(np.arange(5))
assert integers_of(held).tolist() == floats_of(held).tolist() == [0, 1, 2, 3, 4]
assert flags_of(mask_of(np.array([True, False]))).tolist() == [True, False]
assert where_text(held.cast("string"), "3").tolist() == [False, False, False, True, False]
assert "pandas" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
