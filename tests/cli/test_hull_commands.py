"""Reference energies on the command line: from tables and relaxed sets, what they say of a formula, and pictures."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crysgen_aiida.cli.root import crysgen

TABLE = """id,formula,formation_energy_per_atom,e_above_hull
a,NaCl,-2.0,0.0
b,NaCl,-1.9,0.1
c,Na3Cl,-0.9,0.1
d,KCl,-2.2,0.0
e,NaKCl2,-2.0,0.1
f,Xx,-1.0,0.0
"""


@pytest.fixture
def invoke(aiida_profile: Any) -> Any:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(crysgen, ["-p", aiida_profile.name, "hull", *map(str, arguments)])

    return run


@pytest.fixture
def built(invoke: Any, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    done = invoke("build", "--file", path, "--name", "salts", "--scheme", "mp-legacy", "--hull-column", "e_above_hull",
                  "--source", "made up", "--format", "json")  # fmt: skip
    assert done.exit_code == 0, done.output
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def test_a_table_becomes_a_tested_reference(invoke: Any, built: dict[str, Any]) -> None:
    assert (built["entries"], built["left_out"], built["compounds"]) == (8, 1, 4)
    assert (built["scheme"], built["method"], built["source"]) == ("mp-legacy", "pbe-mp-legacy", "made up")
    assert built["elements"] == ["Cl", "K", "Na"]
    assert built["pairs_with_compounds"] == 2
    assert built["distances_are"] == "lower bound"  # three rows are no test to pass
    assert (built["test"]["n"], built["test"]["within"], built["test"]["passed"]) == (3, 1.0, False)
    listed = json.loads(invoke("list", "--format", "json").stdout)
    (row,) = [r for r in listed if r["pk"] == built["pk"]]
    assert (row["name"], row["entries"], row["passed"], row["made by"]) == ("salts", 8, False, None)
    shown = invoke("show", built["pk"])
    assert "not passed" in shown.stdout
    assert "2 of 3" in shown.stdout  # pairs with compounds
    assert json.loads(invoke("show", built["pk"], "--format", "json").stdout) == built


def test_a_formula_is_answered_in_every_format(invoke: Any, built: dict[str, Any]) -> None:
    rows = json.loads(invoke("show", built["pk"], "Na3Cl", "NaKCl2", "K", "--format", "json").stdout)
    salt, mixed, element = rows
    assert salt["hull_energy"] == salt["formation_energy"] == pytest.approx(-1.0)
    assert salt["decomposition"] == [{"formula": "Na", "share": 0.5}, {"formula": "NaCl", "share": 0.5}]
    assert (salt["competing"], salt["complete"], salt["reason"]) == (2, True, None)
    assert mixed["hull_energy"] == pytest.approx(-2.1)
    assert (mixed["competing"], mixed["coverage"]) == (4, pytest.approx(6 / 7))
    assert element["complete"]
    (row,) = csv.DictReader(io.StringIO(invoke("show", built["pk"], "Na3Cl", "--format", "csv").stdout))
    assert row["decomposition"] == "0.500 Na + 0.500 NaCl"
    assert "0.500 Na + 0.500 NaCl" in invoke("show", built["pk"], "Na3Cl").stdout
    (missing,) = json.loads(invoke("show", built["pk"], "LiCl", "--format", "json").stdout)
    assert (missing["hull_energy"], missing["complete"]) == (None, False)
    assert missing["reason"] == "no entry for Li"


@pytest.mark.parametrize("ending", ["svg", "png"])
@pytest.mark.parametrize("formulas", [["Na3Cl"], ["NaKCl2"], ["NaCl", "KCl"]])
def test_hulls_are_drawn(invoke: Any, built: dict[str, Any], tmp_path: Path, ending: str, formulas: list[str]) -> None:
    path = tmp_path / f"hull.{ending}"
    done = invoke("show", built["pk"], *formulas, "--plot", path)
    assert done.exit_code == 0, done.output
    if ending == "svg":
        text = "".join(e.text or "" for e in ET.parse(path).iter() if e.tag.endswith("text"))
        for label in ("NaCl", "on the hull", "above it", "asked for"):
            assert label in text
    assert "exists already" in invoke("show", built["pk"], *formulas, "--plot", path).output


def test_tie_lines_are_those_of_the_phase_diagram(invoke: Any, built: dict[str, Any]) -> None:
    from aiida import orm
    from pymatgen.analysis.phase_diagram import PDEntry, PDPlotter, PhaseDiagram
    from pymatgen.core import Composition

    from crysgen_aiida.cli.hull import reduced
    from crysgen_aiida.cli.hull_picture import points_of, tie_lines
    from crysgen_aiida.physics.reference import Reference

    against = Reference(orm.load_node(built["pk"]).table)
    points = points_of(against, ("Cl", "K", "Na"))
    found = {frozenset((points.names[a], points.names[b])) for a, b in tie_lines(points)}
    entries = [
        PDEntry(Composition(f), e * Composition(f).num_atoms)
        for f, e in zip(against.formulas, against.energies, strict=True)
        if e == e
    ]
    lines = PDPlotter(PhaseDiagram(entries)).pd_plot_data[0]
    stable = PDPlotter(PhaseDiagram(entries)).pd_plot_data[1]
    named = {coords: reduced(entry.composition.formula) for coords, entry in stable.items()}
    wanted = {frozenset(named[x, y] for x, y in zip(xs, ys, strict=True)) for xs, ys in lines}
    assert found == wanted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "--name", "x"], "one thing to build from"),
        (["build", "1", "--name", "x", "--mp", "Li-O"], "one thing to build from"),
        (["build", "--name", "x", "--mp", "Li-O", "--scheme", "mp-legacy"], "mp2020-compatible"),
        (["build", "--name", "x", "--mp", "Lio"], "no chemical system"),
        (["build", "nothing", "--name", "x"], "There is no data set"),
        (["show", "nothing"], "There is no set of reference energies"),
    ],
)
def test_mistakes_are_met_with_a_sentence(invoke: Any, arguments: list[str], words: str) -> None:
    done = invoke(*arguments)
    assert done.exit_code != 0
    assert words in done.output
    assert "Traceback" not in done.output


def test_mistakes_about_a_reference(invoke: Any, built: dict[str, Any], tmp_path: Path) -> None:
    for arguments, words in (
        (["Na-Cl"], "is no formula"),
        (["Qq"], "is no formula"),
        (["--plot", tmp_path / "a.svg"], "Give the formulas"),
        (["NaCl", "--plot", tmp_path / "a.pdf"], ".svg or .png"),
        (["NaKCl2Br", "--plot", tmp_path / "a.svg"], "cannot be drawn in a plane"),
        (["LiCl", "--plot", tmp_path / "a.svg"], "no entry for Li"),
    ):
        done = invoke("show", built["pk"], *arguments)
        assert done.exit_code != 0
        assert words in done.output
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    assert "--scheme" in invoke("build", "--file", path, "--name", "x").output
    done = invoke("build", "--file", path, "--name", "x", "--scheme", "self-consistent")
    assert "relax a data set" in done.output
    done = invoke("build", "--file", path, "--name", "x", "--scheme", "mp-legacy", "--energy-column", "nope")
    assert "no column 'nope'" in done.output
