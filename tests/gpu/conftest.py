"""What the tests on a GPU share. They need torch with CUDA, pyarrow, safetensors, spglib and pymatgen, but no AiiDA.

Alone on a GPU node: ``python -m pytest tests/gpu``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crysgen_aiida.crystals.crystal_set import CrystalSet

STARTER = Path(__file__).resolve().parents[2] / "crysgen_aiida" / "starter" / "crystals.parquet"


@pytest.fixture(autouse=True)
def _gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("No GPU: torch.cuda.is_available() is false here.")


@pytest.fixture(scope="session")
def crystals() -> CrystalSet:
    """160 real crystals of at most eight atoms, with formation energies and gaps."""
    starter = CrystalSet.read(STARTER)
    small = starter.select([("n_atoms", "<=", 8), ("status", "==", "ok")])
    return small.take(range(0, len(small), len(small) // 160)).take(range(160))
