"""Forces and stresses averaged over a space group, so that a crystal that moves along them keeps it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crysgen_aiida.crystals.averaging import averaged, operations
from crysgen_aiida.crystals.relaxing import Start
from crysgen_aiida.physics.batch import Floats, Ints


@dataclass(frozen=True)
class FixedSymmetry:
    """The space group of one crystal.

    :param turns: its rotations for Cartesian row vectors, (m, 3, 3).
    :param partners: atom that each operation carries to the place of each atom, (m, n).
    """

    turns: Floats
    partners: Ints

    @classmethod
    def of(cls, start: Start, symprec: float) -> tuple[FixedSymmetry, Start]:
        """Return the space group of a crystal, and the crystal averaged over it.

        :raises BadInput: if spglib finds none.
        """
        cell, numbers, frac = start
        rotations, translations = operations(cell, frac, numbers, symprec)
        made = averaged(cell, frac, numbers, rotations, translations)
        # x' = R x for fractional columns is r' = r (C^-1 R^T C) for Cartesian rows
        turns = np.linalg.inv(made.cell) @ rotations.transpose(0, 2, 1) @ made.cell
        return cls(turns, made.partners), (made.cell, numbers, made.frac)

    def project(self, total: Floats) -> Floats:
        """Return the part of generalised forces (n + 3, 3) that keeps the space group.

        The first n rows are vectors on the atoms, the last three a symmetric matrix on the cell.
        """
        n = self.partners.shape[1]
        atoms = np.einsum("mnk,mkl->nl", total[:n][self.partners], self.turns)
        cell = np.einsum("mki,kl,mlj->ij", self.turns, total[n:], self.turns)
        return np.concatenate([atoms, cell]) / len(self.turns)
