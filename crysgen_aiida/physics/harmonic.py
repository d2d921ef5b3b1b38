"""Harmonic thermal properties and density of states from phonon frequencies on an even mesh."""

from __future__ import annotations

from typing import Any

import numpy as np

from crysgen_aiida.physics.batch import Floats

#: h * 1 THz [eV] and the constants of Boltzmann [eV/K] and Avogadro times e [J/mol/eV] (CODATA 2018).
H_THZ = 4.135667696923859e-3
BOLTZMANN = 8.617333262145179e-5
J_PER_MOL = 96485.33212331
ROOM = 300.0  # K
#: Modes softer than this are left out [THz]: their classical limit diverges, and near zero they are noise.
SOFTEST = 1e-3
#: Width of the Gaussians of the density of states, as a share of the range.
WIDTH = 0.01


def thermal_properties(frequencies: Any, atoms: int, temperature: float = ROOM) -> dict[str, float]:
    """Return the registered harmonic properties, per atom (mole of atoms).

    :param frequencies: [THz] at each point of an even mesh, (k, 3 n); NaN, imaginary and very soft ones are left out.
    """
    held = np.asarray(frequencies, dtype=float)
    points = len(held)
    quantum = H_THZ * held[np.nan_to_num(held, nan=-1.0) > SOFTEST]  # eV
    x = quantum / (BOLTZMANN * temperature)
    occupation = 1.0 / np.expm1(x)
    per_atom = 1.0 / (points * atoms)
    zero = float(quantum.sum()) / 2 * per_atom
    free = zero + float(np.log1p(-np.exp(-x)).sum()) * BOLTZMANN * temperature * per_atom
    heat = float((x**2 * occupation * (occupation + 1)).sum()) * BOLTZMANN * per_atom
    entropy = float((x * occupation - np.log1p(-np.exp(-x))).sum()) * BOLTZMANN * per_atom
    return {
        "zero_point_energy": zero,
        "heat_capacity_300k": heat * J_PER_MOL,
        "vibrational_entropy_300k": entropy * J_PER_MOL,
        "vibrational_free_energy_300k": free,
    }


def density_of_states(frequencies: Any, points: int) -> tuple[Floats, Floats]:
    """Return frequencies [THz] and the density of states [states/THz and cell] there, by Gaussians.

    :param frequencies: [THz] at each point of an even mesh, (k, 3 n).
    """
    held = np.asarray(frequencies, dtype=float)
    low, high = min(0.0, float(held.min())), max(0.1, float(held.max()))
    width = WIDTH * (high - low)
    grid = np.linspace(low - 3 * width, high + 3 * width, points)
    edges = np.concatenate([grid - (grid[1] - grid[0]) / 2, [grid[-1] + (grid[1] - grid[0]) / 2]])
    fine, centres = np.histogram(held, bins=np.linspace(edges[0], edges[-1], 20 * points + 1))
    middle = (centres[1:] + centres[:-1]) / 2
    kernel = np.exp(-(((grid[:, None] - middle) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
    total: Floats = kernel @ fine / len(held)
    return grid, total
