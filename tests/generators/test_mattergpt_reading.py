"""What is told beside each token is what the grammar and the parser know of the same string."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import make_spec

from crysgen_aiida.generators.mattergpt.checkpoint import new_model
from crysgen_aiida.generators.mattergpt.grammar import Grammar
from crysgen_aiida.generators.mattergpt.model import Cache
from crysgen_aiida.generators.mattergpt.reading import NetReader
from crysgen_aiida.generators.mattergpt.tokenizer import END, N_LABELS, START, get_tokenizer
from crysgen_aiida.representations.slices.nets import parse

ATOMS = 6
TOKENIZER = get_tokenizer(ATOMS)
GAN = "Ga Ga N N 0 2 ooo 0 2 o-o 0 2 -oo 0 3 ooo 1 2 ooo 1 3 ooo 1 3 o+o 1 3 +oo"
ids = st.integers(0, len(TOKENIZER) - 1)


def parts(features: np.ndarray) -> dict[str, np.ndarray]:
    """Name the columns of features (..., F)."""
    widths = {"role": 5, "gets": ATOMS, "there": ATOMS, "bare": ATOMS, "z_u": 87, "bonds_u": 16, "z_v": 87,
              "bonds_v": 16, "taken": N_LABELS}  # fmt: skip
    ends = np.cumsum(list(widths.values()))
    assert ends[-1] == features.shape[-1] == NetReader.width(TOKENIZER)
    return dict(zip(widths, np.split(features, ends[:-1], axis=-1), strict=True))


def read(tokens: list[int]) -> dict[str, np.ndarray]:
    return parts(NetReader(TOKENIZER, 1).read(np.array([tokens]))[0])


def test_a_string_is_read_as_it_is_parsed():
    tokens = [START, *TOKENIZER.encode(GAN)]
    seen = read(tokens)
    assert seen["role"].argmax(axis=1).tolist() == [0, 1, 1, 1, 1, *[2, 3, 4] * 8]
    assert seen["gets"][1:5].argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert seen["there"][:6].sum(axis=1).tolist() == [0, 1, 2, 3, 4, 4]
    net = parse(GAN)
    degrees: Counter[int] = Counter()
    for bond, (u, v) in enumerate(net.edges.tolist()):
        first, second, label = range(5 + 3 * bond, 8 + 3 * bond)
        assert seen["z_u"][first].argmax() == net.numbers[u]
        assert not seen["z_v"][first].any()
        assert seen["bonds_u"][first].argmax() == degrees[u]
        assert (seen["z_v"][second].argmax(), seen["bonds_v"][second].argmax()) == (net.numbers[v], degrees[v])
        degrees.update((u, v))
        assert (seen["bonds_u"][label].argmax(), seen["bonds_v"][label].argmax()) == (degrees[u], degrees[v])
        assert np.flatnonzero(seen["bare"][label]).tolist() == [a for a in range(4) if not degrees[a]]


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_taken_labels_are_those_the_grammar_forbids(seed, n_atoms):
    """Few atoms and many bonds, so that pairs come again, in either direction, and atoms meet their own images."""
    rng = np.random.default_rng(seed)
    row = Grammar(TOKENIZER, prefix=False).row(budget=1000)
    reader = NetReader(TOKENIZER, 1)
    first = TOKENIZER.first_index
    for token in [*rng.integers(TOKENIZER.first_element, first, n_atoms)]:
        row.push(int(token))
        reader.step(np.array([token]))
    for _ in range(25):
        pair = first + rng.integers(0, n_atoms, 2)
        for token in pair.tolist():
            row.push(token)
            seen = parts(reader.step(np.array([token]))[0])
        mask = np.zeros(len(TOKENIZER), dtype=bool)
        row.allow(mask)
        free = mask[TOKENIZER.first_label :]
        assert (seen["taken"] == ~free).all()
        if not free.any():
            return
        label = int(TOKENIZER.first_label + rng.choice(np.flatnonzero(free)))
        row.push(label)
        reader.step(np.array([label]))


@settings(max_examples=100)
@given(st.lists(st.lists(ids, min_size=12, max_size=12), min_size=2, max_size=5), st.integers(0, 12), st.data())
def test_any_tokens_are_read_alike_alone_in_a_batch_and_in_pieces(rows, cut, data):
    tokens = np.array(rows)
    whole = NetReader(TOKENIZER, len(rows)).read(tokens)
    assert set(np.unique(whole)) <= {0.0, 1.0}
    for row, expected in zip(tokens, whole, strict=True):
        assert (NetReader(TOKENIZER, 1).read(row[None])[0] == expected).all()
    reader = NetReader(TOKENIZER, len(rows))
    kept = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=4)))
    for column in tokens[:, :cut].T:
        reader.step(column)
    reader.keep(kept)
    if cut < tokens.shape[1]:
        assert (reader.read(tokens[kept, cut:]) == whole[kept, cut:]).all()


@given(st.lists(ids, min_size=4, max_size=20), ids)
def test_nothing_is_told_of_tokens_to_come(tokens, last):
    other = [*tokens[:-1], last]
    assert (NetReader(TOKENIZER, 1).read(np.array([tokens]))[0, :-1]
            == NetReader(TOKENIZER, 1).read(np.array([other]))[0, :-1]).all()  # fmt: skip


@pytest.mark.parametrize("told", [True, False])
def test_a_model_with_the_cache_sees_what_it_sees_without(told):
    spec = make_spec(model={"net_features": told})
    model = new_model(spec, [], seed=1).eval()
    tokenizer = model.tokenizer
    assert (model.features is not None) is told
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.integers(0, len(tokenizer), (5, 40)))
    none = torch.zeros((5, 0))
    cache = Cache(spec.model, 5, torch.device("cpu"), torch.float32)
    kept = torch.tensor([3, 0])
    with torch.inference_mode():
        whole = model(tokens, none)
        first = model(tokens[:, :20], none, cache)
        cache.keep(kept)
        steps = [model(tokens[kept, t : t + 1], None, cache) for t in range(20, 40)]
    assert torch.allclose(first, whole[:, :20], atol=1e-5)
    assert torch.allclose(torch.cat(steps, dim=1), whole[kept, 20:], atol=1e-5)


def test_what_is_told_moves_the_logits():
    model = new_model(make_spec(), [], seed=1).eval()
    tokens = torch.tensor([[START, *model.tokenizer.encode(GAN), END]])
    with torch.no_grad():
        before = model(tokens, torch.zeros((1, 0)))
        model.features.weight.zero_()
        after = model(tokens, torch.zeros((1, 0)))
    assert not torch.allclose(before, after)
