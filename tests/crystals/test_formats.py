"""Formats: what goes out comes back, and a malformed row is kept with a reason."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from crystal_strategies import METHOD, QUICK, crystal_sets, perovskite, rocksalt, rutile, wurtzite, zincblende
from hypothesis import given
from pymatgen.core import Lattice, Structure

from crysgen_aiida.crystals import formats, matching
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, EmptySet, ImpossibleRequest
from crysgen_aiida.crystals.formats import from_ase, from_pymatgen, guess_format, read_crystals
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.writers import to_ase, to_cif, to_csv, to_jsonl, write_crystals


@pytest.fixture
def crystals() -> CrystalSet:
    columns = {
        pa.field("material_id", pa.string()): ["mp-1", "mp-2", "mp-3"],
        property_field("band_gap", METHOD): [5.0, None, 1.8],
        property_field("piezo_tensor", METHOD): [None, None, [0.5] * 18],
    }
    held = [rocksalt(), None, wurtzite()]
    return CrystalSet.from_structures(held, reasons=[None, "not decoded", None], columns=columns)


def same(one: Structure, other: Structure) -> bool:
    return len(one) == len(other) and matching.matches(one, other, matching.MatchSpec(0.01, 0.01, 0.1, scale=False))


@pytest.mark.parametrize("name", ["x.cif", "x.extxyz", "x.json", "x.jsonl", "x.csv", "x.parquet"])
def test_every_format_brings_the_crystals_back(crystals: CrystalSet, name: str, tmp_path: Path) -> None:
    left_out = write_crystals(crystals, tmp_path / name)
    again = read_crystals(tmp_path / name, method=METHOD)
    keeps_failures = name.rsplit(".", 1)[1] in ("jsonl", "csv", "parquet")
    assert left_out == ([] if keeps_failures else [1])
    good = [s for s in again.structures() if s is not None]
    assert len(good) == 2
    assert len(again) == (3 if keeps_failures else 2)
    assert same(good[0], rocksalt())
    assert same(good[1], wurtzite())
    if keeps_failures:
        assert again.get(1)["status"] == "failed"
        assert again.get(1)["reason"] == "not decoded"
    if name not in ("x.cif", "x.json"):
        assert again.column("band_gap")[0] == 5.0
        assert again.column("piezo_tensor")[-1] == [0.5] * 18
        assert again.method("band_gap") == METHOD
        assert again.column("material_id")[0] == "mp-1"


@QUICK
@given(held=crystal_sets(max_rows=4))
def test_json_lines_are_exact(held: CrystalSet) -> None:
    text = to_jsonl(held)
    again = formats.pack_rows(formats.parse(text, "jsonl"), method=METHOD)
    assert again.column("lattice") == held.column("lattice")
    assert again.column("numbers") == held.column("numbers")
    assert again.column("frac_coords") == held.column("frac_coords")
    assert again.column("status") == held.column("status")
    if any(gap is not None for gap in held.column("band_gap")):
        assert again.column("band_gap") == held.column("band_gap")


def test_poscar_round_trip_and_its_limits(crystals: CrystalSet, tmp_path: Path) -> None:
    one = crystals.take([2])
    assert write_crystals(one, tmp_path / "POSCAR") == []
    assert same(read_crystals(tmp_path / "POSCAR").structure(0), wurtzite())
    with pytest.raises(ImpossibleRequest, match="one crystal"):
        write_crystals(crystals, tmp_path / "POSCAR")


def test_an_old_poscar_without_elements_is_a_failed_row(tmp_path: Path) -> None:
    lines = wurtzite().to(fmt="poscar").splitlines()
    del lines[5]
    lines = [line.rsplit(" ", 1)[0] if line.endswith((" Ga", " N")) else line for line in lines]
    (tmp_path / "POSCAR").write_text("\n".join(lines))
    held = read_crystals(tmp_path / "POSCAR")
    assert held.get(0)["status"] == "failed"
    assert "does not name its elements" in held.get(0)["reason"]


def test_ase_and_pymatgen(crystals: CrystalSet) -> None:
    atoms = to_ase(crystals)
    assert atoms[1] is None
    assert atoms[0] is not None
    assert atoms[0].info["band_gap"] == 5.0
    assert atoms[0].cell.volume == pytest.approx(rocksalt().volume)
    again = from_ase([a for a in atoms if a is not None], method=METHOD)
    assert same(again.structure(1), wurtzite())
    assert again.column("band_gap") == [5.0, 1.8]
    charged = rocksalt()
    charged.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    assert same(from_pymatgen([charged]).structure(0), rocksalt())


def test_molecules_are_not_crystals() -> None:
    from ase import Atoms

    held = from_ase([Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]])])
    assert "not periodic" in held.get(0)["reason"]


def test_broken_cif_blocks_are_kept_beside_good_ones(tmp_path: Path) -> None:
    good = to_cif(from_pymatgen([rocksalt(), rutile()]))
    first, second = good.split("data_row1_")
    broken = first.replace("_cell_length_a", "_cell_length_q").replace("data_row0_NaCl", "data_broken")
    unknown = first.replace("Cl", "Qq").replace("data_row0_NaQq", "data_unknown")
    disorder = (
        first.replace("  1.0\n", "  0.5\n").replace("  1\n", "  0.5\n").replace("data_row0_NaCl", "data_disorder")
    )
    (tmp_path / "many.cif").write_text(first + broken + unknown + disorder + "data_row1_" + second)
    held = read_crystals(tmp_path / "many.cif")
    assert held.column("status") == ["ok", "failed", "failed", "failed", "ok"]
    assert held.column("material_id")[1:4] == ["broken", "unknown", "disorder"]
    assert all(held.column("reason")[1:4])
    assert "partially occupied" in held.get(3)["reason"]
    assert same(held.structure(4), rutile())


def test_a_publication_block_is_no_row_and_garbage_is_a_failed_one(tmp_path: Path) -> None:
    (tmp_path / "cod.cif").write_text("data_global\n_journal_name 'J'\n" + to_cif(from_pymatgen([rocksalt()])))
    assert read_crystals(tmp_path / "cod.cif").column("status") == ["ok"]
    (tmp_path / "bad.cif").write_text("<html>404 not found</html>")
    held = read_crystals(tmp_path / "bad.cif")
    assert held.column("status") == ["failed"]
    assert "no CIF data block" in held.get(0)["reason"]


@pytest.mark.parametrize("name", ["x.cif", "x.extxyz", "x.jsonl", "x.json", "x.csv"])
def test_an_empty_file_is_an_empty_set_error(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text({"x.json": "[]", "x.csv": "cif\n"}.get(name, ""))
    with pytest.raises(EmptySet, match=name):
        read_crystals(tmp_path / name)


def test_extxyz_frames_fail_one_by_one(crystals: CrystalSet, tmp_path: Path) -> None:
    write_crystals(crystals.take([0, 2, 0]), tmp_path / "x.extxyz")
    lines = (tmp_path / "x.extxyz").read_text().splitlines()
    lines[2] = lines[2].replace("Na", "Zz")
    (tmp_path / "x.extxyz").write_text("\n".join(lines[:-3]))
    held = read_crystals(tmp_path / "x.extxyz", method=METHOD)
    assert held.column("status") == ["failed", "ok", "failed"]
    assert "truncated" in held.get(2)["reason"]
    (tmp_path / "x.extxyz").write_text("eight\nxx")
    assert "not a number of atoms" in read_crystals(tmp_path / "x.extxyz").get(0)["reason"]


def test_json_lines_fail_one_by_one(tmp_path: Path) -> None:
    good = {"lattice": (np.eye(3) * 4).tolist(), "species": ["Cs", "Cl"], "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]]}
    lines = [
        json.dumps(good),
        '{"lattice": [[1, 0',
        json.dumps({**good, "species": ["Cs", "Qq"]}),
        json.dumps({"lattice": good["lattice"]}),
        json.dumps({**good, "frac_coords": [[0, 0, float("nan")], [0.5, 0.5, 0.5]]}),
        json.dumps({**good, "lattice": [[4, 0, 0], [4, 0, 0], [0, 0, 4]]}),
        json.dumps({**good, "frac_coords": [[0, 0, 0]]}),
        "[1, 2]",
        json.dumps({"structure": rutile().as_dict()}),
        json.dumps({"cif": zincblende().to(fmt="cif")}),
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    held = read_crystals(tmp_path / "x.jsonl")
    assert held.column("status") == ["ok", *["failed"] * 7, "ok", "ok"]
    reasons = held.column("reason")
    expected = ["line 2 is not JSON", "Qq", "no frac_coords", "not a finite", "spans less", "", "not a JSON object"]
    for reason, words in zip(reasons[1:8], expected, strict=True):
        assert words in reason
    assert same(held.structure(8), rutile())


def test_truncated_json_and_gzip_are_errors(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"data": [')
    with pytest.raises(BadInput, match="not JSON"):
        read_crystals(tmp_path / "x.json")
    packed = gzip.compress(to_cif(from_pymatgen([rocksalt()])).encode())
    (tmp_path / "x.cif.gz").write_bytes(packed)
    assert len(read_crystals(tmp_path / "x.cif.gz")) == 1
    (tmp_path / "x.cif.gz").write_bytes(packed[:-20])
    with pytest.raises(BadInput, match="truncated"):
        read_crystals(tmp_path / "x.cif.gz")
    (tmp_path / "x.cif").write_bytes(b"\xff\xfe\x00data")
    with pytest.raises(BadInput, match="UTF-8"):
        read_crystals(tmp_path / "x.cif")
    with pytest.raises(BadInput, match="no file"):
        read_crystals(tmp_path / "missing.cif")


def csv_file(path: Path, rows: list[dict[str, str]]) -> Path:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(stream.getvalue())
    return path


def test_csv_values_that_are_not_numbers_are_left_out_with_a_note(tmp_path: Path) -> None:
    cif = rocksalt().to(fmt="cif")
    gaps = ["5.0", "nan", "", "large", "inf"]
    path = csv_file(
        tmp_path / "x.csv", [{"material_id": f"m{i}", "cif": cif, "band_gap [eV]": g} for i, g in enumerate(gaps)]
    )
    held = read_crystals(path, method="pbe-mp2020")
    assert held.column("band_gap") == [5.0, None, None, None, None]
    assert held.column("status") == ["ok"] * 5
    reasons = held.column("reason")
    assert reasons[0] is None
    assert reasons[2] is None
    assert "band_gap is not a finite number" in reasons[1]
    assert "'large'" in reasons[3]
    assert "finite" in reasons[4]
    assert held.method("band_gap") == "pbe-mp2020"


def test_csv_rows_without_a_readable_crystal_are_kept(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "x.csv", [{"cif": c} for c in ("", "garbage", rocksalt().to(fmt="cif"), "   ")])
    held = read_crystals(path)
    assert held.column("status") == ["failed", "failed", "ok", "failed"]


def test_wrong_units_methods_and_columns_are_refused(tmp_path: Path) -> None:
    row = {"cif": rocksalt().to(fmt="cif"), "band_gap [meV]": "5000", "gap": "5", "colour": "white"}
    path = csv_file(tmp_path / "x.csv", [row])
    with pytest.raises(BadInput, match="is in meV, but band_gap is kept in eV"):
        read_crystals(path, method=METHOD)
    with pytest.raises(ImpossibleRequest, match="Did you mean band_gap"):
        read_crystals(path, properties={"bandgap": "gap"}, method=METHOD)
    with pytest.raises(ImpossibleRequest, match="no column 'Eg'"):
        read_crystals(path, properties={"band_gap": "Eg"}, method=METHOD)
    with pytest.raises(ImpossibleRequest, match="need the method"):
        read_crystals(path, properties={"band_gap": "gap"})
    with pytest.raises(ImpossibleRequest, match="no column 'structure'"):
        read_crystals(path, structure_column="structure")
    held = read_crystals(path, properties={"band_gap": "gap"}, method=METHOD)
    assert held.column("band_gap") == [5.0]
    assert json.loads(held.metadata["ignored_columns"]) == ["band_gap [meV]", "colour"]


@pytest.mark.parametrize("header", ["piezo_max [C/m2]", "piezo_max [C/m^2]", "piezo_max [C / m²]", "piezo_max"])
def test_spellings_of_a_unit(header: str, tmp_path: Path) -> None:
    path = csv_file(tmp_path / "x.csv", [{"cif": rocksalt().to(fmt="cif"), header: "2"}])
    assert read_crystals(path, method=METHOD).column("piezo_max") == [2.0]


def test_tensors_of_the_wrong_size_are_left_out(tmp_path: Path) -> None:
    cif = rocksalt().to(fmt="cif")
    values = [json.dumps([[0.1] * 6] * 3), json.dumps([0.1] * 17), "[1,"]
    path = csv_file(tmp_path / "x.csv", [{"cif": cif, "piezo_tensor": v} for v in values])
    held = read_crystals(path, method=METHOD)
    assert held.column("piezo_tensor") == [[0.1] * 18, None, None]
    assert "17 numbers instead of 18" in held.get(1)["reason"]
    assert "not a number" in held.get(2)["reason"]


def test_csv_headers_carry_units(crystals: CrystalSet) -> None:
    header = to_csv(crystals).splitlines()[0]
    assert "band_gap [eV]" in header
    assert "piezo_tensor [C/m^2]" in header


def test_optimade_entries_from_elsewhere(tmp_path: Path) -> None:
    attributes = {
        "lattice_vectors": (np.eye(3) * 3.9).tolist(),
        "cartesian_site_positions": (perovskite().frac_coords * 3.9).tolist(),
        "species_at_sites": ["Sr", "Ti", "O", "O", "O"],
        "species": [{"name": e, "chemical_symbols": [e], "concentration": [1.0]} for e in ("Sr", "Ti", "O")],
        "nperiodic_dimensions": 3,
        "_mp_band_gap": 1.9,
    }
    mixed = {"name": "Ti", "chemical_symbols": ["Ti", "Zr"], "concentration": [0.5, 0.5]}
    entries = [
        {"id": "a", "attributes": attributes},
        {"id": "b", "attributes": {**attributes, "species": [mixed, *attributes["species"][::2]]}},
        {"id": "c", "attributes": {**attributes, "nperiodic_dimensions": 2}},
        {"id": "d", "attributes": None},
    ]
    (tmp_path / "x.json").write_text(json.dumps({"data": entries}))
    held = read_crystals(tmp_path / "x.json", properties={"band_gap": "_mp_band_gap"}, method="mp")
    assert held.column("status") == ["ok", "failed", "failed", "failed"]
    assert held.column("material_id") == ["a", "b", "c", "d"]
    assert held.column("band_gap")[0] == 1.9
    assert "disordered" in held.get(1)["reason"]
    assert "periodic" in held.get(2)["reason"]
    assert same(held.structure(0), perovskite())


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name, crystal in (("b.cif", rutile()), ("a.cif", rocksalt()), ("c.vasp", wurtzite())):
        (tmp_path / name).write_text(crystal.to(fmt="poscar" if name.endswith("vasp") else "cif"))
    (tmp_path / "d.cif").write_text("garbage")
    held = read_crystals(tmp_path)
    assert held.column("reduced_formula") == ["NaCl", "TiO2", "GaN", None]
    assert held.column("material_id") == ["a.cif", "b.cif", "c.vasp", "d.cif"]


def test_names_tell_the_format_or_an_error_lists_them(tmp_path: Path) -> None:
    known = {"POSCAR": "poscar", "CONTCAR_relaxed": "poscar", "a.CIF": "cif", "a.xyz": "extxyz", "a.csv.gz": "csv"}
    assert {name: guess_format(name) for name in known} == known
    with pytest.raises(ImpossibleRequest, match="extxyz"):
        guess_format("crystals.dat")
    with pytest.raises(ImpossibleRequest, match="no text format 'docx'"):
        formats.parse("", "docx")
    with pytest.raises(ImpossibleRequest, match="no format 'docx'"):
        write_crystals(from_pymatgen([rocksalt()]), tmp_path / "x", fmt="docx")


def test_nothing_to_write_is_said(tmp_path: Path) -> None:
    nothing = CrystalSet.from_structures([None], reasons=["no"])
    with pytest.raises(EmptySet, match=r"x\.cif"):
        write_crystals(nothing, tmp_path / "x.cif")
    assert list(tmp_path.iterdir()) == []


def test_odd_lattices_survive_cif(tmp_path: Path) -> None:
    skewed = Structure(
        Lattice.from_parameters(3.1, 4.2, 7.3, 71, 103, 88), ["Ba", "Ti"], [[0.01, 0.9, 0.3], [0.5, 0.4, 0.7]]
    )
    write_crystals(from_pymatgen([skewed]), tmp_path / "x.cif")
    again = read_crystals(tmp_path / "x.cif").structure(0)
    assert np.allclose(again.lattice.parameters, skewed.lattice.parameters, atol=1e-7)
    assert np.allclose(again.distance_matrix, skewed.distance_matrix, atol=1e-6)
