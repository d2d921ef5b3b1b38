"""What is refused before anything runs, with the sentence that says why."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crysgen_aiida.data.structures import structure_node
from crysgen_aiida.engines.abinit.results import warnings


def head(element_number: int, valence: float, ixc: int = 11):
    """Return a psp8 node with this head and nothing else."""
    from aiida import orm

    text = f"x\n{element_number} {valence} 0\n8 {ixc} 0 4 10 0\n1 0 0\n0 0 0 0 0\n0\n"
    return orm.SinglefileData(io.BytesIO(text.encode()), filename=f"{element_number}.psp8")


@pytest.fixture
def problem(aiida_profile, localhost, zincblende):
    """Return what the job says of inputs, None if it takes them."""
    from pathlib import Path

    from aiida.engine.utils import instantiate_process
    from aiida.manage import get_manager
    from aiida_fixtures import make_code

    from crysgen_aiida.engines.abinit.calculation import AbinitDfptCalculation

    code = make_code(localhost, Path("/bin/true"), "true")
    given = {
        "code": code,
        "mrgddb": code,
        "anaddb": code,
        "structure": structure_node(zincblende),
        "pseudos": {"Al": head(13, 3), "N": head(7, 5)},
        "parameters": {"ecut": 20, "ngkpt": [2, 2, 2]},
        "metadata": {"options": {"resources": {"num_machines": 1}}},
    }

    def ask(**changes):
        inputs = {k: v for k, v in {**given, **changes}.items() if v is not None}
        try:
            instantiate_process(get_manager().create_runner(communicator=None), AbinitDfptCalculation, **inputs)
        except ValueError as error:
            return str(error)
        return None

    return ask


def test_good_inputs_are_taken(problem):
    assert problem() is None
    assert problem(mrgddb=None, anaddb=None, only_scf=True) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (lambda: {"pseudos": {"Al": head(13, 3)}}, "no pseudopotential for N"),
        (lambda: {"pseudos": {"Al": head(13, 3), "N": head(8, 5)}}, "for another element: N"),
        (lambda: {"pseudos": {"Al": head(13, 3), "N": head(7, 5, -1012)}}, "different functionals"),
        (
            lambda: {"pseudos": {"Al": head(13, 3, -263267), "N": head(7, 5, -263267)}},
            "no response here for the functional",
        ),
        (lambda: {"pseudos": {"Al": head(13, 3), "N": head(7, 6)}}, "9 valence electrons"),
        (lambda: {"pseudos": {"Al": head(13, 3), "N": head(7, 5.5)}}, "no whole number"),
        (lambda: {"anaddb": None}, "anaddb are needed"),
        (lambda: {"parameters": {"ecut": 20}}, "lack ngkpt"),
    ],
)
def test_bad_inputs_are_refused_with_the_reason(problem, changes, why):
    assert why in (problem(**changes()) or "")


def test_what_a_reader_should_know_is_said():
    assert warnings({"stress_gpa": [0.05] * 6, "charge_neutrality_violation": 0.01}, 2) == []
    said = warnings(
        {
            "stress_gpa": [0.2, 0, 0, 0, 0, 0],
            "max_force_ev_per_a": 0.3,
            "charge_neutrality_violation": 0.5,
            "acoustic_sum_rule_violation": 4.0,
        },
        2,
    )
    assert len(said) == 4
    assert "2.0 kbar" in said[0]


def overlapping():
    """Return two atoms in nearly the same place."""
    return Structure(Lattice.cubic(4), ["Al", "N"], [[0, 0, 0], [0.05, 0, 0]])


@pytest.mark.parametrize(
    ("crystal", "why"),
    [
        (overlapping(), "overlap"),
        (Structure(Lattice.cubic(4), ["Al", "Xe"], [[0, 0, 0], [0.5] * 3]), "no pseudopotential for Xe"),
        (Structure(Lattice.cubic(2.9), ["Al"], [[0, 0, 0]]), "one atom in its cell"),
        (Structure(Lattice.cubic(4), ["Al"] * 3, [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]]), "9 valence electrons"),
    ],
)
def test_the_stage_refuses_what_it_cannot_compute(codes, family, crystal, why):
    from aiida.engine import run_get_node

    from crysgen_aiida.engines.abinit.stage import AbinitDfptStage

    node = run_get_node(AbinitDfptStage, structure=structure_node(crystal), codes=codes, pseudo_family=family.label)[1]
    assert node.exit_status == 500
    assert why in node.exit_message


def test_a_potential_is_converted_once(family):
    from crysgen_aiida.engines.abinit.pseudos import psp8_pseudos

    first, second = (psp8_pseudos(structure_node(overlapping()), family) for _ in range(2))
    assert second["Al"].creator.base.caching.is_created_from_cache
    with first["Al"].open(mode="r") as a, second["Al"].open(mode="r") as b:
        assert a.read() == b.read()


@pytest.mark.parametrize(("stress", "reported"), [(1.0, True), (19.0, False)])
@pytest.mark.usefixtures("aiida_profile")
def test_elastic_constants_of_a_strained_crystal_are_not_reported(zincblende, stress, reported):
    from aiida import orm

    from crysgen_aiida.data.structures import structure_node
    from crysgen_aiida.engines.abinit.results import dfpt_results

    tensors = orm.ArrayData()
    piezo, stiffness = np.zeros((3, 6)), np.diag([300.0, 300, 300, 150, 150, 150])
    piezo[[0, 1, 2], [3, 4, 5]] = 0.6
    tensors.set_array("piezo_total", piezo)
    tensors.set_array("elastic_relaxed", stiffness)
    about = {"method": "abinit-dfpt-pbe", "settings": {"symprec": 0.01}, "parameters": {}}
    scf, response = orm.Dict({"stress_gpa": [-stress, 0, 0, 0, 0, 0]}), orm.Dict({})
    found = dfpt_results(orm.Dict(about), structure_node(zincblende), tensors, scf, response).get_dict()
    assert found["values"]["piezo_max"] == pytest.approx(0.6)
    assert ("bulk_modulus_vrh" in found["values"]) is reported
    assert ("piezo_strain_max" in found["values"]) is reported
    assert f"{10 * stress:.1f} kbar" in found["verdict"]
