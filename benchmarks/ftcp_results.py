"""What a trained FTCP model has learned: crystals given back, labels of held-out formulas, and where designs come from.

    python benchmarks/ftcp_results.py SET --home DIR                            the defaults, 2 epochs: minutes
    python benchmarks/ftcp_results.py SET --home DIR --epochs 100 --variants default paper "no reciprocal" "no targets"
    python benchmarks/ftcp_results.py SET --home DIR --epochs 100 --device cuda --json FILE
    python benchmarks/ftcp_results.py SET --home DIR2 --epochs 100 --override '{"loss": {"targets": 100}}'

SET is a crystal set (Parquet) with formation energies, gaps and distances to the hull, e.g. from `crysgen dataset
import` and `export`. Every variant is trained on its ternary crystals of at most 20 sites; training is resumed and what
is finished is kept in DIR. The variants differ in one thing each:

* ``default``, ``paper``: the settings of the presets, with the formation energy as target;
* ``no reciprocal``: without the columns of k-points; ``no targets``: without the branch that reads properties;
* ``sparse gap``: the gap of one training row in ten as a sparse label of a branch of its own, learned beside all rows;
* ``few gaps``: the gap as target, learned from those rows alone.

Reconstruction: a crystal is encoded, decoded at the mean and compared, number by number. Designs: 300 around the
training points nearest to -0.5 eV/atom, by method and scale.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
from mattergpt import figure, share
from mattergpt_results import print_table

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.files import write_text
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.contract import deep_merge
from crysgen_aiida.generators.ftcp.checkpoint import read_checkpoint
from crysgen_aiida.generators.ftcp.generator import Ftcp
from crysgen_aiida.generators.ftcp.info import INFO
from crysgen_aiida.generators.ftcp.sampling import Network
from crysgen_aiida.representations.ftcp.compact import Compact
from crysgen_aiida.representations.ftcp.decode import crystals_of

ENERGY, GAP = "formation_energy_per_atom", "band_gap"
TERNARY: dict[str, Any] = {"data": {"targets": [ENERGY], "min_elements": 3, "max_e_above_hull": 0.08}}
#: name -> (preset, what differs, whether only every tenth gap is known)
VARIANTS: dict[str, tuple[str | None, dict[str, Any], bool]] = {
    "default": (None, {}, False),
    "paper": ("paper", {}, False),
    "no reciprocal": (None, {"representation": {"reciprocal": False}}, False),
    "no targets": (None, {"data": {"targets": []}}, False),
    "sparse gap": (None, {"data": {"sparse_targets": [GAP]}}, True),
    "few gaps": (None, {"data": {"targets": [GAP]}}, True),
}
ROWS, DESIGNS, TARGET = 1000, 300, -0.5
SAMPLINGS: tuple[dict[str, Any], ...] = (
    *({"scale": s} for s in (0.5, 1.0, 1.5, 2.0, 3.0)),
    *({"noise": "unit", "scale": s} for s in (0.3, 0.6, 1.0, 2.0)),
    {"method": "slerp"},
    {"method": "gp", "scale": 1.0},
)  # fmt: skip


def some_gaps(crystals: CrystalSet) -> CrystalSet:
    """Return the set with the gap of every tenth formula alone (by its hash: a formula's rows stay together)."""
    from crysgen_aiida.crystals.hashing import json_hash

    known = [int(json_hash(formula)[:8], 16) % 10 == 0 for formula in crystals.column("reduced_formula")]
    field = crystals.arrow.schema.field(GAP)
    values = [v if k else None for v, k in zip(crystals.column(GAP), known, strict=True)]
    return crystals.with_columns({field: pa.array(values, type=field.type)})


def trained(
    name: str, crystals: CrystalSet, home: Path, epochs: int, device: str, overrides: dict[str, Any]
) -> tuple[Path, SequenceSet]:
    """Return checkpoint and training set of a variant, trained if it is not there."""
    preset, changes, few = VARIANTS[name]
    asked = deep_merge(overrides, {"training": {"epochs": epochs}})
    spec = INFO.make_spec(deep_merge(deep_merge(TERNARY, changes), asked), preset)
    folder = home / f"{name} {epochs}"
    folder.mkdir(parents=True, exist_ok=True)
    run = InProcess(folder=folder, device=device, on_progress=_tell(name))
    training_set = folder / "training.parquet"
    if not training_set.exists():
        Ftcp().prepare(some_gaps(crystals) if few else crystals, spec, seed=1, run=run).write(training_set)
    held = SequenceSet.read(training_set)
    checkpoint = folder / "generator"
    if not (checkpoint / "weights.safetensors").exists():
        checkpoint = Ftcp().train(held, spec, seed=1, run=run)
    return checkpoint, held


def _tell(name: str) -> Callable[[str, int, int, dict[str, Any]], None]:
    def tell(stage: str, done: int, total: int, metrics: dict[str, Any]) -> None:
        if "val_loss" in metrics:
            print(f"    {name}: step {done}/{total}, val_loss {metrics['val_loss']:.4g}", flush=True)

    return tell


def reconstruction(checkpoint: Path, training_set: SequenceSet, crystals: CrystalSet) -> dict[str, Any]:
    """Return how well crystals are given back and labels are read, for held-out formulas and for training rows.

    :param crystals: that the training set was made of: they know labels that a variant does not.
    """
    held = read_checkpoint(checkpoint)
    space, spec, network = held.space, held.spec.representation, Network(held, "cpu")
    truth = Compact.from_columns(training_set.arrow, spec)
    parents = np.array(training_set.column("parent_row"))
    table: dict[str, Any] = {}
    for side, chosen in (("held out", space.held_out), ("training", ~space.held_out)):
        points = np.flatnonzero(chosen)[:ROWS]
        wanted, made = truth.take(space.rows[points]), network.decode(space.means[points])
        there = wanted.occupancy.max(axis=-1) > 0.5
        filled = made.occupancy.max(axis=-1) >= spec.threshold
        column = made.occupancy.argmax(axis=-1) == wanted.occupancy.argmax(axis=-1)
        right = np.where(there, filled & column, ~filled)
        elements = (made.numbers == wanted.numbers).all(axis=1)
        decoded = crystals_of(made, spec)
        formulas = zip(
            decoded.column("reduced_formula"), crystals_of(wanted, spec).column("reduced_formula"), strict=True
        )
        relative = 100 * np.abs(made.lattices / wanted.lattices - 1)
        n = len(points)
        table |= {
            f"{side}: all elements": share(int(elements.sum()), n),
            f"{side}: all sites": share(int(right.all(axis=1).sum()), n),
            f"{side}: formula": share(sum(a == b for a, b in formulas), n),
            f"{side}: a crystal": share(int(decoded.ok.sum()), n),
            f"{side}: MAPE of lengths": figure(relative[:, :3].mean(), "%"),
            f"{side}: MAPE of angles": figure(relative[:, 3:].mean(), "%"),
            f"{side}: MAE of coordinates": figure(np.abs(made.coords - wanted.coords)[there].mean(), "1"),
        }
        for place, label in enumerate(held.labels):
            known = crystals.values(label.name)[parents[space.rows[points]]]
            error = np.abs(space.predicted[points, place] - known)
            table[f"{side}: MAE of {label.name}"] = figure(np.nanmean(error), label.unit)
    return table


def designs(checkpoint: Path, known: set[str]) -> dict[str, Any]:
    """Return, by method and scale, what share of designs are crystals, new, and predicted to be what was asked for."""
    table: dict[str, Any] = {}
    for settings in SAMPLINGS:
        name = ", ".join(f"{key} {value}" for key, value in settings.items())
        drawn = Ftcp().sample(
            checkpoint, DESIGNS, {ENERGY: TARGET}, INFO.make_spec({"sampling": settings}), seed=1, run=InProcess()
        )
        formulas = Ftcp().decode(drawn, INFO.make_spec(), seed=1, run=InProcess()).column("reduced_formula")
        near = np.abs(drawn.values(f"predicted.{ENERGY}") - TARGET) <= 0.06
        table |= {
            f"{name}: crystals": share(sum(f is not None for f in formulas), DESIGNS),
            f"{name}: new formulas": share(sum(f is not None and f not in known for f in formulas), DESIGNS),
            f"{name}: predicted within 0.06 eV/atom": share(int(near.sum()), DESIGNS),
        }
    return table


def main() -> None:
    """Train what is not trained, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path, metavar="SET")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", default=["default"], choices=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to train")
    parser.add_argument("--override", type=json.loads, default={}, help="further settings (JSON); use a DIR of its own")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    crystals = CrystalSet.read(asked.set)
    known = {formula for formula in crystals.column("reduced_formula") if formula}
    table: dict[str, Any] = {}
    for name in asked.variants:
        checkpoint, training_set = trained(name, crystals, asked.home, asked.epochs, asked.device, asked.override)
        found = reconstruction(checkpoint, training_set, crystals)
        if name == "default":
            found |= designs(checkpoint, known)
        figures = {f"{name}, {what}": {**entry, "bar": None, "met": None} for what, entry in found.items()}
        print_table(figures)
        table |= figures
        if asked.json:
            write_text(asked.json, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
