"""The shipped starter set is what its log and its licences say."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spglib

from crysgen_aiida.crystals import matching, symmetry
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.properties import get_property
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.screening.fingerprints import COLUMN, KnownFingerprints, fingerprints_of

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "crysgen_aiida" / "starter" / "crystals.parquet"
PROPERTIES = (
    "formation_energy_per_atom",
    "band_gap",
    "e_above_hull",
    "piezo_tensor",
    "piezo_max",
    "dielectric_total",
    "dielectric_electronic",
    "bulk_modulus_vrh",
    "shear_modulus_vrh",
)


def point_group_of(number: int) -> str:
    for hall in range(1, 531):
        kind = spglib.get_spacegroup_type(hall)
        if kind.number == number:
            return str(kind.pointgroup_international)
    raise AssertionError(number)


def test_it_is_small_and_its_hash_is_the_recorded_one(starter: CrystalSet, build_log: dict[str, Any]) -> None:
    assert FILE.stat().st_size <= 4_000_000
    assert starter.content_hash == build_log["crystals.parquet"]["content_hash"]


def test_counts_are_the_recorded_ones(starter: CrystalSet, build_log: dict[str, Any]) -> None:
    log = build_log["crystals.parquet"]
    assert len(starter) == log["rows"]
    assert 6200 <= len(starter) <= 6400
    assert starter.ok.all()
    assert log["rows"] + log["merged_away"] <= log["material_ids"]
    for name in PROPERTIES:
        assert sum(v is not None for v in starter.column(name)) == log["labelled"][name], name
    both = np.isfinite(starter.values("formation_energy_per_atom")) & np.isfinite(starter.values("band_gap"))
    assert both.sum() >= 6200
    assert np.isfinite(starter.values("piezo_max")).sum() >= 900


def test_every_value_has_its_unit_and_one_method(starter: CrystalSet) -> None:
    for name in PROPERTIES:
        metadata = starter.arrow.schema.field(name).metadata
        assert metadata[b"method"] == b"pbe-mp-legacy"
        assert metadata[b"unit"].decode() == get_property(name).unit
        assert metadata[b"property"].decode() == name


def test_values_are_in_the_range_of_their_units(starter: CrystalSet) -> None:
    ranges = {
        "formation_energy_per_atom": (-5.0, 5.0),
        "band_gap": (0.0, 20.0),  # solid noble gases reach 18
        "e_above_hull": (0.0, 5.0),
        "bulk_modulus_vrh": (1.0, 500.0),
        "shear_modulus_vrh": (1.0, 600.0),
        "dielectric_electronic": (1.0, 300.0),
        "dielectric_total": (1.0, 400.0),
    }
    for name, (low, high) in ranges.items():
        stats = starter.column_stats()[name]
        assert low <= stats["min"] <= stats["max"] <= high, name


def test_piezo_max_is_the_largest_component_and_not_the_longitudinal_maximum(starter: CrystalSet) -> None:
    tensors, maxima = starter.values("piezo_tensor"), starter.values("piezo_max")
    has = np.isfinite(maxima)
    assert np.array_equal(has, np.isfinite(tensors).all(axis=1))
    assert np.array_equal(np.abs(tensors[has]).max(axis=1), maxima[has])
    # zinc-blende AgI: e14 = -0.15842 C/m^2; the longitudinal maximum of its source is 0.0915
    silver_iodide = starter.select([("material_id", "==", "mp-22925")])
    assert silver_iodide.column("piezo_max") == [0.15842]
    assert "eij_max" not in starter.columns


def test_flags_follow_their_rules(starter: CrystalSet, build_log: dict[str, Any]) -> None:
    flags = [set((text or "").split(",")) - {""} for text in starter.column("flags")]
    piezo, gap = starter.values("piezo_max"), starter.values("band_gap")
    forbidden = {}
    for number in set(starter.column("space_group_loose")):
        forbidden[number] = not symmetry.Symmetry(number, "", point_group_of(number), 0.1).piezo_allowed
    for row, (held, number) in enumerate(zip(flags, starter.column("space_group_loose"), strict=True)):
        assert ("piezo_above_20" in held) == (piezo[row] > 20.0)
        assert ("piezo_forbidden" in held) == (forbidden[number] and piezo[row] > 0.02)
        assert ("piezo_small_gap" in held) == (np.isfinite(piezo[row]) and gap[row] < 0.1)
    counts: dict[str, int] = defaultdict(int)
    for held in flags:
        for flag in held:
            counts[flag] += 1
    assert dict(counts) == build_log["crystals.parquet"]["flags"]
    assert counts["piezo_above_20"] == 3


def test_no_crystal_is_there_twice(starter: CrystalSet) -> None:
    assert len(set(starter.column("material_id"))) == len(starter)
    assert len(set(starter.column("content_id"))) == len(starter)
    groups = defaultdict(list)
    keys = zip(starter.column("reduced_formula"), starter.column("space_group_loose"), strict=True)
    for row, key in enumerate(keys):
        groups[key].append(row)
    for rows in groups.values():
        if len(rows) > 1:
            found = matching.group_duplicates([starter.structure(row) for row in rows])
            assert len(found.unique) == len(rows), [starter.column("material_id")[row] for row in rows]


def test_cells_are_primitive_and_groups_are_right(starter: CrystalSet) -> None:
    loose, tight = starter.column("space_group_loose"), starter.column("space_group")
    for row in range(0, len(starter), 60):
        structure = starter.structure(row)
        assert len(symmetry.primitive(structure, 0.01)) == len(structure)
        assert symmetry.symmetry(structure, 0.01).number == tight[row]
        assert symmetry.symmetry(structure, 0.1).number == loose[row]


def test_rejects_have_reasons_and_inputs_have_hashes(build_log: dict[str, Any]) -> None:
    log = build_log["crystals.parquet"]
    assert sum(log["entries"].values()) == 7116
    assert all(": " in reason and n > 0 for reason, n in log["rejected"].items())
    assert len(build_log["packages"]) == 3
    assert all(len(package["sha256"]) == 64 for package in build_log["packages"].values())


def test_every_source_is_licensed(starter: CrystalSet) -> None:
    text = (ROOT / "DATA_LICENSES.md").read_text()
    sources = {name for held in starter.column("source") for name in held.split(",")}
    assert sources == {"piezoelectric_tensor", "dielectric_constant", "elastic_tensor", "flla_2015", "megnet_2018"}
    for source in sources:
        assert f"`{source}`" in text
    for file in ("crystals.parquet", "near_hull.parquet"):
        assert file in text
    assert starter.metadata["license"] == "CC-BY-4.0"
    assert "CC BY 4.0" in text


def test_the_shipped_fingerprints_are_those_of_the_crystals_with_a_tensor() -> None:
    crystals, table = CrystalSet.read(FILE), PropertyTable.read(FILE.with_name("fingerprints.parquet"))
    assert table.metadata["crystals"] == crystals.content_hash
    rows = table.column("parent_row")
    assert rows == np.flatnonzero(np.isfinite(crystals.values("piezo_max"))).tolist()
    ids = crystals.column("content_id")
    assert table.column("content_id") == [ids[row] for row in rows]
    assert len(KnownFingerprints({"starter": table})) == int(table.ok.sum())
    pytest.importorskip("matminer", reason="matminer makes the fingerprints: pip install --no-deps matminer")
    some = [0, 400, 900]
    again = fingerprints_of([crystals.structure(rows[k]) for k in some])
    for k, (values, _) in zip(some, again, strict=True):
        np.testing.assert_allclose(table.column(COLUMN)[k], values, atol=1e-5)
