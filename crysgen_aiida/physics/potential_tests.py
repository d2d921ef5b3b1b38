"""What `crysgen potential test` looks at: derivatives of the energy on the built-in crystals, and speed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from crysgen_aiida.physics.batch import CellBatch
from crysgen_aiida.physics.consistency import TOLERANCE, built_in, consistency
from crysgen_aiida.physics.potentials import LoadedPotential

#: Atoms of the batch whose evaluation is timed, at least, and how often it is.
TIMED_ATOMS, TIMES = 200, 3


def consistency_rows(loaded: LoadedPotential) -> list[dict[str, Any]]:
    """Return one row a built-in crystal: relative deviations, largest force [eV/A] and stress [eV/A^3], verdict."""
    crystals = built_in()
    return [
        {
            "crystal": crystal,
            "force deviation": one.force,
            "stress deviation": one.stress,
            "max force": one.max_force,
            "max stress": one.max_stress,
            "passed": one.worst <= TOLERANCE,
        }
        for crystal, one in zip(crystals, consistency(loaded.compute, list(crystals.values())), strict=True)
    ]


def atoms_per_second(loaded: LoadedPotential, threads: int) -> float:
    """Return how many atoms it evaluates in a second, energy, forces and stress, in batches of small crystals.

    :param threads: of one evaluation; a run shares its crystals among threads instead.
    """
    import torch

    crystals = list(built_in().values())
    crystals *= 1 + TIMED_ATOMS // sum(len(numbers) for _, numbers, _ in crystals)
    cells, numbers, frac = zip(*crystals, strict=True)
    batch = CellBatch.build(numbers, frac, np.stack(cells))
    seconds = []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        loaded.compute.evaluate(batch)
        for _ in range(TIMES):
            start = time.perf_counter()
            loaded.compute.evaluate(batch)
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
        loaded.compute.forget()
    return len(batch.numbers) / float(np.median(seconds))
