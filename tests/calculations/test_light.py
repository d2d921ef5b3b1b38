"""The daemon and the command line stay light: torch is loaded by the worker only."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from importlib.metadata import entry_points
for group in ("aiida.data", "aiida.calculations", "aiida.parsers", "aiida.workflows", "aiida.calculations.importers",
              "crysgen.generators"):
    for entry in entry_points(group=group):
        # aiida-quantumespresso's own work chains load pymatgen; they are loaded when one of them runs
        if entry.value.startswith("crysgen_aiida") and not entry.name.startswith("crysgen.qe."):
            loaded = entry.load()
            if hasattr(loaded, "spec") and callable(loaded.spec):
                loaded.spec()
heavy = [m for m in ("torch", "chgnet", "pymatgen", "ase", "accelerate") if m in sys.modules]
print(",".join(heavy))
"""


def test_loading_every_entry_point_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
