"""The speed of FTCP: rows a second in training, and the time of 10,000 designs, sampled and decoded.

Without a checkpoint, a model of the default sizes is trained on the ternary crystals of the starter set first, for two
epochs. Few designs of so young a model are crystals, and what is none is decoded sooner, so decoding is timed on real
crystals in the form of designs too; the bar is on sampling and that together.

    python benchmarks/ftcp.py                       both, in some minutes
    python benchmarks/ftcp.py --checkpoint FOLDER   the designs of a trained model
    python benchmarks/ftcp.py --threads 2 --full    more optimiser steps, with two threads
    python benchmarks/ftcp.py --json FILE

Times are those of the processor, summed over the threads, and of the clock beside them: on a shared machine only
the former can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.contract import deep_merge
from crysgen_aiida.generators.ftcp.data import read_training_data
from crysgen_aiida.generators.ftcp.generator import Ftcp
from crysgen_aiida.generators.ftcp.info import INFO
from crysgen_aiida.generators.ftcp.state import StateFile
from crysgen_aiida.generators.ftcp.training import Trainer
from crysgen_aiida.generators.threads import threads
from crysgen_aiida.screening.statistics import wilson

STARTER = Path(__file__).resolve().parents[1] / "crysgen_aiida" / "starter" / "crystals.parquet"
#: The starter set has no distances to the hull.
COMMON: dict[str, Any] = {
    "data": {"targets": ("formation_energy_per_atom",), "min_elements": 3, "max_e_above_hull": None}
}
DESIGNS = 10_000
TITLE = f"{DESIGNS:,} designs sampled, as many crystals decoded, clock"
BARS = {TITLE: 60.0}


def figure(value: float, unit: str, interval: tuple[float, float] | None = None) -> dict[str, Any]:
    """Return one line of the table."""
    return {"value": float(value), "unit": unit, "interval": None if interval is None else list(interval)}


def prepared(folder: Path, preset: str | None, overrides: dict[str, Any]) -> tuple[Any, SequenceSet]:
    """Return a spec and the training set of the ternary crystals of the starter set."""
    spec = INFO.make_spec(deep_merge(COMMON, overrides), preset)
    return spec, Ftcp().prepare(CrystalSet.read(STARTER), spec, seed=1, run=InProcess(folder=folder))


def training_speed(folder: Path, steps: int, count: int) -> dict[str, dict[str, Any]]:
    """Return rows a second of the default model and the published one, with matrices kept and made anew."""
    table = {}
    for name, preset in (("default", None), ("paper", "paper")):
        for how, memory in (("matrices kept", 8.0), ("matrices made anew", 0.0)):
            spec, training_set = prepared(folder, preset, {"training": {"matrix_memory": memory}})
            data = read_training_data(training_set, spec, 1)
            state = StateFile(folder / f"{name}-{memory}", "speed")
            with threads(count):
                trainer = Trainer(data, spec, state, seed=1, run=InProcess(folder=folder, threads=count))
                trainer.model.train()
                rates, clocks = [], []
                size = spec.training.batch_size
                for k in range(steps + 1):
                    begun = time.process_time(), time.perf_counter()
                    trainer._step(np.arange(k, k + size) % len(data.train))
                    rates.append(size / (time.process_time() - begun[0]))
                    clocks.append(size / (time.perf_counter() - begun[1]))
            title = f"training {name} (batch {size}), {how}, {count} threads"
            table[f"{title}, processor"] = figure(float(np.median(rates[1:])), "rows/s")
            table[f"{title}, clock"] = figure(float(np.median(clocks[1:])), "rows/s")
    return table


def design_speed(checkpoint: Path, real: SequenceSet, count: int) -> dict[str, dict[str, Any]]:
    """Return the time of the designs, the choice of the scale included, and how many of them are crystals."""
    spec = INFO.make_spec({})
    begun = time.process_time(), time.perf_counter()
    designs = Ftcp().sample(checkpoint, DESIGNS, {}, spec, seed=3, run=InProcess(threads=count))
    drawn = time.process_time(), time.perf_counter()
    crystals = Ftcp().decode(designs, spec, seed=3, run=InProcess(threads=count))
    ended = time.process_time(), time.perf_counter()
    as_many = real.take(np.resize(np.flatnonzero(real.ok), DESIGNS))
    begun_real = time.process_time(), time.perf_counter()
    Ftcp().decode(as_many, spec, seed=3, run=InProcess(threads=count))
    took_real = time.process_time() - begun_real[0], time.perf_counter() - begun_real[1]
    k = int(crystals.ok.sum())
    low, high = wilson(k, DESIGNS)
    return {
        TITLE: figure(drawn[1] - begun[1] + took_real[1], "s"),
        "sampling, processor": figure(drawn[0] - begun[0], "s"),
        "decoding of the designs, processor": figure(ended[0] - drawn[0], "s"),
        "decoding of as many crystals, processor": figure(took_real[0], "s"),
        f"scale chosen: {float(designs.metadata['ftcp_scale']):g}; designs that are crystals": {
            **figure(100 * k / DESIGNS, "%", (100 * low, 100 * high)), "numerator": k, "denominator": DESIGNS
        },
    }  # fmt: skip


def young_model(folder: Path, epochs: int) -> Path:
    """Return a checkpoint of the default sizes after a few epochs on the starter set."""
    spec, training_set = prepared(folder, None, {"training": {"epochs": epochs}})
    return Ftcp().train(training_set, spec, seed=1, run=InProcess(folder=folder))


def main() -> None:
    """Print the table; with ``--json`` write it too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder of a trained model")
    parser.add_argument("--epochs", type=int, default=2, help="of the model that is trained without one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="40 optimiser steps a figure, not 8")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = training_speed(folder, 40 if arguments.full else 8, arguments.threads)
        checkpoint = arguments.checkpoint or young_model(folder / "model", arguments.epochs)
        _, real = prepared(folder, None, {})
        table |= design_speed(checkpoint, real, arguments.threads)
    for title, entry in table.items():
        entry["bar"] = BARS.get(title)
        entry["met"] = None if entry["bar"] is None else bool(entry["value"] < entry["bar"])
        interval = "" if entry["interval"] is None else "  [{:.2f}, {:.2f}]".format(*entry["interval"])
        bar = "" if entry["bar"] is None else f"  bar {entry['bar']:g}: {'met' if entry['met'] else 'NOT MET'}"
        print(f"  {title:<72} {entry['value']:9.2f} {entry['unit']}{interval}{bar}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
