"""Crystals pushed off their minima, and batches of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from crysgen_aiida.physics.batch import CellBatch


def distorted(structure: Any, seed: int, size: float = 0.1) -> Any:
    rng = np.random.default_rng(seed)
    copy = structure.copy()
    copy.apply_strain(rng.uniform(-0.05, 0.05, 3))
    moved = copy.cart_coords + rng.normal(0, size, (len(copy), 3))
    return type(copy)(copy.lattice, copy.species, moved, coords_are_cartesian=True)


def batch_of(structures: list[Any]) -> CellBatch:
    return CellBatch.build(
        [s.atomic_numbers for s in structures],
        [s.frac_coords for s in structures],
        [s.lattice.matrix for s in structures],
    )
