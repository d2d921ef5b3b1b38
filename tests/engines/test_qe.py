"""What the engine qe promises without running it: inputs, gaps, tensors, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from hypothesis import given
from hypothesis import strategies as st

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.engines.protocols import stage_settings
from crysgen_aiida.engines.qe.dynmat import read_dynamical_matrix
from crysgen_aiida.engines.qe.gap import band_gap
from crysgen_aiida.physics.ionic import gamma_modes, lattice_dielectric, neutral

#: Written by ph.x 6.7 for zincblende AlN (4.40 A, 67 Ry, 4x4x4 points).
GAMMA = Path(__file__).parent / "data" / "aln-gamma.dyn"
POINTS = np.zeros((2, 3))


# -- gaps --------------------------------------------------------------------------------------------------------------


def test_the_gap_is_told_by_counting_electrons():
    bands = [[[-1.0, 0.0, 2.0, 3.0], [-1.5, -0.5, 1.0, 3.0]]]
    gap = band_gap([(np.array(bands[0]), [[0, 0, 0], [0.5, 0, 0]])], 4)
    assert (gap.fundamental, gap.direct, gap.metal) == (1.0, 1.5, False)
    assert (gap.valence_at, gap.conduction_at, gap.is_direct) == ((0, 0, 0), (0.5, 0, 0), False)


def test_a_path_and_a_mesh_are_looked_at_together():
    path = (np.array([[0.0, 2.0]]), [[0, 0, 0]])
    mesh = (np.array([[-1.0, 1.2]]), [[0.3, 0, 0]])
    assert band_gap([path], 2).fundamental == 2.0
    assert band_gap([path, mesh], 2).fundamental == pytest.approx(1.2)


def test_an_odd_number_of_electrons_without_spin_is_a_metal_and_with_spin_need_not_be():
    assert band_gap([(np.array([[0.0, 5.0]]), POINTS[:1])], 1).metal
    spins = np.array([[[0.0, 5.0]], [[3.0, 7.0]]])  # up, down
    assert band_gap([(spins, POINTS[:1])], 1).fundamental == 3.0


def test_bands_without_empty_states_tell_no_gap():
    with pytest.raises(ValueError, match="none is empty"):
        band_gap([(np.array([[0.0, 1.0]]), POINTS[:1])], 4)


@given(st.lists(st.lists(st.floats(-20, 20), min_size=6, max_size=6), min_size=1, max_size=5), st.integers(1, 11))
def test_a_gap_lies_between_the_edges_and_the_direct_one_is_no_smaller(energies, electrons):
    gap = band_gap([(np.sort(energies, axis=1), np.zeros((len(energies), 3)))], electrons)
    assert gap.fundamental == max(0.0, gap.conduction_bottom - gap.valence_top)
    assert gap.direct >= gap.fundamental


# -- what ph.x writes --------------------------------------------------------------------------------------------------


def test_the_dynamical_matrix_of_ph_is_read():
    held = read_dynamical_matrix(GAMMA.read_text())
    assert held.symbols == ("Al", "N")
    assert held.at_gamma
    assert held.masses == pytest.approx([26.982, 14.007], abs=1e-2)
    assert held.volume == pytest.approx(4.40**3 / 4, rel=1e-6)
    assert held.dielectric == pytest.approx(5.284627916 * np.eye(3))
    assert held.charges[1] == pytest.approx(-2.762426986 * np.eye(3))
    assert held.frequencies[3:] == pytest.approx([19.270154] * 3, abs=1e-4)


@pytest.mark.parametrize("cut", [3, 20, 60, 70])
def test_a_file_that_is_cut_off_is_refused(cut):
    with pytest.raises(BadInput, match="cut off"):
        read_dynamical_matrix("\n".join(GAMMA.read_text().splitlines()[:cut]))


def test_modes_and_the_static_dielectric_constant_are_those_of_dynmat():
    """dynmat.x 6.7 on the same file, asr simple (on Z* too), lperm true: 19.2662 THz and 9.432409."""
    held = read_dynamical_matrix(GAMMA.read_text())
    modes = gamma_modes(held.force_constants.real, held.masses)
    charges, excess = neutral(held.charges)
    assert excess == pytest.approx(2.762426986 - 2.466665089)
    assert np.abs(charges.sum(axis=0)).max() < 1e-12
    assert modes.frequencies == pytest.approx([0, 0, 0, 19.2662, 19.2662, 19.2662], abs=2e-4)
    assert modes.acoustic == pytest.approx(0.308199, abs=1e-4)
    total = held.dielectric + lattice_dielectric(modes, charges, held.masses, held.volume)
    assert total == pytest.approx(9.432409 * np.eye(3), abs=2e-4)


@given(st.integers(0, 2**32 - 1))
def test_the_sum_over_modes_is_the_inverse_of_the_force_constants(seed):
    rng = np.random.default_rng(seed)
    n, volume = 3, 50.0
    springs = rng.normal(size=(3 * n, 3 * n))
    flat = springs @ springs.T + 0.5 * np.eye(3 * n)
    shift = np.eye(3 * n) - np.kron(np.ones((n, n)) / n, np.eye(3))  # without translations
    flat = shift @ flat @ shift
    constants = flat.reshape(n, 3, n, 3).transpose(0, 2, 1, 3)
    masses = rng.uniform(1, 100, n)
    charges, _ = neutral(rng.normal(size=(n, 3, 3)))
    made = lattice_dielectric(gamma_modes(constants, masses), charges, masses, volume)
    z = charges.transpose(1, 0, 2).reshape(3, -1)
    direct = 4 * np.pi * 14.3996454785 / volume * z @ np.linalg.pinv(flat, rcond=1e-9) @ z.T
    assert made == pytest.approx(direct, rel=1e-5, abs=1e-8)


def test_a_soft_mode_has_no_static_response():
    constants = np.zeros((2, 2, 3, 3))
    for i, j, sign in ((0, 0, -1), (1, 1, -1), (0, 1, 1), (1, 0, 1)):
        constants[i, j] = sign * np.eye(3)
    modes = gamma_modes(constants, [10.0, 20.0])
    assert modes.optical.max() < 0
    with pytest.raises(ValueError, match="soft or imaginary"):
        lattice_dielectric(modes, np.ones((2, 3, 3)), [10.0, 20.0], 40.0)


def test_results_of_dfpt_come_from_the_files_of_ph(crystal, tmp_path):
    from crysgen_aiida.engines.qe.results import dfpt_results

    (tmp_path / "DYN_MAT").mkdir()
    (tmp_path / "DYN_MAT" / "dynamical-matrix-0").write_text("1 1 1\n1\n0 0 0\n")
    (tmp_path / "DYN_MAT" / "dynamical-matrix-1").write_text(GAMMA.read_text())
    bands = orm.BandsData()
    bands.set_kpoints(np.array([[0.0, 0.0, 0.0]]))
    bands.set_bands(np.array([[-5.0, 0.0, 0.5, 1.0, 4.3, 6.0]]), units="eV")
    made, node = dfpt_results.run_get_node(
        about=orm.Dict({"method": "qe-dfpt-pbe", "settings": {"symprec": 0.01}}),
        structure=crystal("AlN"),
        parameters=orm.Dict({"number_of_electrons": 8.0, "creator_version": "6.7MaX"}),
        bands=bands,
        response=orm.FolderData(tree=str(tmp_path)),
    )
    assert node.is_finished_ok
    held = made["results"].get_dict()
    assert held["values"]["dielectric_total"] == pytest.approx(9.432409, abs=2e-4)
    assert held["values"]["phonon_min_frequency_gamma"] == pytest.approx(19.2662, abs=2e-4)
    assert "Born charges sum to 0.30 e" in held["verdict"]
    assert held["facts"]["charge_neutrality_violation"] == pytest.approx(0.29576, abs=1e-4)
    assert held["facts"]["gap_fundamental_ev"] == pytest.approx(3.3)
    assert sorted(made["tensors"].get_arraynames()) == [
        "born_charges",
        "dielectric_electronic",
        "dielectric_total",
        "gamma_frequencies",
    ]


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_namelists_follow_the_settings(crystal, made_up_family):
    from crysgen_aiida.engines.qe.inputs import crystal_of, pw_parameters

    nitride = crystal_of(crystal("AlN"), made_up_family)
    assert (nitride.electrons, nitride.method) == (8, "qe-pbe")
    relax = pw_parameters(nitride, stage_settings("qe", "relax", "fast"), "scf")
    assert relax["SYSTEM"]["ecutwfc"] == pytest.approx(0.8 * 84.0)  # PseudoDojo's 42 Ha of nitrogen
    assert relax["SYSTEM"]["ecutrho"] == pytest.approx(4 * 0.8 * 84.0)
    assert relax["SYSTEM"]["smearing"] == "cold"
    assert "nspin" not in relax["SYSTEM"]
    dfpt = pw_parameters(nitride, stage_settings("qe", "dfpt"), "scf")
    assert dfpt["SYSTEM"]["occupations"] == "fixed"
    assert "degauss" not in dfpt["SYSTEM"]
    own = stage_settings("qe", "relax", overrides={"ecutwfc": 20.0, "parameters": {"SYSTEM": {"nosym": True}}})
    changed = pw_parameters(nitride, own, "scf")["SYSTEM"]
    assert (changed["ecutwfc"], changed["nosym"]) == (20.0, True)


def test_two_spins_by_element_or_by_wish(crystal, made_up_family):
    from crysgen_aiida.engines.qe.inputs import crystal_of, pw_parameters

    iron, nitride = (crystal_of(crystal(name), made_up_family) for name in ("FeN", "AlN"))
    settings = stage_settings("qe", "bands")
    assert pw_parameters(iron, settings, "scf")["SYSTEM"]["starting_magnetization"] == {"Fe": 0.5, "N": 0.0}
    assert iron.spins({**settings, "spin": "never"}) == 1
    assert nitride.spins({**settings, "spin": "always"}) == 2


def test_the_path_is_that_of_the_cell_given_with_labels(crystal):
    from crysgen_aiida.engines.qe.paths import path_kpoints

    points = path_kpoints(crystal("Si"), orm.Float(0.2))
    names = [name for _, name in points.labels]
    assert names[0] == "GAMMA"
    assert {"X", "L", "K"} <= set(names)
    cartesian = points.get_kpoints(cartesian=True)
    joined = {i for i, _ in points.labels}
    steps = np.linalg.norm(np.diff(cartesian, axis=0), axis=1)
    assert max(s for k, s in enumerate(steps) if not {k, k + 1} <= joined) <= 0.2 + 1e-9


# -- refusals ----------------------------------------------------------------------------------------------------------


def _squeezed(structure):
    atoms = structure.get_ase()
    atoms.positions[1] = atoms.positions[0] + [0.3, 0.0, 0.0]
    return orm.StructureData(ase=atoms)


@pytest.mark.parametrize(
    ("stage", "make", "reason"),
    [
        ("relax", lambda c: _squeezed(c("Si")), "0.30 A apart, less than 1.11 A: they overlap"),
        ("relax", lambda c: c("NaCl"), "the family made-up has no pseudopotential for Cl, Na"),
        ("dfpt", lambda c: c("Al"), "one atom has no optical modes"),
        ("dfpt", lambda c: c("FeN"), "it is a metal: 21 valence electrons"),
        ("phonon", lambda c: c("FeN"), "does not treat magnetic order"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_a_sentence(stage, make, reason, crystal, made_up_family, localhost):
    code = orm.InstalledCode(computer=localhost, filepath_executable="/nowhere/x", label=f"never-{stage}").store()
    chain = WorkflowFactory(f"crysgen.qe.{stage}")
    codes = dict.fromkeys(("pw", "ph", "q2r", "matdyn"), code)
    _, node = run_get_node(chain, structure=make(crystal), codes=codes, pseudo_family=made_up_family.label)
    assert (node.exit_status, node.called) == (500, [])
    assert reason in node.exit_message


def test_a_family_that_is_not_there_is_refused(crystal, localhost):
    code = orm.InstalledCode(computer=localhost, filepath_executable="/nowhere/x", label="never-family").store()
    for given_family, reason in (
        ({}, "no family"),
        ({"pseudo_family": "lost"}, "no family of pseudopotentials 'lost'"),
    ):
        chain = WorkflowFactory("crysgen.qe.relax")
        _, node = run_get_node(chain, structure=crystal("Si"), codes={"pw": code}, **given_family)
        assert node.exit_status == 500
        assert reason in node.exit_message
