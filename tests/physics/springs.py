"""A crystal of springs at rest: phonons and elastic constants in closed form, and an ASE calculator of the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

from crysgen_aiida.physics.ase_potential import ASEPotential
from crysgen_aiida.physics.batch import EV_PER_A3_IN_GPA
from crysgen_aiida.physics.potentials import LoadedPotential, PotentialInfo

#: sqrt(eV/A^2/amu) in THz.
THZ = 15.633302300230191


class Springs(Calculator):
    """Pairs near one of the given lengths [A] are held by a spring of that length with its constant [eV/A^2]."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, springs: dict[float, float]) -> None:
        super().__init__()
        self.springs = springs

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        lengths = np.array(list(self.springs))
        i, d, vectors = neighbor_list("idD", atoms, float(lengths.max()) * 1.1)
        which = np.abs(d[:, None] - lengths).argmin(axis=1)
        stretch = d - lengths[which]
        pull = np.array(list(self.springs.values()))[which] * stretch
        force = pull[:, None] * vectors / d[:, None]
        forces = np.stack([np.bincount(i, force[:, k], len(atoms)) for k in range(3)], axis=1)
        virial = np.einsum("pi,pj->ij", force, vectors) / 2
        stress = virial / atoms.get_volume()
        self.results = {
            "energy": float((pull * stretch).sum()) / 4,
            "forces": forces,
            "stress": np.array([stress[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))]),
        }


def potential(springs: dict[float, float], conservative: bool = True) -> LoadedPotential:
    info = PotentialInfo("springs", "1", (), conservative, 94, "ase", "Hooke", "MIT", "of springs", "ase")
    return LoadedPotential(info, "0" * 64, ASEPotential(Springs(springs)))


def bonds(lattice: np.ndarray, springs: dict[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors to all neighbours of the one atom of a lattice [A] and their constants [eV/A^2]."""
    steps = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), axis=-1).reshape(-1, 3)
    vectors = steps @ lattice
    lengths = np.linalg.norm(vectors, axis=1)
    found = [(v, k) for length, k in springs.items() for v in vectors[np.abs(lengths - length) < 1e-6]]
    return np.array([v for v, _ in found]), np.array([k for _, k in found])


def frequencies(lattice: np.ndarray, springs: dict[float, float], mass: float, qpoints: np.ndarray) -> np.ndarray:
    """Return the frequencies [THz] of one atom a cell, (Q, 3), imaginary ones negative."""
    vectors, constants = bonds(lattice, springs)
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    reciprocal = np.linalg.inv(lattice).T
    phase = 2 * np.pi * qpoints @ reciprocal @ vectors.T  # (Q, bonds)
    matrix = np.einsum("b,qb,bi,bj->qij", constants, 1 - np.cos(phase), unit, unit) / mass
    squares = np.linalg.eigvalsh(matrix)
    return np.sign(squares) * np.sqrt(np.abs(squares)) * THZ


def elastic(lattice: np.ndarray, springs: dict[float, float]) -> np.ndarray:
    """Return C_IJ [GPa] of one atom a cell with springs at rest: sum of k r^2 n n n n / 2 V over its neighbours."""
    vectors, constants = bonds(lattice, springs)
    lengths = np.linalg.norm(vectors, axis=1)
    n = vectors / lengths[:, None]
    whole = np.einsum("b,bi,bj,bk,bl->ijkl", constants * lengths**2, n, n, n, n) / 2 / abs(np.linalg.det(lattice))
    order = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
    return np.array([[whole[a + b] for b in order] for a in order]) * EV_PER_A3_IN_GPA
