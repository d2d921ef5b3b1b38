"""One finished design of the sixth generator, which the tests of the store look at from all sides."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def designed(aiida_profile: Any, sixth_generator: Any, salts: Any, salt_reference: Any) -> Any:
    """A finished inverse design of 60 sequences, each relaxed for one step, three promoted."""
    from aiida.engine import run_get_node
    from aiida_fixtures import make_code, make_computer

    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.workchains.inverse_design import InverseDesignWorkChain
    from crysgen_aiida.workchains.train_generator import TrainGeneratorWorkChain

    code, options = make_code(make_computer("localhost", "core.direct")), {"device": "cpu"}
    crystals = CrystalSetData.get_or_create(salts)
    trained = run_get_node(
        TrainGeneratorWorkChain.get_builder_from_protocol(code, crystals, generator="exchange", options=options)
    )[1]
    assert trained.is_finished_ok, trained.exit_message
    design = run_get_node(
        InverseDesignWorkChain.get_builder_from_protocol(
            code,
            trained.outputs.generator,
            salt_reference,
            protocol="fast",
            conditions={"band_gap": 8.0},
            known={"training": crystals},
            n=60,
            n_promote=3,
            overrides={"relax": {"parameters": {"relax": {"max_steps": 1}, "selection": None}}},
            ranking={"constraints": [["status", "==", "ok"]], "objectives": {"e_above_reference": "lower"}},
            options=options,
        )
    )[1]
    assert design.is_finished_ok, design.exit_message
    return design
