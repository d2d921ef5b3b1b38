"""CellBatch: the one state that potentials evaluate, several crystals laid end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: 1 eV/A^3 in GPa.
EV_PER_A3_IN_GPA = 160.21766208


@dataclass
class CellBatch:
    """Several crystals, atoms laid end to end.

    :param numbers: atomic numbers, (N,).
    :param positions: cartesian positions [A], (N, 3); never wrapped into the cell by whoever moves the atoms.
    :param cells: cell vectors as rows [A], (B, 3, 3).
    :param counts: atoms of each crystal, (B,).
    :param keys: a name for each crystal that stays the same from one evaluation to the next, so that a potential
        may keep its neighbour list; (B,).
    """

    numbers: Ints
    positions: Floats
    cells: Floats
    counts: Ints
    keys: tuple[int, ...]

    @property
    def owners(self) -> Ints:
        """Crystal of each atom, (N,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def starts(self) -> Ints:
        """First atom of each crystal and, last, N; (B + 1,)."""
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.counts)])

    @property
    def volumes(self) -> Floats:
        """Cell volumes [A^3], (B,)."""
        return np.asarray(np.abs(np.linalg.det(self.cells)), dtype=np.float64)

    @classmethod
    def build(
        cls,
        numbers: Sequence[npt.ArrayLike],
        frac_coords: Sequence[npt.ArrayLike],
        cells: npt.ArrayLike,
        keys: Sequence[int] | None = None,
    ) -> CellBatch:
        """Lay crystals end to end.

        :param numbers: atomic numbers of each crystal, B arrays (n,).
        :param frac_coords: fractional coordinates of each crystal, B arrays (n, 3).
        :param cells: cell vectors as rows [A], (B, 3, 3).
        """
        lattices = np.asarray(cells, dtype=np.float64).reshape(-1, 3, 3)
        frac = [np.asarray(f, dtype=np.float64).reshape(-1, 3) for f in frac_coords]
        return cls(
            numbers=np.concatenate([np.asarray(z, dtype=np.int64) for z in numbers]),
            positions=np.concatenate([f @ lattice for f, lattice in zip(frac, lattices, strict=True)]),
            cells=lattices,
            counts=np.array([len(f) for f in frac], dtype=np.int64),
            keys=tuple(keys) if keys is not None else tuple(range(len(frac))),
        )


@dataclass
class Evaluation:
    """What a potential says of a batch.

    :param energies: total energy of each crystal [eV], (B,).
    :param forces: forces on the atoms [eV/A], (N, 3).
    :param stresses: dE/d(strain)/V of each crystal [eV/A^3], negative under compression as in ASE, (B, 3, 3).
    :param isolated: atoms without any neighbour inside the cutoff, counted for each crystal, (B,).
    :param shortest: shortest interatomic distance of each crystal [A], infinite beyond the cutoff, (B,).
    """

    energies: Floats
    forces: Floats
    stresses: Floats
    isolated: Ints
    shortest: Floats


class BatchPotential(Protocol):
    """A potential that evaluates a batch."""

    def evaluate(self, batch: CellBatch) -> Evaluation:
        """Return energies, forces and stresses of a batch."""

    def forget(self, keys: Sequence[int] | None = None) -> None:
        """Drop what is kept between evaluations of these crystals (all, if None)."""
