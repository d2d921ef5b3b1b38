"""Bands in closed form, and what Boltzmann's equation gives for a parabola."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import constants as si
from scipy.integrate import quad
from scipy.optimize import brentq

from crysgen_aiida.crystals.electron_bands import ElectronBands

EDGE, HOPPING, GAP = 5.0, 1.0, 3.0  # [A], [eV], [eV]
#: Mass of both bands at their edges: hbar^2 / (2 t a^2) [kg].
MASS = si.hbar**2 / (2 * HOPPING * si.e * (EDGE * 1e-10) ** 2)


def mesh(n: int, shift: float = 0.0) -> np.ndarray:
    return (np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 3) + shift) / n


def cosines(kpoints: np.ndarray, **how: Any) -> ElectronBands:
    """Two cosine bands of a simple cubic crystal, mirror images of each other across the gap, two electrons."""
    above = 2 * HOPPING * (3 - np.cos(2 * np.pi * kpoints).sum(axis=1))
    levels = np.stack([-GAP - above, above], axis=1)
    crystal = {"lattice": np.eye(3) * EDGE, "numbers": np.array([29]), "frac_coords": np.zeros((1, 3))}
    held = {**crystal, "kpoints": kpoints, "energies": levels, "fermi_energy": -1.0, "n_electrons": 2.0, **how}
    return ElectronBands(**held)


def fermi(order: float, level: float) -> float:
    """Fermi-Dirac integral without its gamma function."""
    found, _ = quad(lambda x: x**order / (np.exp(x - level) + 1), 0, max(level, 0) + 60, limit=200)
    return float(found)


def parabola(doping: float, temperature: float) -> tuple[float, float, float]:
    """Return Seebeck coefficient [uV/K], conductivity over tau [S/m/s] and Lorenz number [W Ohm/K^2] of electrons."""
    states = 2 * (2 * np.pi * MASS * si.k * temperature / si.h**2) ** 1.5 * 1e-6 * 2 / np.sqrt(np.pi)
    level = brentq(lambda x: states * fermi(0.5, x) - doping, -30, 200)
    first, second = (fermi(n + 0.5, level) * (n + 1.5) for n in (1, 2))
    zeroth = fermi(0.5, level) * 1.5
    seebeck = -si.k / si.e * (first / zeroth - level)
    lorenz = (si.k / si.e) ** 2 * (second / zeroth - (first / zeroth) ** 2)
    return seebeck * 1e6, doping * 1e6 * si.e**2 / MASS, lorenz
