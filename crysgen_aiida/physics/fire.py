"""FIRE on atoms and cell of one crystal: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), parameters of ASE."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crysgen_aiida.physics.batch import Floats
from crysgen_aiida.physics.descent import Descent

_DT, _DT_MAX, _N_MIN = 0.1, 1.0, 5
_F_INC, _F_DEC, _A_START, _F_A = 1.1, 0.5, 0.1, 0.99


@dataclass
class Fire(Descent):
    """One crystal on its way down with inertia; its state lets many crystals share one evaluation."""

    _v: Floats | None = field(init=False, default=None)
    _dt: float = field(init=False, default=_DT)
    _a: float = field(init=False, default=_A_START)
    _downhill: int = field(init=False, default=0)

    def _move(self, total: Floats) -> Floats:
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
        return np.asarray(self._dt * self._v)
