"""A chain of anharmonic springs between nearest neighbours of a crystal, as an ASE calculator, smooth to all orders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import springs
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

from crysgen_aiida.physics.potentials import LoadedPotential


class Morse(Calculator):
    """Pairs nearer than ``reach`` [A] share a Morse well of depth 1 eV with its bottom at ``length`` [A]."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, length: float, reach: float, width: float, depth: float) -> None:
        super().__init__()
        self.length, self.reach, self.width, self.depth = length, reach, width, depth

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        i, d, vectors = neighbor_list("idD", atoms, self.reach)
        decay = np.exp(-self.width * (d - self.length))
        energy = self.depth * (decay**2 - 2 * decay)
        slope = 2 * self.depth * self.width * (decay - decay**2)
        force = slope[:, None] * vectors / d[:, None]
        forces = np.stack([np.bincount(i, force[:, k], len(atoms)) for k in range(3)], axis=1)
        virial = np.einsum("pi,pj->ij", force, vectors) / 2 / atoms.get_volume()
        stress = np.array([virial[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))])
        self.results = {"energy": float(energy.sum()) / 2, "forces": forces, "stress": stress}


def potential(
    length: float, reach: float, width: float = 1.5, depth: float = 1.0, conservative: bool = True
) -> LoadedPotential:
    held = springs.potential({length: 1.0}, conservative=conservative)
    compute = type(held.compute)(Morse(length, reach, width, depth))  # type: ignore[call-arg]
    return replace(held, info=replace(held.info, name="morse"), compute=compute)
