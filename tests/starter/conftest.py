"""Fixtures of the starter tests: the shipped files, and the tools that built them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.table import ReferenceSet

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "crysgen_aiida" / "starter"
sys.path.insert(0, str(ROOT / "tools"))


@pytest.fixture(scope="session")
def starter() -> CrystalSet:
    """The shipped crystals."""
    return CrystalSet.read(STARTER / "crystals.parquet")


@pytest.fixture(scope="session")
def near_hull() -> ReferenceSet:
    """The shipped near-hull table."""
    return ReferenceSet.read(STARTER / "near_hull.parquet")


@pytest.fixture(scope="session")
def build_log() -> dict[str, Any]:
    """What the build said about itself."""
    log: dict[str, Any] = json.loads((STARTER / "build_log.json").read_text())
    return log
