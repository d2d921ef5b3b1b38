"""Phonons and elastic constants by a potential against those of DFT: errors, ranks, how many are called stable.

    python benchmarks/phonons.py DATA [-n N] [--max-atoms ATOMS] [--potential NAME] [--threads T] [--json FILE]

DATA is a folder with ``matbench_phonons.json.gz`` (G. Petretto et al., Sci. Data 5, 180065 (2018): last peak of the
phonon density of states, PBEsol) and ``mp-binary-pbe-elasticity-2025.1.json.gz`` (Materials Project, PBE: bulk and
shear modulus). Of each, N crystals (10) with at most ATOMS atoms (6) are taken evenly over the file, relaxed with the
potential, and computed with the default settings. The crystals of the first are known from DFT calculations of their
phonons: the share called stable says how far a verdict of the potential may be trusted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

#: 1/cm in THz.
WAVENUMBER = 0.0299792458
#: Peaks of the density of states lower than this share of the highest one are noise.
PEAK = 0.05
RELAX = {"fmax": 0.005, "max_steps": 500}


def crystals_of(path: Path, n: int, max_atoms: int) -> tuple[list[Any], list[dict[str, float]]]:
    """Return structures and labels of ``n`` small crystals, evenly over a file."""
    from pymatgen.core import Structure

    held = json.loads(gzip.decompress(path.read_bytes()))
    if isinstance(held, dict):
        pairs = [(row[0], {"peak": float(row[1]) * WAVENUMBER}) for row in held["data"]]
    else:
        names = ("bulk_modulus_vrh", "shear_modulus_vrh")
        pairs = [(row["structure"], {name: float(row[name]) for name in names}) for row in held]
    small = [(s, labels) for s, labels in pairs if len(s["sites"]) <= max_atoms]
    chosen = [small[k] for k in np.linspace(0, len(small) - 1, min(n, len(small))).astype(int)]
    return [Structure.from_dict(s) for s, _ in chosen], [labels for _, labels in chosen]


def relaxed(structures: list[Any], potential: str, run: Any) -> Any:
    """Return the crystals at rest with the potential."""
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.physics.relaxation import RelaxSpec, relax_set

    return relax_set(CrystalSet.from_structures(structures), potential=potential, spec=RelaxSpec(**RELAX), run=run)


def last_peak(row: dict[str, Any]) -> float:
    """Return the frequency [THz] of the last peak of a density of states."""
    f, g = np.array(row["dos_frequencies"]), np.array(row["dos"])
    tops = np.flatnonzero((g[1:-1] >= g[:-2]) & (g[1:-1] > g[2:]) & (g[1:-1] > PEAK * g.max())) + 1
    return float(f[tops[-1]]) if len(tops) else float(f[int(np.argmax(g))])


def figure(value: float, unit: str, interval: list[float] | None = None) -> dict[str, Any]:
    """Return one figure in the form all benchmarks use."""
    return {"value": round(float(value), 5), "unit": unit, "interval": interval, "bar": "-", "met": None}


def compared(name: str, ours: np.ndarray, theirs: np.ndarray, unit: str) -> dict[str, dict[str, Any]]:
    """Return mean absolute error, bias and rank correlation of values against labels."""
    from scipy.stats import spearmanr

    n = len(ours)
    if n < 3:
        return {f"{name}, crystals compared": figure(n, "")}
    return {
        f"{name}, mean absolute error": figure(np.abs(ours - theirs).mean(), f"{unit} (n = {n})"),
        f"{name}, mean label": figure(theirs.mean(), unit),
        f"{name}, bias": figure((ours - theirs).mean(), unit),
        f"{name}, Spearman": figure(spearmanr(ours, theirs).statistic, f"n = {n}"),
    }


def said(what: str, table: Any) -> None:
    """Print how many rows there are numbers for, and why not for the others."""
    reasons = Counter(r.split(":")[0][:90] for r in table.column("reason") if r)
    print(
        f"{what}: {int(table.ok.sum())} of {len(table)} crystals; " + "; ".join(f"{n} {r}" for r, n in reasons.items())
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-n", type=int, default=10)
    parser.add_argument("--max-atoms", type=int, default=6)
    parser.add_argument("--potential", default="chgnet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    from crysgen_aiida.crystals.run import InProcess
    from crysgen_aiida.physics.elasticity import elastic_set
    from crysgen_aiida.physics.phonons import phonon_set
    from crysgen_aiida.screening.statistics import wilson

    run = InProcess(threads=asked.threads)
    figures: dict[str, dict[str, Any]] = {}
    structures, labels = crystals_of(asked.data / "matbench_phonons.json.gz", asked.n, asked.max_atoms)
    at_rest = relaxed(structures, asked.potential, run)
    start = time.process_time()
    phonons = phonon_set(at_rest, potential=asked.potential, run=run)
    seconds = time.process_time() - start
    said("phonons", phonons)
    rows = [r for r in range(len(phonons)) if phonons.ok[r]]
    peaks = np.array([last_peak(phonons.get(r)) for r in rows])
    figures.update(compared("last peak", peaks, np.array([labels[r]["peak"] for r in rows]), "THz"))
    for column, name in (("phonon_stable", "called stable"), ("phonon_stable_gamma", "called stable at Gamma")):
        right = sum(bool(v) for v in phonons.column(column))
        figures[name] = figure(right / max(1, len(rows)), f"share of {len(rows)}", list(wilson(right, len(rows))))
    figures["phonons, processor time"] = figure(seconds / max(1, len(rows)), "s/crystal")

    structures, labels = crystals_of(asked.data / "mp-binary-pbe-elasticity-2025.1.json.gz", asked.n, asked.max_atoms)
    at_rest = relaxed(structures, asked.potential, run)
    start = time.process_time()
    elastic = elastic_set(at_rest, potential=asked.potential, run=run)
    seconds = time.process_time() - start
    said("elastic constants", elastic)
    for column in ("bulk_modulus_vrh", "shear_modulus_vrh"):
        ours, theirs = elastic.values(column), np.array([held[column] for held in labels])
        both = np.isfinite(ours) & np.isfinite(theirs)
        figures.update(compared(column, ours[both], theirs[both], "GPa"))
    right = sum(bool(v) for v in elastic.column("elastic_stable"))
    n = int(elastic.ok.sum())
    figures["elastically stable"] = figure(right / max(1, n), f"share of {n}", list(wilson(right, n)))
    figures["elastic constants, processor time"] = figure(seconds / max(1, n), "s/crystal")

    width = max(map(len, figures))
    for name, held in figures.items():
        span = "" if held["interval"] is None else "[{:.3f}, {:.3f}]".format(*held["interval"])
        print(f"{name:<{width}}  {held['value']:>10.4g} {held['unit']:<18} {span}")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
