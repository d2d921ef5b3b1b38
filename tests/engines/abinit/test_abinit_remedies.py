"""Each failure is provoked with the real programs, and the chain's remedy is seen to work, or to give up in words."""

from __future__ import annotations

import os

import pytest
from pymatgen.core import Lattice, Structure

pytestmark = pytest.mark.slow


def jobs(node):
    """Return the jobs of a chain in order."""
    from aiida import orm

    return sorted((n for n in node.called if isinstance(n, orm.CalcJobNode)), key=lambda n: n.pk)


def statuses(node):
    """Return the exit statuses of the jobs of a chain in order."""
    return [job.exit_status for job in jobs(node)]


def test_a_self_consistent_run_gets_more_steps(run):
    node = run(parameters={"nstep": 4}, only_scf=True)
    assert node.is_finished_ok, node.exit_message
    assert statuses(node) == [330, 0]
    assert jobs(node)[1].inputs.parameters["nstep"] == 8
    assert jobs(node)[1].inputs.parent_folder.uuid == jobs(node)[0].outputs.remote_folder.uuid
    assert node.outputs.output_parameters["scf_converged"] is True


def test_a_self_consistent_run_that_never_converges_ends_in_words(run):
    node = run(parameters={"nstep": 1, "tolvrs": 1e-30}, only_scf=True)
    assert node.exit_status == 330
    assert statuses(node) == [330, 330, 330]
    assert "did not converge" in node.exit_message
    assert "dielectric matrix" in node.exit_message
    assert jobs(node)[2].inputs.parameters["iprcel"] == 45


def test_perturbations_go_on_from_what_they_reached(run):
    ground = run(only_scf=True)
    assert ground.is_finished_ok, ground.exit_message
    start = {"parent_folder": ground.outputs.remote_folder, "finished": {"1": [0]}}
    node = run(parameters={"nstep": 4, "tolwfr": 1e-3, "tolvrs_response": 1e-3}, **start)
    assert node.is_finished_ok, node.exit_message
    assert statuses(node) == [331, 0]
    assert "displacement of atom 1" in jobs(node)[0].exit_message
    assert jobs(node)[1].inputs.finished["3"]
    assert node.outputs.tensors.get_array("piezo_total").shape == (3, 6)
    # a whole run leaves no wave functions behind, the broken one kept them for the next
    assert not [f for f in os.listdir(jobs(node)[1].outputs.remote_folder.get_remote_path()) if "WF" in f]


def once(signal, folder):
    """Return shell lines that send ABINIT a signal as soon as the response has begun, in the first job only."""
    wait = "until test -e out_DS3_1WF4; do sleep 0.1; done"
    return f"test -e {folder}/once || {{ touch {folder}/once; ( {wait}; pkill -{signal} -P $$ -x abinit ) & }}"


def test_a_run_that_meets_the_wall_time_goes_on(run, tmp_path):
    # the signal is the one the limit of processor time sends; the limit itself is met in the next test
    node = run(parameters={"ecut": 20}, options={"prepend_text": once("XCPU", tmp_path)})
    assert node.is_finished_ok, node.exit_message
    assert statuses(node) == [320, 0]
    assert 1 in jobs(node)[1].inputs.finished["3"]
    assert jobs(node)[1].inputs.parent_folder.uuid == jobs(node)[0].outputs.remote_folder.uuid


def test_a_run_that_never_gets_further_is_not_started_for_ever(run):
    node = run(parameters={"ecut": 60}, options={"max_wallclock_seconds": 1})
    assert node.exit_status == 320
    assert len(jobs(node)) == 3
    assert "give it more time" in node.exit_message


def test_a_killed_run_goes_on(run, tmp_path):
    node = run(parameters={"ecut": 20}, options={"prepend_text": once("KILL", tmp_path)})
    assert node.is_finished_ok, node.exit_message
    assert statuses(node) == [322, 0]
    assert 1 in jobs(node)[1].inputs.finished["3"]


def test_symmetries_that_make_no_group_get_another_tolerance(run):
    off, a, bohr = 2e-5, 4.16 * 0.529177210903, 0.529177210903
    cell = Lattice([[0, a, a], [a, 3 * off * bohr, a], [a, a + 4 * off * bohr, 0]])
    crystal = Structure(cell, ["Al", "N"], [[0, 0, 0], [0.25 + off, 0.25 - 0.4 * off, 0.25]])
    node = run(crystal, only_scf=True)
    assert node.is_finished_ok, node.exit_message
    assert statuses(node) == [350, 0]
    assert "group closure" in jobs(node)[0].exit_message
    assert jobs(node)[1].inputs.parameters["tolsym"] == 1e-4
    assert "F-4 3 m" in node.outputs.output_parameters["space_group"]


def test_a_mesh_without_the_symmetry_is_taken_as_it_is(run):
    node = run(parameters={"ngkpt": [3, 3, 2]}, only_scf=True)
    assert node.is_finished_ok, node.exit_message
    assert statuses(node) == [351, 0]
    assert jobs(node)[1].inputs.parameters["chksymbreak"] == 0


def test_too_little_memory_ends_with_what_is_needed(run):
    node = run(parameters={"ecut": 700}, options={"prepend_text": "ulimit -v 1000000"}, only_scf=True)
    assert node.exit_status == 321
    assert statuses(node) == [321]
    assert "ABINIT needs up to 9" in node.exit_message  # 979 MB by its estimate
    assert "more memory" in node.exit_message


def test_a_metal_is_seen(run):
    node = run(
        Structure(Lattice([[0, 1.93, 1.93], [1.93, 0, 1.93], [1.93, 1.93, 0]]), ["Si"], [[0, 0, 0]]), only_scf=True
    )
    assert node.exit_status == 340
    assert "is a metal" in node.exit_message


def test_a_truncated_pseudopotential_is_named(run, psp8):
    import io

    from aiida import orm

    with psp8["N"].open(mode="r") as handle:
        half = handle.read()[:20000]
    broken = orm.SinglefileData(io.BytesIO(half.encode()), filename="N.psp8")
    node = run(pseudos={"Al": psp8["Al"], "N": broken}, only_scf=True)
    assert node.exit_status == 352
    assert "pseudopotential" in node.exit_message


def test_a_program_that_does_not_start_is_said(run, localhost):
    from pathlib import Path

    from aiida_fixtures import make_code

    node = run(code=make_code(localhost, Path("/usr/bin/no-such-abinit"), "no-abinit"), only_scf=True)
    assert node.exit_status == 310
    assert "could not start" in node.exit_message
