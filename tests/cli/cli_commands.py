"""Commands of this environment, run as a user would: in a configuration folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def run_in(home: Path, *command: str, code: int = 0, timeout: float = 180, **environment: str) -> str:
    """Run a script of this environment and return what it said on both channels; its exit code must be ``code``."""
    held = {k: v for k, v in os.environ.items() if k != "AIIDA_PROFILE"}
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        env={**held, "AIIDA_PATH": str(home), **environment},
        check=False,
        timeout=timeout,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
