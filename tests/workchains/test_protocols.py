"""Protocols and recipes: every one builds, what is given last wins, mistakes are sentences."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.data.ranking import Query, rank_frame
from crysgen_aiida.workchains.inverse_design import InverseDesignWorkChain, recipe_settings
from crysgen_aiida.workchains.protocols import (
    load_protocol,
    load_recipe,
    protocol_names,
    recipe_names,
    training_of,
)

CHAINS = ["train_generator", "inverse_design"]


@pytest.mark.parametrize("chain", CHAINS)
def test_the_three_efforts_are_there_and_say_what_they_are_for(chain):
    names = protocol_names(chain)
    assert list(names) == ["fast", "balanced", "paper"]
    assert all(len(text) > 20 for text in names.values())
    assert load_protocol(chain) == load_protocol(chain, "balanced")


def test_overrides_are_laid_over_and_unknown_ones_refused():
    settings = load_protocol("inverse_design", "paper", {"relax": {"parameters": {"relax": {"fmax": 0.2}}}})
    assert settings["relax"]["parameters"]["relax"] == {"fmax": 0.2, "max_steps": 500}
    with pytest.raises(ImpossibleRequest, match="did you mean 'relax'"):
        load_protocol("inverse_design", "fast", {"relaxx": {}})
    with pytest.raises(ImpossibleRequest, match="did you mean 'paper'"):
        load_protocol("inverse_design", "papr")
    with pytest.raises(ImpossibleRequest, match="mattergpt-piezo"):
        load_recipe("mattergpt-piez")


@pytest.mark.parametrize("protocol", ["fast", "balanced", "paper"])
def test_every_setting_of_a_protocol_is_one_the_worker_knows(protocol):
    from crysgen_aiida.generators.contract import build_spec, deep_merge, get_generator
    from crysgen_aiida.physics.relaxation import RelaxSpec
    from crysgen_aiida.physics.selection import SelectionSpec
    from crysgen_aiida.screening.protocols import get_protocol
    from crysgen_aiida.workchains.inverse_design import needs

    for recipe in [None, *recipe_names()]:
        held = load_recipe(recipe) if recipe else {}
        info = get_generator(held.get("generator", "mattergpt"))
        over = deep_merge(held.get("overrides", {}), held.get("generator_overrides", {}))
        settings = load_protocol("inverse_design", protocol, over, info.name)
        parameters = settings["relax"]["parameters"]
        build_spec(RelaxSpec, parameters["relax"])
        build_spec(SelectionSpec, parameters["selection"] or {})
        rules = get_protocol(settings["screen"]["parameters"]["protocol"])
        assert needs(settings) == (recipe is not None, "dissimilar" in rules.filters)
        Query.from_dict(settings["ranking"])
        info.make_spec(settings["sample"]["spec"], settings["sample"]["preset"])
        info.make_spec(deep_merge({}, settings["decode"]["spec"]), settings["decode"]["preset"])
        training = held.get("training") or {}
        info.make_spec(training.get("spec"), training.get("preset"))
    presets = load_protocol("train_generator", protocol)["presets"]
    assert any(p in get_generator("mattergpt").presets for p in presets)


def test_the_paper_protocol_samples_as_published():
    spec = load_protocol("inverse_design", "paper", generator="mattergpt")["sample"]["spec"]
    assert spec["sampling"] == {"temperature": 1.2, "top_p": 0.9}
    assert load_protocol("inverse_design", "paper", generator="substitution")["sample"]["spec"] == {}


def test_the_piezo_recipe_asks_for_what_it_says():
    recipe = load_recipe("mattergpt-piezo")
    assert recipe["conditions"] == {"formation_energy_per_atom": -2.0, "piezo_max": 7.5}
    assert (recipe["generator"], recipe["n"], recipe["n_promote"]) == ("mattergpt", 256, 10)
    wanted = load_protocol("inverse_design", "fast", recipe["overrides"])["ranking"]
    columns = [c[0] for c in wanted["constraints"]] + list(wanted["objectives"])
    assert "piezo_max" not in columns, "a requested value is never a property"


def test_the_paper_recipe_is_the_published_funnel_in_its_order():
    recipe = load_recipe("mattergpt-piezo-paper")
    own = recipe["generator_overrides"]
    assert own["sample"]["spec"]["sampling"]["temperature"] == 1.2
    assert own["sample"]["spec"]["sampling"]["top_p"] == 0.9
    assert own["sample"]["spec"]["sampling"]["grammar"] is False
    assert own["decode"]["spec"]["slices"]["duplicates"] is False
    assert (recipe["n"], recipe["n_promote"]) == (5000, 28)
    assert recipe["overrides"]["relax"]["parameters"]["selection"]["order"][0] == "new_formula"
    assert recipe["overrides"]["screen"]["parameters"]["protocol"] == "piezo-paper"


def test_the_baseline_learns_from_the_same_rows_and_gets_no_settings_of_the_other():
    keep = load_recipe("mattergpt-piezo-paper")["training"]["spec"]["data"]["keep"]
    assert training_of("mattergpt-piezo-paper", "mattergpt")["preset"] == "paper"
    assert training_of("mattergpt-piezo-paper", "substitution") == {"spec": {"data": {"keep": keep}}}
    assert training_of("mattergpt-piezo", "substitution") == {}
    both = [
        recipe_settings(SimpleNamespace(generator=name), protocol="fast", recipe="mattergpt-piezo")
        for name in ("mattergpt", "substitution")
    ]
    assert both[0]["sample"]["spec"]["sampling"]["guidance"] == 2.0
    assert both[1]["sample"]["spec"] == {}
    assert both[0]["relax"] == both[1]["relax"]


def test_the_thermoelectric_recipe_ranks_by_what_only_the_model_predicts():
    recipe = load_recipe("ftcp-thermoelectric")
    data = recipe["training"]["spec"]["data"]
    assert list(recipe["conditions"]) == data["sparse_targets"] == ["power_factor_over_tau"]
    ours, other = (
        recipe_settings(SimpleNamespace(generator=name), protocol="fast", recipe="ftcp-thermoelectric")
        for name in ("ftcp", "substitution")
    )
    sampling = ours["sample"]["spec"]["sampling"]
    assert (sampling["rank_by"], sampling["filter"]) == ("predicted", True)
    assert sampling["where"] == ["band_gap >= 0.3", "band_gap <= 1.5", "formation_energy_per_atom < 0"]
    assert set(ours["ranking"]["objectives"]) - set(other["ranking"]["objectives"]) == {
        "predicted.power_factor_over_tau"
    }
    assert "power_factor_over_tau" not in ours["ranking"]["objectives"], "what is predicted is called so"
    table = pd.DataFrame(
        {
            "row": [0, 1, 2, 3],
            "status": "ok",
            "valid_structure": True,
            "unique": True,
            "formation_energy_per_atom": -1.0,
            "band_gap": [0.5, 1.5, 1.0, 1.6],
            "predicted.power_factor_over_tau": [2e13, 8e13, 5e13, 9e13],
            "e_above_reference": 0.0,
            "reference_coverage": 1.0,
        }
    )
    assert rank_frame(table, Query.from_dict(ours["ranking"])).rows == [1, 2, 0]


def test_a_new_crystal_needs_known_ones_and_dissimilarity_fingerprints():
    generator = SimpleNamespace(generator="mattergpt", conditions=["formation_energy_per_atom", "piezo_max"])
    build = InverseDesignWorkChain.get_builder_from_protocol
    with pytest.raises(ImpossibleRequest, match="give the known ones"):
        build(None, generator, None, recipe="mattergpt-piezo")
    with pytest.raises(ImpossibleRequest, match="crysgen dataset fingerprint"):
        build(None, generator, None, recipe="mattergpt-piezo-paper", known={"starter": object()})
