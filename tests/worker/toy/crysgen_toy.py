"""A generator small enough to be killed, starved and filled at will: the worker's tests run it in real processes.

It learns nothing: a sequence is a number, and decodes to a rock-salt cell of that edge. Every row it works on is
written to ``work.log`` beside the job, so that tests count work without trusting the worker's own journal.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import Run, keyed_rng
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.contract import GeneratorInfo


@dataclass(frozen=True)
class ToySpec:
    """What the tests want to provoke."""

    rows_per_part: int = 5
    delay: float = 0.0  # seconds a row takes
    polite: bool = True  # asks for the time at every row
    swallow: bool = False  # turns whatever goes wrong with a row into its reason, as careless code does
    megabytes: float = 0.0  # memory a part takes, before batch_scale
    padding: int = 0  # characters of noise in every sequence
    steps: int = 6  # of training
    fail: str = ""  # raised as RuntimeError


INFO = GeneratorInfo(
    name="toy",
    version="1",
    implementation="crysgen_toy:Toy",
    spec=ToySpec,
    conditions=("band_gap",),
    sequence_columns={"sequence": "string"},
    citation="none",
    presets={"quick": {"rows_per_part": 2}},
)


class Toy:
    """The four verbs."""

    def prepare(self, crystals: CrystalSet, spec: ToySpec, *, seed: int, run: Run) -> SequenceSet:
        def encode(rows: range) -> SequenceSet:
            kept = crystals.slice(rows)
            edges = [_work("encode", row, spec, run) or repr(kept.get(i)["lattice"][0]) for i, row in enumerate(rows)]
            return _sequences(edges, parent_input="crystals", parent_rows=rows, split=["train"] * len(rows))

        return run.map_rows("encode", len(crystals), encode, part_rows=spec.rows_per_part)

    def train(
        self, training_set: SequenceSet, spec: ToySpec, *, seed: int, run: Run, start_from: Path | None = None
    ) -> Path:
        state = run.folder / "state.json"
        held = json.loads(state.read_text()) if state.exists() else {"step": 0, "losses": [], "weight": 0.0}
        for step in range(held["step"], spec.steps):
            run.check_time()
            _work("train", step, spec, run)
            held["weight"] += float(keyed_rng(seed, "train", step).normal())
            held["losses"].append(1.0 / (step + 1))
            held["step"] = step + 1
            temporary = state.with_suffix(".tmp")
            temporary.write_text(json.dumps(held))
            temporary.replace(state)
            run.progress("train", step + 1, spec.steps, loss=held["losses"][-1])
        return _checkpoint(run.folder / "checkpoint", held, seed)

    def sample(
        self, checkpoint: Path, n: int, conditions: dict[str, Any], spec: ToySpec, *, seed: int, run: Run
    ) -> SequenceSet:
        def draw(rows: range) -> SequenceSet:
            held = np.ones(int(spec.megabytes * run.batch_scale * 2**17))
            texts = []
            for row in rows:
                why = _work("sample", row, spec, run)
                rng = keyed_rng(seed, "sample", row)
                noise = "".join(chr(65 + k) for k in rng.integers(0, 26, spec.padding))
                texts.append(why or f"{rng.uniform(4.0, 7.0)!r} {noise}".strip())
            del held
            return _sequences(texts)

        span = {"start": time.monotonic(), "device": os.environ.get("CUDA_VISIBLE_DEVICES")}
        _shared(span)
        drawn = run.map_rows("sample", n, draw, part_rows=spec.rows_per_part)
        _shared({**span, "stop": time.monotonic()})
        return drawn

    def decode(self, sequences: SequenceSet, spec: ToySpec, *, seed: int, run: Run, relaxer: Any = None) -> CrystalSet:
        def build(rows: range) -> CrystalSet:
            from pymatgen.core import Lattice, Structure

            texts = sequences.column("sequence")
            built: list[Structure | None] = []
            reasons: list[str | None] = []
            for row in rows:
                why = _work("decode", row, spec, run)
                edge = float(texts[row].split()[0])
                why = why or ("the edge is below 4.5 A" if edge < 4.5 else None)
                reasons.append(why)
                coords = [[0, 0, 0], [0.5, 0.5, 0.5]]
                built.append(None if why else Structure(Lattice.cubic(edge / 2**0.5), ["Na", "Cl"], coords))
            return CrystalSet.from_structures(built, reasons=reasons)

        return run.map_rows("decode", len(sequences), build, part_rows=spec.rows_per_part)


def _work(stage: str, row: int, spec: ToySpec, run: Run) -> str | None:
    with Path("work.log").open("a") as log:
        log.write(f"{stage} {row} {os.getpid()}\n")
    time.sleep(spec.delay)
    if spec.fail:
        raise RuntimeError(spec.fail)
    if spec.polite:
        try:
            run.check_time()
        except Exception as error:
            if not spec.swallow:
                raise
            return f"failed: {error}"
    return None


def _shared(line: dict[str, Any]) -> None:
    if "CRYSGEN_TOY_LOG" in os.environ:
        with Path(os.environ["CRYSGEN_TOY_LOG"]).open("a") as log:
            log.write(json.dumps({**line, "pid": os.getpid()}) + "\n")


def _sequences(
    texts: list[str], *, parent_input: str | None = None, parent_rows: range | None = None, **columns: list[str]
) -> SequenceSet:
    table: dict[str, Any] = {"sequence": pa.array(texts, type=pa.string())}
    if parent_rows is not None:
        table["parent_input"] = pa.array([parent_input] * len(texts), type=pa.string())
        table["parent_row"] = pa.array(list(parent_rows), type=pa.int64())
    return SequenceSet(pa.table(table | {k: pa.array(v, type=pa.string()) for k, v in columns.items()}))


def _checkpoint(folder: Path, held: dict[str, Any], seed: int) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir(exist_ok=True)
    save_file({"weight": np.array([held["weight"]])}, folder / "weights.safetensors")
    config = {"generator": "toy", "generator_version": "1", "conditions": ["band_gap"], "spec": {}, "seed": seed}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocabulary.json").write_text("{}")
    lines = [json.dumps({"step": i, "val_loss": loss}) for i, loss in enumerate(held["losses"])]
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n")
    return folder
