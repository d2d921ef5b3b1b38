"""The toy generator as a node, for tests that starve, delay or kill real jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def toy(aiida_profile: Any, sixth_generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A generator that can be slowed down, starved and filled at will."""
    import numpy as np
    from safetensors.numpy import save_file

    from crysgen_aiida.data.generator import GeneratorData

    folder = tmp_path_factory.mktemp("toy")
    save_file({"w": np.ones(1, dtype=np.float32)}, folder / "weights.safetensors")
    config = {"generator": "toy", "generator_version": "1", "conditions": ["band_gap"], "spec": {}, "seed": 0}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocabulary.json").write_text("{}")
    (folder / "history.jsonl").write_text("")
    return GeneratorData.get_or_create(folder)
