"""Training: exact resumption, overfitting, several processes, clear failures."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from small_models import make_spec, prototypes
from stopping_runs import Stopping

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import CorruptWeights, Diverged, EmptySet, ImpossibleRequest, OutOfMemory, OutOfTime
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.generators.mattergpt.checkpoint import read_checkpoint
from crysgen_aiida.generators.mattergpt.generator import MatterGPT
from crysgen_aiida.generators.mattergpt.optimization import learning_rate
from crysgen_aiida.generators.mattergpt.training import use_bf16
from crysgen_aiida.generators.memory import memory_guard

FILES = ("weights.safetensors", "config.json", "vocabulary.json", "history.jsonl")


def test_twenty_strings_are_learned_exactly():
    structures = prototypes()[::2]
    crystals = CrystalSet.from_structures(
        structures, columns={property_field("formation_energy_per_atom", "made-up"): np.linspace(-4, 0, 20)}
    )
    spec = make_spec(
        data={"val_fraction": 0.0},
        training={"epochs": 220, "batch_size": 20, "lr": 1e-2, "min_lr": 1e-3, "condition_dropout": 0.0},
        sampling={"greedy": True, "grammar": False},
    )
    run = InProcess()
    training_set = MatterGPT().prepare(crystals, spec, seed=1, run=run)
    checkpoint = MatterGPT().train(training_set, spec, seed=1, run=run)
    energies = training_set.column("formation_energy_per_atom")
    sampled = MatterGPT().sample(checkpoint, 20, {"formation_energy_per_atom": energies}, spec, seed=1, run=run)
    assert sampled.column("sequence") == training_set.column("sequence")


@pytest.mark.parametrize(
    ("precision", "width", "able", "wanted"),
    [("auto", 768, True, True), ("auto", 512, True, False), ("auto", 768, False, False), ("bf16", 64, False, True),
     ("fp32", 768, True, False)],
)  # fmt: skip
def test_on_a_gpu_bf16_is_taken_where_it_is_faster(monkeypatch, precision, width, able, wanted):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: able)
    spec = make_spec(model={"width": width}, training={"precision": precision})
    assert use_bf16(spec, torch.device("cuda")) is wanted


@pytest.mark.parametrize(("looks", "optimizer"), [(1, "muon"), (7, "adamw"), (7, "muon"), (11, "adamw")])
def test_an_interrupted_training_ends_with_the_same_bytes(training_set, tmp_path, looks, optimizer):
    training = {"augment": "atoms+axes", "condition_dropout": 0.3, "optimizer": optimizer}
    spec = make_spec(model={"dropout": 0.1}, training=training)
    whole = MatterGPT().train(training_set, spec, seed=5, run=InProcess(folder=tmp_path / "whole"))
    broken = Stopping(folder=tmp_path / "broken")
    broken.looks = looks
    with pytest.raises(OutOfTime):
        MatterGPT().train(training_set, spec, seed=5, run=broken)
    torch.manual_seed(99)  # whatever else the process drew in between must not matter
    done: list[int] = []
    again = InProcess(folder=tmp_path / "broken", on_progress=lambda stage, n, total, metrics: done.append(n))
    resumed = MatterGPT().train(training_set, spec, seed=5, run=again)
    assert min(done) >= looks  # steps already done are not done again
    for name in FILES:
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_state_of_another_run_or_a_damaged_one_is_not_continued(training_set, tmp_path):
    spec = make_spec(training={"epochs": 1})
    MatterGPT().train(training_set, spec, seed=5, run=InProcess(folder=tmp_path / "a"))
    clean = MatterGPT().train(training_set, spec, seed=6, run=InProcess(folder=tmp_path / "b"))
    other = MatterGPT().train(training_set, spec, seed=6, run=InProcess(folder=tmp_path / "a"))
    assert (other / FILES[0]).read_bytes() == (clean / FILES[0]).read_bytes()
    state = tmp_path / "a" / "training" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    repaired = MatterGPT().train(training_set, spec, seed=6, run=InProcess(folder=tmp_path / "a"))
    assert (repaired / FILES[0]).read_bytes() == (clean / FILES[0]).read_bytes()


def test_the_seed_matters_and_nothing_in_the_folder_is_a_time_or_a_place(training_set, trained, tmp_path):
    spec = make_spec(training={"epochs": 1})
    folders = [
        MatterGPT().train(training_set, spec, seed=s, run=InProcess(folder=tmp_path / str(i)))
        for i, s in enumerate((1, 1, 2))
    ]
    first, same, other = ([(f / name).read_bytes() for name in FILES] for f in folders)
    assert first == same
    assert first[0] != other[0]
    config = json.loads((trained / "config.json").read_text())
    assert config["conditions"]["formation_energy_per_atom"]["support"]["n"] == config["n_train"] == 36
    assert config["conditions"]["band_gap"]["support"]["n"] < 36
    history = [json.loads(line) for line in (trained / "history.jsonl").read_text().splitlines()]
    assert history[-1]["train_loss"] < 0.3 * history[0]["train_loss"]
    assert set(history[0]) == {"epoch", "step", "lr", "train_loss", "val_loss"}
    assert str(tmp_path.parent) not in (trained / "config.json").read_text()


@pytest.mark.slow
def test_two_processes_train_like_one(training_set, tmp_path):
    spec = make_spec(training={"epochs": 2, "condition_dropout": 0.3})
    one = MatterGPT().train(training_set, spec, seed=5, run=InProcess(folder=tmp_path / "one"))
    both = make_spec(training={"epochs": 2, "condition_dropout": 0.3, "processes": 2})
    seen: list[int] = []
    run = InProcess(folder=tmp_path / "two", on_progress=lambda stage, done, total, metrics: seen.append(done))
    two = MatterGPT().train(training_set, both, seed=5, run=run)
    losses = [[json.loads(line) for line in (f / "history.jsonl").read_text().splitlines()] for f in (one, two)]
    for a, b in zip(*losses, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-4)
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-4)
    weights = [read_checkpoint(f).model.state_dict() for f in (one, two)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=2e-3) for name in weights[0])
    assert seen[-1] == 10


def test_a_smaller_compute_batch_gives_the_same_model_up_to_rounding(training_set, tmp_path):
    spec = make_spec(training={"epochs": 1})
    whole = MatterGPT().train(training_set, spec, seed=5, run=InProcess(folder=tmp_path / "whole"))
    scaled = InProcess(folder=tmp_path / "scaled")
    scaled.batch_scale = 0.25  # as the worker says after memory ran out
    parts = MatterGPT().train(training_set, spec, seed=5, run=scaled)
    losses = [json.loads((f / "history.jsonl").read_text().splitlines()[0])["train_loss"] for f in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_fine_tuning_starts_from_the_weights_and_keeps_the_scales(training_set, trained, tmp_path):
    spec = make_spec(training={"max_steps": 1, "lr": 1e-6})
    tuned = MatterGPT().train(training_set, spec, seed=9, run=InProcess(folder=tmp_path / "a"), start_from=trained)
    before, after = read_checkpoint(trained), read_checkpoint(tuned)
    assert after.conditions[0].mean == before.conditions[0].mean
    change = [(a - b).abs().max() for a, b in zip(before.model.parameters(), after.model.parameters(), strict=True)]
    assert max(float(c.detach()) for c in change) < 1e-4
    wider = make_spec(model={"width": 32})
    with pytest.raises(ImpossibleRequest, match="other sizes"):
        MatterGPT().train(training_set, wider, seed=9, run=InProcess(folder=tmp_path / "b"), start_from=trained)


def test_divergence_and_an_empty_training_set_have_their_own_errors(training_set, tmp_path):
    wild = make_spec(training={"lr": 1e12, "clip_norm": 1e12, "warmup": 0.0})
    with pytest.raises(Diverged, match=r"lower training\.lr"):
        MatterGPT().train(training_set, wild, seed=1, run=InProcess(folder=tmp_path / "a"))
    with pytest.raises(EmptySet, match="no rows"):
        MatterGPT().train(training_set.slice(range(0)), make_spec(), seed=1, run=InProcess(folder=tmp_path / "b"))


def test_every_face_of_exhausted_memory_is_one_error():
    def fill_gpu():
        raise torch.OutOfMemoryError("CUDA out of memory")

    def fill_cpu():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    def other():
        raise RuntimeError("size mismatch")

    for fill in (fill_gpu, fill_cpu):
        with pytest.raises(OutOfMemory, match=r"training\.batch_size"), memory_guard("training.batch_size", 8):
            fill()
    with pytest.raises(RuntimeError, match="size mismatch"), memory_guard("training.batch_size", 8):
        other()


def test_the_rate_warms_up_and_falls_to_its_minimum():
    spec = make_spec(training={"lr": 1e-3, "min_lr": 1e-5, "warmup": 0.1}).training
    rates = [learning_rate(spec, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert np.argmax(rates) in (9, 10)
    assert rates[-1] == pytest.approx(1e-5)


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "swapped", "config", "vocabulary"])
def test_a_damaged_checkpoint_is_refused_with_a_sentence(trained, untrained, tmp_path, damage):
    folder = tmp_path / "generator"
    shutil.copytree(trained, folder)
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    elif damage == "truncate":
        weights.write_bytes(data[: len(data) // 2])
    elif damage == "missing":
        weights.unlink()
    elif damage == "swapped":
        config = json.loads((folder / "config.json").read_text())
        config["spec"]["model"]["layers"] = 1
        (folder / "config.json").write_text(json.dumps(config))
    elif damage == "config":
        (folder / "config.json").write_text("{")
    else:
        text = (folder / "vocabulary.json").read_text()
        (folder / "vocabulary.json").write_text(text.replace('"Si"', '"Xx"'))
    with pytest.raises(CorruptWeights, match=r"generator"):
        MatterGPT().sample(folder, 1, {}, make_spec(), seed=1, run=InProcess())
