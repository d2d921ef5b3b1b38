"""Preparation and training of FTCP: reasons, exact resumption, overfitting, fine-tuning, clear failures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_models import make_ftcp_spec, prototypes
from stopping_runs import Stopping

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import CorruptWeights, Diverged, EmptySet, ImpossibleRequest, OutOfTime
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.contract import get_generator
from crysgen_aiida.generators.ftcp.checkpoint import read_checkpoint
from crysgen_aiida.generators.ftcp.data import read_training_data
from crysgen_aiida.generators.ftcp.generator import Ftcp
from crysgen_aiida.generators.ftcp.info import INFO
from crysgen_aiida.generators.ftcp.optimization import Rate, make_optimizer
from crysgen_aiida.generators.ftcp.sampling import Network
from crysgen_aiida.representations.ftcp.compact import Compact
from crysgen_aiida.representations.ftcp.decode import crystals_of

FILES = ("weights.safetensors", "config.json", "vocabulary.json", "history.jsonl")
ENERGY = property_field("formation_energy_per_atom", "pbe-mp-legacy")


def labelled(values: list[float], n: int = 4) -> CrystalSet:
    return CrystalSet.from_structures(prototypes()[:n], columns={ENERGY: values})


ONE_LABEL = {"targets": ("formation_energy_per_atom",), "sparse_targets": ()}


# -- preparation -------------------------------------------------------------------------------------------------------


def test_it_is_registered_and_every_row_is_kept_or_says_why(crystals: CrystalSet) -> None:
    assert get_generator("ftcp") is INFO
    spec = make_ftcp_spec(representation={"max_sites": 4, "max_elements": 2}, data={"part_rows": 7})
    prepared = Ftcp().prepare(crystals, spec, seed=1, run=InProcess())
    assert prepared.column("parent_row") == list(range(40))
    assert prepared.ok.sum() == 30
    reasons = {reason for reason in prepared.column("reason") if reason}
    assert reasons
    assert all("max_sites" in reason or "max_elements" in reason for reason in reasons)
    assert [split is not None for split in prepared.column("split")] == prepared.ok.tolist()
    assert [lattice is not None for lattice in prepared.column("lattice")] == prepared.ok.tolist()
    whole = make_ftcp_spec(representation={"max_sites": 4, "max_elements": 2})
    again = Ftcp().prepare(crystals, whole, seed=1, run=InProcess())
    assert again.content_hash == prepared.content_hash, "parts do not matter"


@pytest.mark.parametrize("split", ["formula", "rows"])
def test_the_split(crystals: CrystalSet, split: str) -> None:
    twice = CrystalSet.concat([crystals, crystals])
    spec = make_ftcp_spec(data={"split": split, "val_fraction": 0.25})
    prepared, other = (Ftcp().prepare(twice, spec, seed=seed, run=InProcess()) for seed in (1, 2))
    sides = prepared.column("split")
    assert sides.count("val") == 20
    assert sides != other.column("split")
    assert (sides[:40] == sides[40:]) == (split == "formula")


def test_rules_leave_rows_out(crystals: CrystalSet) -> None:
    far = crystals.with_columns({property_field("e_above_hull", "pbe-mp-legacy"): [0.0, 0.1] * 20})
    spec = make_ftcp_spec(data={"min_elements": 3, "max_e_above_hull": 0.08})
    prepared = Ftcp().prepare(far, spec, seed=1, run=InProcess())
    assert prepared.ok.sum() == 5
    reasons = prepared.column("reason")
    assert reasons[0] == "It has 2 elements, fewer than data.min_elements (3)."
    assert reasons[31] == "It is not known to be within 0.08 eV/atom of the hull."
    with pytest.raises(ImpossibleRequest, match="no column e_above_hull"):
        Ftcp().prepare(crystals, spec, seed=1, run=InProcess())


def test_rows_without_a_target_or_with_a_discredited_one_are_left_out() -> None:
    crystals = labelled([-1.0, float("nan"), -2.0, -3.0])
    flagged = crystals.with_columns({pa.field("flags", pa.string()): [None, None, "label_conflict", ""]})
    spec = make_ftcp_spec(data={**ONE_LABEL, "val_fraction": 0.0})
    prepared = Ftcp().prepare(flagged, spec, seed=1, run=InProcess())
    assert prepared.column("status") == ["ok", "skipped", "skipped", "ok"]
    assert prepared.column("reason")[1] == prepared.column("reason")[2] == "It has no label formation_energy_per_atom."


def test_labels_that_cannot_be_learned_are_refused(crystals: CrystalSet) -> None:
    run = InProcess()
    with pytest.raises(ImpossibleRequest, match="has no column piezo_max"):
        Ftcp().prepare(crystals, make_ftcp_spec(data={"sparse_targets": ("piezo_max",)}), seed=1, run=run)
    with pytest.raises(ImpossibleRequest, match="is -1 in all 3 rows to learn from: there is nothing to learn"):
        Ftcp().prepare(labelled([-1.0] * 4), make_ftcp_spec(data=ONE_LABEL), seed=1, run=run)
    with pytest.raises(EmptySet, match=r"None of the 4 crystals .* It has no label formation_energy_per_atom"):
        Ftcp().prepare(labelled([float("nan")] * 4), make_ftcp_spec(data=ONE_LABEL), seed=1, run=run)
    with pytest.raises(EmptySet, match="the input set has no rows"):
        Ftcp().prepare(labelled([], 0), make_ftcp_spec(data=ONE_LABEL), seed=1, run=run)
    large = make_ftcp_spec(data=ONE_LABEL, representation={"max_sites": 1})
    with pytest.raises(EmptySet, match="None of the 4 crystals"):
        Ftcp().prepare(labelled([-1.0, -2.0, -3.0, -4.0]), large, seed=1, run=run)


@pytest.mark.parametrize("place", ["targets", "sparse_targets"])
def test_whether_a_crystal_is_theoretical_is_learned(tmp_path: Path, place: str) -> None:
    known = [0.0, 0.0, 1.0] * 4
    column = property_field("theoretical", "mp")
    held = labelled([-1.0, -2.0] * 6, 12)
    other = "sparse_targets" if place == "targets" else "targets"
    data = {place: ("theoretical",), other: (), "val_fraction": 0.0}
    spec = make_ftcp_spec(data=data, training={"epochs": 80, "batch_size": 12})
    run = InProcess(folder=tmp_path)
    with pytest.raises(ImpossibleRequest, match="theoretical is 1 in all 12 rows to learn from: there is nothing"):
        Ftcp().prepare(held.with_columns({column: [1.0] * 12}), spec, seed=1, run=run)
    prepared = Ftcp().prepare(held.with_columns({column: known}), spec, seed=1, run=run)
    made = read_checkpoint(Ftcp().train(prepared, spec, seed=1, run=run))
    (label,) = made.labels
    assert (label.low, label.high, label.sparse) == (0.0, 1.0, place == "sparse_targets")
    score = made.space.predicted[:, 0]
    assert ((score >= 0) & (score <= 1)).all()
    is_one = np.array(known) == 1
    assert score[is_one].min() > 0.5 > score[~is_one].max()
    assert label.read(0.0) == 0.0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"data": {"targets": ("piezo_tensor",)}}, "no single number"),
        ({"data": {"targets": ("bandgap",)}}, "Did you mean band_gap"),
        ({"data": {"targets": ("band_gap",), "sparse_targets": ("band_gap",)}}, "twice"),
        ({"data": {"min_elements": 4}}, "more than representation.max_elements"),
        ({"model": {"filters": (8, 16)}}, "three numbers"),
        ({"loss": {"kl": "median"}}, "mean or sum"),
        ({"loss": {"beta": -1.0}}, "0 or more"),
        ({"training": {"step_rates": (1e-3,)}}, "of one length"),
        ({"sampling": {"where": ("band_gap ~ 3",)}}, "not understood"),
        ({"sampling": {"tolerances": ("band_gap",)}}, "not understood"),
        ({"sampling": {"scales": (1.0, 0.5)}}, "positive and rise"),
        ({"mode": "published"}, "default or paper"),
    ],
)
def test_settings_without_sense_are_refused(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(ImpossibleRequest, match=said):
        INFO.make_spec(overrides)


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "epochs", "rate"), [("default", 25, 5e-3), ("paper", 25, 1.5e-2)])
def test_a_handful_of_crystals_is_learned_by_heart(preset: str, epochs: int, rate: float, tmp_path: Path) -> None:
    crystals = CrystalSet.from_structures(prototypes()[::4], columns={ENERGY: np.linspace(-4, 0, 10)})
    crystals = crystals.take(np.tile(np.arange(10), 20))
    # without the reciprocal block, which would take the published loss hours to see past
    published = {
        "representation": {"reciprocal": False},
        "loss": {"reconstruction": "squared", "kl": "mean", "beta": 2.0, "targets": 10.0},
        "model": {"dense_activation": "sigmoid", "filters": (16, 32, 32), "dense": 128, "latent": 32},
    }
    spec = make_ftcp_spec(
        data={**ONE_LABEL, "val_fraction": 0.0},
        training={"epochs": epochs, "lr": rate, "batch_size": 10, "checkpoint_steps": 100},
        **(published if preset == "paper" else {"loss": {"beta": 1e-4}}),
    )
    prepared = Ftcp().prepare(crystals, spec, seed=1, run=InProcess())
    checkpoint = Ftcp().train(prepared, spec, seed=1, run=InProcess(folder=tmp_path))
    held = read_checkpoint(checkpoint)
    made = Network(held, "cpu").decode(held.space.means)
    truth = Compact.from_columns(prepared.arrow, spec.representation)
    there = truth.occupancy.sum(axis=-1) > 0
    decoded = crystals_of(made, spec.representation)
    assert decoded.column("reduced_formula") == prepared.column("reduced_formula")
    assert np.abs(made.lattices[:, :3] - truth.lattices[:, :3]).max() < 0.1
    assert np.abs(made.coords - truth.coords)[there].max() < 0.08
    np.testing.assert_allclose(held.space.predicted, held.space.labels, atol=0.15)


def test_losses_fall_and_the_folder_says_what_was_done(ftcp_trained: Path, matrices_set: SequenceSet) -> None:
    from crysgen_aiida.data.generator import describe, read_folder

    held = describe(read_folder(ftcp_trained))
    assert (held["generator"], held["conditions"]) == ("ftcp", ["band_gap", "formation_energy_per_atom"])
    history = [json.loads(line) for line in (ftcp_trained / "history.jsonl").read_text().splitlines()]
    for part in ("loss", "reconstruction", "targets"):
        assert history[-1][f"train_{part}"] < 0.5 * history[0][f"train_{part}"], part
    config = json.loads((ftcp_trained / "config.json").read_text())
    assert config["n_train"] + config["n_val"] == 40
    best = min(history, key=lambda e: e["val_loss"])
    assert (config["best_epoch"], config["val_loss"]) == (best["epoch"], best["val_loss"])
    assert config["conditions"]["band_gap"]["sparse"]
    checkpoint = read_checkpoint(ftcp_trained)
    assert checkpoint.space.held_out.sum() == config["n_val"]
    assert checkpoint.space.formulas == tuple(matrices_set.column("reduced_formula"))
    np.testing.assert_array_equal(checkpoint.space.rows, np.arange(40))
    np.testing.assert_array_equal(checkpoint.space.labels[:, 1], matrices_set.values("band_gap"))


def test_rows_without_a_sparse_label_do_not_touch_its_branch(matrices_set: SequenceSet) -> None:
    from crysgen_aiida.generators.ftcp.training import Objective, new_model

    spec = make_ftcp_spec()
    data = read_training_data(matrices_set, spec, 1)
    model = new_model(spec, 1)
    bare = np.flatnonzero(np.isnan(data.values[:, 1]))[:5]
    loss, parts, _ = Objective(spec)(model, data.batch(bare), None, 5)
    loss.backward()
    assert float(parts["sparse"]) == 0.0
    assert not any(w.grad.any() for w in model.branches[1].parameters())
    assert any(w.grad.any() for w in model.branches[0].parameters())


@pytest.mark.parametrize(
    ("looks", "training"),
    [
        (1, {}),
        (7, {"keep": "last"}),
        (11, {"optimizer": "rmsprop", "schedule": "steps", "step_epochs": (1,), "step_rates": (1e-3,)}),
        (9, {"optimizer": "rmsprop", "schedule": "steps", "plateau_patience": 1}),
    ],
)
def test_an_interrupted_training_ends_with_the_same_bytes(
    matrices_set: SequenceSet, tmp_path: Path, looks: int, training: dict[str, object]
) -> None:
    spec = make_ftcp_spec(training=training)
    whole = Ftcp().train(matrices_set, spec, seed=5, run=InProcess(folder=tmp_path / "whole"))
    broken = Stopping(folder=tmp_path / "broken")
    broken.looks = looks
    with pytest.raises(OutOfTime):
        Ftcp().train(matrices_set, spec, seed=5, run=broken)
    torch.manual_seed(99)  # whatever else the process drew in between must not matter
    done: list[int] = []
    again = InProcess(folder=tmp_path / "broken", on_progress=lambda stage, n, total, metrics: done.append(n))
    resumed = Ftcp().train(matrices_set, spec, seed=5, run=again)
    assert min(done) >= looks  # steps already done are not done again
    for name in FILES:
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name


def test_memory_for_matrices_changes_nothing_but_the_seed_does(matrices_set: SequenceSet, tmp_path: Path) -> None:
    settings = ({"matrix_memory": 0.0}, {"matrix_memory": 1.0})
    made = [
        Ftcp().train(matrices_set, make_ftcp_spec(training=t), seed=s, run=InProcess(folder=tmp_path / f"{i}"))
        for i, (t, s) in enumerate([(settings[0], 1), (settings[1], 1), (settings[1], 2)])
    ]
    kept, anew, other = ((folder / FILES[0]).read_bytes() for folder in made)
    assert kept == anew
    assert kept != other


def test_only_training_rows_scale_unless_told(matrices_set: SequenceSet) -> None:
    lengths = [lattice[0] for lattice in matrices_set.column("lattice")]
    sides = ["val" if length == max(lengths) else "train" for length in lengths]
    split = matrices_set.with_columns({pa.field("split", pa.string()): sides})
    own, leaky = (
        read_training_data(split, make_ftcp_spec(data={"scaler_rows": rows}), 1).scaler for rows in ("train", "all")
    )
    assert own.maximum[103] < leaky.maximum[103]
    data = read_training_data(matrices_set, make_ftcp_spec(), 1)
    made = data.matrices.take(data.train)
    assert made.min() >= 0
    assert made.max() <= 1 + 1e-6
    energies = data.scaled[data.train, 0]
    assert (energies.min(), energies.max()) == (0, 1)


def test_fine_tuning_starts_from_weights_and_keeps_the_scaling(
    matrices_set: SequenceSet, ftcp_trained: Path, tmp_path: Path
) -> None:
    spec = make_ftcp_spec(training={"epochs": 1, "lr": 1e-4})
    few = matrices_set.take(range(0, 40, 2))
    tuned = Ftcp().train(few, spec, seed=2, run=InProcess(folder=tmp_path / "a"), start_from=ftcp_trained)
    parent, child = read_checkpoint(ftcp_trained), read_checkpoint(tuned)
    assert child.labels == parent.labels
    assert child.scaler.to_dict() == parent.scaler.to_dict()
    first = json.loads((tuned / "history.jsonl").read_text())
    scratch = Ftcp().train(few, spec, seed=2, run=InProcess(folder=tmp_path / "b"))
    assert first["train_loss"] < 0.5 * json.loads((scratch / "history.jsonl").read_text())["train_loss"]
    other = make_ftcp_spec(model={"latent": 8})
    with pytest.raises(ImpossibleRequest, match="other sizes or labels"):
        Ftcp().train(few, other, seed=2, run=InProcess(folder=tmp_path / "c"), start_from=ftcp_trained)
    stamped = few.with_columns({property_field("band_gap", "hse06"): few.values("band_gap")})
    with pytest.raises(ImpossibleRequest, match="of method 'hse06', but the model to start from has learned"):
        Ftcp().train(stamped, spec, seed=2, run=InProcess(folder=tmp_path / "d"), start_from=ftcp_trained)


def test_a_training_that_explodes_says_so(matrices_set: SequenceSet) -> None:
    with pytest.raises(Diverged, match=r"lower training\.lr"):
        Ftcp().train(matrices_set, make_ftcp_spec(training={"lr": 1e12}), seed=1, run=InProcess())
    nothing = matrices_set.with_columns({pa.field("split", pa.string()): ["val"] * 40})
    with pytest.raises(EmptySet, match="No row of the training set can be learned from"):
        Ftcp().train(nothing, make_ftcp_spec(), seed=1, run=InProcess())


def test_damaged_checkpoints_are_refused(ftcp_trained: Path, tmp_path: Path) -> None:
    def damaged(name: str, data: bytes) -> Path:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for file in FILES:
            (folder / file).write_bytes(data if file == name else (ftcp_trained / file).read_bytes())
        return folder

    weights = (ftcp_trained / FILES[0]).read_bytes()
    with pytest.raises(CorruptWeights, match="is damaged"):
        read_checkpoint(damaged(FILES[0], weights[:-8] + b"12345678"))
    with pytest.raises(CorruptWeights, match="lists no formulas"):
        read_checkpoint(damaged(FILES[2], b"[]"))
    with pytest.raises(CorruptWeights, match="does not fit its vocabulary"):
        read_checkpoint(damaged(FILES[2], b'{"formulas": ["NaCl"]}'))
    with pytest.raises(CorruptWeights, match="is not JSON"):
        read_checkpoint(damaged(FILES[1], b"{"))
    config = json.loads((ftcp_trained / FILES[1]).read_text())
    with pytest.raises(CorruptWeights, match="holds no FTCP model"):
        read_checkpoint(damaged(FILES[1], json.dumps({**config, "generator": "mattergpt"}).encode()))
    with pytest.raises(CorruptWeights, match="does not describe an FTCP model"):
        read_checkpoint(damaged(FILES[1], json.dumps({**config, "scaler": {}}).encode()))


def test_the_published_schedule() -> None:
    spec = INFO.make_spec({}, preset="paper").training
    rate = Rate(spec.lr)
    values = []
    for epoch in range(110):
        rate.begin(spec, epoch)
        values.append(rate.value)
        rate.end(spec, 1000.0 - epoch if epoch < 60 or epoch >= 70 else 941.0)
    assert (values[0], values[49], values[50], values[60]) == (5e-4, 5e-4, 1e-4, 1e-4)
    # epoch 60 brings nothing new, nor do 61 to 63: the fifth epoch of the plateau has the lower rate
    assert values[63] == 1e-4
    assert values[64] == pytest.approx(3e-5)
    assert values[68] == pytest.approx(9e-6)
    assert values[100] == 5e-5, "the schedule sets the rate back up"


def test_rmsprop_is_that_of_keras() -> None:
    spec = INFO.make_spec({}, preset="paper").training
    layer = torch.nn.Linear(1, 1, bias=False)
    weight = float(layer.weight.detach())
    optimizer = make_optimizer(layer, spec)
    average = 0.0
    for gradient in (0.3, -0.2, 0.5):
        layer.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        average = 0.9 * average + 0.1 * gradient**2
        weight -= 5e-4 * gradient / (average**0.5 + 1e-7)
    assert float(layer.weight.detach()) == pytest.approx(weight, abs=1e-7)
