"""Harmonic thermal properties against phonopy's formulas and what must hold of them."""

from __future__ import annotations

import numpy as np
import pytest

from crysgen_aiida.physics.harmonic import density_of_states, thermal_properties


def test_heat_capacity_is_phonopys_and_entropy_the_slope_of_the_free_energy():
    from phonopy.phonon.thermal_properties import mode_cv

    frequencies = np.linspace(2.0, 20.0, 12).reshape(2, 6)  # two points, two atoms
    quantum = (frequencies * 4.135667696923859e-3).ravel()
    made = thermal_properties(frequencies, 2)
    per_atom, joule = 1 / (2 * 2), 96485.33212331
    theirs = sum(float(np.ravel(mode_cv(300.0, np.array([q])))[0]) for q in quantum)
    assert made["heat_capacity_300k"] == pytest.approx(theirs * per_atom * joule, rel=1e-6)
    thermal = 8.617333262145179e-5 * 300.0
    partition = np.exp(-quantum / thermal / 2) / (1 - np.exp(-quantum / thermal))
    assert made["vibrational_free_energy_300k"] == pytest.approx(-thermal * np.log(partition).sum() * per_atom)
    low, high = (thermal_properties(frequencies, 2, t)["vibrational_free_energy_300k"] for t in (299.0, 301.0))
    assert made["vibrational_entropy_300k"] == pytest.approx((low - high) / 2 * joule, rel=1e-4)
    assert made["zero_point_energy"] == pytest.approx(quantum.sum() / 2 * per_atom)


def test_soft_modes_have_the_heat_capacity_of_dulong_and_petit():
    made = thermal_properties(np.full((4, 6), 0.05), 2)
    assert made["heat_capacity_300k"] == pytest.approx(3 * 8.314462618, rel=1e-3)


def test_missing_and_imaginary_modes_are_left_out():
    whole = np.full((2, 3), 5.0)
    part = np.array([[5.0, 5.0, np.nan], [5.0, 5.0, -1.0]])
    assert thermal_properties(part, 1)["zero_point_energy"] == pytest.approx(
        thermal_properties(whole, 1)["zero_point_energy"] * 2 / 3
    )


def test_the_density_of_states_counts_the_modes_of_a_cell():
    rng = np.random.default_rng(3)
    x, y = density_of_states(rng.uniform(0.5, 12.0, (50, 9)), 301)
    assert np.trapezoid(y, x) == pytest.approx(9, rel=0.01)
    assert (y >= 0).all()
