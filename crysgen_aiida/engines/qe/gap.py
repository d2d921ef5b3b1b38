"""The band gap by counting electrons, which does not ask how the occupations were smeared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Gaps below this are those of a metal [eV]: a Kohn-Sham gap of a few meV is noise of the wave vectors sampled.
METALLIC = 1e-3


@dataclass(frozen=True)
class Gap:
    """Edges of the bands; energies in eV, wave vectors in reciprocal basis vectors.

    :param fundamental: from the highest occupied state anywhere to the lowest empty one anywhere; 0 for a metal.
    :param direct: least difference of the two at one wave vector; 0 if bands touch there.
    """

    fundamental: float
    direct: float
    valence_top: float
    conduction_bottom: float
    valence_at: tuple[float, float, float]
    conduction_at: tuple[float, float, float]

    @property
    def metal(self) -> bool:
        """Whether occupied and empty states overlap in energy."""
        return self.fundamental <= METALLIC

    @property
    def is_direct(self) -> bool:
        """Whether the smallest difference at one wave vector is the fundamental gap, to 1 meV."""
        return not self.metal and self.direct - self.fundamental < METALLIC


def band_gap(bands: Sequence[tuple[Any, Any]], electrons: float) -> Gap:
    """Return the gap of bands at one or several sets of wave vectors, of the same density.

    At each wave vector the ``electrons`` lowest states are occupied, both spins together. An odd number of electrons
    without spin makes a metal: the highest band is half full.

    :param bands: energies [eV], (k, n) for one spin or (2, k, n) for two, and wave vectors (k, 3) of each set.
    :raises ValueError: if there are no empty states among the bands.
    """
    full = round(electrons)
    tops, bottoms, where = [], [], []
    for energies, kpoints in bands:
        spins = np.asarray(energies, dtype=float)
        spins = np.stack([spins, spins]) if spins.ndim == 2 else spins  # (2, k, n)
        states = np.sort(np.moveaxis(spins, 0, 1).reshape(spins.shape[1], -1), axis=1)  # (k, 2 n)
        if states.shape[1] <= full:
            raise ValueError(f"{states.shape[1]} states for {full} electrons: none is empty, no gap can be told")
        tops.append(states[:, full - 1])
        bottoms.append(states[:, full])
        where.append(np.asarray(kpoints, dtype=float))
    top, bottom, points = np.concatenate(tops), np.concatenate(bottoms), np.concatenate(where)
    v, c = int(np.argmax(top)), int(np.argmin(bottom))
    return Gap(
        fundamental=max(0.0, float(bottom[c] - top[v])),
        direct=max(0.0, float((bottom - top).min())),
        valence_top=float(top[v]),
        conduction_bottom=float(bottom[c]),
        valence_at=_point(points[v]),
        conduction_at=_point(points[c]),
    )


def _point(k: Any) -> tuple[float, float, float]:
    a, b, c = (float(round(x, 6)) for x in k)
    return a, b, c
