"""Potentials measured against DFT on the same crystals: elastic moduli, phonons, how many known crystals are stable.

    python benchmarks/potentials.py run DATA ROWS.jsonl [--tasks T,...] [--potentials P,...] [-n N]
    python benchmarks/potentials.py displacement DATA ROWS.jsonl [--potentials P,...] [-n N]
    python benchmarks/potentials.py show ROWS.jsonl [--json FILE]

Three tasks, each on N crystals (104) that are relaxed with the potential first (fmax 0.005 eV/A, 500 steps):

- control: crystals of ``mp20_part.csv.gz`` (Materials Project) on the hull (e_above_hull = 0) with a gap above 0.3 eV:
  the share called dynamically stable. Most of them were made: a potential that calls many unstable is a bad judge.
- elastic: ``mp-binary-pbe-elasticity-2025.1.json.gz`` (PBE), bulk and shear moduli.
- peak: ``matbench_phonons.json.gz`` (PBEsol), last peak of the phonon density of states.

For phonons: primitive cells of at most 6 atoms whose displaced supercells have at most 300 atoms together (by the
symmetry of the published structure), so high symmetry is favoured. For moduli: 2 atoms. N crystals evenly over
the file. All potentials do a crystal before the next one is begun; finished rows are not computed again.

``displacement`` computes N crystals (12) of the control at displacements of 0.01, 0.03 and 0.1 A: how far the step
decides what is found. There a name may end in ``:double`` for double precision.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from phonons import WAVENUMBER, figure, last_peak

RELAX = {"fmax": 0.005, "max_steps": 500}
MAX_ATOMS, MAX_DISPLACED, MAX_ATOMS_ELASTIC = 6, 300, 2
TASKS = ("control", "elastic", "peak")
#: Of PhononSpec [THz].
TOLERANCE = 0.05
DISPLACEMENTS = (0.01, 0.03, 0.1)
MODULI = ("bulk_modulus_vrh", "shear_modulus_vrh")
#: Above this share of false alarms a judge may not be used for a claim.
LIMIT = 0.2

Crystal = tuple[str, Any, dict[str, float]]


def control(data: Path) -> Iterator[Crystal]:
    """Yield name, structure and labels of the crystals on the hull with a gap."""
    import pandas as pd
    from pymatgen.core import Structure

    table = pd.read_csv(data / "mp20_part.csv.gz")
    for row in table[(table.e_above_hull == 0) & (table.band_gap > 0.3)].itertuples():
        structure = Structure.from_str(row.cif, fmt="cif")  # primitive in this file
        if len(structure) <= MAX_ATOMS:
            yield row.material_id, structure, {"band_gap": float(row.band_gap)}


def elastic(data: Path) -> Iterator[Crystal]:
    """Yield name, structure and moduli [GPa]."""
    from pymatgen.core import Structure

    for row in json.loads(gzip.decompress((data / "mp-binary-pbe-elasticity-2025.1.json.gz").read_bytes())):
        if len(row["structure"]["sites"]) <= MAX_ATOMS_ELASTIC:
            yield row["mp_id"], Structure.from_dict(row["structure"]), {m: float(row[m]) for m in MODULI}


def peak(data: Path) -> Iterator[Crystal]:
    """Yield name, structure and last peak [THz]."""
    from pymatgen.core import Structure

    held = json.loads(gzip.decompress((data / "matbench_phonons.json.gz").read_bytes()))
    for index, (structure, value) in zip(held["index"], held["data"], strict=True):
        if len(structure["sites"]) <= MAX_ATOMS:
            yield f"matbench-{index}", Structure.from_dict(structure), {"peak": float(value) * WAVENUMBER}


def displaced_atoms(structure: Any) -> float:
    """Return the number of atoms of all displaced supercells together, infinite if there are none."""
    from crysgen_aiida.physics.forces import Refused, or_refused
    from crysgen_aiida.physics.phonons import _prepare
    from crysgen_aiida.physics.response_spec import PhononSpec

    made = or_refused("phonopy", lambda: _prepare(structure, PhononSpec(), None))
    if isinstance(made, Refused):
        return float("inf")
    made.generate_displacements(distance=0.03)
    return len(made.supercells_with_displacements) * len(made.supercell)


def chosen(task: str, data: Path, n: int) -> list[Crystal]:
    """Return ``n`` crystals of a task by its rule, evenly over its file."""
    found = list({"control": control, "elastic": elastic, "peak": peak}[task](data))
    if task != "elastic":
        found = [c for c in found if displaced_atoms(c[1]) <= MAX_DISPLACED]
    return [found[k] for k in np.linspace(0, len(found) - 1, min(n, len(found))).astype(int)]


def computed(task: str, structure: Any, loaded: Any, run: Any) -> dict[str, Any]:
    """Return what a potential says of a crystal, or why it says nothing."""
    from crysgen_aiida.crystals.crystal_set import structure_of
    from crysgen_aiida.physics.elasticity import elastic_of
    from crysgen_aiida.physics.forces import Refused, start_cell
    from crysgen_aiida.physics.phonons import phonons_of
    from crysgen_aiida.physics.relaxation import RelaxSpec, relax_many
    from crysgen_aiida.physics.response_spec import ElasticSpec, PhononSpec

    cell, numbers, frac = start_cell(structure)
    (rest,) = relax_many([(cell, numbers, frac)], loaded, RelaxSpec(**RELAX), run)
    if rest.cell is None:
        return {"reason": f"relaxation: {rest.reason}"}
    said = {"steps": rest.n_steps, "volume_change": rest.volume_change}
    at_rest = structure_of(rest.cell.ravel(), numbers, rest.frac.ravel())
    if task == "elastic":
        (moduli,) = elastic_of([at_rest], loaded, ElasticSpec(), run)
        if isinstance(moduli, Refused):
            return {**said, "reason": moduli.reason}
        return {**said, "stable": moduli.stable, **{m: moduli.averages.get(m) for m in MODULI}}
    spec = PhononSpec(band_points=2)
    (phonons,) = phonons_of([at_rest], loaded, spec, run)
    if isinstance(phonons, Refused):
        return {**said, "reason": phonons.reason}
    dos = {"dos_frequencies": phonons.dos[0].tolist(), "dos": phonons.dos[1].tolist()}
    return {
        **said,
        "stable": phonons.stable(spec.tolerance),
        "stable_gamma": phonons.stable_gamma(spec.tolerance),
        "lowest": phonons.min_frequency,
        "lowest_commensurate": phonons.min_frequency_commensurate,
        "lowest_gamma": phonons.min_frequency_gamma,
        "peak": last_peak(dos),
        "displaced": phonons.n_displacements * phonons.supercell_atoms,
    }


def run_tasks(asked: argparse.Namespace) -> None:
    """Compute the rows that are not in the file yet."""
    import torch

    from crysgen_aiida.crystals.run import InProcess
    from crysgen_aiida.physics.potentials import load_potential

    torch.set_num_threads(1)
    done = {(r["task"], r["crystal"], r["potential"]) for r in read(asked.rows)}
    loaded = {name: load_potential(name) for name in asked.potentials.split(",")}
    run = InProcess(threads=1)
    for task in asked.tasks.split(","):
        crystals = chosen(task, asked.data, asked.n)
        for k, (name, structure, labels) in enumerate(crystals):
            for potential, held in loaded.items():
                if (task, name, potential) in done:
                    continue
                start = time.process_time()
                said = computed(task, structure, held, run)
                row = {
                    "task": task,
                    "crystal": name,
                    "formula": structure.composition.reduced_formula,
                    "atoms": len(structure),
                    "potential": potential,
                    "method": held.info.method,
                    "checkpoint_sha256": held.checkpoint_hash,
                    "seconds": round(time.process_time() - start, 3),
                    "labels": labels,
                    **said,
                }
                with asked.rows.open("a") as file:
                    file.write(json.dumps(row, default=float) + "\n")
            print(f"{time.strftime('%H:%M:%S')} {task} {k + 1}/{len(crystals)} {name}", flush=True)


def opened(name: str) -> Any:
    """Return a potential, in double precision if its name says so."""
    from importlib import import_module

    from crysgen_aiida.physics.potentials import load_potential

    loaded = load_potential(name.removesuffix(":double"))
    if not name.endswith(":double"):
        return loaded
    double = import_module(loaded.info.module).load("cpu", double=True, **dict(loaded.info.arguments))
    return replace(loaded, compute=double)


def run_displacement(asked: argparse.Namespace) -> None:
    """Compute phonons of some crystals at several displacements."""
    from crysgen_aiida.crystals.crystal_set import structure_of
    from crysgen_aiida.crystals.run import InProcess
    from crysgen_aiida.physics.forces import Refused, start_cell
    from crysgen_aiida.physics.phonons import phonons_of
    from crysgen_aiida.physics.relaxation import RelaxSpec, relax_many
    from crysgen_aiida.physics.response_spec import PhononSpec

    done = {(r["crystal"], r["potential"]) for r in read(asked.rows) if r["task"] == "displacement"}
    loaded = {name: opened(name) for name in asked.potentials.split(",")}
    run = InProcess(threads=1)
    for name, structure, _ in chosen("control", asked.data, asked.n):
        for potential, held in loaded.items():
            if (name, potential) in done:
                continue
            (rest,) = relax_many([start_cell(structure)], held, RelaxSpec(**RELAX), run)
            if rest.cell is None:
                continue
            at_rest = structure_of(rest.cell.ravel(), start_cell(structure)[1], rest.frac.ravel())
            row = {"task": "displacement", "crystal": name, "potential": potential, "by": {}}
            for step in DISPLACEMENTS:
                start = time.process_time()
                (found,) = phonons_of([at_rest], held, PhononSpec(band_points=2, displacement=step), run)
                if not isinstance(found, Refused):
                    row["by"][str(step)] = {
                        "lowest": min(found.min_frequency, found.min_frequency_commensurate or np.inf),
                        "gamma": found.min_frequency_gamma,
                        "highest": found.max_frequency,
                        "sum_rule": found.asr_before,
                        "stable": found.stable(0.05),
                        "seconds": round(time.process_time() - start, 3),
                    }
            with asked.rows.open("a") as file:
                file.write(json.dumps(row, default=float) + "\n")
        print(f"{time.strftime('%H:%M:%S')} displacement {name}", flush=True)


def displacements(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return by potential how far 0.01 and 0.1 A are from 0.03 A, over the crystals computed at all three."""
    out: dict[str, Any] = {}
    for potential in dict.fromkeys(r["potential"] for r in rows if r["task"] == "displacement"):
        mine = [r["by"] for r in rows if r["task"] == "displacement" and r["potential"] == potential]
        mine = [by for by in mine if len(by) == len(DISPLACEMENTS)]
        for step in ("0.01", "0.1"):
            for key in ("lowest", "highest"):
                off = [abs(by[step][key] - by["0.03"][key]) for by in mine]
                held = figure(float(np.median(off)), f"THz, median of {len(mine)}", [float(min(off)), float(max(off))])
                out.setdefault(potential, {})[f"{key} mode, {step} against 0.03 A"] = held
            turned = sum(by[step]["stable"] != by["0.03"]["stable"] for by in mine)
            out[potential][f"verdicts that change, {step} against 0.03 A"] = figure(turned, f"of {len(mine)}")
    return out


def read(rows: Path) -> list[dict[str, Any]]:
    """Return the finished rows of a file; a line that was cut off is none."""
    if not rows.exists():
        return []
    found = []
    for line in rows.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def ranked(name: str, pairs: list[tuple[float, float]], unit: str) -> dict[str, dict[str, Any]]:
    """Return mean absolute error, bias and rank correlation with bootstrap intervals (95 %, 2,000 draws)."""
    from scipy.stats import spearmanr

    ours, theirs = np.array(pairs).T
    draws = np.random.default_rng(0).integers(0, len(ours), (2000, len(ours)))
    errors = ours - theirs
    measures = {
        "mean absolute error": (lambda k: np.abs(errors[k]).mean(), unit),
        "bias": (lambda k: errors[k].mean(), unit),
        "Spearman": (lambda k: spearmanr(ours[k], theirs[k]).statistic, ""),
    }
    out = {f"{name}, mean label": figure(theirs.mean(), f"{unit} (n = {len(ours)})")}
    for measure, (of, what) in measures.items():
        span = np.percentile([of(draw) for draw in draws], [2.5, 97.5])
        out[f"{name}, {measure}"] = figure(of(slice(None)), what, [round(float(v), 4) for v in span])
    return out


def share(right: int, n: int) -> dict[str, Any]:
    """Return a share with its Wilson interval."""
    from crysgen_aiida.screening.statistics import wilson

    return figure(right / max(1, n), f"{right} of {n}", [round(float(v), 4) for v in wilson(right, n)])


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return all figures by potential and task; only crystals that every potential was asked about count."""
    steps = displacements(rows)
    rows = [r for r in rows if r["task"] in TASKS]
    names = list(dict.fromkeys(r["potential"] for r in rows))
    out: dict[str, Any] = {}
    for task in TASKS:
        asked = {p: {r["crystal"]: r for r in rows if r["task"] == task and r["potential"] == p} for p in names}
        most = max(map(len, asked.values()), default=0)
        asked = {p: held for p, held in asked.items() if len(held) == most > 0}  # the others are not done yet
        common = set.intersection(*map(set, asked.values())) if asked else set()
        for potential, held in asked.items():
            mine = [held[c] for c in sorted(common)]
            good = [r for r in mine if "reason" not in r]
            figures: dict[str, Any] = {"answered": share(len(good), len(mine))}
            seconds = [r["seconds"] for r in mine]
            figures["processor time"] = figure(float(np.median(seconds)), "s/crystal, median")
            figures["processor time, mean"] = figure(float(np.mean(seconds)), "s/crystal")
            figures["called stable"] = share(sum(r["stable"] for r in good), len(good))
            if task != "elastic":
                fits = [r["lowest_commensurate"] is None or r["lowest_commensurate"] >= -TOLERANCE for r in good]
                figures["called stable where computed"] = share(sum(fits), len(good))
                figures["called stable at Gamma"] = share(sum(r["stable_gamma"] for r in good), len(good))
            if task == "control":
                figures["called stable"]["bar"] = f">= {1 - LIMIT:g}"
                figures["called stable"]["met"] = figures["called stable"]["value"] >= 1 - LIMIT
            for other in (p for p in asked if p != potential and task != "elastic"):
                alone = sum(bool(r.get("stable")) and not asked[other][r["crystal"]].get("stable") for r in mine)
                figures[f"stable, but not by {other}"] = share(alone, len(mine))
            for label in {"control": (), "elastic": MODULI, "peak": ("peak",)}[task]:
                pairs = [(r[label], r["labels"][label]) for r in good if r.get(label) is not None]
                figures.update(ranked(label, pairs, "THz" if task == "peak" else "GPa"))
                shared = [c for c in sorted(common) if all(h[c].get(label) is not None for h in asked.values())]
                if len(shared) < len(pairs):
                    pairs = [(held[c][label], held[c]["labels"][label]) for c in shared]
                    figures.update(ranked(f"{label} where all have one", pairs, "GPa"))
            figures["why not"] = sorted({r["reason"][:90] for r in mine if "reason" in r})
            out.setdefault(potential, {"method": mine[0]["method"], "checkpoint": mine[0]["checkpoint_sha256"]})
            out[potential][task] = figures
    return {**out, "displacement": steps}


def show(asked: argparse.Namespace) -> None:
    """Print the figures, and write them."""
    found = summary(read(asked.rows))
    shown = {**found, **{f"{p} (step)": {"displacement": held} for p, held in found["displacement"].items()}}
    for potential, tasks in shown.items():
        for task in (*TASKS, "displacement"):
            for name, held in tasks.get(task, {}).items() if potential != "displacement" else ():
                if isinstance(held, dict):
                    span = "" if held["interval"] is None else "[{:.3f}, {:.3f}]".format(*held["interval"])
                    print(f"{potential:<10} {task:<8} {name:<42} {held['value']:>9.4g} {held['unit']:<20} {span}")
                else:
                    print(f"{potential:<10} {task:<8} {name}: {'; '.join(held)}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    """Run or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    go = verbs.add_parser("run")
    go.add_argument("data", type=Path)
    go.add_argument("rows", type=Path)
    go.add_argument("--tasks", default=",".join(TASKS))
    go.add_argument("--potentials", default="chgnet,sevennet")
    go.add_argument("-n", type=int, default=104)
    go.set_defaults(do=run_tasks)
    step = verbs.add_parser("displacement")
    step.add_argument("data", type=Path)
    step.add_argument("rows", type=Path)
    step.add_argument("--potentials", default="chgnet,sevennet,sevennet:double")
    step.add_argument("-n", type=int, default=12)
    step.set_defaults(do=run_displacement)
    see = verbs.add_parser("show")
    see.add_argument("rows", type=Path)
    see.add_argument("--json", type=Path)
    see.set_defaults(do=show)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    asked.do(asked)


if __name__ == "__main__":
    main()
