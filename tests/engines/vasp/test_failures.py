"""What goes wrong in practice, provoked: no convergence, no time left, no match, no POTCAR."""

from __future__ import annotations

import pytest
from aiida import orm

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.engines.vasp.potcars import check_family

#: The cheapest run: force constants of the cell itself.
TINY = {"min_length": 2.0}


def jobs_of(node):
    return sorted((n for n in node.called_descendants if isinstance(n, orm.CalcJobNode)), key=lambda n: n.pk)


def tiny(cutoff, **incar):
    return {**TINY, "incar": {"ENCUT": cutoff, **incar}}


def test_electrons_that_do_not_converge_are_tried_again_with_another_algorithm(run_stage, mock_vasp, aln):
    node = run_stage("phonon", aln, mock_vasp("slow", "fast"), tiny(301, ALGO="Fast"))
    assert node.is_finished_ok, node.exit_message
    first, second = jobs_of(node)
    assert first.exit_status == 701  # ERROR_ELECTRONIC_NOT_CONVERGED
    assert first.inputs.parameters.get_dict()["algo"] == "Fast"
    assert second.inputs.parameters.get_dict()["algo"] == "normal"
    # the results are those of the run that converged
    assert node.outputs.results.get_dict()["facts"]["incar"]["ALGO"] == "normal"
    assert node.outputs.results.creator.inputs.retrieved.creator.pk == second.pk


def test_electrons_that_never_converge(run_stage, mock_vasp, aln):
    node = run_stage("phonon", aln, mock_vasp("never", "always"), {**tiny(302), "max_iterations": 1})
    assert node.exit_status == 501
    assert "did not converge" in node.exit_message
    assert "VaspWorkChain" in node.exit_message
    assert jobs_of(node)[-1].exit_status == 701
    assert "results" not in node.outputs


def test_no_time_left_once_more_then_the_reason(run_stage, mock_vasp, aln):
    node = run_stage("phonon", aln, mock_vasp("walltime", "walltime"), tiny(303))
    assert node.exit_status == 502
    assert "walltime" in node.exit_message
    assert [job.exit_status for job in jobs_of(node)] == [700, 700]  # ERROR_DID_NOT_FINISH


def test_a_run_the_registry_does_not_hold_fails(run_stage, mock_vasp, aln):
    node = run_stage("phonon", aln, mock_vasp(""), tiny(399))
    assert node.exit_status == 502
    assert "results" not in node.outputs


@pytest.mark.parametrize(
    ("stage", "settings", "inputs", "why"),
    [
        ("relax", {}, {"pseudo_family": "NOPE"}, "aiida-vasp potcar uploadfamily --path FOLDER --name NOPE"),
        ("relax", {"potcars": {"Al": "Al_GW"}}, {}, "it has Al. Choose one in the setting potcars"),
        ("relax", {"input_set": "MPRelax"}, {}, "no input set 'MPRelax'"),
        ("relax", {"relaxations": 1}, {}, "no setting 'relaxations'"),
        ("dfpt", {"incar": {"METAGGA": "R2SCAN"}}, {}, "semilocal functionals only"),
        ("phonon", {"min_length": 90.0}, {}, "more than max_atoms"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_submitted(
    localhost, potcars, aln, stage, settings, inputs, why
):
    from aiida.engine import run_get_node
    from aiida.plugins import WorkflowFactory

    code = orm.InstalledCode(computer=localhost, filepath_executable="/opt/vasp/vasp_std", label="vasp")
    given = {"pseudo_family": potcars, **inputs}
    chain = WorkflowFactory(f"crysgen.vasp.{stage}")
    node = run_get_node(chain, structure=aln, codes={"vasp": code}, settings=settings, **given)[1]
    assert node.exit_status == 500
    assert why in node.exit_message
    assert not node.called


def test_bands_want_a_primitive_cell(localhost, potcars):
    from aiida.engine import run_get_node
    from aiida.plugins import WorkflowFactory
    from ase.build import bulk

    cubic = orm.StructureData(ase=bulk("Si", "diamond", a=5.43, cubic=True))
    code = orm.InstalledCode(computer=localhost, filepath_executable="/opt/vasp/vasp_std", label="vasp")
    node = run_get_node(
        WorkflowFactory("crysgen.vasp.bands"), structure=cubic, codes={"vasp": code}, pseudo_family=potcars
    )[1]
    assert node.exit_status == 500
    assert "Give a primitive cell" in node.exit_message


def test_a_family_without_an_element_says_how_to_add_it(potcars):
    with pytest.raises(ImpossibleRequest, match="has no POTCAR for Ge"):
        check_family(potcars, {"Ge": "Ge_d"}, {"Ge": "Ge"})
    with pytest.raises(ImpossibleRequest, match="name it as pseudo_family"):
        check_family(None, {"Al": "Al"}, {"Al": "Al"})
    check_family(potcars, {"Fe1": "Fe_pv", "O": "O"}, {"Fe1": "Fe", "O": "O"})
