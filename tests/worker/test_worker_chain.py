"""The real line, from crystals to verdicts, each step a real worker process: do the pieces fit?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from worker_jobs import Jobs, lines, wait_for

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.table import PropertyTable, ReferenceSet, SequenceSet

GENERATOR = {"name": "mattergpt", "preset": "test"}
STARTER = Path(__file__).resolve().parents[2] / "crysgen_aiida" / "starter" / "crystals.parquet"


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    """Three dozen small crystals of the starter set, spread over it."""
    starter = CrystalSet.read(STARTER)
    small = starter.select([("n_atoms", "<=", 5), ("status", "==", "ok")])
    return small.take(range(0, len(small), len(small) // 36)).take(range(36))


def output(jobs: Jobs, folder: Path) -> Path:
    """Do a job and return its outputs."""
    result = jobs.run(folder)
    assert result["exit_code"] == 0, result["message"] + result["log"]
    return folder / "outputs"


@pytest.mark.slow
def test_the_whole_line(jobs: Jobs, crystals: CrystalSet) -> None:
    """prepare, train, sample, decode, relax, reference, screen: every row comes through, with its lineage."""
    prepared = output(jobs, jobs.make("prepare", "prepare", {"crystals": crystals}, generator=GENERATOR))
    training_set = SequenceSet.read(prepared / "training_set.parquet")
    assert set(training_set.column("parent_input")) == {"crystals"}
    assert training_set.ok.sum() >= 20

    inputs = {"training_set": prepared / "training_set.parquet"}
    generator = output(jobs, jobs.make("train", "train", inputs, generator=GENERATOR)) / "generator"
    killed = jobs.make("killed", "train", inputs, generator=GENERATOR)
    process = jobs.start(killed)
    wait_for(lambda: lines(killed / "progress.jsonl"), 60)
    jobs.kill(process)
    again = output(jobs, killed) / "generator"
    for name in ("weights.safetensors", "history.jsonl", "config.json"):
        assert (generator / name).read_bytes() == (again / name).read_bytes(), name

    parameters = {"n": 40, "conditions": {"formation_energy_per_atom": -2.0, "elements": ["Li", "Si", "O", "N"]}}
    sampling = jobs.make("sample", "sample", {"generator": generator}, generator=GENERATOR, parameters=parameters)
    sampled = output(jobs, sampling) / "sequences.parquet"
    assert set(SequenceSet.read(sampled).column("target.formation_energy_per_atom")) == {-2.0}

    decoded = output(jobs, jobs.make("decode", "decode", {"sequences": sampled}, generator=GENERATOR))
    made = CrystalSet.read(decoded / "crystals.parquet")
    assert len(made) == 40
    assert made.column("parent_row") == list(range(40))
    assert made.ok.any()

    few = SequenceSet.read(sampled).take(range(4))
    refining = {"potential": {"name": "chgnet"}, "relax": {"max_steps": 1}}
    refined = output(jobs, jobs.make("refine", "decode", {"sequences": few}, generator=GENERATOR, parameters=refining))
    chosen = CrystalSet.read(refined / "crystals.parquet")
    assert chosen.method("energy_per_atom") == "chgnet-0.3.0"
    assert set(chosen.column("start")) <= {"freed", "optimised", "slack", "archetype", None}
    refused = jobs.run(jobs.make("unnamed", "decode", {"sequences": few}, parameters={"potential": {"kind": "any"}}))
    assert "with the name of a potential only" in refused["message"]

    short = {"relax": {"max_steps": 2, "fmax": 0.5}}
    selection = {"n": 3, "charge_neutral": False, "max_atoms": 8}
    inputs = {"crystals": decoded / "crystals.parquet"}
    relaxing = jobs.make("relax", "relax", inputs, parameters={**short, "selection": selection})
    relaxed = output(jobs, relaxing) / "crystals.parquet"
    chosen = CrystalSet.read(relaxed)
    assert len(chosen) == 40
    assert {"skipped"} <= set(chosen.column("status"))

    known = output(jobs, jobs.make("known", "relax", {"crystals": crystals.take(range(8))}, parameters=short))
    inputs = {"crystals": known / "crystals.parquet"}
    referring = jobs.make("reference", "reference", inputs, parameters={"name": "a-few"})
    reference = output(jobs, referring) / "reference.parquet"
    assert ReferenceSet.read(reference).metadata["name"] == "a-few"

    screening: dict[str, Any] = {
        "crystals": relaxed,
        "unrelaxed": decoded / "crystals.parquet",
        "sequences": sampled,
        "reference": reference,
        "known": {"starter": crystals},
    }
    requested = {"requested": {"formation_energy_per_atom": -2.0}}
    screened = output(jobs, jobs.make("screen", "screen", screening, parameters=requested))
    table = PropertyTable.read(screened / "table.parquet")
    assert table.column("parent_row") == list(range(40))
    assert set(table.column("parent_input")) == {"crystals"}
    assert {"valid_structure", "unique", "novel", "e_above_reference", "conditions_met"} <= set(table.columns)
    shares = [a for a in json.loads(table.metadata["aggregates"]).values() if "wilson95" in a]
    assert shares
    for aggregate in shares:
        assert 0 <= aggregate["numerator"] <= aggregate["denominator"] <= 40


@pytest.mark.slow
def test_a_relaxation_killed_between_its_parts(jobs: Jobs, crystals: CrystalSet) -> None:
    """The part that was finished is not relaxed again, and the set is that of an undisturbed run."""
    both = CrystalSet.concat([crystals, crystals])
    parameters = {"relax": {"max_steps": 3}}
    undisturbed = output(jobs, jobs.make("undisturbed", "relax", {"crystals": both}, parameters=parameters))
    folder = jobs.make("killed", "relax", {"crystals": both}, parameters=parameters)
    process = jobs.start(folder)
    wait_for(lambda: lines(folder / "journal.jsonl"), 60)
    jobs.kill(process)
    result = jobs.run(folder)
    assert result["exit_code"] == 0
    assert result["units"]["reused"] >= 1
    assert sum(result["units"].values()) == len(lines(folder / "journal.jsonl"))
    assert (folder / "outputs/crystals.parquet").read_bytes() == (undisturbed / "crystals.parquet").read_bytes()
