"""Phonons: springs in closed form, known crystals with CHGNet, and a reason for every crystal without them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import springs as toy
from hypothesis import given, settings
from hypothesis import strategies as st
from physics_crystals import Resuming

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.physics import forces
from crysgen_aiida.physics import phonons as module
from crysgen_aiida.physics.forces import Refused, start_cell
from crysgen_aiida.physics.phonon_table import phonon_table, verdict
from crysgen_aiida.physics.phonons import Phonons, phonon_set, phonons_of
from crysgen_aiida.physics.polar import Born
from crysgen_aiida.physics.relaxation import RelaxSpec, relax_many
from crysgen_aiida.physics.response_spec import PhononSpec
from crysgen_aiida.physics.supercells import multiples, shortest_vector

SMALL = PhononSpec(min_length=8.0, mesh_length=20.0, displacement=0.01, band_points=9, dos_points=21)
FCC = {4.0 / np.sqrt(2): 2.0}  # cubic edge 4 A
BCC = {3.0 * np.sqrt(0.75): 2.0, 3.0: -0.5}  # cubic edge 3 A; the second spring pushes away


@cache
def lattice(kind: str) -> Any:
    from pymatgen.core import Lattice, Structure

    edge, group = {"fcc": (4.0, "Fm-3m"), "bcc": (3.0, "Im-3m")}[kind]
    return Structure.from_spacegroup(group, Lattice.cubic(edge), ["Al"], [[0, 0, 0]]).get_primitive_structure()


def one(structure: Any, potential: Any, spec: PhononSpec = SMALL, **run: Any) -> Phonons:
    (found,) = phonons_of([structure], potential, spec, InProcess(**run))
    assert isinstance(found, Phonons), found
    return found


@pytest.fixture(scope="module")
def at_rest(chgnet: Any, structures: dict[str, Any]) -> dict[str, Any]:
    """Si, NaCl and cubic BaTiO3 at their minima with CHGNet."""
    from pymatgen.core import Lattice, Structure

    coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    cubic = Structure.from_spacegroup("Pm-3m", Lattice.cubic(4.03), ["Ba", "Ti", "O"], coords)
    held = {"Si": structures["Si"], "NaCl": structures["NaCl"], "BaTiO3": cubic}
    spec = RelaxSpec(fmax=0.002, max_steps=100)
    ended = relax_many([start_cell(s) for s in held.values()], chgnet, spec, InProcess())
    return {name: Structure(r.cell, held[name].species, r.frac) for name, r in zip(held, ended, strict=True)}


@pytest.fixture(scope="module")
def known(chgnet: Any, at_rest: dict[str, Any]) -> dict[str, Phonons]:
    spec = PhononSpec(min_length=7.9, mesh_length=25.0)
    found = phonons_of(list(at_rest.values()), chgnet, spec, InProcess())
    return {name: p for name, p in zip(at_rest, found, strict=True) if isinstance(p, Phonons)}


# -- springs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "springs"), [("fcc", FCC), ("bcc", BCC)])
def test_springs_have_the_frequencies_of_the_textbook(kind: str, springs: dict[float, float]) -> None:
    from ase.data import atomic_masses

    found = one(lattice(kind), toy.potential(springs))
    exact = toy.frequencies(found.bands.lattice, springs, atomic_masses[13], found.bands.qpoints)
    np.testing.assert_allclose(found.bands.frequencies, exact, atol=2e-3 * exact.max())
    assert found.n_displacements == 1
    assert found.max_frequency == pytest.approx(exact.max(), rel=0.02)
    assert sum(found.bands.lengths) == len(found.bands.qpoints)
    assert found.min_frequency_gamma is None, "one atom has no optical mode"


def test_a_crystal_off_its_minimum_is_called_unstable_and_has_no_thermal_properties() -> None:
    found = one(lattice("bcc"), toy.potential(BCC))
    assert not found.stable(0.05)
    assert found.stable_gamma(0.05), "with one atom nothing but the three translations moves at Gamma"
    assert found.min_frequency < -1
    assert found.thermal == {}
    assert "fits the supercell the lowest is -" in verdict(found, 0.05)
    assert found.dos[0][0] < found.min_frequency


def test_thermal_properties_are_those_of_the_density_of_states() -> None:
    found = one(lattice("fcc"), toy.potential(FCC), PhononSpec(min_length=8, mesh_length=80, dos_points=801))
    f, g = found.dos
    assert np.trapezoid(g, f) == pytest.approx(3 * found.n_atoms, rel=0.01)
    x = np.maximum(f, 1e-6) * 1e12 * 6.62607015e-34 / (1.380649e-23 * 300)
    capacity = np.trapezoid(g * x**2 * np.exp(x) / (np.exp(x) - 1) ** 2, f) * 8.314462618
    assert found.thermal["heat_capacity_300k"] == pytest.approx(capacity / found.n_atoms, rel=0.01)
    zero = np.trapezoid(g * f, f) / 2 * 4.135667696e-3
    assert found.thermal["zero_point_energy"] == pytest.approx(zero / found.n_atoms, rel=0.01)
    free = np.trapezoid(g * np.log(2 * np.sinh(x / 2)), f) * 8.617333262e-5 * 300
    assert found.thermal["vibrational_free_energy_300k"] == pytest.approx(free, rel=0.02)


def test_choice_of_cell_and_orientation_change_nothing() -> None:
    from pymatgen.core import SymmOp

    straight = one(lattice("fcc"), toy.potential(FCC))
    other = lattice("fcc").copy()
    other.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    other.apply_operation(SymmOp.from_axis_angle_and_translation([1, 2, 3], 33))
    turned = one(other, toy.potential(FCC))
    np.testing.assert_allclose(turned.bands.frequencies, straight.bands.frequencies, atol=1e-4)
    assert turned.min_frequency == pytest.approx(straight.min_frequency, abs=1e-4)


def test_a_larger_displacement_of_a_harmonic_crystal_changes_little() -> None:
    specs = [replace(SMALL, displacement=d) for d in (0.005, 0.05)]
    small, large = (one(lattice("fcc"), toy.potential(FCC), spec) for spec in specs)
    assert small.max_frequency == pytest.approx(large.max_frequency, rel=5e-3)


# -- known crystals ---------------------------------------------------------------------------------------------------


def test_diamond_and_rock_salt_are_stable_and_cubic_barium_titanate_is_not(known: dict[str, Phonons]) -> None:
    assert known["Si"].stable(0.05)
    assert known["NaCl"].stable(0.05)
    assert known["Si"].max_frequency == pytest.approx(12, abs=1)  # CHGNet is too soft: 15.5 is measured
    assert known["Si"].thermal["heat_capacity_300k"] == pytest.approx(21.4, abs=0.5)
    ferroelectric = known["BaTiO3"]
    assert not ferroelectric.stable(0.05)
    assert not ferroelectric.stable_gamma(0.05)
    assert ferroelectric.min_frequency_gamma is not None
    assert ferroelectric.min_frequency_gamma < -2
    assert ferroelectric.thermal == {}


def test_translations_cost_nothing_once_symmetry_is_imposed(known: dict[str, Phonons]) -> None:
    for name, found in known.items():
        assert found.asr_after <= found.asr_before + 1e-9, name
        assert found.asr_after < 1e-8, name
        assert found.acoustic_gamma < 1e-3, name
    assert known["BaTiO3"].asr_before > 1e-4, "it says how rough the forces are before that"


def test_batches_and_threads_change_round_off_only(chgnet: Any, at_rest: dict[str, Any]) -> None:
    pair = [at_rest["Si"], at_rest["NaCl"]]
    spec = PhononSpec(min_length=5.0, mesh_length=15.0)
    one_by_one = phonons_of(pair, chgnet, spec, InProcess(batch_scale=0.02))
    together = phonons_of(pair, chgnet, spec, InProcess(batch_scale=10.0, threads=2))
    for a, b in zip(one_by_one, together, strict=True):
        assert isinstance(a, Phonons)
        assert isinstance(b, Phonons)
        np.testing.assert_allclose(a.bands.frequencies, b.bands.frequencies, atol=0.02)


# -- polar crystals ---------------------------------------------------------------------------------------------------


def test_born_charges_split_longitudinal_from_transverse_modes(chgnet: Any, at_rest: dict[str, Any]) -> None:
    salt = at_rest["NaCl"]
    signs = [1.1 if s.specie.symbol == "Na" else -1.1 for s in salt]
    born = Born(np.array([z * np.eye(3) for z in signs]), 2.3 * np.eye(3))
    spec = PhononSpec(min_length=5.0, mesh_length=15.0)
    plain, polar = (phonons_of([salt], chgnet, spec, InProcess(), born=[z])[0] for z in (None, born))
    assert isinstance(plain, Phonons)
    assert isinstance(polar, Phonons)
    near = 1  # next to Gamma on the way to X
    assert plain.bands.frequencies[near, -1] == pytest.approx(plain.bands.frequencies[near, -2], rel=0.05)
    squares = polar.bands.frequencies[near, -1] ** 2 - polar.bands.frequencies[near, -2] ** 2
    # w_LO^2 - w_TO^2 = Z^2 e^2 / (eps0 eps V mu)
    mu = 22.98977 * 35.453 / (22.98977 + 35.453)
    expected = 4 * np.pi * 14.3996 * 1.1**2 / (2.3 * salt.volume * mu) * toy.THZ**2
    assert squares == pytest.approx(expected, rel=0.1)


def test_charges_follow_the_crystal_when_it_is_turned_and_its_atoms_reordered(structures: dict[str, Any]) -> None:
    from pymatgen.core import SymmOp

    crystal = structures["AlN"]
    charges = np.array([np.diag([2.5, 2.5, 2.7]) * (1 if s.specie.symbol == "Al" else -1) for s in crystal])
    epsilon = np.diag([4.2, 4.2, 4.4])
    operation = SymmOp.from_axis_angle_and_translation([1, 2, 3], 40)
    turn = operation.rotation_matrix
    turned = crystal.copy()
    turned.apply_operation(operation)
    order = [2, 0, 3, 1]
    shuffled = type(crystal).from_sites([turned[k] for k in order])
    first = module._prepare(crystal, SMALL, Born(charges, epsilon))
    moved = Born(turn @ charges[order] @ turn.T, turn @ epsilon @ turn.T)
    second = module._prepare(shuffled, SMALL, moved)
    for made in (first, second):
        np.testing.assert_allclose(made.nac_params["dielectric"], epsilon, atol=1e-6)
        signs = np.array([1 if symbol == "Al" else -1 for symbol in made.primitive.symbols])
        expected = signs[:, None, None] * np.diag([2.5, 2.5, 2.7])
        np.testing.assert_allclose(made.nac_params["born"], expected, atol=1e-6)
    with pytest.raises(Exception, match=r"give \(4, 3, 3\) and \(3, 3\)"):
        module._prepare(crystal, SMALL, Born(charges[:2], epsilon))


# -- refusals and tables ----------------------------------------------------------------------------------------------


def test_every_row_has_phonons_or_a_reason(chgnet: Any, at_rest: dict[str, Any]) -> None:
    from pymatgen.core import Lattice, Structure

    squeezed = at_rest["NaCl"].copy()
    squeezed.scale_lattice(squeezed.volume * 0.9)
    overlapping = Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0, 0, 0.001]])
    radon = Structure(Lattice.cubic(4), ["Rn"], [[0, 0, 0]])
    far = Structure(Lattice.cubic(12), ["Ne"], [[0, 0, 0]])
    given = [at_rest["Si"], squeezed, overlapping, None, radon, far, at_rest["BaTiO3"]]
    crystals = CrystalSet.from_structures(given, reasons=[None, None, None, "cut short", None, None, None])
    spec = PhononSpec(min_length=5.0, mesh_length=10.0, max_atoms=20)
    table = phonon_set(crystals, spec=spec, run=InProcess())
    assert table.column("parent_row") == list(range(7))
    assert table.column("status") == ["ok", "failed", "failed", "failed", "failed", "failed", "skipped"]
    reasons = table.column("reason")
    assert reasons[0] is None
    assert "not relaxed with this potential" in reasons[1]
    assert "relax it first" in reasons[1]
    assert "overlap" in reasons[2] or "within" in reasons[2]
    assert "cut short" in reasons[3]
    assert "does not cover" in reasons[4]
    assert "isolated" in reasons[5]
    assert "40 atoms" in reasons[6]
    assert "max_atoms = 20" in reasons[6]
    assert table.method("phonon_min_frequency") == "chgnet-0.3.0"
    row = table.get(0)
    assert row["phonon_stable"] is True
    assert len(row["band_frequencies"]) == 2 * len(row["band_qpoints"]), "six modes of three coordinates"
    assert sum(row["band_lengths"]) * 3 == len(row["band_qpoints"])
    assert len(row["band_labels"]) == 2 * len(row["band_lengths"])
    assert table.metadata["method"] == "chgnet-0.3.0"


def test_a_resumed_run_gives_the_same_table(at_rest: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_ROWS", 1)
    crystals = CrystalSet.from_structures([at_rest["NaCl"], None, at_rest["Si"]], reasons=[None, "cut short", None])
    whole = phonon_set(crystals, spec=PhononSpec(min_length=5.0, mesh_length=10.0), run=InProcess())
    run = Resuming()
    run.stop_before = 2
    with pytest.raises(KeyboardInterrupt):
        phonon_set(crystals, spec=PhononSpec(min_length=5.0, mesh_length=10.0), run=run)
    run.stop_before = None
    resumed = phonon_set(crystals, spec=PhononSpec(min_length=5.0, mesh_length=10.0), run=run)
    assert run.computed == 3
    assert resumed.content_hash == whole.content_hash


def test_potentials_whose_forces_are_no_derivatives_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forces, "load_potential", lambda *_: toy.potential(FCC, conservative=False))
    crystals = CrystalSet.from_structures([lattice("fcc")])
    with pytest.raises(ImpossibleRequest, match="so second derivatives of it mean nothing"):
        phonon_set(crystals, run=InProcess())


def test_a_crystal_that_phonopy_cannot_handle_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import seekpath

    known_path = seekpath.get_path

    def odd(cell: Any) -> Any:
        if abs(np.linalg.det(cell[0])) > 15:
            raise ValueError("no such lattice\nat all")
        return known_path(cell)

    monkeypatch.setattr(seekpath, "get_path", odd)
    given = [lattice("fcc"), lattice("bcc")]
    first, second = phonons_of(given, toy.potential({**FCC, **BCC}), SMALL, InProcess())
    assert first == Refused("phonopy cannot handle it (ValueError: no such lattice)")
    assert isinstance(second, Phonons)


def test_a_table_of_refusals_alone_is_a_table() -> None:
    crystals = CrystalSet.from_structures([lattice("fcc")])
    table = phonon_table(range(1), [crystals.get(0)], [Refused("no")], SMALL, "x")
    assert table.column("reason") == ["no"]
    assert table.column("phonon_stable") == [None]


@pytest.mark.parametrize(
    ("values", "message"),
    [({"displacement": 0.5}, "0.2 A at most"), ({"tolerance": -1.0}, "0 or more"), ({"min_length": 0.0}, "positive")],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhononSpec(**values)  # type: ignore[arg-type]


# -- supercells -------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(2.5, 9.0), min_size=3, max_size=3),
    st.lists(st.floats(65.0, 115.0), min_size=3, max_size=3),
    st.floats(5.0, 12.0),
)
def test_supercells_are_the_smallest_that_keep_images_away(
    lengths: list[float], angles: list[float], least: float
) -> None:
    from pymatgen.core import Lattice

    cell = np.array(Lattice.from_parameters(*lengths, *angles).matrix)
    found = multiples(cell, "triclinic", least)
    assert shortest_vector(cell * np.array(found)[:, None]) >= least - 1e-5
    for axis in range(3):
        fewer = np.array(found) - np.eye(3, dtype=int)[axis]
        if fewer.min() > 0:
            assert shortest_vector(cell * fewer[:, None]) < least, "an axis too many"


def test_supercells_keep_the_symmetry_of_the_crystal() -> None:
    assert multiples(np.diag([4.0, 4.0, 4.0]), "cubic", 10.0) == (3, 3, 3)
    a, b, c = multiples(np.diag([4.0, 4.0, 7.0]), "tetragonal", 10.0)
    assert (a, b, c) == (3, 3, 2)
    hexagonal = np.array([[3.1, 0, 0], [-1.55, 3.1 * np.sqrt(0.75), 0], [0, 0, 5.0]])
    assert multiples(hexagonal, "hexagonal", 10.0) == (4, 4, 2)
