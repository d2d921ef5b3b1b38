"""FIRE on atoms and cell of one crystal, with the state that lets many crystals share one evaluation.

The optimiser is FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006)) with the parameters of ASE; the cell moves
through the logarithm of the deformation, as in ASE's ``FrechetCellFilter``, so that energy and forces stay consistent
under large strains. The deformation is kept symmetric, hence its exponential and the derivative of it follow from one
3 x 3 eigenproblem (Daleckii and Krein).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crysgen_aiida.physics.batch import Floats, Ints

_DT, _DT_MAX, _N_MIN = 0.1, 1.0, 5
_F_INC, _F_DEC, _A_START, _F_A = 1.1, 0.5, 0.1, 0.99


@dataclass
class Fire:
    """One crystal on its way down.

    :param numbers: atomic numbers, (n,).
    :param cell: starting cell vectors as rows [A], (3, 3).
    :param frac: starting fractional coordinates, (n, 3).
    :param relax_cell: whether the cell moves as well.
    :param max_step: longest step of all coordinates together [A].
    """

    numbers: Ints
    cell: Floats
    frac: Floats
    relax_cell: bool = True
    max_step: float = 0.2
    n_steps: int = 0
    _x: Floats = field(init=False)  # positions in the undeformed frame and scaled log-deformation, (n + 3, 3) [A]
    _v: Floats | None = field(init=False, default=None)
    _dt: float = field(init=False, default=_DT)
    _a: float = field(init=False, default=_A_START)
    _downhill: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._cell0 = self.cell.copy()
        self._x = np.concatenate([self.frac @ self.cell, np.zeros((3, 3))])
        self._spectrum()

    @property
    def n(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def positions(self) -> Floats:
        """Cartesian positions [A], (n, 3)."""
        return np.asarray(self._x[: self.n] @ self._deform)

    def generalised_forces(self, forces: Floats, stress: Floats) -> Floats:
        """Return the forces on the coordinates of the optimiser [eV/A], (n + 3, 3).

        :param forces: on the atoms [eV/A], (n, 3).
        :param stress: dE/d(strain)/V [eV/A^3], (3, 3).
        """
        total = np.zeros((self.n + 3, 3))
        total[: self.n] = forces @ self._deform
        if self.relax_cell:
            virial = stress * abs(np.linalg.det(self.cell))
            exponent = np.exp(self._roots)
            gap = self._roots[:, None] - self._roots[None, :]
            close = np.abs(gap) < 1e-8
            change = exponent[:, None] - exponent[None, :]
            slope = np.where(close, exponent[:, None], change / np.where(close, 1.0, gap))
            inner = self._axes.T @ (np.linalg.solve(self._deform, virial)) @ self._axes
            gradient = self._axes @ (slope * 0.5 * (inner + inner.T)) @ self._axes.T
            total[self.n :] = -gradient / self.n
        return total

    def step(self, total: Floats) -> None:
        """Move once along the generalised forces (n + 3, 3)."""
        if self._v is None:
            self._v = np.zeros_like(total)
        else:
            power = float(np.vdot(total, self._v))
            if power > 0.0:
                scale = np.sqrt(np.vdot(self._v, self._v) / np.vdot(total, total))
                self._v = (1.0 - self._a) * self._v + self._a * scale * total
                if self._downhill > _N_MIN:
                    self._dt = min(self._dt * _F_INC, _DT_MAX)
                    self._a *= _F_A
                self._downhill += 1
            else:
                self._v = np.zeros_like(total)
                self._a, self._downhill = _A_START, 0
                self._dt *= _F_DEC
        self._v = self._v + self._dt * total
        move = self._dt * self._v
        length = float(np.sqrt(np.vdot(move, move)))
        if length > self.max_step:
            move *= self.max_step / length
        self._x = self._x + move
        self.n_steps += 1
        if self.relax_cell:
            self._spectrum()
            self.cell = self._cell0 @ self._deform

    def _spectrum(self) -> None:
        log_deform = self._x[self.n :] / self.n  # symmetric, (3, 3)
        self._roots, self._axes = np.linalg.eigh(log_deform)
        self._deform: Floats = (self._axes * np.exp(self._roots)) @ self._axes.T
