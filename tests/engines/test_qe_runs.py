"""The engine qe for real: Quantum ESPRESSO on tiny crystals, and every failure its chains handle, provoked."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node, submit
from aiida.plugins import WorkflowFactory

from crysgen_aiida.engines.contract import get_engine
from crysgen_aiida.engines.protocols import stage_settings

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

#: Settings under which silicon takes seconds; what comes out is no silicon anybody knows.
TINY = {"ecutwfc": 12.0, "kpoints_distance": 1.0}
PROGRAMS = ("pw.x", "ph.x", "q2r.x", "matdyn.x")
#: Virtual memory in kB with which pw.x starts, and cannot hold a density at 1000 Ry.
LIMIT = 475_000


@pytest.fixture(scope="module")
def qe(aiida_profile: Any, pseudos_folder: Path) -> Any:
    """Run a stage here, on codes of this machine, and return its node."""
    if absent := [p for p in PROGRAMS if shutil.which(p) is None]:
        pytest.skip(f"{', '.join(absent)} not on PATH: apt-get install quantum-espresso, or `make test-engines`")
    from aiida_fixtures import make_code, make_computer

    from crysgen_aiida.engines.pseudos import install_family

    family, _ = install_family(pseudos_folder, "real")
    computer = make_computer("localhost", "core.direct")
    codes = {p.removesuffix(".x"): make_code(computer, Path(str(shutil.which(p))), p[:-2]) for p in PROGRAMS}

    def inputs(stage: str, structure: Any, settings: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
        needed = get_engine("qe").stage(stage).codes
        options = {"withmpi": False, "environment_variables": {"OMP_NUM_THREADS": "1"}, **rest.pop("options", {})}
        return {
            "structure": structure,
            "codes": {role: rest.get("codes", codes)[role] for role in needed},
            "settings": stage_settings("qe", stage, "fast", {**TINY, **(settings or {})}),
            "pseudo_family": family.label,
            "options": options,
        }

    def run(stage: str, structure: Any, settings: dict[str, Any] | None = None, **rest: Any) -> Any:
        chain = WorkflowFactory(f"crysgen.qe.{stage}")
        return run_get_node(chain, **inputs(stage, structure, settings, **rest))[1]

    run.inputs = inputs
    run.computer, run.codes = computer, codes
    return run


def jobs_of(node: Any, kind: str) -> list[Any]:
    """Return the jobs of a plug-in below a work chain, in their order."""
    return sorted((n for n in node.called_descendants if n.process_label == kind), key=lambda n: n.pk)


def statuses(node: Any, kind: str = "PwCalculation") -> list[int]:
    """Return the exit codes of its jobs, in their order."""
    return [n.exit_status for n in jobs_of(node, kind)]


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_silicon_is_relaxed_by_the_daemon_and_the_energy_leads_to_its_job(qe, daemon, await_processes, crystal):
    node = submit(WorkflowFactory("crysgen.qe.relax"), **qe.inputs("relax", crystal("Si"), {"meta_convergence": False}))
    await_processes([node], timeout=300)
    assert node.is_finished_ok, node.exit_message
    held = node.outputs.results.get_dict()
    assert held["method"] == "qe-pbe"
    assert held["values"]["max_force"] < 1e-3
    source = node.outputs.results.creator.inputs.parameters.creator
    assert source.process_label == "PwCalculation"
    assert node.outputs.structure.creator == source


def test_bands_have_a_path_a_mesh_and_one_gap(qe, crystal):
    node = qe("bands", crystal("Si"), {"mesh_distance": 1.0, "path_distance": 0.4})
    assert node.is_finished_ok, node.exit_message
    held = node.outputs.results.get_dict()
    assert 0.3 < held["values"]["band_gap"] < 0.9
    assert held["facts"]["sampled"] == ["mesh", "path", "scf"]
    assert not held["facts"]["gap_is_direct"]
    assert node.outputs.bands.labels[0][1] == "GAMMA"
    assert node.outputs.mesh_bands.get_bands().shape[1] >= 8


def test_dielectric_response_of_a_polar_crystal(qe, crystal):
    node = qe("dfpt", crystal("AlN"), {"ecutwfc": 30.0})
    assert node.is_finished_ok, node.exit_message
    tensors = {name: node.outputs.tensors.get_array(name) for name in node.outputs.tensors.get_arraynames()}
    values = node.outputs.results["values"]
    assert np.trace(tensors["dielectric_total"]) / 3 == pytest.approx(values["dielectric_total"])
    assert values["dielectric_total"] > values["dielectric_electronic"] > 1
    assert tensors["born_charges"].shape == (2, 3, 3)
    assert tensors["born_charges"].sum(axis=0) == pytest.approx(np.zeros((3, 3)), abs=1e-12)
    assert tensors["born_charges"][0, 0, 0] > 0 > tensors["born_charges"][1, 0, 0]
    assert (tensors["gamma_frequencies"] > 10).sum() == 3


def test_phonons_of_silicon(qe, crystal):
    node = qe("phonon", crystal("Si"), {"qpoints_distance": 2.0, "path_distance": 0.5, "mesh_distance": 0.5})
    assert node.is_finished_ok, node.exit_message
    values = node.outputs.results["values"]
    assert 12 < values["phonon_max_frequency"] < 18
    assert values["phonon_min_frequency_gamma"] == pytest.approx(values["phonon_max_frequency"], abs=1.0)
    assert node.outputs.phonon_bands.units == "THz"
    x, y = node.outputs.dos.get_x()[1], node.outputs.dos.get_y()[0][1]
    assert np.trapezoid(y, x) == pytest.approx(6, rel=0.02)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_too_few_electronic_steps_are_made_more(qe, crystal):
    node = qe("bands", crystal("Si"), {"electron_maxstep": 3, "path_distance": 1.0})
    assert node.is_finished_ok, node.exit_message
    assert statuses(node)[0] == 410
    assert jobs_of(node, "PwCalculation")[1].inputs.parameters["ELECTRONS"]["electron_maxstep"] == 6


def test_a_density_that_does_not_converge_is_told_from_a_crash(qe, crystal):
    node = qe("bands", crystal("Si"), {"electron_maxstep": 1, "max_iterations": 1})
    assert node.exit_status == 501
    assert "did not reach self-consistency" in node.exit_message


def test_a_job_that_reaches_its_walltime_is_continued(qe, crystal):
    settings = {"ecutwfc": 60.0, "kpoints_distance": 0.15, "path_distance": 1.0, "max_iterations": 20}
    node = qe("bands", crystal("Si"), settings, options={"max_wallclock_seconds": 3})
    assert statuses(node)[0] == 400
    second = jobs_of(node, "PwCalculation")[1]
    assert second.inputs.parameters["CONTROL"]["restart_mode"] == "restart"
    assert node.is_finished_ok, node.exit_message


def test_symmetry_that_does_not_fit_is_left_out(qe, crystal):
    grid = {"SYSTEM": {"nr1": 15, "nr2": 16, "nr3": 18}}  # no grid that the symmetry of silicon maps onto itself
    node = qe("bands", crystal("Si"), {"parameters": grid, "path_distance": 1.0})
    assert node.is_finished_ok, node.exit_message
    first, second = jobs_of(node, "PwCalculation")[:2]
    assert first.exit_status != 0
    assert second.inputs.parameters["SYSTEM"]["nosym"] is True


@pytest.mark.parametrize(("spared", "status"), [("diago_david_ndim", 0), ("nothing", 502)])
def test_memory_that_runs_out_is_asked_for_less_of(qe, crystal, tmp_path, spared, status):
    """pw.x under a real limit; it is lifted for inputs that ask for less, or never."""
    script = tmp_path / "pw.x"
    script.write_text(f'#!/bin/sh\ngrep -q {spared} aiida.in || ulimit -v {LIMIT}\nexec timeout 120 pw.x "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    code = orm.InstalledCode(computer=qe.computer, filepath_executable=str(script), label=f"pw-{spared}").store()
    settings = {"ecutrho_factor": 1000 / 12, "parameters": {}, "path_distance": 2.0}
    node = qe("bands", crystal("Si"), settings, codes={"pw": code})
    assert node.exit_status == status, node.exit_message
    first = jobs_of(node, "PwCalculation")[0]
    assert first.exit_status != 0
    if status:
        assert "out of memory" in node.exit_message
        assert jobs_of(node, "PwCalculation")[-1].inputs.parameters["ELECTRONS"]["diagonalization"] == "cg"


@pytest.mark.parametrize(("program", "kills"), [("pw", 1), ("ph", 1), ("pw", 9)])
def test_a_job_that_is_killed_is_started_again(qe, crystal, tmp_path, program, kills):
    """The program ends without a word as often as is said, as on a node that fails."""
    script, count = tmp_path / f"{program}.x", tmp_path / "count"
    last = f'[ $(wc -l < {count}) -gt {kills} ] || exec timeout -s KILL 0.05 {program}.x "$@"'
    script.write_text(f'#!/bin/sh\necho >> {count}\n{last}\nexec {program}.x "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    code = orm.InstalledCode(computer=qe.computer, filepath_executable=str(script), label=f"{program}-{kills}").store()
    stage, settings = ("bands", {"path_distance": 2.0}) if program == "pw" else ("dfpt", {"ecutwfc": 20.0})
    node = qe(stage, crystal("Si" if program == "pw" else "AlN"), settings, codes={**qe.codes, program: code})
    first = jobs_of(node, "PwCalculation" if program == "pw" else "QePhCalculation")
    assert first[0].exit_status != 0
    if kills == 1:
        assert node.is_finished_ok, node.exit_message
        assert first[1].is_finished_ok
    else:
        assert node.exit_status == 502
        assert len(first) == 4
        assert first[3].inputs.parameters["ELECTRONS"]["diagonalization"] == "cg"


def test_a_response_that_converges_slowly_is_continued_within_the_limits_of_ph(qe, crystal):
    """After four steps the field has not converged; ph.x says that its job is done, and the matrix is empty."""
    node = qe("dfpt", crystal("AlN"), {"ecutwfc": 20.0, "ph_parameters": {"niter_ph": 4}})
    assert statuses(node, "QePhCalculation")[0] == 0
    second = jobs_of(node, "QePhCalculation")[1].inputs.parameters["INPUTPH"]
    assert second["nmix_ph"] <= 5
    assert second["recover"] is True
    assert node.is_finished_ok, node.exit_message


def test_a_metal_has_no_dielectric_response(qe, crystal):
    atoms = crystal("Al").get_ase().repeat((2, 1, 1))
    node = qe("dfpt", orm.StructureData(ase=atoms), {"max_iterations": 2, "electron_maxstep": 15})
    assert node.exit_status in (500, 501)
    assert "a metal" in node.exit_message
    assert not jobs_of(node, "QePhCalculation")
