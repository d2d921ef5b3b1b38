"""Rows are scaled to 0 to 1 by their range in the training rows."""

from __future__ import annotations

import json

import ftcp_crystals as made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crysgen_aiida.crystals.errors import BadInput, EmptySet
from crysgen_aiida.representations.ftcp import FtcpSpec, RowScaler, compact_of, crystals_of, matrices, read_matrices

SPEC = FtcpSpec(max_sites=8, min_distance=0)


@given(st.lists(made.crystals(), min_size=2, max_size=5))
def test_scaling_and_back_is_the_same_crystal(crystals: list[made.Arrays]) -> None:
    compact, _ = compact_of(made.packed(*crystals), SPEC)
    values = matrices(compact, SPEC)
    scaler = RowScaler.fit(values)
    scaled = scaler.transform(values)
    assert scaled.dtype == np.float32
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    again = read_matrices(scaler.inverse(scaled), SPEC)
    assert np.allclose(again.lattices, compact.lattices, rtol=1e-6, atol=0)
    assert np.allclose(again.coords, compact.coords, rtol=0, atol=1e-6)
    assert np.array_equal(again.numbers, compact.numbers)
    assert crystals_of(again, SPEC).column("numbers") == crystals_of(compact, SPEC).column("numbers")


def test_it_is_scikit_learns_scaling_of_rows() -> None:
    sklearn = pytest.importorskip("sklearn.preprocessing")
    rng = np.random.default_rng(0)
    values = rng.normal(size=(7, 12, 5)).astype(np.float32)
    values[:, 3], values[:, 4] = 0, 2.5  # rows that are all equal
    columns = values.transpose(0, 2, 1).reshape(-1, 12)
    expected = sklearn.MinMaxScaler().fit(columns)
    ours = RowScaler.fit(values)
    assert np.allclose(
        ours.transform(values).transpose(0, 2, 1).reshape(-1, 12), expected.transform(columns), atol=1e-6
    )
    noise = rng.random((7, 12, 5)).astype(np.float32)
    back = expected.inverse_transform(noise.transpose(0, 2, 1).reshape(-1, 12))
    assert np.allclose(ours.inverse(noise).transpose(0, 2, 1).reshape(-1, 12), back, atol=1e-6)


def test_only_the_rows_named_are_looked_at() -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    scaler = RowScaler.fit(values, rows=[0, 1])
    assert scaler.maximum.tolist() == [7, 9, 11]
    assert np.array_equal(RowScaler.fit(values, rows=np.array([True, True, False, False])).maximum, scaler.maximum)
    assert np.array_equal(RowScaler.fit_parts([values[:1], values[:0], values[1:2]]).minimum, scaler.minimum)
    assert scaler.transform(values)[3].max() > 1  # a row it does not know may leave the range
    assert RowScaler.fit(values).maximum.tolist() == [19, 21, 23]


def test_it_survives_json_exactly() -> None:
    values = np.random.default_rng(1).normal(size=(3, 6, 4)).astype(np.float32)
    scaler = RowScaler.fit(values)
    again = RowScaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert np.array_equal(again.transform(values), scaler.transform(values))


@pytest.mark.parametrize(
    "values",
    [{}, {"minimum": [0]}, {"minimum": [0], "maximum": [1, 2]}, {"minimum": [2], "maximum": [1]},
     {"minimum": ["a"], "maximum": ["b"]}, {"minimum": 0, "maximum": 1}, {"minimum": [None], "maximum": [1]}],
    ids=str,
)  # fmt: skip
def test_what_is_no_scaler_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="no scaler"):
        RowScaler.from_dict(values)


def test_what_cannot_be_fitted_is_refused() -> None:
    values = np.zeros((2, 4, 3), np.float32)
    with pytest.raises(EmptySet, match="no matrices"):
        RowScaler.fit(values, rows=[])
    values[1, 2, 0] = np.nan
    with pytest.raises(BadInput, match="Row 2"):
        RowScaler.fit(values)
    with pytest.raises(BadInput, match="4 rows"):
        RowScaler.fit(values, rows=[0]).transform(np.zeros((1, 5, 3), np.float32))
