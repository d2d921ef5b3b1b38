"""What follows from force constants and Born charges at Gamma: modes, and the lattice's share of the dielectric tensor.

X. Gonze and C. Lee, Phys. Rev. B 55, 10355 (1997), equations 53 to 55.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crysgen_aiida.physics.batch import Floats
from crysgen_aiida.physics.polar import COULOMB

#: sqrt(1 eV / (A^2 u)) / (2 pi) [THz].
THZ = 15.633302300230191
#: Modes softer than this do not take part in the static response, which they would make infinite [THz].
SOFT = 0.05


@dataclass(frozen=True)
class GammaModes:
    """Modes at Gamma without longitudinal shift.

    :param frequencies: [THz], ascending, imaginary ones negative, acoustic ones included, (3 n,).
    :param vectors: eigenvectors of the mass-weighted force constants as columns, (3 n, 3 n).
    :param violation: largest sum of force constants over one atom's partners before the sum rule was imposed [eV/A^2].
    :param acoustic: largest magnitude of the three frequencies nearest zero before it was imposed [THz].
    """

    frequencies: Floats
    vectors: Floats
    violation: float
    acoustic: float

    @property
    def optical(self) -> Floats:
        """Frequencies without the three nearest zero, ascending [THz]."""
        order = np.argsort(np.abs(self.frequencies), kind="stable")
        return np.sort(self.frequencies[order[3:]])


def gamma_modes(force_constants: Any, masses: Any) -> GammaModes:
    """Return the modes of force constants at Gamma, with the acoustic sum rule imposed on each atom's own block.

    :param force_constants: [eV/A^2], (n, n, 3, 3): atom, atom, direction, direction.
    :param masses: [u], (n,).
    """
    constants, weights = np.array(force_constants, dtype=float), np.asarray(masses, dtype=float)
    n = len(weights)
    before, _ = _diagonalise(constants, weights)
    sums = constants.sum(axis=1)
    constants[np.arange(n), np.arange(n)] -= sums
    frequencies, vectors = _diagonalise(constants, weights)
    return GammaModes(
        frequencies, vectors, float(np.abs(sums).max()), float(np.sort(np.abs(before))[: min(3, len(before))].max())
    )


def neutral(charges: Any) -> tuple[Floats, float]:
    """Return Born charges whose sum over the atoms is zero, and by how much it was not before [e].

    What is too much is taken from all atoms alike.

    :param charges: (n, 3, 3).
    """
    held = np.asarray(charges, dtype=float)
    excess = held.sum(axis=0)
    return held - excess / len(held), float(np.abs(excess).max())


def lattice_dielectric(modes: GammaModes, charges: Any, masses: Any, volume: float) -> Floats:
    """Return what the atoms' displacements add to the static dielectric tensor, (3, 3).

    4 pi / V times the sum over optical modes of S_m / omega_m^2, where S_m is the product of the mode's effective
    charges.

    :param charges: Born charges [e], (n, 3, 3): atom, direction of the field, direction of the displacement.
    :param volume: of the cell [A^3].
    :raises ValueError: if an optical mode is imaginary or softer than :data:`SOFT`: the response is not finite there.
    """
    order = np.argsort(np.abs(modes.frequencies), kind="stable")[3:]
    soft = float(modes.frequencies[order].min(initial=np.inf))
    if soft < SOFT:
        raise ValueError(f"the optical mode at {soft:.3g} THz is soft or imaginary: the static response is not finite")
    weights = np.repeat(np.asarray(masses, dtype=float), 3)
    moved = modes.vectors[:, order] / np.sqrt(weights)[:, None]  # (3 n, m) displacements [1/sqrt(u)]
    flat = np.asarray(charges, dtype=float).transpose(1, 0, 2).reshape(3, -1)  # (3, 3 n)
    effective = flat @ moved  # (3, m) [e/sqrt(u)]
    squared = (modes.frequencies[order] / THZ) ** 2  # [eV/A^2/u]
    total: Floats = 4 * np.pi * COULOMB / volume * (effective / squared) @ effective.T
    return total


def _diagonalise(constants: Floats, masses: Floats) -> tuple[Floats, Floats]:
    size = 3 * len(masses)
    weights = np.repeat(masses, 3)
    dynamical = constants.transpose(0, 2, 1, 3).reshape(size, size) / np.sqrt(np.outer(weights, weights))
    values, vectors = np.linalg.eigh((dynamical + dynamical.T) / 2)
    return np.sign(values) * np.sqrt(np.abs(values)) * THZ, vectors
