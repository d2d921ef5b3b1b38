"""Elastic moduli by the surrogates against DFT: errors and ranks, and how many values lie within the stated error.

    python benchmarks/surrogates.py DATA [-n N] [--json FILE]

DATA is a folder with ``mp-binary-pbe-elasticity-2025.1.json.gz`` (Materials Project, PBE). N crystals (500) are taken
evenly over the file; those of DFT moduli below 1 GPa are left out. The surrogates were trained on Materials Project
data of 2017, some of which is of these crystals: the errors are lower bounds of those on new ones.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np


def figure(value: float, unit: str, interval: list[float] | None = None) -> dict[str, Any]:
    """Return one figure in the form all benchmarks use."""
    return {"value": round(float(value), 5), "unit": unit, "interval": interval, "bar": "-", "met": None}


def compared(name: str, ours: np.ndarray, theirs: np.ndarray, sigma: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return errors, rank correlation and coverage of moduli [GPa] against labels."""
    from scipy.stats import spearmanr

    from crysgen_aiida.screening.statistics import wilson

    n, inside = len(ours), int((np.abs(ours - theirs) <= sigma).sum())
    return {
        f"{name}, mean absolute error": figure(np.abs(ours - theirs).mean(), f"GPa (n = {n})"),
        f"{name}, mean label": figure(theirs.mean(), "GPa"),
        f"{name}, bias": figure((ours - theirs).mean(), "GPa"),
        f"{name}, mean absolute error of log10": figure(np.abs(np.log10(ours / theirs)).mean(), ""),
        f"{name}, median absolute error of log10": figure(np.median(np.abs(np.log10(ours / theirs))), ""),
        f"{name}, Spearman": figure(spearmanr(ours, theirs).statistic, ""),
        f"{name}, within the stated error": figure(inside / n, f"share of {n}", list(wilson(inside, n))),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    from pymatgen.core import Structure

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.run import InProcess
    from crysgen_aiida.physics.surrogate_table import surrogate_set

    names = ("bulk_modulus_vrh", "shear_modulus_vrh")
    packed = (asked.data / "mp-binary-pbe-elasticity-2025.1.json.gz").read_bytes()
    held = [row for row in json.loads(gzip.decompress(packed)) if all(float(row[name]) >= 1 for name in names)]
    rows = [held[k] for k in np.linspace(0, len(held) - 1, min(asked.n, len(held))).astype(int)]
    crystals = CrystalSet.from_structures([Structure.from_dict(row["structure"]) for row in rows])
    start = time.process_time()
    table = surrogate_set(crystals, run=InProcess())
    seconds = time.process_time() - start
    figures = {"crystals predicted": figure(table.ok.sum(), f"of {len(table)}")}
    for name in names:
        labels = np.array([float(row[name]) for row in rows])
        figures.update(
            compared(name, table.values(name)[table.ok], labels[table.ok], table.values(f"{name}_sigma")[table.ok])
        )
    figures["processor time"] = figure(1e3 * seconds / len(table), "ms/crystal")
    width = max(map(len, figures))
    for name, one in figures.items():
        span = "" if one["interval"] is None else "[{:.3f}, {:.3f}]".format(*one["interval"])
        print(f"{name:<{width}}  {one['value']:>10.4g} {one['unit']:<18} {span}")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
