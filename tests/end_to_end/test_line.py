"""The line with MatterGPT, smallest preset, through a real daemon: every row of the end leads back to the data set."""

from __future__ import annotations

import pytest

OPTIONS = {"device": "cpu"}


@pytest.mark.slow
@pytest.mark.daemon
def test_from_data_set_to_structures(daemon, worker_code, salts, salt_reference, await_processes):
    from aiida.engine import submit

    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.workchains.inverse_design import InverseDesignWorkChain
    from crysgen_aiida.workchains.train_generator import TrainGeneratorWorkChain

    crystals = CrystalSetData.get_or_create(salts)
    trained = submit(
        TrainGeneratorWorkChain.get_builder_from_protocol(
            worker_code, crystals, generator="mattergpt", preset="test", seed=1, options=OPTIONS
        )
    )
    await_processes([trained], timeout=240)
    assert trained.is_finished_ok, trained.exit_message
    generator = trained.outputs.generator
    assert generator.generator == "mattergpt"
    assert generator.history()
    design = submit(
        InverseDesignWorkChain.get_builder_from_protocol(
            worker_code,
            generator,
            salt_reference,
            protocol="fast",
            conditions={"formation_energy_per_atom": -2.0},
            known={"training": crystals},
            n=16,
            n_promote=1,
            overrides={"relax": {"parameters": {"relax": {"max_steps": 2}, "selection": {"n": 4}}}},
            ranking={"constraints": [["status", "==", "ok"]], "objectives": {"energy_per_atom": "lower"}},
            options=OPTIONS,
        )
    )
    await_processes([design], timeout=240)
    assert design.is_finished_ok, design.exit_message
    out = design.outputs
    assert out.sequences.n_rows == out.decoded.n_rows == out.crystals.n_rows == out.table.n_rows == 16
    assert 1 <= out.crystals.n_ok <= 4
    skipped = out.crystals.select([("status", "==", "skipped")])
    assert all(skipped.column("reason"))
    best = out.decision.table.get(0)["parent_row"]
    assert set(out.structures) == {f"r{best}"}
    relaxed = out.crystals.get(best)
    decoded = out.decoded.get(relaxed["parent_row"])
    assert out.sequences.get(decoded["parent_row"])["sequence"]
    assert (relaxed["parent_input"], decoded["parent_input"]) == ("crystals", "sequences")
    depth = max(len(list(_callers(node))) for node in design.called_descendants)
    assert depth <= 2, "at most three levels: line, restart chain, job"


def _callers(node):
    while (node := node.caller) is not None:
        yield node
