"""The whole stage through a real daemon, with numbers that a run by hand gave."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crysgen_aiida.data.structures import structure_node

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

OPTIONS = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}}
FCC = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]


@pytest.fixture
def verify(daemon, codes, family, await_processes):
    """Submit the stage and return its node when it has ended."""
    from aiida.engine import submit

    from crysgen_aiida.engines.abinit.stage import AbinitDfptStage

    def start(crystal, **settings):
        node = submit(
            AbinitDfptStage,
            structure=structure_node(crystal),
            codes=codes,
            pseudo_family=family.label,
            settings=settings,
            options=OPTIONS,
        )
        await_processes([node], timeout=1200)
        return node

    return start


def test_zincblende_aln_has_the_piezoelectric_constant_of_a_run_by_hand(verify, zincblende):
    node = verify(zincblende, ecut=20, kpoints=[2, 2, 2], shifts=FCC)
    assert node.is_finished_ok, node.exit_message
    results = node.outputs.results.get_dict()
    # ABINIT 9.6.2 by hand with these settings: e14 0.5403 C/m^2, eps 5.21 and 9.37, C11 422, C12 173, C44 238 GPa
    assert results["values"]["piezo_max"] == pytest.approx(0.5403, rel=0.01)
    assert results["values"]["dielectric_electronic"] == pytest.approx(5.2106, rel=0.01)
    assert results["values"]["dielectric_total"] == pytest.approx(9.3657, rel=0.01)
    stiffness = node.outputs.tensors.get_array("elastic_relaxed")
    assert stiffness[0, 0] + 2 * stiffness[0, 1] == pytest.approx(422.35 + 2 * 173.39, rel=0.01)
    assert "bulk_modulus_vrh" not in results["values"], "it is under a stress of 315 kbar"
    assert results["method"] == "abinit-dfpt-pbe"
    assert results["facts"]["gap_at_kpoints_ev"] > 3
    assert "not at rest" in results["verdict"]  # 315 kbar remain at these settings
    piezo = node.outputs.tensors.get_array("piezo_total")
    assert np.abs(piezo[0, 3]) == pytest.approx(0.5403, rel=0.01)
    # the number leads back to the ground state and to the pseudopotential it was made with
    upf = node.inputs.pseudo_family.value
    ancestors = [n.process_label for n in node.called_descendants]
    assert upf == "abinit-tests"
    assert ancestors.count("AbinitDfptCalculation") == 2
    assert "to_psp8" in ancestors


def test_a_metal_is_refused_before_the_response(verify):
    close_packed = Lattice.hexagonal(2.7, 4.4)
    crystal = Structure(close_packed, ["Si", "Si"], [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]])
    node = verify(crystal, ecut=8, kpoints=[2, 2, 2])
    assert node.exit_status == 500
    assert "it is a metal" in node.exit_message
    assert [n.process_label for n in node.called_descendants].count("AbinitDfptCalculation") == 1


def fcc(a, symbols):
    """Return a crystal on an fcc lattice, the second atom at a quarter of the diagonal."""
    lattice = Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])
    return Structure(lattice, symbols, [[0, 0, 0], [0.25, 0.25, 0.25]][: len(symbols)])


def test_a_crystal_under_stress_is_refused_before_the_response(verify):
    node = verify(fcc(5.43, ["Si", "Si"]), ecut=10, kpoints=[2, 2, 2], max_stress=0.1)
    assert node.exit_status == 500
    assert "above max_stress = 0.1 kbar" in node.exit_message
    assert [n.process_label for n in node.called_descendants].count("AbinitDfptCalculation") == 1


def test_one_atom_in_the_cell_is_refused(verify):
    node = verify(fcc(5.3, ["Ar"]), ecut=10, kpoints=[2, 2, 2])
    assert node.exit_status == 500
    assert "one atom in its cell" in node.exit_message


def test_a_crystal_with_an_inversion_centre_has_the_other_tensors(verify):
    crystal = fcc(5.43, ["Si", "Si"])
    node = verify(crystal, ecut=10, kpoints=[2, 2, 2], tolvrs_response=1e-4)
    assert node.is_finished_ok, node.exit_message
    values = node.outputs.results["values"]
    assert values["piezo_max"] == pytest.approx(0, abs=1e-3)
    assert values["dielectric_electronic"] > 1.2
    assert values["dielectric_total"] == pytest.approx(values["dielectric_electronic"], rel=1e-3)
    assert "phonon_min_frequency_gamma" in values
    assert node.outputs.tensors.get_array("elastic_relaxed")[0, 0] > 0
