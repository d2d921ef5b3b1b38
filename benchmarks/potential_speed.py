"""Processor time per atom of the potentials that are here, in batches, and of the calculator that SevenNet publishes.

    python benchmarks/potential_speed.py [--potentials P,...] [--json FILE]

One thread, energy with forces and stress, medians of five after a first evaluation: three supercells of 54 to 72 atoms
(Si, NaCl, wurtzite AlN), and 24 primitive cells of the same in one batch. ASE calculators see one crystal at a time.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from phonons import figure


def crystals() -> dict[str, list[Any]]:
    """Return the supercells and the small cells, slightly disordered, as ASE atoms."""
    from ase.build import bulk

    small = [
        bulk("Si", "diamond", 5.43),
        bulk("NaCl", "rocksalt", 5.64),
        bulk("AlN", "wurtzite", a=3.11, c=4.98, u=0.382),
    ]
    large = [a.repeat(n) for a, n in zip(small, ((3, 3, 3), (3, 3, 3), (3, 3, 2)), strict=True)]
    for k, atoms in enumerate([*small, *large]):
        atoms.rattle(0.05, seed=k)
    return {"supercells": large, "small cells": small * 8}


def median(work: Callable[[], Any], times: int = 5) -> float:
    """Return the median processor time [s] after a first call."""
    work()
    seconds = []
    for _ in range(times):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return float(np.median(seconds))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potentials", default="chgnet,sevennet,sevennet-0,nequix")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    import torch

    from crysgen_aiida.physics.batch import CellBatch
    from crysgen_aiida.physics.potentials import load_potential

    torch.set_num_threads(1)
    loaded = {name: load_potential(name).compute for name in asked.potentials.split(",")}
    if "sevennet" in loaded:
        from sevenn.calculator import SevenNetCalculator

        from crysgen_aiida.physics.ase_potential import ASEPotential

        loaded["sevenn's ASE calculator (l3i5)"] = ASEPotential(SevenNetCalculator("7net-l3i5", device="cpu"))
    figures = {}
    for kind, atoms in crystals().items():
        batch = CellBatch.build(
            [a.numbers for a in atoms], [a.get_scaled_positions() for a in atoms], np.stack([a.cell[:] for a in atoms])
        )
        for name, compute in loaded.items():
            seconds = median(lambda compute=compute, batch=batch: compute.evaluate(batch))
            compute.forget()
            figures[f"{name}, {kind}"] = figure(1e3 * seconds / len(batch.numbers), "ms/atom")
    width = max(map(len, figures))
    for name, held in figures.items():
        print(f"{name:<{width}}  {held['value']:>8.3f} {held['unit']}")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
