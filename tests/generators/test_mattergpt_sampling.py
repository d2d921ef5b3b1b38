"""Sampling: always grammatical, exact caching, conditions that matter, rows that do not depend on their batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_models import make_spec

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.generators.mattergpt.checkpoint import read_checkpoint
from crysgen_aiida.generators.mattergpt.generator import MatterGPT
from crysgen_aiida.generators.mattergpt.info import INFO
from crysgen_aiida.generators.mattergpt.model import Cache
from crysgen_aiida.generators.mattergpt.sampling import choose
from crysgen_aiida.representations.slices.checker import check
from crysgen_aiida.representations.slices.nets import parse


def draw(checkpoint, n, conditions=None, seed=7, run=None, **sampling):
    spec = make_spec(sampling=sampling)
    return MatterGPT().sample(checkpoint, n, conditions or {}, spec, seed=seed, run=run or InProcess())


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.95), (1.5, 1.0)])
def test_masked_strings_are_nets_even_from_an_untrained_model(untrained, temperature, top_p):
    sampled = draw(untrained, 200, batch=64, part_rows=64, temperature=temperature, top_p=top_p)
    verdicts = [check(s, "strict", duplicates=False) for s in sampled.column("sequence")]
    assert sampled.ok.all()
    assert all(verdicts), next(v.reason for v in verdicts if not v)


def test_without_the_mask_an_untrained_model_writes_nonsense(untrained):
    sampled = draw(untrained, 20, grammar=False, max_tokens=60)
    assert not any(check(s) for s in sampled.column("sequence"))
    reasons = sampled.column("reason")
    assert all(reasons)
    assert any("no end within 60 tokens" in reason for reason in reasons)


def test_without_the_mask_a_string_that_is_no_net_fails_and_says_why(trained):
    sampled = draw(trained, 40, grammar=False, temperature=1.3)
    ended = [(s, r) for s, r in zip(sampled.column("sequence"), sampled.column("reason"), strict=True)
             if "no end" not in (r or "")]  # fmt: skip
    assert {r for _, r in ended} >= {None}
    assert any(r for _, r in ended)
    assert [r for _, r in ended] == [check(s).reason for s, _ in ended]


def test_the_cache_gives_the_tokens_that_recomputing_gives(trained):
    held = read_checkpoint(trained)
    values = torch.tensor([[0.3, float("nan")]])
    tokens, cache = [1], Cache(held.model.spec, 1, torch.device("cpu"), torch.float32)
    with torch.inference_mode():
        prefix: torch.Tensor | None = values
        for _ in range(70):
            cached = held.model(torch.tensor([tokens[-1:]]), prefix, cache)[0, -1]
            whole = held.model(torch.tensor([tokens]), values)[0, -1]
            assert torch.allclose(cached, whole, atol=1e-4)
            assert int(cached.argmax()) == int(whole.argmax())
            tokens.append(int(cached.argmax()))
            prefix = None


def test_neither_batch_nor_parts_change_a_string_but_the_seed_does(trained):
    wanted = draw(trained, 24, {"formation_energy_per_atom": [-1.0, -2.0, -3.0]}, batch=24, part_rows=24)
    for batch, part_rows in ((1, 5), (7, 24), (5, 8)):
        other = draw(trained, 24, {"formation_energy_per_atom": [-1.0, -2.0, -3.0]}, batch=batch, part_rows=part_rows)
        assert other.column("sequence") == wanted.column("sequence")
    longer = draw(trained, 30, {"formation_energy_per_atom": [-1.0, -2.0, -3.0]}, batch=24, part_rows=24)
    assert longer.column("sequence")[:24] == wanted.column("sequence")
    reseeded = draw(trained, 24, {"formation_energy_per_atom": [-1.0, -2.0, -3.0]}, seed=8)
    assert reseeded.column("sequence") != wanted.column("sequence")
    assert wanted.column("target.formation_energy_per_atom")[:4] == [-1.0, -2.0, -3.0, -1.0]


def test_guidance_zero_ignores_the_conditions_and_more_of_it_heeds_them_more(trained):
    asked = {"formation_energy_per_atom": -3.0}
    free = draw(trained, 16)
    assert draw(trained, 16, asked, guidance=0.0).column("sequence") == free.column("sequence")
    plain = draw(trained, 16, asked, guidance=1.0)
    guided = draw(trained, 16, asked, guidance=4.0)
    assert plain.column("sequence") != free.column("sequence")
    assert guided.column("sequence") != plain.column("sequence")
    held = read_checkpoint(trained)
    start = torch.tensor([[1]])
    nan = float("nan")
    with torch.inference_mode():
        seen, missing, zero = (held.model(start, torch.tensor([v])) for v in ([1.0, nan], [nan, nan], [0.0, nan]))
    assert not torch.allclose(seen, missing)
    assert not torch.allclose(zero, missing)  # missing is not the mean value


def test_conditions_reach_the_crystals(trained, training_set):
    """The nearest label of what is drawn follows the request: the model knows which string has which energy."""
    energy = dict(
        zip(training_set.column("reduced_formula"), training_set.column("formation_energy_per_atom"), strict=True)
    )
    means = []
    for target in (-3.7, -0.3):
        sampled = draw(trained, 48, {"formation_energy_per_atom": target}, guidance=2.0, batch=48, part_rows=48)
        formulas = [formula(s) for s in sampled.column("sequence")]
        known = [energy[f] for f in formulas if f in energy]
        assert len(known) > 10
        means.append(np.mean(known))
    assert means[0] < means[1] - 0.5


def formula(string):
    from pymatgen.core import Composition

    return Composition(" ".join(parse(string).symbols)).reduced_formula


def test_elements_and_composition_are_obeyed_by_any_model(untrained):
    sampled = draw(untrained, 12, {"composition": ["SrTiO3", "NaCl"]})
    assert [formula(s) for s in sampled.column("sequence")] == ["SrTiO3", "NaCl"] * 6
    assert sampled.column("target.composition")[:2] == ["SrTiO3", "NaCl"]
    only = draw(untrained, 12, {"elements": ["Ga", "N"]})
    assert all(set(parse(s).symbols) == {"Ga", "N"} for s in only.column("sequence"))
    assert only.column("target.elements")[0] == "Ga N"


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"kappa_300k": 1.0}, "it can on formation_energy_per_atom"),
        ({"colour": 1.0}, "no registered property"),
        ({"formation_energy_per_atom": -40.0}, "out of reach"),
        ({"formation_energy_per_atom": "low"}, "finite number"),
        ({"formation_energy_per_atom": []}, "empty list"),
        ({"composition": "Ca12Al14O33"}, "does not fit"),
    ],
)
def test_an_impossible_condition_is_refused_with_a_sentence(trained, conditions, words):
    with pytest.raises(ImpossibleRequest, match=words):
        draw(trained, 1, conditions)


def test_what_the_grammar_imposes_needs_the_grammar(trained):
    with pytest.raises(ImpossibleRequest, match="only be imposed by the grammar"):
        draw(trained, 1, {"elements": ["Ga", "N"]}, grammar=False)


def test_a_request_at_the_edge_of_the_data_is_served_with_a_warning(trained):
    run = InProcess()
    draw(trained, 1, {"formation_energy_per_atom": -4.5}, run=run)
    assert any("little" in w and "36" in w for w in run.warnings)
    quiet = InProcess()
    draw(trained, 1, {"formation_energy_per_atom": -2.0}, run=quiet)
    assert not quiet.warnings


def test_choosing_a_token_follows_the_distribution_cut_by_top_k_and_top_p():
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], dtype=np.float32)).repeat(20000, axis=0)
    noise = np.random.default_rng(0).gumbel(size=logits.shape).astype(np.float32)

    def shares(**settings):
        chosen, _ = choose(logits, noise, make_spec(sampling={"top_p": 1.0, **settings}).sampling)
        return np.bincount(chosen, minlength=4) / len(chosen)

    assert shares() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.012)
    assert shares(top_k=2) == pytest.approx([0.625, 0.375, 0, 0], abs=0.012)
    assert shares(top_p=0.79) == pytest.approx([0.625, 0.375, 0, 0], abs=0.012)
    assert shares(top_p=0.81) == pytest.approx([0.5263, 0.3158, 0.1579, 0], abs=0.012)
    hot = np.array([0.5, 0.3, 0.15, 0.05]) ** (1 / 1.2)
    assert shares(temperature=1.2) == pytest.approx(hot / hot.sum(), abs=0.012)
    assert choose(logits[:1], None, make_spec().sampling)[0].tolist() == [0]


def test_zero_strings_are_an_empty_set_and_decoding_gives_every_row_a_crystal_or_a_reason(trained):
    assert len(draw(trained, 0)) == 0
    sampled = draw(trained, 8)
    crystals = MatterGPT().decode(sampled, make_spec(), seed=1, run=InProcess())
    assert crystals.column("parent_row") == list(range(8))
    assert all(ok or reason for ok, reason in zip(crystals.ok, crystals.column("reason"), strict=True))
    assert crystals.ok.sum() >= 4


def test_info_is_light_and_presets_make_valid_specs():
    import subprocess
    import sys

    code = (
        "import sys, crysgen_aiida.generators.mattergpt.info as i; assert not {'torch', 'pymatgen'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    for preset in INFO.presets:
        assert INFO.make_spec(preset=preset).slices.strategy == 4
    assert INFO.make_spec().model.layers == 12
    assert INFO.make_spec(preset="paper").mode == "paper"
    with pytest.raises(ImpossibleRequest, match="multiple"):
        INFO.make_spec({"model": {"width": 100, "heads": 7}})
