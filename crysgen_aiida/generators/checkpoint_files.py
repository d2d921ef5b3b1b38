"""The files of a checkpoint folder, and of the state of a training: safetensors and JSON, replaced atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from crysgen_aiida.crystals.errors import CorruptWeights
from crysgen_aiida.crystals.files import atomic_path

WEIGHTS, CONFIG, VOCABULARY, HISTORY = "weights.safetensors", "config.json", "vocabulary.json", "history.jsonl"


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that its name never holds half of it."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_folder(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    vocabulary: str,
    history: Sequence[Mapping[str, Any]],
) -> Path:
    """Write the four files of a checkpoint and return the folder.

    :param tensors: all on the CPU, in the number format they are to be stored in.
    :param config: becomes ``config.json``, with the hash of the weights added as ``weights_sha256``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = save_tensors({name: t.contiguous() for name, t in tensors.items()})
    held = {**config, "weights_sha256": hashlib.sha256(data).hexdigest()}
    write_atomic(folder / WEIGHTS, data)
    write_atomic(folder / VOCABULARY, vocabulary.encode())
    lines = [json.dumps(entry, sort_keys=True, allow_nan=False) for entry in history]
    write_atomic(folder / HISTORY, "".join(f"{line}\n" for line in lines).encode())
    write_atomic(folder / CONFIG, (json.dumps(held, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
    return folder


def read_file(folder: Path, name: str) -> bytes:
    """Return the content of one of the files.

    :raises CorruptWeights: if it is not there.
    """
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise CorruptWeights(
            f"The generator folder {folder.name} has no readable {name} ({error.strerror}); it needs {WEIGHTS}, "
            f"{CONFIG}, {VOCABULARY} and {HISTORY}."
        ) from error


def read_config(folder: Path, generator: str, title: str, newest: int) -> dict[str, Any]:
    """Return ``config.json``.

    :param generator: entry-point name of the system that must have written it.
    :param title: its name in sentences, e.g. ``MatterGPT``.
    :param newest: the newest format that can be read.
    :raises CorruptWeights: if it is damaged, of another system, or newer.
    """
    try:
        config = json.loads(read_file(folder, CONFIG))
    except ValueError as error:
        raise CorruptWeights(
            f"{CONFIG} of the generator in {folder.name} is not JSON ({error}); fetch the generator again."
        ) from error
    if not isinstance(config, dict) or config.get("generator") != generator:
        raise CorruptWeights(f"The folder {folder.name} holds no {title} model; choose the generator that made it.")
    if config.get("format", 0) > newest:
        raise CorruptWeights(
            f"The generator in {folder.name} has format {config['format']}, but this program reads up to {newest}; "
            "upgrade crysgen-aiida."
        )
    return config


def load_weights(data: bytes, stated: str, where: str) -> dict[str, Tensor]:
    """Return the tensors of a weights file after checking its hash.

    :raises CorruptWeights: if the bytes are not those that were written.
    """
    if hashlib.sha256(data).hexdigest() != stated:
        raise CorruptWeights(
            f"{WEIGHTS} of the generator in {where} is damaged: its SHA-256 is not the one {CONFIG} states. "
            "Fetch the generator again or train it anew."
        )
    try:
        return dict(load_tensors(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CorruptWeights(f"{WEIGHTS} of the generator in {where} is no safetensors file ({error}).") from error


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy weights into a model.

    :raises CorruptWeights: if a tensor is missing, superfluous, of another shape or not finite.
    """
    wanted = model.state_dict()
    wrong = [n for n, w in wanted.items() if n not in weights or weights[n].shape != w.shape]
    wrong += [n for n in weights if n not in wanted]
    if wrong:
        raise CorruptWeights(
            f"{WEIGHTS} of the generator in {where} does not fit its {CONFIG}: {len(wrong)} tensors are missing, "
            f"superfluous or of another shape, first {wrong[0]!r}. Fetch both files from the same training run."
        )
    bad = next((n for n, w in weights.items() if not torch.isfinite(w).all()), None)
    if bad:
        raise CorruptWeights(f"{WEIGHTS} of the generator in {where} holds numbers that are not finite, in {bad!r}.")
    model.load_state_dict({n: w.float() if w.is_floating_point() else w for n, w in weights.items()})


def write_state(path: Path, tensors: Mapping[str, Tensor], key: str, metadata: Mapping[str, str]) -> None:
    """Write tensors of a training, stamped with the hash of everything that decides its result."""
    held = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_atomic(path, save_tensors(held, {**metadata, "key": key}))


def read_state(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Return what :func:`write_state` wrote, or None if there is none of this run. A damaged file counts as none."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("key") != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError):
        return None
