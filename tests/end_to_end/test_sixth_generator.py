"""A generator in its own distribution goes from data set to ranked structures with no change in the package."""

from __future__ import annotations

import pytest

OPTIONS = {"device": "cpu"}


@pytest.mark.slow
@pytest.mark.daemon
def test_train_to_rank_through_the_daemon(daemon, worker_code, salts, salt_reference, await_processes, sixth_generator):
    from aiida.engine import submit

    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.workchains.inverse_design import InverseDesignWorkChain
    from crysgen_aiida.workchains.train_generator import TrainGeneratorWorkChain

    source = (sixth_generator / "substitution.py").read_text() + (sixth_generator / "substitution_info.py").read_text()
    assert len(source.splitlines()) <= 80

    crystals = CrystalSetData.get_or_create(salts)
    builder = TrainGeneratorWorkChain.get_builder_from_protocol(
        worker_code, crystals, generator="exchange", protocol="fast", spec={"swaps": 1}, options=OPTIONS
    )
    trained = submit(builder)
    await_processes([trained])
    assert trained.is_finished_ok, trained.exit_message

    builder = InverseDesignWorkChain.get_builder_from_protocol(
        worker_code,
        trained.outputs.generator,
        salt_reference,
        protocol="fast",
        conditions={"band_gap": 3.0},
        known={"training": crystals},
        n=6,
        n_promote=2,
        overrides={"relax": {"parameters": {"relax": {"max_steps": 2}, "selection": None}}},
        ranking={"constraints": [["status", "==", "ok"]], "objectives": {"energy_per_atom": "lower"}},
        options=OPTIONS,
    )
    design = submit(builder)
    await_processes([design], timeout=240)
    assert design.is_finished_ok, design.exit_message
    decision = design.outputs.decision
    assert decision.n_rows >= 2
    assert len(design.outputs.structures) == 2
    assert design.outputs.sequences.table.values("target.band_gap").tolist() == [3.0] * 6
    structure = next(iter(design.outputs.structures.values()))
    ancestors = {type(node).__name__ for node in ancestors_of(structure)}
    assert {"GeneratorData", "SequenceSetData", "CrystalSetData", "PropertyTableData", "DecisionData"} <= ancestors
    assert crystals.uuid in {node.uuid for node in ancestors_of(structure)}


def ancestors_of(node):
    from aiida.orm import Data, QueryBuilder

    query = QueryBuilder().append(type(node), filters={"uuid": node.uuid}, tag="leaf")
    return query.append(Data, with_descendants="leaf").all(flat=True)
