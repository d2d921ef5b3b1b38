"""Reading the checkpoints that other packages ship, without ever running code from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crysgen_aiida.crystals.errors import CorruptWeights


def read_checkpoint(path: Path, device: str, package: str, harmless: Sequence[Any] = ()) -> dict[str, Any]:
    """Return the content of a torch checkpoint, tensors and plain values only.

    :param package: what to install again if it is damaged.
    :param harmless: further types it may hold (of numbers, never of code).
    :raises CorruptWeights: if the file is missing, damaged or holds anything else.
    """
    import torch

    try:
        with torch.serialization.safe_globals(list(harmless)):
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file makes the reader raise almost anything
        raise CorruptWeights(
            f"The checkpoint {path.name} of {package} cannot be read ({str(error).splitlines()[0]}); "
            f"install {package} again where the worker runs."
        ) from error
    return state


def file_hash(path: Path, package: str) -> str:
    """Return the SHA-256 of a checkpoint file.

    :raises CorruptWeights: if it is missing.
    """
    if not path.is_file():
        raise CorruptWeights(f"The package {package} holds no {path.name}; install it again where the worker runs.")
    return hashlib.sha256(path.read_bytes()).hexdigest()
