"""The network of FTCP: published shapes and counts, and convolutions that are those of keras."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.generators.ftcp.info import INFO
from crysgen_aiida.generators.ftcp.model import SameConv, SameConvTransposed, Vae, same_padding
from crysgen_aiida.generators.ftcp.reconstruction import Reconstruction, divergence
from crysgen_aiida.generators.ftcp.spec import LossSpec
from crysgen_aiida.representations.ftcp.layout import layout
from crysgen_aiida.representations.ftcp.spec import FtcpSpec


def keras_conv(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """A one-dimensional convolution as TensorFlow documents ``SAME``: x (length, in), weight (kernel, in, out)."""
    length, kernel = len(x), len(weight)
    out = -(-length // stride)
    total = max((out - 1) * stride + kernel - length, 0)
    padded = np.pad(x, ((total // 2, total - total // 2), (0, 0)))
    return np.stack(
        [np.einsum("ki,kio->o", padded[i * stride : i * stride + kernel], weight) for i in range(out)]
    )  # (out, channels)


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 24), st.sampled_from([1, 2, 3, 5]), st.integers(1, 3), st.integers(0, 10_000))
def test_convolutions_pad_as_keras_does(length: int, kernel: int, stride: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(size=(length, 2)), rng.normal(size=(kernel, 2, 3))
    layer = SameConv(2, 3, kernel, stride, bias=False).double()
    layer.weight.data = torch.from_numpy(weight.transpose(2, 1, 0).copy())
    found = layer(torch.from_numpy(x.T[None].copy()))[0].T.detach().numpy()
    np.testing.assert_allclose(found, keras_conv(x, weight, stride), atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 12), st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(0, 10_000))
def test_transposed_convolutions_are_the_gradients_of_convolutions(
    length: int, kernel: int, stride: int, seed: int
) -> None:
    """That is how keras defines them: <conv(x), y> = <x, transposed(y)> for all x and y."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(3, 2, kernel))
    conv = SameConv(2, 3, kernel, stride, bias=False).double()
    back = SameConvTransposed(3, 2, kernel, stride, bias=False).double()
    conv.weight.data = back.weight.data = torch.from_numpy(weight)
    x = torch.from_numpy(rng.normal(size=(1, 2, length * stride)))
    y = torch.from_numpy(rng.normal(size=(1, 3, length)))
    assert back(y).shape == x.shape
    assert float((conv(x) * y).sum()) == pytest.approx(float((x * back(y)).sum()), abs=1e-10)


def test_the_odd_zero_comes_last() -> None:
    assert same_padding(240, 5, 2) == (1, 2)
    assert same_padding(120, 3, 2) == (0, 1)
    assert same_padding(60, 3, 1) == (1, 1)


@pytest.mark.parametrize(
    ("preset", "shape", "branches"),
    [("paper", (240, 62), 1), ("paper-band-gap", (280, 63), 1), ("paper-thermoelectric", (280, 63), 2)],
)
def test_the_published_networks(preset: str, shape: tuple[int, int], branches: int) -> None:
    spec = INFO.make_spec({}, preset=preset)
    assert (spec.representation.rows, spec.representation.columns) == shape
    model = Vae(*shape, len(spec.data.targets), len(spec.data.sparse_targets), spec.model).eval()
    sizes = {name: tuple(w.shape) for name, w in model.named_parameters()}
    quarter = shape[0] // 4
    assert sizes["encoder.body.10.weight"] == (1024, 128 * quarter)
    assert sizes["encoder.mean.weight"] == sizes["encoder.log_variance.weight"] == (256, 1024)
    assert sizes["decoder.dense.weight"] == (128 * quarter, 256)
    assert sum(name.startswith("branches") for name in sizes) == 6 * branches
    assert 10e6 < sum(w.numel() for w in model.parameters()) < 13e6
    x = torch.rand(2, *shape)
    mean, log_variance = model.encoder(x)
    assert mean.shape == log_variance.shape == (2, 256)
    assert model.decoder(mean).shape == x.shape
    assert model.properties(mean).shape == (2, len(spec.data.labels))
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert len(norms) == 6
    assert {(m.eps, round(m.momentum or 0, 9)) for m in norms} == {(1e-3, 0.01)}
    assert not any(m.bias.any() for m in model.modules() if isinstance(m, torch.nn.Linear))


def test_a_model_without_labels_has_no_branch() -> None:
    spec = INFO.make_spec({}, preset="test")
    model = Vae(8, 5, 0, 0, spec.model)
    assert not list(model.branches)
    assert model.properties(torch.zeros(3, 16)).shape == (3, 0)


def test_the_published_loss_counts_every_number_alike() -> None:
    spec = FtcpSpec(max_sites=2)
    x, logits = torch.rand(3, spec.rows, spec.columns), torch.randn(3, spec.rows, spec.columns)
    loss = Reconstruction(spec, LossSpec(reconstruction="squared")).loss(logits, x)
    assert float(loss) == pytest.approx(float(((1 / (1 + torch.exp(-logits)) - x) ** 2).sum()), rel=1e-5)


def test_blocks_are_cross_entropies_of_what_is_there() -> None:
    spec = FtcpSpec(max_sites=3, max_elements=2)
    at = layout(spec)
    x = torch.zeros(1, spec.rows, spec.columns)
    x[0, 10, 0] = 1  # one element, in the first column
    x[0, at.occupancy.start, 0] = x[0, at.occupancy.start + 1, 0] = 1  # two of three sites
    only = {"lattice": 0.0, "coordinates": 0.0, "properties": 0.0, "reciprocal": 0.0}
    logits = torch.zeros(1, spec.rows, spec.columns)
    only |= {"elements": 1.0, "occupancy": 1.0}
    loss = Reconstruction(spec, LossSpec(**only)).loss(logits, x)
    assert float(loss) == pytest.approx(np.log(103) + 3 * np.log(3), rel=1e-5)
    logits[0, 10, 0] = logits[0, at.occupancy.start, 0] = logits[0, at.occupancy.start + 1, 0] = 50
    logits[0, at.occupancy.start + 2] = -50
    reading = Reconstruction(spec, LossSpec(**only))
    assert float(reading.loss(logits, x)) == pytest.approx(0, abs=1e-4)
    scores = reading.scores(logits)
    np.testing.assert_allclose(scores[0, at.elements, 0], x[0, at.elements, 0], atol=1e-6)
    np.testing.assert_allclose(scores[0, at.occupancy, at.species], x[0, at.occupancy, at.species], atol=1e-6)
    coordinates = LossSpec(**{**only, "coordinates": 1.0, "elements": 0.0, "occupancy": 0.0})
    logits[:] = 0
    assert float(Reconstruction(spec, coordinates).loss(logits, x)) == pytest.approx(6 * 0.25), "the empty site counts"


def test_the_divergence_is_that_of_two_gaussians() -> None:
    mean, log_variance = torch.tensor([0.7]), torch.tensor([-0.4])
    p = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(p, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(divergence(mean, log_variance), expected)
