"""What a MatterGPT model writes: validity with and without the grammar, speed, and whether it heeds its conditions.

Without a checkpoint, a small model is trained on the starter set first (quick: minutes, and a weak model).

    python benchmarks/mattergpt.py                          train the preset tiny for 3 epochs, 400 strings a figure
    python benchmarks/mattergpt.py --checkpoint FOLDER      judge a trained model
    python benchmarks/mattergpt.py --full --json FILE       2,000 strings a figure
    python benchmarks/mattergpt.py --speed                  training speed of the small presets, cache speed

The predicted formation energy of a string is the energy of the convex hull of the near-hull reference at its
composition: a lower bound on what any crystal of that composition can have, from DFT, independent of the decoder. With
``--relax N`` some of the strings are decoded and relaxed with CHGNet as well.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy.stats import spearmanr

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.table import ReferenceSet, SequenceSet
from crysgen_aiida.generators.mattergpt.checkpoint import read_checkpoint
from crysgen_aiida.generators.mattergpt.data import Batch
from crysgen_aiida.generators.mattergpt.generator import MatterGPT
from crysgen_aiida.generators.mattergpt.info import INFO
from crysgen_aiida.generators.mattergpt.model import Cache, Transformer
from crysgen_aiida.generators.mattergpt.state import StateFile
from crysgen_aiida.generators.mattergpt.tokenizer import get_tokenizer
from crysgen_aiida.generators.mattergpt.training import Alone, Trainer, read_training_data
from crysgen_aiida.physics.hull import Hull
from crysgen_aiida.representations.slices.checker import check
from crysgen_aiida.representations.slices.nets import parse
from crysgen_aiida.screening.statistics import wilson

STARTER = Path(__file__).resolve().parents[1] / "crysgen_aiida" / "starter"
TARGETS = (-3.0, -2.0, -1.0, -0.3)
BARS = {
    "grammatical, masked": 99.9,
    "grammatical, masked, untrained model": 99.9,
    "strings per second and core, 256x6": 20.0,
    "cache against recomputing, small, batch 1, length 200": 6.0,
    "cache against recomputing, small, batch 64, length 200": 30.0,
    "Spearman of target and predicted formation energy": 0.0,
}


def figure(value: float, unit: str, interval: Sequence[float] | None = None) -> dict[str, Any]:
    """Return one line of the table."""
    return {"value": float(value), "unit": unit, "interval": None if interval is None else [float(x) for x in interval]}


def share(k: int, n: int) -> dict[str, Any]:
    """Return a percentage with its 95 % Wilson interval."""
    low, high = wilson(k, n)
    return {**figure(100 * k / n, "%", (100 * low, 100 * high)), "numerator": k, "denominator": n}


def draw(checkpoint: Path, n: int, conditions: dict[str, Any], **sampling: Any) -> tuple[SequenceSet, float]:
    """Return sampled strings and the processor seconds they took."""
    spec = INFO.make_spec({"sampling": {"batch": 64, "part_rows": 64, **sampling}})
    start = time.process_time()
    strings = MatterGPT().sample(checkpoint, n, conditions, spec, seed=11, run=InProcess())
    return strings, time.process_time() - start


def grammatical(strings: SequenceSet) -> int:
    """Count the strings that are one three-periodic net with no bond written twice."""
    return sum(bool(check(s, "strict", duplicates=False)) for s in strings.column("sequence"))


def formula_of(string: str) -> str:
    """Return the formula of a string, e.g. ``O O Ti`` as ``O2 Ti1``."""
    symbols = parse(string).symbols
    return " ".join(f"{s}{symbols.count(s)}" for s in sorted(set(symbols)))


def hull_energies(strings: SequenceSet) -> np.ndarray:
    """Return the hull energy [eV/atom] at the composition of each string, NaN if it is no net or has no terminal."""
    reference = ReferenceSet.read(STARTER / "near_hull.parquet")
    hull = Hull(reference.column("formula"), reference.values("energy_per_atom"))
    found = np.full(len(strings), np.nan)
    for row, string in enumerate(strings.column("sequence")):
        if check(string):
            energy = hull.at(formula_of(string)).energy
            found[row] = np.nan if energy is None else energy
    return found


def relaxed_energies(strings: SequenceSet, checkpoint: Path) -> np.ndarray:
    """Decode, relax with CHGNet and return formation energies [eV/atom] against one-shot elements, NaN on failure."""
    from crysgen_aiida.physics.elements import one_shot_element_energies
    from crysgen_aiida.physics.potentials import load_potential
    from crysgen_aiida.physics.relaxation import RelaxSpec, relax_set

    spec = read_checkpoint(checkpoint).spec
    crystals = MatterGPT().decode(strings, spec, seed=1, run=InProcess())
    relaxed = relax_set(
        crystals, potential="chgnet", spec=RelaxSpec(max_steps=60), selection=None, run=InProcess(),
        time_box_seconds=None,
    )  # fmt: skip
    potential = load_potential("chgnet")
    numbers = sorted({z for zs in relaxed.column("numbers") if zs for z in zs})
    elements = one_shot_element_energies(numbers, potential)
    energies = relaxed.values("energy_per_atom")
    rows = zip(energies, relaxed.ok, relaxed.column("numbers"), strict=True)
    return np.array([e - np.mean([elements[z] for z in zs]) if ok and zs else np.nan for e, ok, zs in rows])


def spearman(targets: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Return the rank correlation with its 95 % bootstrap interval (1,000 resamples)."""
    valid = np.isfinite(predicted)
    a, b = targets[valid], predicted[valid]
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(a), len(a)) for _ in range(1000)]
    resampled = [spearmanr(a[i], b[i]).statistic for i in draws]
    return {**figure(spearmanr(a, b).statistic, "1", np.quantile(resampled, [0.025, 0.975])), "n": len(a)}


def quick_model(folder: Path, preset: str, epochs: int) -> Path:
    """Train a small model on the starter set."""
    crystals = CrystalSet.read(STARTER / "crystals.parquet")
    spec = INFO.make_spec(
        {"model": {"block_size": 320}, "training": {"epochs": epochs, "augment": "atoms+axes"}}, preset
    )
    run = InProcess(folder=folder, threads=torch.get_num_threads())
    training_set = MatterGPT().prepare(crystals, spec, seed=1, run=run)
    return MatterGPT().train(training_set, spec, seed=1, run=run)


def untrained_model(folder: Path, preset: str) -> Path:
    """Return a checkpoint after one step on the starter set's first crystals."""
    crystals = CrystalSet.read(STARTER / "crystals.parquet").slice(range(100))
    spec = INFO.make_spec({"model": {"block_size": 320}, "training": {"max_steps": 1}}, preset)
    run = InProcess(folder=folder)
    return MatterGPT().train(MatterGPT().prepare(crystals, spec, seed=1, run=run), spec, seed=1, run=run)


def quality(checkpoint: Path, n: int, relax: int, untrained: Path) -> dict[str, Any]:
    """Return the figures of a model."""
    table: dict[str, Any] = {}
    masked, seconds = draw(checkpoint, n, {})
    table["grammatical, masked"] = share(grammatical(masked), n)
    table["strings per second and core"] = figure(n / seconds, "1/s")
    table["tokens per string"] = figure(np.mean(masked.values("n_tokens")), "1")
    free, _ = draw(checkpoint, n, {}, grammar=False)
    table["grammatical, not masked"] = share(grammatical(free), n)
    raw, _ = draw(untrained, n, {})
    table["grammatical, masked, untrained model"] = share(grammatical(raw), n)
    table["different strings, masked"] = share(len(set(masked.column("content_id"))), n)
    targets = np.resize(TARGETS, n)
    asked = {"formation_energy_per_atom": list(TARGETS)}
    for guidance in (1.0, 2.0):
        strings, _ = draw(checkpoint, n, asked, guidance=guidance)
        name = "Spearman of target and predicted formation energy" + (
            "" if guidance == 1 else f", guidance {guidance:g}"
        )
        predicted = hull_energies(strings)
        table[name] = spearman(targets, predicted)
        means = [float(np.nanmean(predicted[targets == t])) for t in TARGETS]
        table[name]["means_by_target"] = dict(zip(map(str, TARGETS), means, strict=True))
    if relax:
        some, _ = draw(checkpoint, relax, asked, guidance=2.0)
        predicted = relaxed_energies(some, checkpoint)
        table["Spearman of target and CHGNet formation energy, guidance 2"] = spearman(
            np.resize(TARGETS, relax), predicted
        )
    return table


def sampling_speed(folder: Path) -> dict[str, Any]:
    """Return strings of 128 tokens per second from the 256x6 model, and what the cache saves."""
    torch.manual_seed(0)
    table = {}
    checkpoint = untrained_model(folder, "base")
    strings, seconds = draw(checkpoint, 128, {}, max_tokens=128)
    table["strings per second and core, 256x6"] = figure(np.sum(strings.values("n_tokens")) / 128 / seconds, "1/s")
    for preset, rows in product(("base", "small"), (1, 64)):
        # without the features of nets, which would have to be read anew as well: the transformer alone
        spec = replace(INFO.make_spec(preset=preset).model, net_features=False)
        model = Transformer(spec, get_tokenizer(20), []).eval()
        tokens = torch.randint(3, 190, (rows, 200))
        none = torch.zeros((rows, 0))
        with torch.inference_mode():
            cache = Cache(spec, rows, torch.device("cpu"), torch.float32)
            start = time.process_time()
            for t in range(200):
                model(tokens[:, t : t + 1], none if t == 0 else None, cache)
            cached = time.process_time() - start
            start = time.process_time()
            for t in range(0, 200, 10):  # every tenth step stands for ten
                model(tokens[:, : t + 1], none)
            whole = 10 * (time.process_time() - start)
        table[f"cache against recomputing, {preset}, batch {rows}, length 200"] = figure(whole / cached, "x")
    return table


def training_speed(threads: Sequence[int]) -> dict[str, Any]:
    """Return tokens per second of training on the first 1,500 starter crystals."""
    crystals = CrystalSet.read(STARTER / "crystals.parquet").slice(range(1500))
    plain = INFO.make_spec({"model": {"block_size": 320}}, "starter")
    training_set = MatterGPT().prepare(crystals, plain, seed=1, run=InProcess())
    table = {}
    for preset in ("tiny", "starter", "base"):
        for precision in ("fp32", "bf16"):
            spec = INFO.make_spec({"model": {"block_size": 320}, "training": {"precision": precision}}, preset)
            data = read_training_data(training_set, spec, 1, None)
            for count in threads:
                torch.set_num_threads(count)
                state = StateFile(Path(tempfile.mkdtemp()), "")
                trainer = Trainer(data, spec, state, Alone("cpu"), seed=1, run=InProcess(threads=count))
                millions = trainer.model.n_parameters / 1e6
                name = f"training {preset} ({millions:.1f} M), {precision}, {count} threads"
                table[name] = figure(tokens_per_second(trainer, list(data.train.epoch(0))[:12]), "tokens/s")
    return table


def tokens_per_second(trainer: Trainer, batches: list[Batch]) -> float:
    """Time optimiser steps, the first two left out."""
    trainer.model.train()
    for batch in batches[:2]:
        trainer._step(batch)
    start = time.perf_counter()
    for batch in batches[2:]:
        trainer._step(batch)
    return sum(b.n_targets for b in batches[2:]) / (time.perf_counter() - start)


def main() -> None:
    """Print the table; with ``--json`` write it too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder of a trained model")
    parser.add_argument("--preset", default="tiny", help="model to train without a checkpoint (default tiny)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--n", type=int, default=400, help="strings a figure (default 400)")
    parser.add_argument("--relax", type=int, default=0, metavar="N", help="decode and relax N strings with CHGNet")
    parser.add_argument("--full", action="store_true", help="2,000 strings a figure")
    parser.add_argument("--speed", action="store_true", help="only the speed of training and sampling")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="for the training speed")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    n = 2000 if arguments.full else arguments.n
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = sampling_speed(folder / "base")
        if arguments.speed:
            table |= training_speed(arguments.threads)
        else:
            checkpoint = arguments.checkpoint or quick_model(folder / "model", arguments.preset, arguments.epochs)
            table |= quality(checkpoint, n, arguments.relax, untrained_model(folder / "raw", "tiny"))
    for title, entry in table.items():
        entry["bar"] = BARS.get(title)
        # the bar on a correlation is on the lower end of its interval
        reached = entry["interval"][0] if entry["unit"] == "1" and entry["interval"] else entry["value"]
        entry["met"] = None if entry["bar"] is None else bool(reached >= entry["bar"])
        interval = "" if entry["interval"] is None else "  [{:.2f}, {:.2f}]".format(*entry["interval"])
        bar = "" if entry["bar"] is None else f"  bar {entry['bar']:g}: {'met' if entry['met'] else 'NOT MET'}"
        print(f"  {title:<66} {entry['value']:9.2f} {entry['unit']}{interval}{bar}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
