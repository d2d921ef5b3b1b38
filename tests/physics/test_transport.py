"""Transport: a parabola in closed form, meshes whole and irreducible, and a reason for every row without it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import band_models as toy
import numpy as np
import pytest

from crysgen_aiida.crystals.electron_bands import ElectronBands, bands_of, bands_table
from crysgen_aiida.crystals.errors import BadInput, NotInstalled
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.forces import Refused
from crysgen_aiida.physics.kpoints import irreducible
from crysgen_aiida.physics.transport import Transport, transport_at, transport_of, transport_set
from crysgen_aiida.physics.transport_spec import TransportSpec

pytest.importorskip("BoltzTraP2", reason="BoltzTraP2 is not installed: pip install 'crysgen-aiida[transport]'")

SPEC = TransportSpec(doping=(1e18, 1e19, 1e20), grid_length=300.0)


def one(bands: ElectronBands, spec: TransportSpec = SPEC) -> Transport:
    found = transport_of(bands, spec)
    assert isinstance(found, Transport), found
    return found


@pytest.fixture(scope="module")
def cosines() -> Transport:
    return one(toy.cosines(toy.mesh(10)))


# -- the numbers ------------------------------------------------------------------------------------------------------


def test_electrons_of_a_parabola_are_those_of_the_textbook(cosines: Transport) -> None:
    """From thin to dense: 1e18 is far from degenerate here, 1e20 is degenerate."""
    found = cosines.carriers["n"]
    for d, doping in enumerate(SPEC.doping):
        seebeck, conductivity, lorenz = toy.parabola(doping, 300.0)
        share = 0.2 if doping > 5e19 else 0.03  # a cosine is a parabola near its bottom only
        np.testing.assert_allclose(found.seebeck[d], seebeck, rtol=share)
        np.testing.assert_allclose(found.conductivity[d], conductivity, rtol=0.1)
        np.testing.assert_allclose(found.thermal[d] / found.conductivity[d] / 300.0, lorenz, rtol=0.1)
    np.testing.assert_allclose(found.power_factor, found.seebeck**2 * found.conductivity * 1e-8)


def test_holes_mirror_electrons(cosines: Transport) -> None:
    electrons, holes = cosines.carriers["n"], cosines.carriers["p"]
    np.testing.assert_allclose(holes.seebeck, -electrons.seebeck, rtol=1e-3)
    np.testing.assert_allclose(holes.conductivity, electrons.conductivity, rtol=1e-3)
    np.testing.assert_allclose(holes.fermi_level, -electrons.fermi_level, atol=1e-3)
    assert cosines.gap == pytest.approx(toy.GAP)
    assert cosines.misfit < 1e-6


def test_the_irreducible_part_of_a_mesh_is_as_good_as_the_whole(cosines: Transport) -> None:
    whole = toy.cosines(toy.mesh(10))
    reduced = irreducible(whole, 0.01, 0.01)
    assert not isinstance(reduced, str)
    kpoints, energies = reduced
    assert len(kpoints) == 56, "of a cubic mesh of 10 points: those with 0 <= x <= y <= z <= 5"
    again = one(replace(whole, kpoints=kpoints, energies=energies))
    np.testing.assert_allclose(again.carriers["n"].seebeck, cosines.carriers["n"].seebeck, rtol=1e-6)


def test_spin_channels_side_by_side_change_nothing(cosines: Transport) -> None:
    whole = toy.cosines(toy.mesh(10))
    both = replace(whole, energies=np.sort(np.repeat(whole.energies, 2, axis=1), axis=1), spin_degeneracy=1)
    found = one(both)
    np.testing.assert_allclose(found.carriers["n"].conductivity, cosines.carriers["n"].conductivity, rtol=1e-6)
    np.testing.assert_allclose(found.carriers["p"].seebeck, cosines.carriers["p"].seebeck, rtol=1e-6)


def test_core_bands_and_far_bands_change_nothing(cosines: Transport) -> None:
    whole = toy.cosines(toy.mesh(10))
    n = len(whole.kpoints)
    more = np.column_stack([np.full(n, -80.0), whole.energies, np.full(n, 40.0)])
    found = one(replace(whole, energies=more, n_electrons=4.0))
    np.testing.assert_allclose(found.carriers["n"].seebeck, cosines.carriers["n"].seebeck, rtol=1e-6)


def test_a_metal_conducts_without_doping() -> None:
    """A band half full: n and p doping of little concentration are the same, with the conductivity of the metal."""
    kpoints = toy.mesh(10)
    levels = toy.cosines(kpoints).energies[:, 1:]
    found = one(toy.cosines(kpoints, energies=levels, n_electrons=1.0, fermi_energy=6.0))
    assert found.gap == 0
    electrons, holes = found.carriers["n"], found.carriers["p"]
    np.testing.assert_allclose(electrons.conductivity[0], holes.conductivity[0], rtol=1e-3)
    np.testing.assert_allclose(electrons.thermal[0] / electrons.conductivity[0] / 300, 2.44e-8, rtol=0.05)
    assert np.abs(electrons.seebeck[0]).max() < 1, "filled half, electrons and holes balance"


# -- meshes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 8, 64])
def test_meshes_are_reduced_whatever_digits_their_fractions_have(n: int) -> None:
    line = toy.mesh(n)[: 4 * n * n] if n > 10 else toy.mesh(n)
    bands = toy.cosines(line)
    found = irreducible(bands, 0.01, 0.01)
    if n > 10:
        assert isinstance(found, str) or len(found[0]) < len(line) / 8
    else:
        assert not isinstance(found, str)
        half = n // 2 + 1
        assert len(found[0]) == half * (half + 1) * (half + 2) // 6


def test_shifted_meshes_are_meshes() -> None:
    assert not isinstance(irreducible(toy.cosines(toy.mesh(4, 0.5)), 0.01, 0.01), str)


def test_paths_and_bands_of_another_crystal_are_refused() -> None:
    path = np.concatenate([np.linspace([0, 0, 0], end, 20) for end in ([0.5, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5])])
    found = transport_of(toy.cosines(path), SPEC)
    assert isinstance(found, Refused)
    assert "Monkhorst-Pack" in found.reason
    kpoints = toy.mesh(6)
    tilted = toy.cosines(kpoints).energies + np.cos(2 * np.pi * kpoints[:, :1])
    found = transport_of(toy.cosines(kpoints, energies=tilted), SPEC)
    assert isinstance(found, Refused)
    assert "symmetry makes equal differ by" in found.reason


# -- tables and refusals ----------------------------------------------------------------------------------------------


def test_every_row_has_coefficients_or_a_reason(cosines: Transport) -> None:
    whole = toy.cosines(toy.mesh(10))
    filled = toy.cosines(toy.mesh(4), n_electrons=4.0)
    table = bands_table([whole, filled], "toy")
    table = PropertyTable.concat([table, PropertyTable(table.arrow.slice(0, 1).drop_columns(["row", "energies"]))])
    found = transport_set(table, spec=replace(SPEC, tau=2e-14), run=InProcess())
    assert found.column("status") == ["ok", "failed", "failed"]
    assert "no band above the electrons" in found.column("reason")[1]
    assert "lacks energies" in found.column("reason")[2]
    assert found.column("parent_input") == ["bands"] * 3
    assert found.column("parent_row") == [0, 1, 2]
    row = found.get(0)
    assert row["content_id"] == table.get(0)["content_id"]
    assert row["reduced_formula"] == "Cu"
    curves = np.array(row["power_factor_over_tau_n"]).reshape(3, 3)
    np.testing.assert_allclose(curves, cosines.carriers["n"].power_factor, rtol=1e-9)
    best = max(curves.max(), np.max(row["power_factor_over_tau_p"]))
    assert row["power_factor_over_tau"] == pytest.approx(best)
    assert row["power_factor"] == pytest.approx(best * 2e-14), "of the stated relaxation time"
    assert row["seebeck"] > 0
    assert row["best_doping"] in SPEC.doping
    assert found.method("power_factor") == "toy-boltztrap2"


def test_a_doping_beyond_the_bands_is_refused() -> None:
    found = transport_of(toy.cosines(toy.mesh(6)), replace(SPEC, doping=(1e20, 5e22)))
    assert isinstance(found, Refused)
    assert "cannot be reached" in found.reason


def test_without_boltztrap2_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "BoltzTraP2", None)
    with pytest.raises(NotInstalled, match="libgtest-dev"):
        transport_of(toy.cosines(toy.mesh(4)), SPEC)


def test_rows_of_bands_come_back_as_they_were() -> None:
    bands = toy.cosines(toy.mesh(3))
    again = bands_of(bands_table([bands], "toy").get(0))
    for name in ("lattice", "numbers", "frac_coords", "kpoints", "energies"):
        np.testing.assert_array_equal(getattr(again, name), getattr(bands, name))
    assert (again.n_electrons, again.fermi_energy, again.spin_degeneracy) == (2.0, -1.0, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_electrons": 9.0}, "cannot hold 9"),
        ({"spin_degeneracy": 3}, "give 2, or 1"),
        ({"energies": np.zeros((5, 2))}, "do not fit together"),
        ({"fermi_energy": np.nan}, "not finite"),
    ],
)
def test_bands_that_mean_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        toy.cosines(toy.mesh(3), **values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"doping": (1e19, 1e18)}, "in rising order"),
        ({"doping": ()}, "above 0"),
        ({"tau": 0.0}, "positive"),
        ({"multiplier": 0.5}, "1 or more"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransportSpec(**values)


def test_doping_that_a_graph_stored_as_whole_numbers_is_a_number_like_any_other() -> None:
    bands = bands_table([toy.cosines(toy.mesh(4))], "toy")
    whole = transport_set(bands, spec=TransportSpec(doping=(10**19, 10**20), grid_length=30.0), run=InProcess())
    numbers = transport_set(bands, spec=TransportSpec(doping=(1e19, 1e20), grid_length=30.0), run=InProcess())
    assert whole.get(0) == numbers.get(0)
    assert whole.get(0)["doping"] == [1e19, 1e20]


def test_several_temperatures_are_those_of_one_by_one() -> None:
    bands, spec = toy.cosines(toy.mesh(4)), TransportSpec(doping=(1e19, 1e20), grid_length=30.0)
    found = transport_at(bands, spec, (300.0, 600.0))
    assert isinstance(found, list)
    for temperature, held in zip((300.0, 600.0), found, strict=True):
        alone = one(bands, replace(spec, temperature=temperature))
        np.testing.assert_array_equal(held.carriers["p"].seebeck, alone.carriers["p"].seebeck)
        np.testing.assert_array_equal(held.carriers["n"].conductivity, alone.carriers["n"].conductivity)
    assert np.all(found[1].carriers["n"].seebeck[0] != found[0].carriers["n"].seebeck[0])
