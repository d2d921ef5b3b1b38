"""A few real prototypes with made-up labels: enough to train a model of MatterGPT's kind in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import make_ftcp_spec, make_spec, prototypes

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.ftcp.generator import Ftcp
from crysgen_aiida.generators.mattergpt.generator import MatterGPT


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def crystals() -> CrystalSet:
    structures = prototypes()
    rng = np.random.default_rng(0)
    return CrystalSet.from_structures(
        structures,
        columns={
            property_field("formation_energy_per_atom", "pbe-mp-legacy"): rng.uniform(-4, 0, len(structures)),
            property_field("band_gap", "pbe-mp-legacy"): [float("nan") if i % 3 else 1.0 + i / 20 for i in range(40)],
        },
    )


@pytest.fixture(scope="session")
def training_set(crystals: CrystalSet) -> SequenceSet:
    return MatterGPT().prepare(crystals, make_spec(), seed=1, run=InProcess())


@pytest.fixture(scope="session")
def untrained(training_set: SequenceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after a single optimiser step: as good as random."""
    run = InProcess(folder=tmp_path_factory.mktemp("untrained"))
    return MatterGPT().train(training_set, make_spec(training={"max_steps": 1}), seed=1, run=run)


@pytest.fixture(scope="session")
def trained(training_set: SequenceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that has learned the 40 strings and their labels."""
    run = InProcess(folder=tmp_path_factory.mktemp("trained"))
    spec = make_spec(training={"epochs": 60, "checkpoint_steps": 0, "condition_dropout": 0.2})
    return MatterGPT().train(training_set, spec, seed=1, run=run)


@pytest.fixture(scope="session")
def matrices_set(crystals: CrystalSet) -> SequenceSet:
    """The training set of FTCP: every row has a formation energy, a third a band gap."""
    return Ftcp().prepare(crystals, make_ftcp_spec(), seed=1, run=InProcess())


@pytest.fixture(scope="session")
def ftcp_trained(matrices_set: SequenceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that has seen the 40 crystals often enough to decode most designs."""
    run = InProcess(folder=tmp_path_factory.mktemp("ftcp"))
    return Ftcp().train(matrices_set, make_ftcp_spec(training={"epochs": 80, "checkpoint_steps": 100}), seed=1, run=run)
