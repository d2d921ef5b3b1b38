"""Designs of FTCP: where they come from, that batches do not matter, filters, the scale, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import make_ftcp_spec

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.crystals.properties import get_property
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.ftcp.checkpoint import read_checkpoint
from crysgen_aiida.generators.ftcp.generator import Ftcp
from crysgen_aiida.generators.ftcp.info import INFO
from crysgen_aiida.generators.ftcp.labels import Label
from crysgen_aiida.generators.ftcp.latent_space import LatentSpace
from crysgen_aiida.generators.ftcp.sampling import Network, Sampler, slerp
from crysgen_aiida.generators.ftcp.spec import SamplingSpec
from crysgen_aiida.physics.contacts import closest_contact
from crysgen_aiida.representations.ftcp.compact import compact_of
from crysgen_aiida.representations.ftcp.encode import matrices

ENERGY = "formation_energy_per_atom"
SCALED = {"scale": 0.3}


def draw(
    checkpoint: Path, n: int, conditions: dict[str, Any], run: InProcess | None = None, **sampling: Any
) -> SequenceSet:
    spec = make_ftcp_spec(sampling={**SCALED, **sampling})
    return Ftcp().sample(checkpoint, n, conditions, spec, seed=3, run=run or InProcess())


# -- where designs come from -------------------------------------------------------------------------------------------


def test_designs_start_at_the_training_points_nearest_to_the_target(ftcp_trained: Path) -> None:
    designs = draw(ftcp_trained, 12, {ENERGY: -1.5})
    space = read_checkpoint(ftcp_trained).space
    distance = np.where(space.held_out, np.inf, np.abs(space.labels[:, 0] + 1.5))
    assert designs.column("training_row") == np.repeat(np.argsort(distance)[:4], 3).tolist()
    assert designs.column("training_formula") == [space.formulas[row] for row in designs.column("training_row")]
    assert set(designs.column(f"target.{ENERGY}")) == {-1.5}
    latents = np.array(designs.column("latent"))
    seeds = designs.column("training_row")
    noise = (latents - space.means[seeds]) / np.exp(space.log_variances[seeds] / 2)
    assert 0.25 < noise.std() < 0.35, "of the posterior's widths"
    plain = np.array(draw(ftcp_trained, 12, {ENERGY: -1.5}, noise="unit").column("latent")) - space.means[seeds]
    np.testing.assert_allclose(plain, noise, atol=1e-3)
    assert np.abs(noise[:3] - noise[3:6]).min() > 0, "every row has its own noise"
    assert designs.metadata["ftcp_scale"] == "0.3"
    assert designs.method(
        f"predicted.{ENERGY}",
    ).startswith("ftcp:")  # type: ignore[union-attr]


def test_lists_of_targets_are_cycled_over(ftcp_trained: Path) -> None:
    designs = draw(ftcp_trained, 12, {ENERGY: [-3.0, -1.0], "band_gap": [1.0, 2.0, 2.5]})
    assert designs.column(f"target.{ENERGY}") == [-3.0, -1.0] * 6
    assert designs.column("target.band_gap") == [1.0, 2.0, 2.5] * 4
    rows = designs.column("training_row")
    assert rows[:6] == rows[6:], "the second round of six targets is still at the first point of each"
    labels = read_checkpoint(ftcp_trained).space.labels
    assert np.isfinite(labels[rows, 1]).all(), "points without a band gap are far from every band gap"


def test_without_a_target_the_order_is_drawn(ftcp_trained: Path) -> None:
    rows = draw(ftcp_trained, 30, {}).column("training_row")
    assert len(set(rows)) == 10
    assert rows != sorted(rows)


def test_constraints_and_predicted_values_choose_points(ftcp_trained: Path) -> None:
    space = read_checkpoint(ftcp_trained).space
    low = draw(ftcp_trained, 30, {ENERGY: 0.0}, where=(f"{ENERGY} < -2", f"{ENERGY} >= -3"))
    energies = space.labels[low.column("training_row"), 0]
    assert ((energies < -2) & (energies >= -3)).all()
    predicted = draw(ftcp_trained, 30, {"band_gap": 3.0}, rank_by="predicted")
    assert np.isnan(space.labels[predicted.column("training_row"), 1]).any(), "no label is needed"


def test_a_target_at_the_highest_label_starts_where_most_is_predicted(ftcp_trained: Path) -> None:
    space = read_checkpoint(ftcp_trained).space
    top = float(np.nanmax(space.labels[:, 1]))
    bound = f"{ENERGY} < -1"
    seeds = draw(ftcp_trained, 30, {"band_gap": top}, rank_by="predicted", where=(bound,)).column("training_row")
    able = np.flatnonzero(~space.held_out & (space.predicted[:, 0] < -1))
    assert list(dict.fromkeys(seeds)) == able[np.argsort(-space.predicted[able, 1], kind="stable")][:10].tolist()


def test_slerp_lies_between_two_points(ftcp_trained: Path) -> None:
    designs = draw(ftcp_trained, 12, {ENERGY: -1.5}, method="slerp", neighbours=4)
    space = read_checkpoint(ftcp_trained).space
    first, second = (np.array(designs.column(name)) for name in ("training_row", "second_training_row"))
    assert (first != second).all()
    assert len(set(second.tolist())) > 1
    for latent, a, b in zip(designs.column("latent"), space.means[first], space.means[second], strict=True):
        basis, _ = np.linalg.qr(np.stack([a, b], axis=1))
        np.testing.assert_allclose(basis @ (basis.T @ np.array(latent)), latent, atol=1e-4)
        low, high = sorted((np.linalg.norm(a), np.linalg.norm(b)))
        assert 0.5 * low < np.linalg.norm(latent) < 1.5 * high


@settings(deadline=None, max_examples=60)
@given(st.floats(0.01, 3.1), st.floats(0, 1))
def test_slerp_turns_at_constant_speed(angle: float, share: float) -> None:
    a, b = np.array([1.0, 0.0, 0.0]), np.array([np.cos(angle), np.sin(angle), 0.0])
    found = slerp(a, b, share)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-9)
    assert np.arccos(np.clip(found @ a, -1, 1)) == pytest.approx(share * angle, abs=1e-6)
    np.testing.assert_allclose(slerp(a, 2 * a, 0.5), 1.5 * a)


def test_global_designs_have_the_centre_and_spread_of_the_training_points(ftcp_trained: Path) -> None:
    run = InProcess()
    designs = draw(ftcp_trained, 400, {ENERGY: -1.0}, run, method="gp", scale=1.0)
    assert any("do not heed a target" in warning for warning in run.warnings)
    assert set(designs.column("training_row")) == {None}
    space = read_checkpoint(ftcp_trained).space
    means = space.means[~space.held_out]
    latents = np.array(designs.column("latent"))
    np.testing.assert_allclose(latents.mean(axis=0), means.mean(axis=0), atol=0.25 * means.std())
    np.testing.assert_allclose(latents.std(axis=0), means.std(axis=0), rtol=0.2)


def test_the_encoders_noise_moves_a_seed_once_for_all_its_designs(ftcp_trained: Path) -> None:
    plain = np.array(draw(ftcp_trained, 6, {ENERGY: -1.5}, scale=1e-9).column("latent"))
    noisy = np.array(draw(ftcp_trained, 6, {ENERGY: -1.5}, scale=1e-9, encoder_noise=True).column("latent"))
    np.testing.assert_allclose(noisy[0], noisy[2], atol=1e-6)
    assert np.abs(noisy[0] - plain[0]).max() > 1e-3


# -- what may not matter -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lp", "slerp", "gp"])
def test_neither_batch_nor_part_nor_number_changes_a_design(ftcp_trained: Path, method: str) -> None:
    many = draw(ftcp_trained, 50, {ENERGY: -1.5}, method=method)
    others = [
        draw(ftcp_trained, 50, {ENERGY: -1.5}, method=method, batch=7, part_rows=13),
        draw(ftcp_trained, 50, {ENERGY: -1.5}, InProcess(batch_scale=0.1), method=method, batch=1000, part_rows=1000),
        draw(ftcp_trained, 21, {ENERGY: -1.5}, method=method),
    ]
    for other in others:
        assert other.content_hash == many.take(range(len(other))).content_hash
    spec = make_ftcp_spec(sampling={**SCALED, "method": method})
    seeds = Ftcp().sample(ftcp_trained, 50, {ENERGY: -1.5}, spec, seed=4, run=InProcess())
    assert seeds.column("content_id") != many.column("content_id")


# -- scale and filter --------------------------------------------------------------------------------------------------


def test_the_scale_is_the_largest_with_few_errors(ftcp_trained: Path) -> None:
    spec = {"scale": 0.0, "scales": (0.1, 0.5, 1.0, 5.0, 50.0), "probe": 40, "max_error": 0.2}
    designs = draw(ftcp_trained, 40, {ENERGY: -1.5}, **spec)
    errors = {float(k): v for k, v in json.loads(designs.metadata["ftcp_scale_errors"]).items()}
    assert list(errors) == [0.1, 0.5, 1.0, 5.0, 50.0]
    assert float(designs.metadata["ftcp_scale"]) == max(s for s, share in errors.items() if share < 0.2)
    assert draw(ftcp_trained, 3, {ENERGY: -1.5}, **spec).metadata == designs.metadata, (
        "the number asked for is no matter"
    )
    run = InProcess()
    strict = draw(ftcp_trained, 3, {ENERGY: -1.5}, run, **{**spec, "scales": (50.0,), "max_error": 0.01})
    if json.loads(strict.metadata["ftcp_scale_errors"])["50"] >= 0.01:
        assert any("has not learned to decode" in warning for warning in run.warnings)


def test_the_filter_keeps_what_is_predicted_to_be_near(ftcp_trained: Path) -> None:
    wide = {"filter": True, "scale": 1.5, "tolerances": (f"{ENERGY}:0.3",), "attempts": 30}
    designs = draw(ftcp_trained, 60, {ENERGY: -1.5}, **wide)
    kept = designs.ok
    assert kept.mean() > 0.5
    predicted = designs.values(f"predicted.{ENERGY}")
    assert (np.abs(predicted[kept] + 1.5) <= 0.3).all()
    assert (np.array(designs.column("attempts"))[~kept] == 30).all()
    assert max(designs.column("attempts")) > 1
    free = draw(ftcp_trained, 60, {ENERGY: -1.5}, scale=1.5)
    assert (np.abs(free.values(f"predicted.{ENERGY}") + 1.5) > 0.3).any(), "without it some are farther"
    hopeless = draw(ftcp_trained, 5, {ENERGY: -1.5}, **{**wide, "tolerances": (f"{ENERGY}:1e-9",), "attempts": 2})
    assert hopeless.column("status") == ["failed"] * 5
    assert hopeless.column("reason")[0] == "None of 2 draws was a crystal predicted to be what is asked for."
    decoded = Ftcp().decode(hopeless, make_ftcp_spec(), seed=1, run=InProcess())
    assert decoded.column("reason")[0] == f"There is no design: {hopeless.column('reason')[0]}"


def test_properties_are_those_of_the_decoded_crystals(ftcp_trained: Path) -> None:
    designs = draw(ftcp_trained, 40, {ENERGY: -1.5}, scale=2.0)
    crystals = Ftcp().decode(designs, make_ftcp_spec(), seed=1, run=InProcess())
    held = read_checkpoint(ftcp_trained)
    compact, _ = compact_of(crystals, held.spec.representation)
    inputs = held.scaler.transform(matrices(compact, held.spec.representation)).astype(np.float64)
    network = Network(held, "cpu")
    with torch.inference_mode():
        means, _ = network.model.encoder(torch.from_numpy(inputs))
    expected = np.where(crystals.ok, network.properties(means.numpy())[:, 0], np.nan)
    np.testing.assert_allclose(designs.values(f"predicted.{ENERGY}"), expected, rtol=1e-5)
    at_points = draw(ftcp_trained, 40, {ENERGY: -1.5}, scale=2.0, predict="point")
    expected = network.properties(np.array(at_points.column("latent"), dtype=np.float64))[:, 0]
    np.testing.assert_allclose(at_points.values(f"predicted.{ENERGY}"), expected, rtol=1e-5)


def test_the_filter_asks_for_room(ftcp_trained: Path) -> None:
    wide = {"filter": True, "scale": 1.5, "tolerances": (f"{ENERGY}:3.0",), "attempts": 40}
    for asked in (0.0, 0.8):
        designs = draw(ftcp_trained, 30, {ENERGY: -1.5}, min_contact=asked, **wide)
        crystals = Ftcp().decode(designs, make_ftcp_spec(), seed=1, run=InProcess())
        near = [
            closest_contact(s.lattice.matrix, s.atomic_numbers, s.frac_coords, 0.8) is not None
            for s in map(crystals.structure, np.flatnonzero(crystals.ok).tolist())
        ]
        assert len(near) > 5
        assert any(near) == (asked == 0)


def test_the_filter_asks_for_even_numbers_of_electrons(ftcp_trained: Path) -> None:
    wide = {"filter": True, "tolerances": (f"{ENERGY}:3.0",), "attempts": 40, "min_contact": 0.0, "scale": 2.0}
    odd = []
    for asked in (False, True):
        designs = draw(ftcp_trained, 40, {ENERGY: -1.5}, even_electrons=asked, **wide)
        crystals = Ftcp().decode(designs, make_ftcp_spec(), seed=1, run=InProcess())
        assert crystals.ok.sum() > 10
        odd.append(any(sum(numbers) % 2 for numbers in crystals.column("numbers") if numbers))
    assert odd == [True, False]


def test_the_filter_asks_for_new_formulas(ftcp_trained: Path) -> None:
    wide = {"filter": True, "tolerances": (f"{ENERGY}:3.0",), "attempts": 40, "min_contact": 0.0}
    known = set(read_checkpoint(ftcp_trained).space.formulas)
    near = draw(ftcp_trained, 30, {ENERGY: -1.5}, scale=0.1, **wide)
    assert near.ok.all()
    assert known.issuperset(Ftcp().decode(near, make_ftcp_spec(), seed=1, run=InProcess()).column("reduced_formula"))
    for scale in (0.1, 2.0):
        designs = draw(ftcp_trained, 30, {ENERGY: -1.5}, scale=scale, new_formula=True, **wide)
        formulas = Ftcp().decode(designs, make_ftcp_spec(), seed=1, run=InProcess()).column("reduced_formula")
        assert not known.intersection(formulas)
        assert any(formulas) == (scale == 2.0), "next to a training point there is none"


# -- decoding ----------------------------------------------------------------------------------------------------------


def test_every_design_is_a_crystal_or_has_a_reason(ftcp_trained: Path, crystals: CrystalSet) -> None:
    designs = draw(ftcp_trained, 60, {ENERGY: -1.5}, scale=0.05)
    decoded = Ftcp().decode(designs, make_ftcp_spec(), seed=1, run=InProcess())
    assert len(decoded) == 60
    assert decoded.column("parent_row") == list(range(60))
    assert decoded.ok.mean() > 0.8
    near = [
        made == seed
        for made, seed in zip(decoded.column("reduced_formula"), designs.column("training_formula"), strict=True)
    ]
    assert np.mean(near) > 0.5, "next to a training point the crystal is mostly that of the point"
    plain = Ftcp().decode(designs, INFO.make_spec({}), seed=1, run=InProcess())
    assert plain.content_hash == decoded.content_hash, "designs say how they are to be read"
    wild = Ftcp().decode(draw(ftcp_trained, 60, {}, scale=30.0), make_ftcp_spec(), seed=1, run=InProcess())
    assert all((reason is None) == ok for reason, ok in zip(wild.column("reason"), wild.ok.tolist(), strict=True))
    assert len(draw(ftcp_trained, 0, {})) == 0


def test_other_sizes_and_relaxers_are_refused(ftcp_trained: Path) -> None:
    designs = draw(ftcp_trained, 3, {})
    with pytest.raises(BadInput, match="max_sites"):
        Ftcp().decode(designs, make_ftcp_spec(representation={"max_sites": 9}), seed=1, run=InProcess())
    with pytest.raises(ImpossibleRequest, match="one geometry"):
        Ftcp().decode(designs, make_ftcp_spec(), seed=1, run=InProcess(), relaxer=object())  # type: ignore[arg-type]


# -- what cannot be asked for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "sampling", "said"),
    [
        (
            {"piezo_max": 1.0},
            {},
            "cannot be conditioned on 'piezo_max' here; it can on formation_energy_per_atom, band_gap",
        ),
        ({ENERGY: "low"}, {}, "must be a finite number"),
        ({ENERGY: float("nan")}, {}, "must be a finite number"),
        ({ENERGY: 40.0}, {}, "out of reach"),
        ({ENERGY: []}, {}, "an empty list"),
        ({}, {"where": ("piezo_max > 1",)}, "bound piezo_max, which this model has not learned"),
        ({}, {"where": (f"{ENERGY} < -100",)}, "No training point has"),
        ({}, {"filter": True, "min_contact": 0.0}, "nothing to choose by"),
        ({"band_gap": 1.0}, {"filter": True, "tolerances": (f"{ENERGY}:0.1",)}, "of which nothing was asked"),
    ],
)
def test_impossible_requests(
    ftcp_trained: Path, conditions: dict[str, Any], sampling: dict[str, Any], said: str
) -> None:
    with pytest.raises(ImpossibleRequest, match=said):
        draw(ftcp_trained, 3, conditions, **sampling)


def test_a_target_beyond_the_labels_is_warned_of(ftcp_trained: Path) -> None:
    run = InProcess()
    draw(ftcp_trained, 3, {ENERGY: -5.0}, run)
    assert any("lies outside the 36 training values" in warning for warning in run.warnings)


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.one_of(st.floats(-4, 4), st.just(float("nan"))), min_size=1, max_size=12).filter(
        lambda v: np.isfinite(v).any()
    ),
    st.floats(-6, 6),
    st.integers(0, 11),
)
def test_a_ranking_holds_every_able_point_once_and_rises(values: list[float], target: float, held: int) -> None:
    n = len(values)
    label = Label("band_gap", False, False, 0.0, 4.0, n, get_property("band_gap").unit, "")
    held_out = np.arange(n) == held
    labels = np.array(values)[:, None]
    space = LatentSpace(np.zeros((n, 2)), np.zeros((n, 2)), labels, labels, np.arange(n), held_out, ("x",) * n)
    able = np.flatnonzero(np.isfinite(labels[:, 0]) & ~held_out)
    if not len(able):
        with pytest.raises(ImpossibleRequest, match="No training point has a label band_gap"):
            space.ranking([label], {"band_gap": target}, SamplingSpec(), 0)
        return
    ranking = space.ranking([label], {"band_gap": target}, SamplingSpec(), 0)
    assert sorted(ranking.tolist()) == able.tolist()
    assert (np.diff(np.abs(labels[ranking, 0] - target)) >= -1e-12).all()


def test_one_training_point_is_enough(ftcp_trained: Path) -> None:
    held = read_checkpoint(ftcp_trained)
    only = replace(held, space=replace(held.space, held_out=np.arange(40) != 7))
    for method in ("lp", "slerp"):
        sampler = Sampler(only, {}, SamplingSpec(method=method, scale=0.1), 1, "cpu")
        assert set(sampler.draw(range(4), InProcess()).points[:, 0].tolist()) == {7}
