"""The published weights of Nequix: where they are, and what is in them, without any framework.

An ``.nqx`` file is a line of JSON and NumPy arrays behind it; nothing in it can run code.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from crysgen_aiida.crystals.errors import CorruptWeights, NotInstalled

#: The environment variable with the path of the weights, or of the folder that holds them.
VARIABLE = "CRYSGEN_NEQUIX"
FILE = "nequix-mp-1-pft.nqx"


def checkpoint_path() -> Path:
    """Return where the weights are: as ``CRYSGEN_NEQUIX`` says, or where the published package keeps them.

    :raises NotInstalled: if there are none.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named).expanduser() if named else Path("~/.cache/nequix/models").expanduser()
    if path.is_dir() or not named:
        path = path / FILE
    if not path.is_file():
        raise NotInstalled(
            f"The potential 'nequix' needs its weights, and there is no file {path}; download {FILE} from "
            f"https://github.com/atomicarchitects/nequix/tree/main/models and set {VARIABLE} to its path."
        )
    return path


def read_nqx(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """Return the settings and the arrays of an ``.nqx`` file.

    :raises CorruptWeights: if it is none, or cut short.
    """
    try:
        with path.open("rb") as file:
            settings = json.loads(file.readline().decode())
            arrays = []
            while file.peek(1):
                arrays.append(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError, UnicodeDecodeError) as error:
        raise CorruptWeights(f"{path.name} is no whole .nqx file ({error}); download it again.") from error
    return settings, arrays
