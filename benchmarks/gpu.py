"""The speed of training, sampling, potentials and relaxations on a GPU, or on a processor beside it.

    python benchmarks/gpu.py                                    the GPU
    python benchmarks/gpu.py --device cpu --threads 16 --quick  the processor of the same machine
    python benchmarks/gpu.py --json FILE

Everything is clock time with the device waited for. Models of MatterGPT and FTCP have the sizes of their presets and
start from the starter set; what they have learned does not matter for speed. Needs torch, pyarrow and spglib, and the
checkpoints of CHGNet and SevenNet for their figures (left out where they are missing).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.files import write_text
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.generators.ftcp.data import read_training_data as read_matrices
from crysgen_aiida.generators.ftcp.generator import Ftcp
from crysgen_aiida.generators.ftcp.info import INFO as FTCP
from crysgen_aiida.generators.ftcp.state import StateFile as FtcpState
from crysgen_aiida.generators.ftcp.training import Trainer as FtcpTrainer
from crysgen_aiida.generators.mattergpt.generator import MatterGPT
from crysgen_aiida.generators.mattergpt.info import INFO as MATTERGPT
from crysgen_aiida.generators.mattergpt.state import StateFile
from crysgen_aiida.generators.mattergpt.training import Alone, Trainer, read_training_data
from crysgen_aiida.physics.batch import CellBatch
from crysgen_aiida.physics.potentials import get_potential, load_potential
from crysgen_aiida.physics.relaxation import RelaxSpec, relax_set

STARTER = Path(__file__).resolve().parents[1] / "crysgen_aiida" / "starter" / "crystals.parquet"


class Bench:
    """Measures on one device and keeps the table."""

    def __init__(self, device: str, threads: int, quick: bool) -> None:
        self.device, self.threads, self.quick = device, threads, quick
        self.starter = CrystalSet.read(STARTER)
        self.table: dict[str, dict[str, Any]] = {}

    def crystals(self, n: int) -> CrystalSet:
        """Return some crystals of at most 20 atoms, from all of the starter set."""
        small = self.starter.select([("status", "==", "ok"), ("n_atoms", "<=", 20)])
        return small.take(np.linspace(0, len(small) - 1, n).astype(int).tolist())

    def run(self) -> InProcess:
        """Return a run on the device, with a folder of its own."""
        return InProcess(device=self.device, threads=self.threads, folder=Path(tempfile.mkdtemp()))

    def note(self, title: str, value: float, unit: str) -> None:
        """Keep a figure and print it."""
        self.table[title] = {"value": float(value), "unit": unit}
        print(f"  {title:<72} {value:12.1f} {unit}", flush=True)

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return how long something takes, the device included."""
        self._wait()
        begun = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def peak(self) -> float:
        """Return the most GPU memory since the last call [GiB]."""
        if self.device != "cuda":
            return 0.0
        held = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
        return held

    # -- FTCP ------------------------------------------------------------------------------------------------------

    def ftcp(self, checkpoint: Path | None) -> None:
        """Training by preset, and 10,000 designs."""
        labels = {"data": {"targets": ["formation_energy_per_atom"], "max_e_above_hull": None}}
        ternary = {"data": {**labels["data"], "min_elements": 3}}
        for preset in (None, "paper"):
            spec = FTCP.make_spec(ternary, preset)
            data = read_matrices(
                Ftcp().prepare(self.starter, spec, seed=1, run=self.run()), spec, 1, device=self.device
            )
            run = self.run()
            trainer = FtcpTrainer(data, spec, FtcpState(run.folder, "speed"), seed=1, run=run)
            trainer.model.train()
            size = spec.training.batch_size
            batches = [np.arange(k, k + size) % len(data.rows) for k in range(5 if self.quick else 100)]

            def steps(trainer: FtcpTrainer = trainer, batches: list[Any] = batches) -> None:
                for positions in batches:
                    trainer._step(positions)

            steps()
            rate = size * len(batches) / self.seconds(steps)
            self.note(f"FTCP, training {preset or 'default'}, batch {size}", rate, "rows/s")
        if checkpoint:
            spec = FTCP.make_spec({"sampling": {"scale": 1.2, "batch": 2048}})
            drawn: list[Any] = []
            took = self.seconds(
                lambda: drawn.append(Ftcp().sample(checkpoint, 10_000, {}, spec, seed=3, run=self.run()))
            )
            self.note("FTCP, 10,000 designs sampled", took, "s")

    # -- MatterGPT -------------------------------------------------------------------------------------------------

    def mattergpt(self) -> None:
        """Training by preset and precision; strings by preset and batch."""
        plain = MATTERGPT.make_spec({"model": {"block_size": 320}}, "starter")
        some = self.starter.take(range(0, len(self.starter), 3))
        training_set = MatterGPT().prepare(some, plain, seed=1, run=self.run())
        presets = ("base",) if self.quick else ("base", "small", "large", "paper")
        for preset in presets:
            for precision in ("fp32", "bf16"):
                spec = MATTERGPT.make_spec({"model": {"block_size": 320}, "training": {"precision": precision}}, preset)
                data = read_training_data(training_set, spec, 1, None)
                run = self.run()
                trainer = Trainer(data, spec, StateFile(run.folder, ""), Alone(self.device), seed=1, run=run)
                trainer.model.train()
                batches = list(data.train.epoch(0))[: 4 if self.quick else 24]
                first, rest = batches[: len(batches) // 4], batches[len(batches) // 4 :]
                for batch in first:
                    trainer._step(batch)
                took = self.seconds(lambda trainer=trainer, rest=rest: [trainer._step(b) for b in rest])
                size = f"{trainer.model.n_parameters / 1e6:.1f} M, batch {spec.training.batch_size}"
                self.note(f"MatterGPT, training {preset} ({size}), {precision}", sum(b.n_targets for b in rest) / took,
                          "tokens/s")  # fmt: skip
        for preset in presets[-1:] if self.quick else ("base", "large"):
            spec = MATTERGPT.make_spec({"model": {"block_size": 320}, "training": {"max_steps": 1}}, preset)
            checkpoint = MatterGPT().train(training_set, spec, seed=1, run=self.run())
            for batch in (64,) if self.quick else (64, 512):
                n = batch if self.quick else 1024
                sampling = MATTERGPT.make_spec({"sampling": {"batch": batch, "part_rows": n, "max_tokens": 128}})
                took = self.seconds(
                    lambda c=checkpoint, s=sampling, n=n: MatterGPT().sample(c, n, {}, s, seed=1, run=self.run())
                )
                self.note(f"MatterGPT, strings of at most 128 tokens, {preset}, batch {batch}", n / took, "strings/s")

    # -- potentials ------------------------------------------------------------------------------------------------

    def potentials(self) -> None:
        """Energies, forces and stresses by batch size; relaxations."""
        for name in ("chgnet", "sevennet"):
            if get_potential(name).missing() is not None:
                continue
            compute = load_potential(name, self.device).compute
            for n in (8,) if self.quick else (16, 128, 1024):
                small = self.crystals(n)
                batch = CellBatch.build(small.column("numbers"), small.column("frac_coords"), small.column("lattice"))
                compute.evaluate(batch)
                took = min(self.seconds(lambda c=compute, b=batch: c.evaluate(b)) for _ in range(3))
                compute.forget()
                self.note(f"{name}, {n} crystals ({len(batch.numbers)} atoms) together", len(batch.numbers) / took,
                          "atoms/s")  # fmt: skip
            n = 16 if self.quick else 512
            some = self.crystals(n)
            spec = RelaxSpec(max_steps=100)
            self.peak()
            took = self.seconds(
                lambda some=some, name=name, spec=spec: relax_set(
                    some, potential=name, spec=spec, selection=None, run=self.run(), time_box_seconds=None
                )
            )
            self.note(f"{name}, {n} relaxations of at most 100 steps", n / took, "crystals/s")
            if self.device == "cuda":
                self.note(f"{name}, memory of these", self.peak(), "GiB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller measurements")
    parser.add_argument("--only", nargs="+", choices=["ftcp", "mattergpt", "potentials"])
    parser.add_argument("--ftcp-checkpoint", type=Path, help="folder of a trained FTCP model, for its designs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("No GPU: torch.cuda.is_available() is false here; use --device cpu.")
    torch.set_num_threads(asked.threads)
    bench = Bench(asked.device, asked.threads, asked.quick)
    named = torch.cuda.get_device_name(0) if asked.device == "cuda" else f"processor, {asked.threads} threads"
    print(f"{named}, torch {torch.__version__}")
    chosen = asked.only or ("ftcp", "mattergpt", "potentials")
    if "ftcp" in chosen:
        bench.ftcp(asked.ftcp_checkpoint)
    if "mattergpt" in chosen:
        bench.mattergpt()
    if "potentials" in chosen:
        bench.potentials()
    if asked.json:
        record = {"device": named, "torch": torch.__version__, "figures": bench.table}
        write_text(asked.json, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
