"""Joining two sets by a key."""

from __future__ import annotations

import pyarrow as pa
import pytest
from crystal_strategies import METHOD, rocksalt, zincblende

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.crystals.joining import join
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import PropertyTable


def left() -> CrystalSet:
    ids = {pa.field("material_id", pa.string()): ["mp-1", "mp-2", None, "mp-1"]}
    return CrystalSet.from_structures([rocksalt(), zincblende(), rocksalt(5.0), rocksalt()], columns=ids)


def right(keys: list[str | None]) -> PropertyTable:
    table = PropertyTable(pa.table({"material_id": pa.array(keys, pa.string())}))
    return table.with_columns({property_field("band_gap", METHOD): [float(i) for i in range(len(keys))]})


def test_values_land_on_every_row_with_their_key() -> None:
    joined = join(left(), right(["mp-9", "mp-1", None]), on="material_id")
    assert joined.column("band_gap") == [1.0, None, None, 1.0]
    assert joined.method("band_gap") == METHOD
    assert joined.column("content_id") == left().column("content_id")


def test_row_joins_parent_row() -> None:
    verdicts = PropertyTable(pa.table({"parent_row": pa.array([3, 0]), "valid": [True, False]}))
    assert join(left(), verdicts, on=("row", "parent_row")).column("valid") == [False, None, None, True]


def test_ambiguous_keys_are_refused() -> None:
    with pytest.raises(BadInput, match="repeats"):
        join(left(), right(["mp-1", "mp-1"]), on="material_id")


def test_a_column_is_never_overwritten_in_silence() -> None:
    both = left().with_columns({property_field("band_gap", "other"): [0.0] * 4})
    with pytest.raises(BadInput, match="in both sets"):
        join(both, right(["mp-1"]), on="material_id")


def test_missing_columns_and_types_are_named() -> None:
    with pytest.raises(ImpossibleRequest, match="'key'"):
        join(left(), right(["mp-1"]), on="key")
    with pytest.raises(ImpossibleRequest, match="'energy'"):
        join(left(), right(["mp-1"]), on="material_id", columns=["energy"])
    with pytest.raises(BadInput, match="different types"):
        join(left(), right(["mp-1"]), on=("row", "material_id"))
