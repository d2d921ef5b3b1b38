"""Crystals pushed off their minima, batches of them, and a run that is stopped between its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.table import PackedTable
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


class Resuming(InProcess):
    """Keeps finished parts, like the worker; may stop before a part."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[tuple[str, int], PackedTable] = {}
        self.stop_before: int | None = None
        self.computed = 0

    def map_rows(self, stage: str, n: int, function: Callable[[range], Any], *, part_rows: int) -> Any:
        def kept(rows: range) -> Any:
            if (stage, rows.start) not in self.parts:
                if self.stop_before == self.computed:
                    raise KeyboardInterrupt
                self.parts[stage, rows.start] = function(rows)
                self.computed += 1
            return self.parts[stage, rows.start]

        return super().map_rows(stage, n, kept, part_rows=part_rows)
