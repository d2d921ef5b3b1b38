"""Relax the first crystals of a set one after the other with ASE and CHGNet's own calculator, for relaxation.py.

python benchmarks/relaxation_ase.py SET ROWS THREADS OUT
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path


def ase_alone(path: Path, rows: int, threads: int, out: Path) -> None:
    """Relax the first rows of a set with ASE and write energies, steps and seconds."""
    import torch
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE
    from chgnet.model import CHGNet, CHGNetCalculator

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.physics.relaxation import RelaxSpec

    torch.set_num_threads(threads)
    crystals, spec = CrystalSet.read(path), RelaxSpec()
    calculator = CHGNetCalculator(CHGNet.load(use_device="cpu", verbose=False), use_device="cpu")
    ends, began = [], (time.monotonic(), time.process_time())
    for row in range(rows):
        atoms = crystals.structure(row).to_ase_atoms()
        atoms.calc = calculator
        optimiser = FIRE(FrechetCellFilter(atoms), logfile=None)
        try:
            done = bool(optimiser.run(fmax=spec.fmax, steps=spec.max_steps))
            energy, volume = atoms.get_potential_energy() / len(atoms), atoms.get_volume() / len(atoms)
        except Exception as error:  # CHGNet refuses isolated atoms
            ends.append({"row": row, "reason": f"{type(error).__name__}: {error}"})
            continue
        ends.append(
            {"row": row, "energy": float(energy), "volume": float(volume), "steps": optimiser.nsteps, "converged": done}
        )
    seconds = {"wall": time.monotonic() - began[0], "processor": time.process_time() - began[1]}
    out.write_text(json.dumps({"ends": ends, **seconds}))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    given, n, cores, into = sys.argv[1:]
    ase_alone(Path(given), int(n), int(cores), Path(into))
