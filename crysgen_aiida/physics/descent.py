"""Atoms and cell of one crystal as coordinates to go downhill in, whatever optimiser moves them.

The cell moves through the logarithm of the deformation, as in ASE's ``FrechetCellFilter``, so that energy and forces
stay consistent under large strains. The deformation is kept symmetric, hence its exponential and the derivative of it
follow from one 3 x 3 eigenproblem (Daleckii and Krein).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from crysgen_aiida.physics.batch import Floats, Ints


@dataclass
class Descent(ABC):
    """One crystal on its way down.

    :param numbers: atomic numbers, (n,).
    :param cell: starting cell vectors as rows [A], (3, 3).
    :param frac: starting fractional coordinates, (n, 3).
    :param relax_cell: whether the cell moves as well.
    :param max_step: longest step of all coordinates together [A].
    :param project: returns the part of generalised forces (n + 3, 3) to follow, e.g. that which keeps a space group.
    """

    numbers: Ints
    cell: Floats
    frac: Floats
    relax_cell: bool = True
    max_step: float = 0.2
    project: Callable[[Floats], Floats] | None = None
    n_steps: int = 0
    _x: Floats = field(init=False)  # positions in the undeformed frame and scaled log-deformation, (n + 3, 3) [A]

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
        return total if self.project is None else self.project(total)

    def step(self, total: Floats) -> None:
        """Move once, given the generalised forces [eV/A], (n + 3, 3)."""
        move = self._move(total)
        length = float(np.sqrt(np.vdot(move, move)))
        if length > self.max_step:
            move *= self.max_step / length
        self._x = self._x + move
        self.n_steps += 1
        if self.relax_cell:
            self._spectrum()
            self.cell = self._cell0 @ self._deform

    @abstractmethod
    def _move(self, total: Floats) -> Floats:
        """Return where to go [A], (n + 3, 3); what is longer than ``max_step`` is shortened."""

    def _spectrum(self) -> None:
        log_deform = self._x[self.n :] / self.n  # symmetric, (3, 3)
        self._roots, self._axes = np.linalg.eigh(log_deform)
        self._deform: Floats = (self._axes * np.exp(self._roots)) @ self._axes.T
