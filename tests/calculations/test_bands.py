"""Bands of a DFT calculation become rows that transport is computed from."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def nodes(aiida_profile):
    """A crystal, its bands on a mesh and what a calculation says of them."""
    from aiida import orm

    structure = orm.StructureData(cell=[[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]])
    structure.append_atom(position=(0, 0, 0), symbols="Ga")
    structure.append_atom(position=(1.35, 1.35, 1.35), symbols="As")
    mesh = np.stack(np.meshgrid(*[np.arange(3) / 3] * 3, indexing="ij"), -1).reshape(-1, 3)
    levels = np.stack([np.arange(27.0) / 10 + 10 * band for band in range(5)], axis=1)

    def make(spins=1, **parameters):
        bands = orm.BandsData()
        bands.set_cell(structure.cell)
        bands.set_kpoints(mesh)
        held = levels if spins == 1 else np.stack([levels, levels + 0.5])
        bands.set_bands(held, units="eV")
        return structure, bands, orm.Dict({"number_of_electrons": 8.0, "fermi_energy": 31.0, **parameters})

    return make


def test_a_table_of_bands_is_made_and_linked(nodes):
    from aiida import orm

    from crysgen_aiida.calculations.bands import pack_bands
    from crysgen_aiida.crystals.electron_bands import bands_of

    structure, bands, parameters = nodes()
    made = pack_bands(structure, bands, parameters, orm.Str("qe-pbe"))
    assert made.creator.inputs.bands.uuid == bands.uuid
    assert made.metadata["method"] == "qe-pbe"
    row = bands_of(made.get(0))
    np.testing.assert_allclose(row.lattice, structure.cell)
    np.testing.assert_allclose(row.frac_coords, [[0, 0, 0], [0.25, 0.25, 0.25]], atol=1e-12)
    assert row.numbers.tolist() == [31, 33]
    np.testing.assert_allclose(row.kpoints, bands.get_kpoints())
    np.testing.assert_allclose(row.energies, bands.get_bands())
    assert (row.n_electrons, row.fermi_energy, row.spin_degeneracy) == (8.0, 31.0, 2)
    assert made.get(0)["reduced_formula"] == "GaAs"


def test_spins_and_insulators(nodes):
    from crysgen_aiida.calculations.bands import electron_bands

    structure, bands, parameters = nodes(spins=2)
    row = electron_bands(structure, bands, parameters.get_dict())
    assert row.spin_degeneracy == 1
    assert row.energies.shape == (27, 10)
    assert (np.diff(row.energies, axis=1) >= 0).all()
    structure, bands, parameters = nodes(spin_orbit_calculation=True, number_of_electrons=4.0)
    assert electron_bands(structure, bands, parameters.get_dict()).spin_degeneracy == 1
    plain = {"number_of_electrons": 8.0}
    structure, bands, _ = nodes()
    assert electron_bands(structure, bands, plain).fermi_energy == pytest.approx(32.6), "the highest filled level"


def test_bands_that_cannot_be_read_are_refused(nodes):
    from crysgen_aiida.calculations.bands import electron_bands
    from crysgen_aiida.crystals.errors import BadInput

    structure, bands, parameters = nodes()
    with pytest.raises(BadInput, match="number_of_electrons"):
        electron_bands(structure, bands, {"fermi_energy": 1.0})
    bands.units = "Ry"
    with pytest.raises(BadInput, match="give bands in eV"):
        electron_bands(structure, bands, parameters.get_dict())
