"""L-BFGS on atoms and cell of one crystal, without a line search: one evaluation a step, as sharing a batch needs.

Two-loop recursion of Nocedal and Wright, Numerical Optimization, algorithm 7.4; the first curvature is that of ASE. A
pair of steps that shows no positive curvature is forgotten, and where the direction leads uphill the memory is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from crysgen_aiida.physics.batch import Floats
from crysgen_aiida.physics.descent import Descent

#: Pairs that are remembered, and the curvature assumed before there are any [eV/A^2].
_MEMORY, _CURVATURE = 50, 70.0


@dataclass
class Lbfgs(Descent):
    """One crystal on its way down with what its last steps said of the curvature."""

    _pairs: deque[tuple[Floats, Floats]] = field(init=False, default_factory=lambda: deque(maxlen=_MEMORY))
    _last: tuple[Floats, Floats] | None = field(init=False, default=None)  # coordinates and forces of the step before

    def _move(self, total: Floats) -> Floats:
        if self._last is not None:
            went, change = self._x - self._last[0], self._last[1] - total
            if np.vdot(went, change) > 1e-3 * np.vdot(went, went):  # [eV/A^2]
                self._pairs.append((went, change))
        self._last = (self._x, total)
        move = self._direction(total)
        if np.vdot(move, total) <= 0.0:
            self._pairs.clear()
            move = total / _CURVATURE
        return move

    def _direction(self, total: Floats) -> Floats:
        move = total.copy()
        weights = []
        for went, change in reversed(self._pairs):
            weight = np.vdot(went, move) / np.vdot(went, change)
            weights.append(weight)
            move -= weight * change
        move *= self._softness()
        for (went, change), weight in zip(self._pairs, reversed(weights), strict=True):
            move += (weight - np.vdot(change, move) / np.vdot(went, change)) * went
        return move

    def _softness(self) -> float:
        """Return the inverse curvature to start from [A^2/eV]: that along the last pair (equation 7.20)."""
        if not self._pairs:
            return 1.0 / _CURVATURE
        went, change = self._pairs[-1]
        return float(np.vdot(went, change) / np.vdot(change, change))
