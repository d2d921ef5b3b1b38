"""Data sets on the command line: good files, broken files, and what is stored once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crysgen_aiida.cli.root import crysgen

CIF = """data_{name}
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {a}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Cs 0 0 0
Cl 0.5 0.5 0.5
"""


@pytest.fixture
def invoke(aiida_profile: Any) -> Any:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(crysgen, ["-p", aiida_profile.name, "dataset", *map(str, arguments)])

    return run


def test_a_file_with_good_and_broken_crystals_keeps_them_all(invoke: Any, tmp_path: Path) -> None:
    path = tmp_path / "mixed.cif"
    path.write_text(CIF.format(name="good", a=4.12) + "\ndata_bad\n_cell_length_a nonsense\n_atom_site_label\n")
    done = invoke("import", path, "--format", "json", "--label", "mixed salts")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert (made["rows"], made["failed"], made["new"]) == (2, 1, True)
    shown = json.loads(invoke("show", "mixed salts", "--format", "json").stdout)
    assert shown["rows"] == 2
    assert shown["failures"][0]["rows"] == 1
    again = json.loads(invoke("import", path, "--format", "json").stdout)
    assert (again["uuid"], again["new"], again["label"]) == (made["uuid"], False, "mixed salts")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("garbage.cif", b"this is no crystal", "could be read"),
        ("empty.csv", b"", "column"),
        ("empty.cif", b"", "no crystals"),
        ("cut.parquet", b"PAR1 and then nothing", "Parquet"),
        ("binary.cif", b"\xff\xfe\x00\x01", "UTF-8"),
        ("what.xyzzy", b"?", "format"),
    ],
)
def test_broken_files_store_nothing_and_say_why(
    invoke: Any, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    from aiida import orm

    from crysgen_aiida.data.packed import CrystalSetData

    before = orm.QueryBuilder().append(CrystalSetData).count()
    path = tmp_path / name
    path.write_bytes(content)
    done = invoke("import", path)
    assert done.exit_code == 1
    assert words in done.output
    assert "Traceback" not in done.output
    assert orm.QueryBuilder().append(CrystalSetData).count() == before


def test_properties_need_a_method_and_a_known_name(invoke: Any, tmp_path: Path) -> None:
    path = tmp_path / "gaps.csv"
    block = CIF.format(name="x", a=4.0).replace('"', "'")
    path.write_text(f'cif,gap,band_gap\n"{block}",2.0,5.0\n')
    assert "method" in invoke("import", path).output
    done = invoke("import", path, "--method", "pbe", "--property", "bandgap=gap")
    assert "Did you mean band_gap" in done.output
    done = invoke(
        "import", path, "--method", "pbe", "--property", "band_gap=gap", "--format", "json", "--label", "gaps"
    )
    assert done.exit_code == 0, done.output
    shown = json.loads(invoke("show", "gaps", "--format", "json").stdout)
    (band_gap,) = shown["properties"]
    assert (band_gap["min"], band_gap["unit"], band_gap["method"]) == (2.0, "eV", "pbe")


def test_what_is_exported_can_be_imported_as_the_same_content(invoke: Any, tmp_path: Path, salts: Any) -> None:
    from crysgen_aiida.data.packed import CrystalSetData

    node = CrystalSetData.get_or_create(salts)
    path = tmp_path / "salts.parquet"
    assert invoke("export", node.pk, path).exit_code == 0
    assert json.loads(invoke("import", path, "--format", "json").stdout)["uuid"] == node.uuid
    assert "overwrite" in invoke("export", node.pk, path).output
    assert invoke("export", node.pk, path, "--overwrite").exit_code == 0


def test_a_node_of_another_kind_is_refused(invoke: Any) -> None:
    from aiida import orm

    assert "is a Int, not a data set" in invoke("show", orm.Int(3).store().pk).output
    assert "There is no data set" in invoke("show", "no such label").output


def test_labels_are_joined_by_id_into_a_new_set_that_knows_where_they_come_from(invoke: Any, tmp_path: Path) -> None:
    from aiida import orm

    cif = CIF.format(name="x", a=4.0)
    crystals, table = tmp_path / "mp.csv", tmp_path / "te.csv"
    crystals.write_text("material_id,cif\n" + "".join(f'mp-{i},"{cif}"\n' for i in range(3)))
    table.write_text("mp_id,PF\nmp-0,2\nmp-2,\nmp-9,5\n")
    assert invoke("import", crystals, "--label", "to join").exit_code == 0
    what = ("--property", "power_factor_over_tau=PF", "--scale", "power_factor_over_tau=1e11", "--method", "btp")
    refused = invoke("join", "to join", table, "--on", "id=mp_id", *what)
    assert refused.exit_code == 1
    assert "may hold ids: material_id" in refused.output
    assert orm.QueryBuilder().append(orm.CalcFunctionNode, filters={"label": "join_labels"}).count() == 0
    assert "is not a factor" in invoke("join", "to join", table, "--on", "a=b", *what, "--scale", "seebeck=x").output

    done = invoke("join", "to join", table, "--on", "material_id=mp_id", *what, "--source", "doi:2", "--format", "json")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert (made["rows"], made["rows matched"], made["labels power_factor_over_tau"]) == (3, 2, 1)
    assert (made["ids of the table"], made["ids without a row"]) == (3, 1)
    node = orm.load_node(made["uuid"])
    assert node.table.column("power_factor_over_tau") == [2e11, None, None]
    assert node.table.column("parent_row") == [0, 1, 2]
    given = {link.link_label: link.node for link in node.creator.base.links.get_incoming().all()}
    assert (given["crystals"].label, given["labels"].metadata["source"]) == ("to join", "doi:2")
    assert node.metadata["joined"][0]["source"] == "doi:2"
    listed = {row["label"] for row in json.loads(invoke("list", "--format", "json").stdout)}
    assert {"to join", "to join with power_factor_over_tau"} <= listed
    assert made["uuid"] in invoke("usage", "to join", "--format", "json").stdout
