"""Validity of structure and composition, conditions, protocols: each rule with the case it exists for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.screening.composition import chemistry_flags, valid_composition
from crysgen_aiida.screening.conditions import judge_condition, judge_conditions
from crysgen_aiida.screening.protocols import PROTOCOLS, CompositionRule, StructureRule, get_protocol
from crysgen_aiida.screening.validity import judge_structure

STARTER = Path(__file__).resolve().parents[2] / "crysgen_aiida" / "starter" / "crystals.parquet"
LEMAT = PROTOCOLS["lemat"].structure


def judge(cell: float, numbers: list[int], frac: list[list[float]], rule: StructureRule) -> Any:
    return judge_structure(np.eye(3) * cell, numbers, np.array(frac, dtype=float), rule)


def test_half_an_angstrom_is_the_limit_of_mattergen() -> None:
    rule = PROTOCOLS["mattergen"].structure
    assert judge(4.0, [11, 17], [[0, 0, 0], [0.13, 0, 0]], rule).valid is True
    near = judge(4.0, [11, 17], [[0, 0, 0], [0.12, 0, 0]], rule)
    assert near.valid is False
    assert "0.48 A apart" in near.reason
    assert near.min_distance == pytest.approx(0.48)


def test_a_periodic_image_counts_as_a_neighbour() -> None:
    assert judge(0.45, [1], [[0, 0, 0]], StructureRule(min_volume=0.0)).valid is False


def test_lemat_measures_distances_in_covalent_radii() -> None:
    # Na 1.66 + Cl 1.02 + 0.7 = 3.38 A, halved 1.69 A
    assert judge(6.0, [11, 17], [[0, 0, 0], [1.70 / 6, 0, 0]], LEMAT).valid is True
    close = judge(6.0, [11, 17], [[0, 0, 0], [1.68 / 6, 0, 0]], LEMAT)
    assert close.valid is False
    assert "covalent radii" in close.reason


@pytest.mark.parametrize(
    ("cell", "numbers", "word"),
    [(60.0, [1], "density"), (2.4, [92], "density"), (101.0, [26] * 2, "density"), (0.9, [1], "volume")],
)
def test_lemat_refuses_the_implausible(cell: float, numbers: list[int], word: str) -> None:
    frac = [[k / len(numbers)] * 3 for k in range(len(numbers))]
    found = judge(cell, numbers, frac, LEMAT)
    assert found.valid is False
    assert word in found.reason


def test_density_is_that_of_the_crystal(zoo: dict[str, Any]) -> None:
    salt = zoo["NaCl"]
    found = judge_structure(salt.lattice.matrix, salt.atomic_numbers, salt.frac_coords, StructureRule())
    assert found.density == pytest.approx(float(salt.density), rel=1e-4)


def test_numbers_that_are_not_finite_are_invalid_not_a_crash() -> None:
    found = judge(np.nan, [11], [[0, 0, 0]], StructureRule())
    assert found.valid is False
    assert "finite" in found.reason
    assert judge(4.0, [11], [[np.inf, 0, 0]], StructureRule()).valid is False
    assert judge(0.0, [11], [[0, 0, 0]], StructureRule()).valid is False


@pytest.mark.parametrize(("formula", "verdict"), [("NaCl", True), ("SrTiO3", True), ("Na3Cl", False), ("NaCl3", False)])
def test_charge_neutrality(formula: str, verdict: bool) -> None:
    found, reason = valid_composition(formula, CompositionRule())
    assert found is verdict
    assert (reason is None) is verdict


def test_metals_pass_by_the_alloy_rule_only() -> None:
    assert valid_composition("Al3Ni", CompositionRule())[0] is True
    assert valid_composition("Cu", CompositionRule())[0] is True
    assert valid_composition("Al3Ni", CompositionRule(alloys=False))[0] is False
    assert valid_composition("Cu", CompositionRule(alloys=False))[0] is True  # SMACT: an element is neutral by itself


@pytest.mark.parametrize("formula", ["PmCl3", "HeNa", "Ne2S"])
def test_an_element_without_data_is_unknown(formula: str) -> None:
    found, reason = valid_composition(formula, CompositionRule())
    assert found is None
    assert "lacks data" in (reason or "")


def test_the_verdict_is_that_of_smact() -> None:
    from smact.screening import smact_validity

    formulas = ["CSe2", "BAs", "Al3Ni", "Fe2O3", "Fe3O4", "LiFePO4", "KMnO4", "BaTiO3", "PbS2", "SiC", "ZrW2", "H2Te"]
    starter = CrystalSet.read(STARTER).select([("n_atoms", "<=", 12)]).column("reduced_formula")
    formulas += starter[:: len(starter) // 100]
    for pauling in (True, False):
        for alloys in (True, False):
            rule = CompositionRule(pauling=pauling, alloys=alloys)
            wanted = [smact_validity(f, use_pauling_test=pauling, include_alloys=alloys) for f in formulas]
            assert [valid_composition(f, rule)[0] for f in formulas] == wanted


def test_difficult_chemistry_is_flagged() -> None:
    assert chemistry_flags("NaCl") == ""
    assert chemistry_flags("Fe2O3") == "magnetic,hubbard-u"
    assert chemistry_flags("CeO2") == "f-electron"
    assert chemistry_flags("FeSi") == "magnetic"


# -- conditions --------------------------------------------------------------------------------------------------------


def test_a_request_is_met_within_the_stated_tolerance() -> None:
    tolerances = {"band_gap": 0.47}
    assert judge_condition("band_gap", 2.0, {"band_gap": 2.4}, tolerances).met is True
    missed = judge_condition("band_gap", 2.0, {"band_gap": 2.6}, tolerances)
    assert missed.met is False
    assert "not 2 within 0.47 eV" in (missed.reason or "")


def test_without_a_predictor_it_is_unknown() -> None:
    found = judge_condition("piezo_max", 7.5, {"band_gap": 1.0}, {"piezo_max": 1.0})
    assert found.met is None
    assert found.reason == "nothing here predicts piezo_max"
    assert judge_condition("band_gap", 2.0, {"band_gap": None}, {"band_gap": 1.0}).met is None
    assert judge_condition("density", 2.0, {"density": 2.0}, {}).met is None


def test_structural_requests() -> None:
    computed = {"space_group": 216, "crystal_system": "cubic", "elements": ("S", "Zn"), "composition": "ZnS"}
    for name, good, bad in [
        ("space_group", 216, 225),
        ("crystal_system", "Cubic", "hexagonal"),
        ("elements", ["Zn", "S"], "Zn-O"),
        ("composition", "Zn2S2", "ZnS2"),
    ]:
        assert judge_condition(name, good, computed, {}).met is True
        assert judge_condition(name, bad, computed, {}).met is False
        assert judge_condition(name, good, {}, {}).met is None


def test_one_miss_beats_the_unknown_and_the_unknown_beats_a_hit() -> None:
    hit, miss, unknown = (
        judge_condition("band_gap", 1.0, {"band_gap": g}, {"band_gap": 0.1}) for g in (1.0, 9.0, None)
    )
    assert judge_conditions({"a": hit}).met is True
    assert judge_conditions({"a": hit, "b": unknown}).met is None
    assert judge_conditions({"a": miss, "b": unknown}).met is False
    assert judge_conditions({}).met is None


# -- protocols -------------------------------------------------------------------------------------------------------


def test_protocols_have_the_published_knobs() -> None:
    assert PROTOCOLS["mattergen"].matcher.angle_tol == 5.0
    assert PROTOCOLS["mattergen"].e_above_limit == 0.1
    assert PROTOCOLS["mattergen"].denominator == "submitted"
    assert (LEMAT.radius_factor, LEMAT.radius_offset, LEMAT.density) == (0.5, 0.7, (0.01, 25.0))
    assert PROTOCOLS["lemat"].matcher.ltol == 0.1
    assert PROTOCOLS["lemat"].denominator == "valid"


def test_a_changed_protocol_is_stamped_as_changed() -> None:
    changed = get_protocol(
        "mattergen", {"matcher": {"ltol": 0.3}, "tolerances": {"band_gap": 1.0}, "symprecs": [0.1, 0.2]}
    )
    assert changed.name == "mattergen (modified)"
    assert changed.matcher.ltol == 0.3
    assert changed.matcher.stol == 0.3
    assert changed.tolerances["band_gap"] == 1.0
    assert changed.tolerances["formation_energy_per_atom"] == 0.3
    assert json.loads(json.dumps(changed.to_dict()))["symprecs"] == [0.1, 0.2]
    assert get_protocol("mattergen", {}) is PROTOCOLS["mattergen"]


def test_unknown_protocols_and_settings_are_refused() -> None:
    with pytest.raises(ImpossibleRequest, match="Did you mean 'mattergen'"):
        get_protocol("matergen")
    with pytest.raises(ImpossibleRequest, match=r"mattergen\.matcher has no setting 'tol'"):
        get_protocol("mattergen", {"matcher": {"tol": 1}})
    with pytest.raises(ImpossibleRequest, match="no setting 'name'"):
        get_protocol("mattergen", {"name": "lemat"})
