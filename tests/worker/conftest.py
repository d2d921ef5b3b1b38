"""Jobs in real folders, done by real worker processes with a generator made for tests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from worker_jobs import TOY, Jobs

from crysgen_aiida.crystals.crystal_set import CrystalSet


@pytest.fixture
def jobs(tmp_path: Path) -> Any:
    """Make and run jobs in a folder of this test; whatever still runs at its end is ended."""
    path = os.pathsep.join([str(TOY), *filter(None, [os.environ.get("PYTHONPATH")])])
    made = Jobs(tmp_path, {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": "random"})
    yield made
    for process in made.started:
        made.kill(process)


@pytest.fixture(scope="session")
def salt() -> CrystalSet:
    """Twelve crystals of rock salt, of growing edge."""
    from pymatgen.core import Lattice, Structure

    coords = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return CrystalSet.from_structures(
        [Structure(Lattice.cubic(3.0 + 0.1 * k), ["Na", "Cl"], coords) for k in range(12)]
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained toy."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("trained")
    save_file({"weight": np.array([0.5])}, folder / "weights.safetensors")
    config = {"generator": "toy", "generator_version": "1", "conditions": ["band_gap"], "spec": {}, "seed": 0}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocabulary.json").write_text("{}")
    (folder / "history.jsonl").write_text('{"step": 0, "val_loss": 1.0}\n')
    return folder
