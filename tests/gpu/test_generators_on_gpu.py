"""Training and sampling on a GPU: the numbers of a processor within rounding, and whatever runs out is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stopping_runs import Stopping

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import OutOfMemory, OutOfTime
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.contract import get_generator
from crysgen_aiida.generators.memory import memory_guard
from crysgen_aiida.representations.slices.checker import check

ENERGY = "formation_energy_per_atom"
OVERRIDES: dict[str, dict[str, Any]] = {
    "ftcp": {"data": {"targets": [ENERGY], "sparse_targets": ["band_gap"]}, "training": {"epochs": 6}},
    "mattergpt": {"data": {"conditions": [ENERGY]}, "training": {"epochs": 3}},
}


def made(name: str, **training: Any) -> tuple[Any, Any]:
    """Return a generator and its test settings."""
    info = get_generator(name)
    overrides = {**OVERRIDES[name], "training": {**OVERRIDES[name]["training"], **training}}
    return info.load(), info.make_spec(overrides, "test")


def prepared(name: str, crystals: CrystalSet) -> SequenceSet:
    generator, spec = made(name)
    training_set: SequenceSet = generator.prepare(crystals, spec, seed=1, run=InProcess())
    return training_set


def losses_of(folder: Path) -> list[float]:
    """Return the training loss of every epoch."""
    return [json.loads(line)["train_loss"] for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", list(OVERRIDES))
def test_a_training_goes_as_on_a_processor(name: str, crystals: CrystalSet, tmp_path: Path) -> None:
    """Same seed, same batches, same noise: the losses agree until rounding has grown."""
    generator, spec = made(name)
    training_set = prepared(name, crystals)
    losses = []
    for device in ("cpu", "cuda"):
        run = InProcess(folder=tmp_path / device, device=device)
        folder = generator.train(training_set, spec, seed=1, run=run)
        losses.append(losses_of(folder))
    assert len(losses[0]) == spec.training.epochs
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-3)
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[1][-1] < losses[1][0]


@pytest.mark.parametrize("name", list(OVERRIDES))
def test_a_stopped_training_is_resumed(name: str, crystals: CrystalSet, tmp_path: Path) -> None:
    generator, spec = made(name)
    training_set = prepared(name, crystals)
    whole = generator.train(training_set, spec, seed=1, run=InProcess(folder=tmp_path / "whole", device="cuda"))
    stopped = Stopping(folder=tmp_path / "stopped", device="cuda")
    stopped.looks = 7
    with pytest.raises(OutOfTime):
        generator.train(training_set, spec, seed=1, run=stopped)
    resumed = generator.train(training_set, spec, seed=1, run=InProcess(folder=tmp_path / "stopped", device="cuda"))
    assert losses_of(resumed) == pytest.approx(losses_of(whole), rel=0.01)


def test_ftcp_designs_do_not_depend_on_the_device(crystals: CrystalSet, tmp_path: Path) -> None:
    """Sampling computes in double precision."""
    generator, spec = made("ftcp", epochs=60)
    folder = generator.train(prepared("ftcp", crystals), spec, seed=1, run=InProcess(folder=tmp_path, device="cuda"))
    found = [
        generator.sample(folder, 100, {ENERGY: -1.0}, spec, seed=2, run=InProcess(device=device))
        for device in ("cpu", "cuda")
    ]
    here, there = (generator.decode(designs, spec, seed=3, run=InProcess()) for designs in found)
    assert here.column("reduced_formula") == there.column("reduced_formula")
    assert here.ok.sum() >= 30
    for mine, other in zip(here.column("lattice"), there.column("lattice"), strict=True):
        if mine is not None:
            np.testing.assert_allclose(other, mine, atol=1e-4)
    np.testing.assert_allclose(
        found[0].values(f"predicted.{ENERGY}"), found[1].values(f"predicted.{ENERGY}"), atol=1e-4
    )


def test_mattergpt_writes_grammatical_strings(crystals: CrystalSet, tmp_path: Path) -> None:
    generator, spec = made("mattergpt", epochs=20)
    folder = generator.train(
        prepared("mattergpt", crystals), spec, seed=1, run=InProcess(folder=tmp_path, device="cuda")
    )
    strings = [
        generator.sample(folder, 64, {ENERGY: -1.0}, spec, seed=2, run=InProcess(device=device)).column("sequence")
        for device in ("cuda", "cuda", "cpu")
    ]
    assert strings[0] == strings[1]
    assert all(check(s, "strict", duplicates=False) for s in strings[0])
    # single precision: a draw that is nearly a tie may fall the other way, and the rest of its string with it
    assert sum(a == b for a, b in zip(strings[0], strings[2], strict=True)) >= 48


def test_memory_that_runs_out_is_said() -> None:
    with pytest.raises(OutOfMemory, match=r"training\.batch_size"), memory_guard("training.batch_size", 512):
        torch.empty(2**50, device="cuda")


def test_a_gpu_too_full_for_the_matrices_does_without(
    crystals: CrystalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The matrices are made anew for every batch then, with the same result."""
    generator, spec = made("ftcp", epochs=1)
    training_set = prepared("ftcp", crystals)
    losses = []
    empty = torch.empty
    refused = []
    for full in (False, True):

        def allocate(*shape: Any, full: bool = full, **options: Any) -> torch.Tensor:
            if full and options.get("device") is not None:  # not the layers of the network
                refused.append(shape)
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return empty(*shape, **options)

        monkeypatch.setattr(torch, "empty", allocate)
        folder = generator.train(training_set, spec, seed=1, run=InProcess(folder=tmp_path / str(full), device="cuda"))
        monkeypatch.setattr(torch, "empty", empty)
        losses.append(losses_of(folder)[0])
    assert len(refused) == 1
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
