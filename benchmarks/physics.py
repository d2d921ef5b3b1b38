"""Relaxation, surrogate and reference against what they replace: equality, speed, error.

    python benchmarks/physics.py [--full] [--json FILE]

Quick (a few minutes on one core): 24 crystals; ``--full``: 200 crystals, the whole starter set for surrogate and hull.
Processor seconds of one thread, so that a busy machine changes little.
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

Figures = dict[str, dict[str, Any]]


def figure(value: float, unit: str, bar: str, met: bool | None, interval: list[float] | None = None) -> dict[str, Any]:
    """Return one figure in the form all benchmarks use."""
    return {"value": round(float(value), 5), "unit": unit, "interval": interval, "bar": bar, "met": met}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result and the processor seconds."""
    start = time.process_time()
    return work(), time.process_time() - start


def distorted(structure: Any, row: int) -> Any:
    """Strain a crystal by up to 8 % an axis and move each atom by 0.15 A."""
    rng = np.random.default_rng(row)
    copy = structure.copy()
    copy.apply_strain(rng.uniform(-0.08, 0.08, 3))
    step = rng.normal(size=(len(copy), 3))
    step *= 0.15 / np.linalg.norm(step, axis=1, keepdims=True)
    return type(copy)(copy.lattice, copy.species, copy.cart_coords + step, coords_are_cartesian=True)


def relaxations(starter: Any, n: int, n_ase: int) -> Figures:
    """Relax starter crystals as they are and distorted; compare with CHGNet's own optimiser."""
    from chgnet.model import StructOptimizer

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.run import InProcess
    from crysgen_aiida.physics.relaxation import RelaxSpec, relax_set

    rows = list(range(0, len(starter), len(starter) // n))[:n]
    given = starter.take(rows)
    relax_set(given.take([0]), run=InProcess())
    _, seconds = timed(lambda: relax_set(given, run=InProcess()))
    pushed = CrystalSet.from_structures([distorted(given.structure(k), k) for k in range(len(given))])
    spec = RelaxSpec(max_steps=200)
    relaxed, pushed_seconds = timed(lambda: relax_set(pushed, spec=spec, run=InProcess()))
    optimiser = StructOptimizer(use_device="cpu")

    def ase() -> list[float]:
        energies = []
        for k in range(n_ase):
            found = optimiser.relax(pushed.structure(k), fmax=spec.fmax, steps=spec.max_steps, verbose=False)
            energies.append(found["trajectory"].energies[-1] / len(found["final_structure"]))
        return energies

    wanted, ase_seconds = timed(ase)
    _, same_seconds = timed(lambda: relax_set(pushed.take(range(n_ase)), spec=spec, run=InProcess()))
    apart = np.abs(relaxed.values("energy_per_atom")[:n_ase] - wanted) * 1000
    close = float((apart <= 5.0).mean())
    ratio = ase_seconds / same_seconds
    per_dft, per_pushed = seconds / len(given), pushed_seconds / len(pushed)
    hour = per_dft * len(starter) / 60
    return {
        "relax, DFT geometry": figure(per_dft, "s/crystal", "<= 0.57 (6,300 in 60 core-minutes)", per_dft <= 0.57),
        "starter set, extrapolated": figure(hour, "core-min", "<= 60", hour <= 60),
        "relax, distorted": figure(per_pushed, "s/crystal", "<= 2", per_pushed <= 2),
        "steps, distorted": figure(np.nanmean(relaxed.values("n_steps")), "steps", "-", None),
        "energy within 5 meV/atom of ASE": figure(close, "share", ">= 0.95", close >= 0.95),
        "largest difference to ASE": figure(apart.max(), "meV/atom", "-", None),
        "speed over ASE one by one": figure(ratio, "x", ">= 1.5", ratio >= 1.5),
    }


def surrogate(starter: Any, every: int) -> Figures:
    """Compare the gap surrogate with the labels of the starter set."""
    from crysgen_aiida.physics.surrogates import METAL_THRESHOLD, predict_gaps
    from crysgen_aiida.screening.statistics import wilson

    rows = range(5, len(starter), every)
    held = [starter.get(r) for r in rows]
    cells = [
        (np.array(h["lattice"]).reshape(3, 3), np.array(h["numbers"]), np.array(h["frac_coords"]).reshape(-1, 3))
        for h in held
    ]
    found, seconds = timed(lambda: predict_gaps(cells))
    labels = np.array([np.nan if h["band_gap"] is None else h["band_gap"] for h in held])
    gaps = np.array([np.nan if f.band_gap is None else f.band_gap for f in found])
    odds = np.array([np.nan if f.metal_probability is None else f.metal_probability for f in found])
    ok = np.isfinite(labels) & np.isfinite(gaps)
    insulating = ok & (labels > 1e-3)
    right = int(((odds >= METAL_THRESHOLD) == (labels <= 1e-3))[ok].sum())
    mae = float(np.abs(gaps - labels)[insulating].mean())
    return {
        "gap, mean absolute error on non-metals": figure(mae, "eV", "<= 0.47 (stated)", mae <= 0.47),
        "metal or not": figure(right / ok.sum(), "share", "-", None, list(wilson(right, int(ok.sum())))),
        "gap, time": figure(seconds / len(held) * 1000, "ms/crystal", "-", None),
    }


def label_hull(starter: Any, folder: Path, every: int) -> Figures:
    """Ask whether the label hull may say stable: known distances to the hull, own entry removed."""
    from crysgen_aiida.crystals.table import ReferenceSet
    from crysgen_aiida.physics.assessment import assess_reference
    from crysgen_aiida.screening.statistics import wilson

    reference = ReferenceSet.read(folder / "near_hull.parquet")
    rows = list(range(0, len(starter), every))
    part = starter.take(rows)
    found = assess_reference(
        reference,
        part.column("reduced_formula"),
        part.values("formation_energy_per_atom").tolist(),
        part.values("e_above_hull").tolist(),
    )
    interval = list(wilson(round(found.within * found.n), found.n))
    return {
        "labels within 10 meV of the label hull": figure(
            found.within, f"share of {found.n}", ">= 0.75 on >= 500", found.passed, interval
        ),
        "label hull, mean absolute error": figure(found.mae * 1000, "meV/atom", "-", None),
        "label hull, bias": figure(found.bias * 1000, "meV/atom", "-", None),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="more crystals")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    import torch

    import crysgen_aiida
    from crysgen_aiida.crystals.crystal_set import CrystalSet

    torch.set_num_threads(1)
    folder = Path(crysgen_aiida.__file__).parent / "starter"
    starter = CrystalSet.read(folder / "crystals.parquet")
    n, n_ase, every = (200, 50, 1) if options.full else (24, 8, 10)
    figures = {**relaxations(starter, n, n_ase), **surrogate(starter, every)}
    figures.update(label_hull(starter, folder, 1 if options.full else 2))
    width = max(map(len, figures))
    for name, held in figures.items():
        verdict = {True: "met", False: "NOT MET", None: ""}[held["met"]]
        span = "" if held["interval"] is None else "[{:.3f}, {:.3f}]".format(*held["interval"])
        print(f"{name:<{width}}  {held['value']:>10.4g} {held['unit']:<16} {span:<16} {held['bar']:<36} {verdict}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
