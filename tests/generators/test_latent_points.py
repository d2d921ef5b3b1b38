"""The latent space of a model as numbers: read from a checkpoint, and the dimensions a property goes along."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from crysgen_aiida.crystals.errors import CorruptWeights, ImpossibleRequest
from crysgen_aiida.generators.latent_points import read_latent_points, steepest

CONFIG = {"generator": "ftcp", "condition_order": ["formation_energy_per_atom", "band_gap"]}


def tensors(n: int = 50, z: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    means = rng.standard_normal((n, z)).astype(np.float32)
    labels = np.stack([3 * means[:, 4] - means[:, 1], np.full(n, np.nan)], axis=1).astype(np.float64)
    return {
        "latent.means": means,
        "latent.labels": labels,
        "latent.predicted": np.nan_to_num(labels),
        "latent.held_out": np.zeros(n, np.uint8),
        "model.weight": np.zeros(3, np.float32),
    }


def test_what_was_kept_is_read():
    points = read_latent_points(save(tensors()), CONFIG)
    assert points.means.shape == (50, 6)
    assert list(points.labels) == CONFIG["condition_order"]
    assert np.isnan(points.labels["band_gap"]).all()
    assert not points.held_out.any()


def test_a_model_without_latent_space_says_so():
    with pytest.raises(ImpossibleRequest, match="mattergpt has no latent space"):
        read_latent_points(save({"weight": np.zeros(2)}), {"generator": "mattergpt"})


@pytest.mark.parametrize("lost", ["latent.labels", "latent.held_out"])
def test_a_latent_space_that_lacks_a_part_is_corrupt(lost):
    held = tensors()
    del held[lost]
    with pytest.raises(CorruptWeights, match="not complete"):
        read_latent_points(save(held), CONFIG)


def test_bytes_that_are_no_weights_are_corrupt():
    with pytest.raises(CorruptWeights, match="damaged"):
        read_latent_points(b"nothing", CONFIG)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.data())
def test_the_dimensions_of_a_plane_come_in_the_order_of_its_slopes(seed, z, data):
    rng = np.random.default_rng(seed)
    # orthogonal dimensions: what each does is what the slope says
    means, _ = np.linalg.qr(rng.standard_normal((60, z + 1)) - 0)
    means = (means - means.mean(axis=0))[:, :z] * np.sqrt(60)
    slopes = np.array(data.draw(st.permutations(range(1, z + 1)))) * rng.choice([-1, 1], z)
    values = means @ slopes
    missing = rng.integers(0, 60)
    order, changes = steepest(means, values)
    spread = means.std(axis=0)
    assert changes == pytest.approx(slopes * spread / values.std(), abs=1e-3)
    assert order[0] == int(np.argmax(np.abs(slopes * spread)))
    values[missing] = np.nan
    assert len(steepest(means, values)[0]) == z


def test_a_dimension_that_never_changes_changes_nothing():
    means = np.random.default_rng(0).standard_normal((30, 3))
    means[:, 1] = 2.0
    order, changes = steepest(means, means[:, 2])
    assert order[0] == 2
    assert changes[1] == pytest.approx(0)
    assert changes[2] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("values", [[np.nan] * 5, [1.0] + [np.nan] * 4, [2.0] * 5])
def test_a_property_without_two_values_has_no_gradient(values):
    with pytest.raises(ImpossibleRequest, match="two different values"):
        steepest(np.eye(5), np.array(values))
