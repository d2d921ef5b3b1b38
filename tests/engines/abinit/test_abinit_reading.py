"""Inputs as written, outputs as recorded from ABINIT 9.6.2: nothing here needs its programs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.core.tensors import Tensor
from scipy.spatial.transform import Rotation

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.engines.abinit.inputs import BOHR, Parameters, abinit_input
from crysgen_aiida.engines.abinit.mesh import GAMMA, keeps_symmetry, mesh_for, reciprocal_rotations
from crysgen_aiida.engines.abinit.outputs import read_anaddb, read_errors, read_gap, read_run
from crysgen_aiida.engines.contract import TENSORS

#: The recorded runs: two atoms without any symmetry at 10 Ha, as they are and turned by these angles.
TURN = Rotation.from_euler("xyz", [20, 35, 50], degrees=True).as_matrix()


def test_the_input_is_as_written(zincblende, data_regression):
    text = abinit_input(zincblende, {"Al": "Al.psp8", "N": "N.psp8"}, 8, Parameters(20, (2, 2, 2)))
    data_regression.check({"lines": text.splitlines()})


def test_the_cell_is_written_as_it_is():
    cell = Structure(
        Lattice([[0.1, 2.2, 2.3], [2.1, 0, 2.2], [2.2, 2.25, 0]]), ["Al", "N"], [[0.01, 0, 0], [0.3, 0.2, 0.3]]
    )
    lines = abinit_input(cell, {"Al": "a", "N": "n"}, 8, Parameters(10, (1, 1, 1))).splitlines()
    where = lines.index("rprim")
    rows = np.array([line.split() for line in lines[where + 1 : where + 4]], dtype=float)
    assert rows * BOHR == pytest.approx(cell.lattice.matrix, abs=1e-12)
    assert lines[where - 1] == "acell 1 1 1"


def test_a_restart_reads_what_there_is(zincblende):
    first = abinit_input(zincblende, {"Al": "a", "N": "n"}, 8, Parameters(10, (1, 1, 1)), only_scf=True)
    assert "ndtset 1" in first
    assert "rfstrs" not in first
    again = abinit_input(zincblende, {"Al": "a", "N": "n"}, 8, Parameters(10, (1, 1, 1)), restart=True)
    assert "irdwfk1 1 ird1wf2 1 ird1wf3 1" in again


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ({"ecut": 20}, "lack ngkpt"),
        ({"ecut": 20, "ngkpt": [2, 2, 2], "ecuts": 1}, "Unknown parameters of ABINIT: ecuts"),
        ({"ecut": 0.1, "ngkpt": [2, 2, 2]}, "in hartree"),
        ({"ecut": 20, "ngkpt": [2, 0, 2]}, "above zero"),
        ({"ecut": 20, "ngkpt": [2, 2, 2], "nstep": 0}, "at least 1"),
    ],
)
def test_wrong_parameters_are_said(held, why):
    with pytest.raises(BadInput, match=why):
        Parameters.from_dict(held)


def test_parameters_survive_as_plain_values():
    made = Parameters(20, (2, 3, 4), ((0.5, 0.5, 0.5),), tolsym=1e-6)
    assert Parameters.from_dict(made.to_dict()) == made


def test_tensors_have_the_promised_names_and_shapes(recorded):
    tensors = read_anaddb(recorded("low.anaddb.log"), 2)
    assert set(tensors) == set(TENSORS)
    for name, (shape, _) in TENSORS.items():
        assert tensors[name].shape == tuple({"n": 2, "m": 6}.get(str(n), n) for n in shape)
    assert tensors["elastic_relaxed"][0, 0] == pytest.approx(369.20556)
    assert tensors["piezo_total"][0, 3] == pytest.approx(1.31776434)


def test_a_turned_cell_has_turned_tensors(recorded):
    """Two real runs of one crystal: tensors come in the axes of the cell given, Born charges field first."""
    ours, turned = (read_anaddb(recorded(f"{name}.anaddb.log"), 2) for name in ("low", "lowrot"))
    for name in ("dielectric_electronic", "dielectric_total"):
        assert TURN @ ours[name] @ TURN.T == pytest.approx(turned[name], abs=1e-6)
    charges = np.einsum("ia,jb,nab->nij", TURN, TURN, ours["born_charges"])
    assert charges == pytest.approx(turned["born_charges"], abs=2e-6)
    for name, tolerance in [("piezo_electronic", 1e-3), ("piezo_total", 1e-3), ("elastic_relaxed", 0.05)]:
        expected = np.array(Tensor.from_voigt(ours[name]).rotate(TURN, tol=1e-2).voigt)
        assert expected == pytest.approx(turned[name], abs=tolerance)
    assert ours["gamma_frequencies"] == pytest.approx(turned["gamma_frequencies"], abs=1e-6)


def test_born_charges_are_those_of_the_response_made_neutral(recorded):
    run = read_run(recorded("low.abo"), 2)
    charges = read_anaddb(recorded("low.anaddb.log"), 2)["born_charges"]
    assert run.raw_charges is not None
    assert run.raw_charges - run.raw_charges.mean(axis=0) == pytest.approx(charges, abs=1e-5)
    assert np.abs(charges[0] - charges[0].T).max() > 0.01  # so the order of the directions matters


def test_a_whole_run_is_read(recorded):
    run = read_run(recorded("low.abo"), 2)
    assert (run.version, run.done, run.datasets, run.scf_converged) == ("9.6.2", True, (1, 2, 3), True)
    assert run.total_energy == pytest.approx(-335.219887836686)
    assert run.stress == pytest.approx((74.988, 83.163, 84.470, -2.929, -0.951, 10.086), abs=1e-3)
    assert run.max_force == pytest.approx(0.98835, abs=1e-5)
    assert run.unconverged == ()
    assert run.finished == {1: (0,), 2: (7, 8, 9), 3: (1, 2, 3, 4, 5, 6, *range(10, 19))}
    assert run.raw_frequencies == pytest.approx((-5.2361, -4.0910, 2.3559, 15.8590, 17.7773, 20.9061), abs=1e-3)


def test_of_a_killed_run_the_last_perturbation_is_not_whole(recorded):
    run = read_run(recorded("killed.abo"), 2)
    assert not run.done
    assert run.finished == {1: (0,), 2: (7, 8, 9), 3: (1, 2, 3, 4, 5)}
    assert run.raw_charges is None


def test_what_did_not_converge_is_named(recorded):
    run = read_run(recorded("unconverged.abo"), 2)
    assert run.done
    assert run.scf_converged is False
    assert "displacement of atom 1 along direction 1" in run.unconverged
    assert "homogeneous electric field along direction 1" in run.unconverged


@pytest.mark.parametrize("size", range(0, 40000, 1777))
def test_a_run_cut_anywhere_is_read(recorded, size):
    run = read_run(recorded("low.abo")[:size], 2)
    assert not run.done
    assert set(run.finished.get(3, ())) <= {*range(1, 7), *range(10, 19)}


def test_errors_are_read_as_sentences(recorded):
    mesh, symmetry, memory = read_errors(recorded("errors.log"))
    assert mesh.startswith("Chksymbreak=1. It has been observed that the k point grid is not symmetric")
    assert symmetry == "Error in group closure"
    assert "failed to allocate 978.951 Mbytes" in memory


def test_the_gap_is_over_all_k_points(recorded):
    assert read_gap(recorded("low.eig"), 4) == pytest.approx(3.0, abs=3.0)
    text = " kpt#   1, nband=  3\n  -0.1 0.1 0.3\n kpt#   2, nband=  3\n  -0.2 0.2\n  0.25\n"
    assert read_gap(text, 2) == pytest.approx((0.25 - 0.2) * 27.2113862, rel=1e-6)
    assert read_gap(text, 1) == pytest.approx((0.1 + 0.1) * 27.2113862, rel=1e-6)
    with pytest.raises(BadInput, match="empty band"):
        read_gap(text, 3)


@pytest.mark.parametrize("title", ["Effectives Charges", "Elastic Tensor (relaxed ion)", "phonon wavelength"])
def test_a_tensor_that_is_missing_is_named(recorded, title):
    with pytest.raises(BadInput, match=r"has no |broken"):
        read_anaddb(recorded("low.anaddb.log").replace(title, "something else"), 2)


FCC = Structure(Lattice([[0, 2.2, 2.2], [2.2, 0, 2.2], [2.2, 2.2, 0]]), ["Al", "N"], [[0, 0, 0], [0.25] * 3])
BCC = Structure(Lattice([[-1.6, 1.6, 1.6], [1.6, -1.6, 1.6], [1.6, 1.6, -1.6]]), ["Na"], [[0, 0, 0]])
HEX = Structure(
    Lattice.hexagonal(3.13, 5.02),
    ["Al", "Al", "N", "N"],
    [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.38], [2 / 3, 1 / 3, 0.88]],
)
CUBE = Structure(
    Lattice.cubic(4.0), ["Ba", "Ti", "O", "O", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
)


@pytest.mark.parametrize(
    ("crystal", "shifts"), [(FCC, 4), (BCC, 1), (HEX, 1), (CUBE, 1)], ids=["fcc", "bcc", "hex", "cubic"]
)
def test_meshes_are_the_customary_ones(crystal, shifts):
    _, found = mesh_for(crystal, 10.0)
    assert len(found) == shifts
    assert found != GAMMA


@settings(max_examples=40, deadline=None)
@given(density=st.floats(0.1, 60), which=st.sampled_from([FCC, BCC, HEX, CUBE]), angle=st.floats(0, 360))
def test_every_mesh_has_the_symmetry_of_the_crystal_and_about_the_density(density, which, angle):
    turn = Rotation.from_euler("xyz", [angle, 2 * angle, 10], degrees=True).as_matrix()
    crystal = Structure(Lattice(which.lattice.matrix @ turn.T), which.species, which.frac_coords)
    mesh, shifts = mesh_for(crystal, density)
    assert keeps_symmetry(mesh, shifts, reciprocal_rotations(crystal, 0.01))
    lengths = np.array(crystal.lattice.reciprocal_lattice.abc)
    spacing = (density / len(shifts)) ** (1 / 3)
    assert np.abs(np.array(mesh) - np.maximum(1, lengths * spacing)).max() <= 0.5 + 1e-5


def test_a_mesh_that_breaks_the_symmetry_is_seen():
    rotations = reciprocal_rotations(FCC, 0.01)
    assert not keeps_symmetry((2, 2, 2), ((0.5, 0.5, 0.5),), rotations)
    assert not keeps_symmetry((3, 3, 2), GAMMA, rotations)
