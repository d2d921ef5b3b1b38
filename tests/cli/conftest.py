"""A configuration folder of its own for commands that are run as a user runs them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty configuration folder with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="cg", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
