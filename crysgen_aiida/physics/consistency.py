"""Whether forces and stress of a potential are derivatives of its energy, by finite differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crysgen_aiida.crystals.relaxing import Start
from crysgen_aiida.physics.batch import BatchPotential, CellBatch, Floats, Ints

#: Step of an atom [A], and strain, of the inner two of four points: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h.
STEP, STRAIN = 0.02, 0.005
_POINTS = ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0))
#: Smallest force [eV/A] and stress [eV/A^3] that a deviation is taken relative to.
LEAST_FORCE, LEAST_STRESS = 0.1, 0.005
#: Largest relative deviation of a potential whose forces are derivatives. SevenNet and Nequix stay below 0.001; CHGNet,
#: whose energy is rough on the scale of the steps, reaches 0.025.
TOLERANCE = 0.03
#: Rows and columns of the six strains.
_STRAINS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class Consistency:
    """What finite differences of the energy of one crystal say.

    :param force: largest deviation of a component of the forces, over the largest component of the forces, or
        ``LEAST_FORCE``.
    :param stress: the same of the stress, or ``LEAST_STRESS``.
    :param max_force: that largest component [eV/A].
    :param max_stress: the same of the stress [eV/A^3].
    """

    force: float
    stress: float
    max_force: float
    max_stress: float

    @property
    def worst(self) -> float:
        """The larger of both deviations; not a number where the potential gave none."""
        return float(np.max([self.force, self.stress]))


def consistency(potential: BatchPotential, crystals: Sequence[Start]) -> list[Consistency]:
    """Return how far forces and stress are from the derivatives of the energy, crystal by crystal.

    All atoms are moved along all axes, and the cell is strained in all six ways, four points each.

    :param crystals: cell [A], atomic numbers and fractional coordinates; off their minima, or there is nothing to
        compare with.
    """
    return [_one(potential, crystal) for crystal in crystals]


def built_in() -> dict[str, Start]:
    """Return small crystals of different bonding, pushed off their minima always in the same way."""
    half = [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
    wurtzite = [[1 / 3, 2 / 3, 0.0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.382], [2 / 3, 1 / 3, 0.882]]
    hexagonal = [[1.0, 0.0, 0.0], [-0.5, 3**0.5 / 2, 0.0], [0.0, 0.0, 1.601]]
    perovskite = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]
    simple: dict[str, tuple[Floats, list[int], list[list[float]]]] = {
        "Si": (5.43 * np.array(half), [14, 14], [[0.0] * 3, [0.25] * 3]),
        "NaCl": (5.69 * np.array(half), [11, 17], [[0.0] * 3, [0.5] * 3]),
        "Cu": (3.61 * np.array(half), [29], [[0.0] * 3]),
        "AlN": (3.11 * np.array(hexagonal), [13, 13, 7, 7], wurtzite),
        "SrTiO3": (3.94 * np.eye(3), [38, 22, 8, 8, 8], perovskite),
    }
    pushed = {}
    for k, (name, (cell, numbers, frac)) in enumerate(simple.items()):
        rng = np.random.default_rng(k)
        strain = rng.uniform(-0.03, 0.03, (3, 3))
        moved = np.array(frac) + rng.normal(0.0, 0.08, (len(numbers), 3)) @ np.linalg.inv(cell)
        pushed[name] = (cell @ (np.eye(3) + (strain + strain.T) / 2), np.array(numbers, dtype=np.int64), moved)
    return pushed


def _one(potential: BatchPotential, crystal: Start) -> Consistency:
    cell, numbers, frac = crystal
    n = len(numbers)
    base = CellBatch.build([numbers], [frac], cell[None])
    found = potential.evaluate(base)
    potential.forget()
    cells, positions, weights = [], [], []
    for k in range(3 * n + 6):
        for times, weight in _POINTS:
            deform, moved = np.eye(3), base.positions.copy()
            if k < 3 * n:
                moved[k // 3, k % 3] += times * STEP
            else:
                a, b = _STRAINS[k - 3 * n]
                deform[a, b] += times * STRAIN / 2
                deform[b, a] += times * STRAIN / 2
            cells.append(cell @ deform)
            positions.append(moved @ deform)
            weights.append(weight)
    energies = _energies(potential, numbers, cells, positions)
    slopes = (np.array(weights) * energies).reshape(-1, len(_POINTS)).sum(axis=1) / 12
    forces = -slopes[: 3 * n].reshape(n, 3) / STEP
    stress = np.array([found.stresses[0][a, b] for a, b in _STRAINS])
    from_energy = slopes[3 * n :] / STRAIN / base.volumes[0]
    # with one atom a cell all forces vanish: then only the stress says something
    max_force, max_stress = float(np.abs(found.forces).max()), float(np.abs(stress).max())
    return Consistency(
        force=float(np.abs(forces - found.forces).max()) / max(max_force, LEAST_FORCE),
        stress=float(np.abs(from_energy - stress).max()) / max(max_stress, LEAST_STRESS),
        max_force=max_force,
        max_stress=max_stress,
    )


def _energies(potential: BatchPotential, numbers: Ints, cells: list[Floats], positions: list[Floats]) -> Floats:
    n = len(numbers)
    energies = np.zeros(len(cells))
    size = max(1, 96 // n)
    for begin in range(0, len(cells), size):
        part = slice(begin, begin + size)
        count = len(cells[part])
        batch = CellBatch(
            numbers=np.tile(numbers, count),
            positions=np.concatenate(positions[part]),
            cells=np.stack(cells[part]),
            counts=np.full(count, n, dtype=np.int64),
            keys=tuple(range(count)),
        )
        energies[part] = potential.evaluate(batch).energies
        potential.forget()
    return energies
