"""What every engine promises: known stages, registered properties, settings that exist, results that say their unit."""

from __future__ import annotations

import pytest
from aiida.plugins import WorkflowFactory

from crysgen_aiida.crystals.errors import ImpossibleRequest, NotInstalled
from crysgen_aiida.crystals.properties import get_property
from crysgen_aiida.engines.contract import STAGES, EngineInfo, StageInfo, engine_names, get_engine
from crysgen_aiida.engines.protocols import protocol_names, stage_settings
from crysgen_aiida.engines.results import stage_results
from crysgen_aiida.engines.stage import EngineStage

OFFERED = [(name, stage) for name in engine_names() for stage in get_engine(name).stages]
SINGLE = [(name, stage) for name, stage in OFFERED if not get_engine(name).batched]


@pytest.mark.parametrize(("engine", "stage"), SINGLE)
def test_stages_are_chains_with_the_shared_ports(engine, stage):
    offered = get_engine(engine).stage(stage)
    chain = WorkflowFactory(offered.work_chain)
    assert issubclass(chain, EngineStage)
    for name in offered.gives:
        get_property(name)
    assert set(offered.codes) <= set(get_engine(engine).executables)


@pytest.mark.parametrize(("engine", "stage"), SINGLE)
def test_protocols_give_settings_and_refuse_unknown_ones(engine, stage):
    for protocol in protocol_names(engine):
        assert isinstance(stage_settings(engine, stage, protocol), dict)
    with pytest.raises(ImpossibleRequest, match="no setting 'ecutt'"):
        stage_settings(engine, stage, overrides={"ecutt": 1})
    with pytest.raises(ImpossibleRequest, match="no protocol 'hasty'"):
        stage_settings(engine, stage, "hasty")


def test_an_engine_that_names_an_unknown_stage_is_refused():
    with pytest.raises(ImpossibleRequest, match="tea"):
        EngineInfo("kettle", "", {"tea": StageInfo("x", ())})


def test_unknown_engines_and_stages_say_what_there_is():
    with pytest.raises(NotInstalled, match="No engine 'vsap'"):
        get_engine("vsap")
    with pytest.raises(ImpossibleRequest, match="it has relax"):
        EngineInfo("kettle", "", {"relax": StageInfo("x", ())}).stage("bands")


@pytest.mark.parametrize(
    ("values", "why"),
    [({"band_gap": float("nan")}, "nan"), ({"piezo_tensor": 1.0}, "scalar"), ({"colour": 1.0}, "colour")],
)
def test_results_take_finite_registered_scalars_only(values, why):
    with pytest.raises(Exception, match=why):
        stage_results(engine="qe", stage="bands", method="qe-pbe", values=values)


def test_every_stage_is_described():
    assert all(STAGES.values())
