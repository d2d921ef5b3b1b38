"""Labels of another source joined by id: what lands where, what is counted, what is refused."""

from __future__ import annotations

import csv
import gzip
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from crystal_strategies import QUICK, rocksalt
from hypothesis import given
from hypothesis import strategies as st

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, EmptySet, ImpossibleRequest
from crysgen_aiida.crystals.formats import read_crystals
from crysgen_aiida.crystals.labels import ID, join_labels, read_labels
from crysgen_aiida.crystals.schema import property_field

FACTOR = "power_factor_over_tau"
COLUMNS = {FACTOR: "Powerfactor"}


def crystals(ids: list[str | None]) -> CrystalSet:
    columns = {pa.field("material_id", pa.string()): ids, property_field("band_gap", "pbe"): [1.0] * len(ids)}
    return CrystalSet.from_structures([rocksalt()] * len(ids), columns=columns)


def table(path: Path, rows: list[tuple[Any, Any]], header: tuple[str, str] = ("mp_id", "Powerfactor")) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def read(path: Path, **changes: Any) -> Any:
    given: dict[str, Any] = {"key": "mp_id", "properties": COLUMNS, "method": "btp", **changes}
    return read_labels(path, **given)


def test_labels_land_on_the_rows_with_their_id_scaled_and_counted(tmp_path: Path) -> None:
    path = table(tmp_path / "te.csv", [("mp-3", 2), (" mp-1 ", 1.5), ("mp-2", ""), ("mp-9", "NaN"), ("mp-8", 7)])
    held = crystals(["mp-1", "mp-2", None, "mp-3", "mp-1", "mp-7"]).with_metadata(source="doi:1")
    joined, match = join_labels(held, read(path, scale={FACTOR: 1e11}), "material_id")
    assert joined.column(FACTOR) == [1.5e11, None, None, 2e11, 1.5e11, None]
    assert joined.method(FACTOR) == "btp"
    assert joined.column("content_id") == held.column("content_id")
    assert joined.column("material_id") == held.column("material_id")
    assert (match.rows, match.rows_matched, match.labels) == (6, 4, {FACTOR: 3})
    assert (match.ids, match.ids_without_row) == (5, 2)
    (said,) = json.loads(joined.metadata["joined"])
    assert (said["columns"], said["scale"], said["on"]) == (COLUMNS, {FACTOR: 1e11}, ["material_id", "mp_id"])
    assert joined.metadata["source"] == "doi:1"


def test_a_second_join_is_kept_beside_the_first(tmp_path: Path) -> None:
    path = tmp_path / "te.csv.gz"
    path.write_bytes(gzip.compress(b"mp_id,a,b\nmp-1,3,True\nmp-2,4,false\n"))
    first, _ = join_labels(crystals(["mp-1", "mp-2"]), read(path, properties={"seebeck": "a"}), "material_id")
    both, _ = join_labels(first, read(path, properties={"theoretical": "b"}, method="mp"), "material_id")
    assert both.column("seebeck") == [3.0, 4.0]
    assert both.column("theoretical") == [1.0, 0.0]
    assert [list(said["columns"]) for said in json.loads(both.metadata["joined"])] == [["seebeck"], ["theoretical"]]


@QUICK
@given(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1), st.lists(st.sampled_from("abcdefg"), min_size=1))
def test_every_row_gets_the_value_of_its_id(tmp_path_factory: Any, known: list[str], ids: list[str]) -> None:
    value = {name: float(place) for place, name in enumerate(known)}
    path = table(tmp_path_factory.mktemp("labels") / "t.csv", list(value.items()))
    if not set(ids) & set(known):
        with pytest.raises(BadInput, match="None of the"):
            join_labels(crystals(list(ids)), read(path), "material_id")
        return
    joined, match = join_labels(crystals(list(ids)), read(path), "material_id")
    assert joined.column(FACTOR) == [value.get(name) for name in ids]
    assert match.labels[FACTOR] == match.rows_matched == sum(name in value for name in ids)
    assert match.ids_without_row == len(set(known) - set(ids))


def test_a_repeated_row_is_skipped_and_two_values_of_an_id_are_refused(tmp_path: Path) -> None:
    same = read(table(tmp_path / "t.csv", [("a", 1), ("b", ""), ("a", "1.0"), ("b", "nan"), ("", 5)]))
    assert same.column("status") == ["ok", "ok", "skipped", "skipped", "failed"]
    assert same.column("reason")[2:] == [
        "It repeats row 0.",
        "It repeats row 1.",
        "It has no id in the column 'mp_id'.",
    ]
    assert join_labels(crystals(["a"]), same, "material_id")[0].column(FACTOR) == [1.0]
    with pytest.raises(BadInput, match=r"different values for 'a' \(column 'mp_id'\) in its rows 1 and 2"):
        read(table(tmp_path / "t.csv", [("a", 1), ("a", 2)]))


@pytest.mark.parametrize(
    ("rows", "changes", "error", "words"),
    [
        ([("a", 1)], {"key": "id"}, ImpossibleRequest, r"no column 'id' \(for the id\); it has mp_id, Powerfactor"),
        ([("a", 1)], {"properties": {FACTOR: "PF"}}, ImpossibleRequest, "no column 'PF'"),
        ([("a", 1)], {"properties": {"power_factr": "Powerfactor"}}, ImpossibleRequest, "Did you mean power_factor"),
        ([("a", 1)], {"properties": {"piezo_tensor": "Powerfactor"}}, ImpossibleRequest, "no single number"),
        ([("a", 1)], {"properties": {}}, ImpossibleRequest, "No property"),
        ([("a", 1)], {"scale": {"seebeck": 2.0}}, ImpossibleRequest, "not among the properties"),
        ([("a", 1)], {"scale": {FACTOR: 0.0}}, ImpossibleRequest, "other than 0"),
        ([("a", 1), ("b", "high")], {}, BadInput, "row 2, column 'Powerfactor': 'high' is not a number"),
        ([("a", "inf")], {}, BadInput, "'inf' is not a number"),
        ([("a", 0.5)], {"properties": {"theoretical": "Powerfactor"}}, BadInput, "'0.5' is not 0 or 1"),
        ([("a", "")], {}, EmptySet, "no value"),
        ([], {}, EmptySet, "no value"),
    ],
)
def test_what_cannot_be_a_label_is_refused(
    tmp_path: Path, rows: list[tuple[Any, Any]], changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        read(table(tmp_path / "t.csv", rows), **changes)


def test_a_file_that_is_cut_short_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"mp_id,Powerfactor\n" + b"a,1\n" * 999)[:40])
    with pytest.raises(BadInput, match="truncated"):
        read(path)


def test_a_set_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    labels = read(table(tmp_path / "t.csv", [("x", 1), ("a", "")]))
    with pytest.raises(ImpossibleRequest, match="may hold ids: material_id"):
        join_labels(crystals(["x"]), labels, "mp_id")
    with pytest.raises(BadInput, match=r"None of the 2 rows .* among the 2 of the table: material_id is e.g. 'y'"):
        join_labels(crystals([None, "y"]), labels, "material_id")
    with pytest.raises(BadInput, match="1 of 2 rows have an id of the table, but it has no value"):
        join_labels(crystals(["a", "y"]), labels, "material_id")
    gaps = read(table(tmp_path / "t.csv", [("x", 1)]), properties={"band_gap": "Powerfactor"})
    with pytest.raises(BadInput, match="has band_gap already, of method 'pbe'"):
        join_labels(crystals(["x"]), gaps, "material_id")


def test_crystals_with_short_keys_are_imported_and_keep_their_ids(tmp_path: Path) -> None:
    cell = {"a": [4.0, 0, 0, 0, 4.0, 0, 0, 0, 4.1], "z": [55, 17], "x": [0, 0, 0, 0.5, 0.5, 0.5]}
    path = tmp_path / "mp.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("material_id", "structure"), ("mp-1", json.dumps(cell)), ("mp-2", '{"a": [1]}')])
    made = read_crystals(path)
    assert made.column("status") == ["ok", "failed"]
    assert (made.column("reduced_formula")[0], made.column("material_id")) == ("CsCl", ["mp-1", "mp-2"])
    assert made.values("lattice")[0].tolist() == cell["a"]
    assert made.column("frac_coords")[0] == cell["x"]


def test_yes_and_no_are_numbers_when_crystals_are_imported(tmp_path: Path) -> None:
    cif = rocksalt().to(fmt="cif")
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("cif", "theoretical"), *((cif, v) for v in ("True", "false", "0", "0.5", ""))])
    made = read_crystals(path, method="mp")
    assert made.column("theoretical") == [1.0, 0.0, 0.0, None, None]
    assert "theoretical is not 0 or 1 ('0.5')" in made.column("reason")[3]
    assert math.isnan(made.values("theoretical")[4])


def test_a_table_of_labels_holds_all_rows_of_its_file(tmp_path: Path) -> None:
    labels = read(table(tmp_path / "t.csv", [("a", 1), ("b", "")]))
    assert (labels.column(ID), labels.column(FACTOR)) == (["a", "b"], [1.0, None])
    assert json.loads(labels.metadata["scale"]) == {FACTOR: 1.0}
