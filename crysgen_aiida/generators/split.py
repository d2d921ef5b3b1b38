"""Which formulas are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def split_formulas(formulas: Iterable[str], val_fraction: float, seed: int) -> dict[str, str]:
    """Return ``train`` or ``val`` for every formula: a fixed share of them, drawn by a keyed hash."""
    keyed = sorted(set(formulas), key=lambda f: hashlib.sha256(f"{seed}:{f}".encode()).digest())
    n_val = round(val_fraction * len(keyed))
    if val_fraction > 0 and len(keyed) > 1:
        n_val = min(max(n_val, 1), len(keyed) - 1)
    return {formula: "val" if i < n_val else "train" for i, formula in enumerate(keyed)}
