"""The line of FTCP from crystals to crystals, each step a real worker process."""

from __future__ import annotations

from pathlib import Path

import pytest
from worker_jobs import Jobs, lines, wait_for

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.table import SequenceSet

TARGETS = {"data": {"targets": ["formation_energy_per_atom"], "sparse_targets": ["band_gap"]}}
GENERATOR = {"name": "ftcp", "preset": "test", "spec": TARGETS}
STARTER = Path(__file__).resolve().parents[2] / "crysgen_aiida" / "starter" / "crystals.parquet"


def output(jobs: Jobs, folder: Path) -> Path:
    """Do a job and return its outputs."""
    result = jobs.run(folder)
    assert result["exit_code"] == 0, result["message"] + result["log"]
    return folder / "outputs"


@pytest.mark.slow
def test_the_line_of_ftcp(jobs: Jobs) -> None:
    """prepare, train (killed once), sample, decode: every row comes through, with its lineage."""
    starter = CrystalSet.read(STARTER)
    small = starter.select([("n_atoms", "<=", 6), ("status", "==", "ok")])
    crystals = small.take(range(0, len(small), len(small) // 60)).take(range(60))
    prepared = output(jobs, jobs.make("prepare", "prepare", {"crystals": crystals}, generator=GENERATOR))
    training_set = SequenceSet.read(prepared / "training_set.parquet")
    assert training_set.column("parent_row") == list(range(60))
    assert training_set.ok.sum() >= 30

    inputs = {"training_set": prepared / "training_set.parquet"}
    generator = output(jobs, jobs.make("train", "train", inputs, generator=GENERATOR)) / "generator"
    killed = jobs.make("killed", "train", inputs, generator=GENERATOR)
    process = jobs.start(killed)
    wait_for(lambda: lines(killed / "progress.jsonl"), 60)
    jobs.kill(process)
    again = output(jobs, killed) / "generator"
    for name in ("weights.safetensors", "history.jsonl", "config.json", "vocabulary.json"):
        assert (generator / name).read_bytes() == (again / name).read_bytes(), name

    energies = training_set.values("formation_energy_per_atom")[training_set.ok]
    parameters = {"n": 40, "conditions": {"formation_energy_per_atom": float(energies.mean())}}
    sampling = jobs.make("sample", "sample", {"generator": generator}, generator=GENERATOR, parameters=parameters)
    sampled = output(jobs, sampling) / "sequences.parquet"
    designs = SequenceSet.read(sampled)
    assert len(designs) == 40
    assert set(designs.column("target.formation_energy_per_atom")) == {float(energies.mean())}

    decoded = output(jobs, jobs.make("decode", "decode", {"sequences": sampled}, generator=GENERATOR))
    made = CrystalSet.read(decoded / "crystals.parquet")
    assert made.column("parent_row") == list(range(40))
    assert set(made.column("parent_input")) == {"sequences"}

    refused = jobs.run(
        jobs.make(
            "gap",
            "sample",
            {"generator": generator},
            generator=GENERATOR,
            parameters={"n": 1, "conditions": {"kappa_300k": 1.0}},
        )
    )
    assert refused["exit_code"] == 311
    assert "cannot be conditioned on 'kappa_300k' here; it can on" in refused["message"]
