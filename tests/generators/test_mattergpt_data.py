"""Preparation, respelling, batches: what reaches the loss, and on which side of the split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from small_models import make_spec, prototypes

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import EmptySet
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.generators.mattergpt.checkpoint import new_model
from crysgen_aiida.generators.mattergpt.data import Loader, assemble, read_examples, respell
from crysgen_aiida.generators.mattergpt.generator import MatterGPT
from crysgen_aiida.generators.mattergpt.model import summed_loss
from crysgen_aiida.generators.mattergpt.tokenizer import END, PAD, get_tokenizer
from crysgen_aiida.representations.slices.checker import check
from crysgen_aiida.representations.slices.nets import parse

TOKENIZER = get_tokenizer(20)
GAN = "o w n OOO b OOD k OOO o Ga Ga N N 0 3 ooo 0 3 o-o 0 3 +oo 0 2 ooo 1 2 -o- 1 2 oo- 1 2 o+- 1 3 ooo"


def test_crystals_that_cannot_be_spelt_keep_a_row_with_the_reason(crystals):
    layer = Structure(Lattice([[3, 0, 0], [0, 3, 0], [0, 0, 30]]), ["C"], [[0, 0, 0]])
    heavy = Structure(Lattice.cubic(4.5), ["U"], [[0, 0, 0]])
    mixed = CrystalSet.concat(
        [CrystalSet.from_structures([layer, None, heavy], reasons=[None, "no cell", None]), crystals.slice(range(4))]
    )
    result = MatterGPT().prepare(mixed, make_spec(), seed=1, run=InProcess())
    assert result.column("parent_row") == list(range(7))
    assert [s != "ok" for s in result.column("status")] == [True] * 3 + [False] * 4
    assert "periodic in only" in result.column("reason")[0]
    assert result.column("reason")[1] == "no cell"
    assert "radon" in result.column("reason")[2]
    assert result.column("formation_energy_per_atom")[3:] == crystals.column("formation_energy_per_atom")[:4]
    assert result.method("formation_energy_per_atom") == "pbe-mp-legacy"


def test_no_formula_is_on_both_sides_of_the_split_even_when_augmented(crystals):
    spec = make_spec(data={"augmentation": 3, "val_fraction": 0.3})
    result = MatterGPT().prepare(crystals, spec, seed=4, run=InProcess())
    sides: dict[str, set[str]] = {}
    for formula, side in zip(result.column("reduced_formula"), result.column("split"), strict=True):
        sides.setdefault(formula, set()).add(side)
    assert len(result) > len(crystals)
    assert all(len(s) == 1 for s in sides.values())
    assert {s for found in sides.values() for s in found} == {"train", "val"}
    other = MatterGPT().prepare(crystals, spec, seed=5, run=InProcess())
    assert other.column("split")[0::1] != result.column("split")[0::1] or len(other) != len(result)


def test_flagged_labels_are_not_learned_from():
    structures = prototypes()[:3]
    crystals = CrystalSet.from_structures(
        structures, columns={property_field("piezo_max", "pbe-mp-legacy"): [48.6, 1.0, 2.0]}
    )
    import pyarrow as pa

    crystals = crystals.with_columns({pa.field("flags", pa.string()): ["gap_conflict,piezo_above_20", None, "other"]})
    spec = make_spec(data={"conditions": ["piezo_max"]})
    result = MatterGPT().prepare(crystals, spec, seed=1, run=InProcess())
    assert result.column("piezo_max") == [None, 1.0, 2.0]
    assert result.ok.all()


def test_an_empty_set_and_one_without_any_usable_crystal_say_so(crystals):
    with pytest.raises(EmptySet, match="no rows"):
        MatterGPT().prepare(crystals.slice(range(0)), make_spec(), seed=1, run=InProcess())
    heavy = CrystalSet.from_structures([Structure(Lattice.cubic(4.5), ["U"], [[0, 0, 0]])])
    with pytest.raises(EmptySet, match="radon"):
        MatterGPT().prepare(heavy, make_spec(), seed=1, run=InProcess())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32), order=st.sampled_from(["sorted", "graph"]), how=st.sampled_from(["atoms", "atoms+axes"])
)
def test_respelling_keeps_the_crystal(seed, order, how):
    net = parse(GAN)
    other = respell(net, order, how, np.random.default_rng(seed))
    assert check(other).ok
    assert sorted(other.numbers) == sorted(net.numbers)
    assert other.n_edges == net.n_edges == len(other.edge_set())
    # the bonds of each atom by element and number, whatever the atoms and axes are called
    assert sorted(bonds(other)) == sorted(bonds(net))
    if order == "sorted":
        assert (np.diff(other.numbers) >= 0).all()
        assert (other.edges[:, 0] <= other.edges[:, 1]).all()
        again = respell(other, order, "none", np.random.default_rng(0))
        assert again == other
    assert TOKENIZER.decode(TOKENIZER.spell(other, prefix=True)).split()[:9] == GAN.split()[:9]


def bonds(net):
    for atom in range(net.n_atoms):
        touching = [sorted(net.numbers[edge].tolist()) for edge in net.edges if atom in edge]
        yield (int(net.numbers[atom]), sorted(touching))


def test_spelling_ids_is_spelling_words():
    net = parse(GAN)
    assert TOKENIZER.spell(net, prefix=True).tolist() == TOKENIZER.encode(GAN)
    assert TOKENIZER.decode([*TOKENIZER.encode(GAN), END, 77]) == GAN


def test_padding_is_never_in_the_loss(training_set):
    spec = make_spec()
    model = new_model(spec, [], seed=0)
    rows = np.flatnonzero(training_set.ok)[:36:7].tolist()
    ids = [e.ids for e in read_examples(training_set, rows, TOKENIZER)]
    none = np.zeros((6, 0))
    batch = assemble(ids, none)
    longer = assemble([*ids, np.full(150, 100)], np.zeros((7, 0))).rows(slice(0, 6))
    assert longer.tokens.shape[1] > batch.tokens.shape[1]

    @torch.no_grad()
    def loss(b):
        logits = model(torch.tensor(b.tokens), torch.zeros((6, 0)))
        return float(summed_loss(logits, torch.tensor(b.targets)))

    one_by_one = sum(loss_of(model, i) for i in ids)
    assert loss(batch) == pytest.approx(one_by_one, rel=1e-5)
    assert loss(longer) == pytest.approx(one_by_one, rel=1e-5)
    assert batch.n_targets == sum(len(i) + 1 for i in ids) == longer.n_targets
    assert (batch.targets == PAD).any()


@torch.no_grad()
def loss_of(model, ids):
    alone = assemble([ids], np.zeros((1, 0)))
    return float(summed_loss(model(torch.tensor(alone.tokens), torch.zeros((1, 0))), torch.tensor(alone.targets)))


def test_every_string_comes_once_an_epoch_and_conditions_are_hidden_as_often_as_asked(training_set):
    rows = np.flatnonzero(training_set.ok).tolist()
    examples = read_examples(training_set, rows, TOKENIZER)
    values = np.arange(len(rows) * 2, dtype=float).reshape(-1, 2)
    loader = Loader(examples, values, TOKENIZER, batch_size=7, seed=3, dropout=0.0)
    seen = np.concatenate([b.values[:, 0] for b in loader.epoch(0)])
    assert sorted(seen) == values[:, 0].tolist()
    first = [b.tokens.tolist() for b in loader.epoch(0)]
    assert first == [b.tokens.tolist() for b in loader.epoch(0)]
    assert first != [b.tokens.tolist() for b in loader.epoch(1)]
    assert [b.tokens.tolist() for b in loader.epoch(0, start=2)] == first[2:]
    hiding = Loader(examples, values, TOKENIZER, batch_size=7, seed=3, dropout=0.4)
    hidden = np.concatenate([np.isnan(b.values) for epoch in range(30) for b in hiding.epoch(epoch)])
    assert hidden.mean() == pytest.approx(1 - 0.6**2, abs=0.03)  # its own chance, and that of all together
    assert hidden.all(axis=1).mean() == pytest.approx(0.4 + 0.6 * 0.4**2, abs=0.03)
