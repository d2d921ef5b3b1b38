"""Candidates go through the steps until a gate stops them; every value and verdict comes back to the row it is of."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure
from verify_engine import CHAINS, TOY

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.workchains.verify.gates import before_response, judge_row
from crysgen_aiida.workchains.verify.plan import Step, make_gates, make_plan

ZNS = Structure.from_spacegroup(216, Lattice.cubic(5.4), ["Zn", "S"], [[0, 0, 0], [0.25] * 3]).get_primitive_structure()
ALN = Structure.from_spacegroup(
    186, Lattice.hexagonal(3.1, 5.0), ["Al", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.38]]
)
NACL = Structure.from_spacegroup(
    225, Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3]
).get_primitive_structure()
ZNO = Structure.from_spacegroup(216, Lattice.cubic(4.6), ["Zn", "O"], [[0, 0, 0], [0.25] * 3]).get_primitive_structure()


@pytest.fixture
def toy(monkeypatch):
    """Make the toy the only engine."""
    from crysgen_aiida.workchains.verify import chain, plan, ports

    for module in (chain, plan, ports):
        monkeypatch.setattr(module, "get_engine", lambda name: TOY)
    monkeypatch.setattr(chain, "WorkflowFactory", CHAINS.__getitem__)


@pytest.fixture
def verified(aiida_profile, toy):
    """Verify four crystals with the toy, one at a time."""
    from aiida import orm
    from aiida.engine import run_get_node

    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.workchains.verify.chain import VerifyWorkChain

    crystals = CrystalSetData(CrystalSet.from_structures([ZNS, ALN, NACL, ZNO, None], reasons=[None] * 4 + ["lost"]))
    plan = [Step(stage, "toy").to_dict() for stage in ("relax", "bands", "dfpt")]
    inputs = {"crystals": crystals.store(), "rows": [0, 1, 2, 3, 4], "plan": plan, "max_concurrent": orm.Int(2)}
    outputs, node = run_get_node(VerifyWorkChain, **inputs)
    assert node.is_finished_ok, node.exit_message
    return crystals, outputs["results"], node


def test_values_and_verdicts_come_back_to_their_rows(verified):
    crystals, results, _ = verified
    frame = results.to_frame()
    assert set(frame.address.str.rpartition(":")[0]) == {crystals.uuid}
    frame["at"] = frame.address.str.rpartition(":")[2].astype(int)
    values = frame[frame["property"].notna()]
    told = {(r.at, r.property): r.value for r in values.itertuples()}
    assert told == {
        (0, "energy_per_atom"): -2.0, (1, "energy_per_atom"): -4.0, (2, "energy_per_atom"): -2.0,
        (3, "energy_per_atom"): -2.0, (0, "band_gap"): 1.2, (1, "band_gap"): 0.0, (2, "band_gap"): 1.2,
        (0, "piezo_max"): 2.5,
    }  # fmt: skip
    stopped = frame[frame["verdict"].notna() & (frame["verdict"] != "passed")]
    stops = {r.at: (r.stage, r.verdict, r.reason) for r in stopped.itertuples()}
    assert stops[1][:2] == ("dfpt", "stopped")
    assert "a metal screens the field" in stops[1][2]
    assert stops[2][:2] == ("dfpt", "stopped")
    assert "inversion centre" in stops[2][2]
    assert stops[3][:2] == ("bands", "not computed")
    assert "cannot handle oxygen" in stops[3][2]
    assert stops[4][:2] == ("relax", "not computed")
    assert "lost" in stops[4][2]
    assert 0 not in stops


def test_results_name_their_source_and_the_crystal_they_were_computed_on(verified):
    from aiida import orm

    _, results, node = verified
    record = next(row for row in results.iter() if row["property"] == "piezo_max")
    source, computed = orm.load_node(record["source"]), orm.load_node(record["computed_on"])
    assert source.creator.inputs.structure.uuid == computed.uuid
    assert computed.creator.function_name == "swollen", "the relaxed crystal, not the candidate's"
    assert record["space_group"] == 216
    assert record["rms_distance"] == pytest.approx(0.0, abs=1e-6), "the same but for its volume"
    assert record["unit"] == "C/m^2"
    assert record["method"] == "pbe-toy"
    assert results.creator.caller.uuid == node.uuid


def test_the_index_takes_the_results_up(verified):
    from crysgen_aiida.store.index.results import is_results, read_results

    crystals, results, _ = verified
    table = results.table.arrow
    assert is_results(table.column_names)
    held = read_results(table)
    assert held.values["piezo_max", "C/m^2", "pbe-toy"] == {(crystals.uuid, 0): (2.5, None)}
    assert held.refused == 0
    assert held.unknown == set()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"rows": [0, 0]}, "each once"),
        ({"rows": [7]}, "rows 0 to 1"),
        ({"plan": []}, "no step"),
        ({"plan": [{"stage": "bands", "engine": "toy", "colour": 1}]}, "may name settings"),
        ({"gates": {"min_gapp": 1.0}}, "did you mean min_gap"),
        ({"gates": {"phonon_stable": 0.3}}, "true or false"),
        ({"plan": [{"stage": "hull", "engine": "potential"}], "real": True}, "give `reference`"),
        ({"plan": [{"stage": "phonon", "engine": "potential", "potential": "chgnet"}], "real": True}, "codes worker"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(aiida_profile, request, changed, why):
    from aiida.engine.utils import instantiate_process
    from aiida.manage import get_manager

    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.workchains.verify.chain import VerifyWorkChain

    if not changed.pop("real", False):
        request.getfixturevalue("toy")
    crystals = CrystalSetData.get_or_create(CrystalSet.from_structures([ZNS, ALN]))
    inputs = {"crystals": crystals, "rows": [0], "plan": [Step("bands", "toy").to_dict()], **changed}
    runner = get_manager().create_runner(communicator=None)
    with pytest.raises(ValueError, match=why):
        instantiate_process(runner, VerifyWorkChain, **inputs)


def test_a_potential_relaxes_before_it_is_asked_for_derivatives():
    plan = make_plan(["phonon", "elastic", "hull"], potential="chgnet", second="sevennet")
    assert [(s.stage, s.potential, s.second) for s in plan] == [
        ("hull", None, False),
        ("relax", "chgnet", False),
        ("phonon", "chgnet", False),
        ("relax", "sevennet", True),
        ("phonon", "sevennet", True),
        ("elastic", "chgnet", False),
        ("elastic", "sevennet", True),
    ]
    assert len({s.key for s in plan}) == len(plan), "keys are call link labels"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"stages": ["phonons"]}, "did you mean phonon"),
        ({"stages": []}, "No stage"),
        ({"stages": ["bands"]}, "no stage 'bands'"),
    ],
)
def test_plans_that_nobody_can_do_are_refused(arguments, why):
    with pytest.raises(ImpossibleRequest, match=why):
        make_plan(**arguments, potential="chgnet")


def test_protocol_and_own_settings_are_laid_over_each_other():
    plan = make_plan(["phonon"], potential="chgnet", protocol="fast", settings={"phonon": {"mesh_length": 20.0}})
    assert plan[-1].settings == {"min_length": 8.0, "mesh_length": 20.0}
    assert make_gates({"min_gap": 0.5})["min_gap"] == 0.5


def test_gates_can_be_switched_off():
    row = {"status": "ok", "phonon_stable": False, "phonon_verdict": "a mode is imaginary"}
    assert judge_row("phonon", row, make_gates()).verdict == "stopped"
    assert judge_row("phonon", row, make_gates({"phonon_stable": False})).verdict == "passed"
    assert not before_response(NACL, 5.0, make_gates()).goes_on
    assert before_response(NACL, 5.0, make_gates({"piezo": False})).goes_on
    assert not before_response(ZNS, 0.0, make_gates()).goes_on
    assert before_response(ZNS, None, make_gates()).goes_on, "an unknown gap stops nobody"
