"""The band gap from occupations and energies of bands, whatever the Fermi level a program prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: How far the number of electrons of a spin may be from a whole one for the crystal to be an insulator.
WHOLE = 0.01


@dataclass(frozen=True)
class Gap:
    """A fundamental gap.

    :param gap: [eV], zero for a metal.
    :param direct: whether both edges are at one wave vector and of one spin; None for a metal.
    :param vbm: highest occupied energy [eV].
    :param cbm: lowest empty energy [eV].
    :param why_metal: a sentence, empty for an insulator.
    """

    gap: float
    direct: bool | None
    vbm: float | None
    cbm: float | None
    why_metal: str = ""


def band_gap(mesh: Any, occupations: Any, weights: Any, path: Any = None) -> Gap:
    """Return the gap of bands on a mesh, with further wave vectors if a path is given.

    The number of filled bands of each spin comes from the occupations of the mesh; the edges are the extreme
    energies of the last filled and the first empty band at all wave vectors.

    :param mesh: energies [eV], (spins, k-points, bands) or (k-points, bands).
    :param occupations: of the mesh, between 0 and 1.
    :param weights: of the k-points of the mesh.
    :param path: energies on a path, in the same number of spins.
    :raises ValueError: if there is no empty band.
    """
    energies, filled = _by_spin(mesh), _by_spin(occupations)
    share = np.asarray(weights, dtype=float)
    electrons = np.einsum("skb,k->s", filled, share / share.sum())
    counts = np.rint(electrons).astype(int)
    if np.abs(electrons - counts).max() > WHOLE:
        spelled = ", ".join(f"{n:.2f}" for n in electrons)
        return Gap(0.0, None, None, None, f"bands are partly filled: {spelled} electrons in the bands of a spin")
    if counts.max() >= energies.shape[2]:
        raise ValueError("there is no empty band; raise NBANDS")
    more = [] if path is None else [_by_spin(path)]
    everything = np.concatenate([energies, *[p[:, :, : energies.shape[2]] for p in more]], axis=1)
    valence = [everything[s, :, n - 1] if n else np.full(everything.shape[1], -np.inf) for s, n in enumerate(counts)]
    conduction = [everything[s, :, n] for s, n in enumerate(counts)]
    top, bottom = _edge(valence, highest=True), _edge(conduction, highest=False)
    vbm, cbm = float(valence[top[0]][top[1]]), float(conduction[bottom[0]][bottom[1]])
    if cbm <= vbm:
        return Gap(0.0, None, vbm, cbm, f"bands overlap by {vbm - cbm:.3f} eV")
    direct = any(v.max() > vbm - 1e-6 and c[v.argmax()] < cbm + 1e-6 for v, c in zip(valence, conduction, strict=True))
    return Gap(cbm - vbm, direct, vbm, cbm)


def _by_spin(values: Any) -> Any:
    array = np.asarray(values, dtype=float)
    return array if array.ndim == 3 else array[None]


def _edge(bands: list[Any], *, highest: bool) -> tuple[int, int]:
    """Return spin and k-point of the extreme energy."""
    best = [(float(b.max()) if highest else -float(b.min()), s) for s, b in enumerate(bands)]
    spin = max(best)[1]
    return spin, int(bands[spin].argmax() if highest else bands[spin].argmin())
