"""PackedTable: storage without loss, hashes of content, lineage that survives selection and merging."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crystal_strategies import METHOD, QUICK, crystal_sets
from hypothesis import given
from hypothesis import strategies as st

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, DiskFull, ImpossibleRequest
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import PropertyTable, ReferenceSet, SequenceSet


def table(n: int = 4, **columns: list) -> PropertyTable:
    return PropertyTable(pa.table({"label": pa.array([f"r{i}" for i in range(n)]), **columns}))


@QUICK
@given(crystals=crystal_sets())
def test_parquet_round_trip_keeps_everything(crystals: CrystalSet, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("io") / "set.parquet"
    crystals.write(path)
    again = CrystalSet.read(path)
    assert again.arrow.equals(crystals.arrow)
    assert again.content_hash == crystals.content_hash
    assert again.metadata == crystals.metadata
    assert again.method("band_gap") == METHOD


@QUICK
@given(crystals=crystal_sets(), chunk=st.integers(1, 3), data=st.data())
def test_hash_depends_on_content_only(
    crystals: CrystalSet, chunk: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("io") / "set.parquet"
    compression = data.draw(st.sampled_from(["none", "snappy", "gzip"]))
    pq.write_table(crystals.arrow, path, row_group_size=chunk, compression=compression, use_dictionary=False)
    assert CrystalSet.read(path).content_hash == crystals.content_hash
    # from another library: no Arrow schema inside, so inner names and chunks may differ
    pq.write_table(crystals.arrow, path, store_schema=False, use_compliant_nested_type=False)
    foreign = pq.read_table(path).replace_schema_metadata(crystals.arrow.schema.metadata)
    fields = [foreign.schema.field(f.name).with_metadata(f.metadata) for f in crystals.arrow.schema]
    foreign = foreign.cast(pa.schema(fields, metadata=crystals.arrow.schema.metadata))
    assert CrystalSet(foreign).content_hash == crystals.content_hash


def test_hash_changes_with_every_kind_of_content() -> None:
    base = table(3, value=pa.array([1.0, None, 3.0]))
    field = property_field("band_gap", "a")
    variants = [
        base,
        table(3, value=pa.array([1.0, None, 3.1])),
        table(3, value=pa.array([1.0, 2.0, 3.0])),
        table(3, other=pa.array([1.0, None, 3.0])),
        table(3, value=pa.array([1.0, None, 3.0], pa.float32())),
        base.with_metadata(name="x"),
        base.with_columns({field: [1.0, 2.0, 3.0]}),
        base.with_columns({property_field("band_gap", "b"): [1.0, 2.0, 3.0]}),
        base.take([0, 2, 1]),
    ]
    assert len({v.content_hash for v in variants}) == len(variants)


def test_hash_is_blind_to_negative_zero_and_to_what_lies_under_a_null() -> None:
    plain = pa.array([0.0, None, 1.0])
    odd = pa.Array.from_buffers(
        pa.float64(),
        3,
        [pa.array([True, False, True]).buffers()[1], pa.py_buffer(np.array([-0.0, 99.0, 1.0]).tobytes())],
    )
    assert odd.to_pylist()[1] is None
    assert table(3, value=plain).content_hash == table(3, value=odd).content_hash


@QUICK
@given(crystals=crystal_sets(), data=st.data())
def test_take_with_duplicates_keeps_lineage(crystals: CrystalSet, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, max(0, len(crystals) - 1)), max_size=8)) if len(crystals) else []
    taken = crystals.take(rows, parent_input="crystals")
    assert taken.column("row") == list(range(len(rows)))
    assert taken.column("parent_row") == rows
    assert set(taken.column("parent_input")) <= {"crystals"}
    for new, old in enumerate(rows):
        here, there = taken.get(new), crystals.get(old)
        assert {k: here[k] for k in ("status", "content_id", "band_gap")} == {
            k: there[k] for k in ("status", "content_id", "band_gap")
        }


@QUICK
@given(sets=st.lists(crystal_sets(max_rows=3), min_size=3, max_size=3))
def test_merge_of_three_sets_keeps_every_row_and_its_parents(sets: list[CrystalSet]) -> None:
    labels = ("a", "b", "c")
    # one-to-many: every row twice, then merged
    parts = [
        s.take([r for r in range(len(s)) for _ in range(2)], parent_input=x) for s, x in zip(sets, labels, strict=True)
    ]
    merged = CrystalSet.concat(parts)
    assert len(merged) == 2 * sum(map(len, sets))
    assert merged.column("row") == list(range(len(merged)))
    by_label = dict(zip(labels, sets, strict=True))
    for record in merged.iter():
        parent = by_label[record["parent_input"]].get(record["parent_row"])
        assert parent["content_id"] == record["content_id"]
        assert parent["reason"] == record["reason"]


@QUICK
@given(crystals=crystal_sets(), limit=st.floats(0, 20))
def test_select_agrees_with_a_plain_filter(crystals: CrystalSet, limit: float) -> None:
    chosen = crystals.select([("band_gap", ">", limit), ("status", "==", "ok")], parent_input="crystals")
    expected = [
        r["row"] for r in crystals.iter() if r["band_gap"] is not None and r["band_gap"] > limit and r["status"] == "ok"
    ]
    assert chosen.column("parent_row") == expected


def test_select_in_a_list_and_on_the_row_itself() -> None:
    chosen = table(4).select([("label", "in", ["r1", "r3"]), ("row", ">", 1)])
    assert chosen.column("label") == ["r3"]


def test_slices_join_back_to_the_whole() -> None:
    whole = table(7)
    parts = [whole.slice(range(start, min(start + 3, 7))) for start in range(0, 7, 3)]
    assert PropertyTable.concat(parts).content_hash == whole.content_hash


def test_concat_fills_missing_columns_with_nulls() -> None:
    joined = PropertyTable.concat([table(1, x=pa.array([1.0])), table(1)])
    assert joined.column("x") == [1.0, None]


def test_nothing_to_concat_is_refused() -> None:
    with pytest.raises(BadInput, match="no parts"):
        PropertyTable.concat([])


def test_nan_becomes_null_in_property_columns() -> None:
    held = table(2).with_columns({property_field("band_gap", METHOD): [float("nan"), 2.0]})
    assert held.column("band_gap") == [None, 2.0]
    assert np.isnan(held.values("band_gap")[0])
    assert held.column_stats() == {"band_gap": {"min": 2.0, "max": 2.0, "n_valid": 1}}


def test_stats_of_a_column_without_values_have_no_bounds() -> None:
    held = table(2).with_columns({property_field("band_gap", METHOD): [None, None]})
    assert held.column_stats() == {"band_gap": {"n_valid": 0}}


def test_tensor_columns_have_a_row_each() -> None:
    held = table(2).with_columns({property_field("piezo_tensor", METHOD): [None, list(range(18))]})
    values = held.values("piezo_tensor")
    assert values.shape == (2, 18)
    assert np.isnan(values[0]).all()
    assert values[1, 17] == 17


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage", "folder"])
def test_unreadable_files_say_so(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    if damage == "folder":
        path.mkdir()
        (path / "x").write_text("x")
    elif damage != "missing":
        table(200).write(path)
        data = path.read_bytes()
        path.write_bytes(
            {"empty": b"", "truncated": data[: len(data) // 2], "garbage": b"PAR1" + b"x" * 200 + b"PAR1"}[damage]
        )
    with pytest.raises(BadInput, match=r"set\.parquet"):
        PropertyTable.read(path)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    table().write(tmp_path / "t.parquet")
    with pytest.raises(BadInput, match="kind 'table'"):
        SequenceSet.read(tmp_path / "t.parquet")


def test_a_newer_schema_is_refused_with_the_remedy() -> None:
    newer = table().arrow.replace_schema_metadata({"kind": "table", "schema_version": "99"})
    with pytest.raises(BadInput, match="upgrade"):
        PropertyTable(newer)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(BadInput, match="energy_per_atom"):
        ReferenceSet(pa.table({"formula": ["NaCl"], "source": ["x"]}))


def test_a_column_of_the_wrong_type_is_named() -> None:
    with pytest.raises(BadInput, match="energy_per_atom"):
        ReferenceSet(pa.table({"formula": ["NaCl"], "source": ["x"], "energy_per_atom": ["low"]}))


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"status": ["fine"]}, "may hold only"),
        ({"status": ["failed"]}, "no reason"),
        ({"row": [5]}, "count 0, 1, 2"),
    ],
)
def test_bad_base_columns_are_refused(columns: dict, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        PropertyTable(pa.table({"label": ["x"], **columns}))


def test_unknown_rows_and_columns_are_errors_that_list_what_there_is() -> None:
    with pytest.raises(ImpossibleRequest, match="rows 0 to 3"):
        table().get(4)
    with pytest.raises(ImpossibleRequest, match="label"):
        table().column("gap")
    with pytest.raises(ImpossibleRequest, match="no column 'gap'"):
        table().select([("gap", ">", 1.0)])


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set.parquet"
    table(2).write(path)

    def half(_table: pa.Table, target: object, **_: object) -> None:
        Path(str(target)).write_bytes(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(DiskFull, match=r"set\.parquet"):
        table(3).write(path)
    monkeypatch.undo()
    assert len(PropertyTable.read(path)) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["set.parquet"]


def test_required_schema_of_every_kind_starts_with_the_base() -> None:
    for kind in schema.KINDS:
        assert schema.required_schema(kind).names[:3] == ["row", "content_id", "status"]


def test_joining_never_mixes_methods() -> None:
    column = {"band_gap": [1.0]}
    old, new = (
        PropertyTable(pa.table(column, schema=pa.schema([property_field("band_gap", method)])))
        for method in ("pbe-mp-legacy", "hse06")
    )
    assert PropertyTable.concat([old, old]).method("band_gap") == "pbe-mp-legacy"
    with pytest.raises(BadInput, match="'pbe-mp-legacy' in one set and of 'hse06' in another"):
        PropertyTable.concat([old, new])
