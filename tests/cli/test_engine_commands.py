"""Engines on the command line: what there is, what it lacks with the line that repairs it, and setting one up."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crysgen_aiida.cli.engine_checks import executable_version
from crysgen_aiida.cli.root import crysgen
from crysgen_aiida.crystals.errors import NotInstalled

#: Stands for executables that are installed: it tells a version as pw.x does, in its banner.
PROGRAM = "#!/bin/sh\necho '     Program PWSCF v.6.7MaX starts on today'\n"
UPF = '<UPF version="2.0.1">\n<PP_HEADER element="Si" z_valence="4.0" functional="PBE"/>\n</UPF>\n'


@pytest.fixture
def invoke(aiida_profile: Any) -> Any:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(crysgen, ["-p", aiida_profile.name, *map(str, arguments)])

    return run


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH, alone, with programs by the names of Quantum ESPRESSO's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("pw.x", "ph.x", "q2r.x", "matdyn.x"):
        (folder / name).write_text(PROGRAM)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder) + os.pathsep + os.defpath)
    return folder


def test_every_engine_is_listed_with_its_stages_and_how_to_cite_it(invoke):
    rows = {row["engine"]: row for row in json.loads(invoke("engine", "list", "--format", "json").stdout)}
    assert rows["qe"]["stages"] == ["relax", "bands", "dfpt", "phonon"]
    assert "dielectric_total" in rows["qe"]["gives"]
    assert "10.1088/1361-648X/aa8f79" in rows["qe"]["citation"]
    assert "json" in invoke("engine", "list").output


def test_setting_up_and_then_nothing_is_missing(invoke, programs, tmp_path):
    folder = tmp_path / "upf"
    folder.mkdir()
    (folder / "Si.upf").write_text(UPF)
    done = invoke("engine", "setup", "qe", "--pseudos", folder, "--label", "tiny")
    assert done.exit_code == 0, done.output
    assert "family tiny, 1 elements" in done.output
    again = invoke("engine", "setup", "qe", "--pseudos", folder, "--label", "tiny")
    assert "made" not in again.output
    checked = invoke("engine", "doctor", "qe", "--format", "json")
    rows = {row["check"]: row for row in json.loads(checked.stdout)}
    assert checked.exit_code == 0, checked.output
    assert "6.7MaX" in rows["pw"]["detail"]
    assert "tiny (1 elements)" in rows["pseudopotentials"]["detail"]


def test_a_program_that_is_gone_is_a_finding_and_makes_way_for_another(aiida_profile, tmp_path, monkeypatch):
    from crysgen_aiida.cli.engine_checks import examine
    from crysgen_aiida.engines.contract import EngineInfo, StageInfo
    from crysgen_aiida.engines.local import ensure_codes

    info = EngineInfo(
        "kettle", "", {"relax": StageInfo("x", ("pot",))}, install="fetch it", executables={"pot": "pot.x"}
    )
    pots = [tmp_path / name / "pot.x" for name in ("old", "new")]
    for pot in pots:
        pot.parent.mkdir()
        pot.write_text(PROGRAM)
        pot.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(pots[0].parent), os.defpath]))
    assert ensure_codes(info) == (["pot@localhost"], [])
    assert ensure_codes(info) == ([], ["pot@localhost"])
    pots[0].unlink()
    finding = list(examine(info))[-1]
    assert (finding.status, "does not start" in finding.detail, "fetch it" in finding.fix) == ("fail", True, True)
    monkeypatch.setenv("PATH", os.pathsep.join([str(pots[1].parent), os.defpath]))
    assert ensure_codes(info) == (["pot@localhost"], [])
    assert [f.status for f in examine(info)] == ["ok", "ok"]
    pots[1].unlink()
    with pytest.raises(NotInstalled, match=r"cup.x of kettle is not on PATH"):
        ensure_codes(EngineInfo("kettle", "", {}, executables={"cup": "cup.x"}))


def test_unknown_engines_and_bad_folders_are_met_with_sentences(invoke, tmp_path):
    done = invoke("engine", "doctor", "qee")
    assert (done.exit_code, "Did you mean qe?" in done.output) == (1, True)
    done = invoke("engine", "setup", "qe", "--pseudos", tmp_path, "--label", "none")
    assert "holds no UPF files" in done.output


def test_a_version_is_what_the_program_says(programs, tmp_path):
    assert executable_version(str(programs / "pw.x")) == "6.7MaX"
    assert executable_version(str(tmp_path / "gone.x")) is None
