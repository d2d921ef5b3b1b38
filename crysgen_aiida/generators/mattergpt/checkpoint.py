"""The checkpoint folder: weights.safetensors, config.json, vocabulary.json, history.jsonl (no clock times)."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from crysgen_aiida.crystals.errors import CorruptWeights, CrysgenError
from crysgen_aiida.generators.contract import build_spec
from crysgen_aiida.generators.mattergpt.conditions import Condition
from crysgen_aiida.generators.mattergpt.info import VERSION
from crysgen_aiida.generators.mattergpt.model import Transformer
from crysgen_aiida.generators.mattergpt.spec import MatterGPTSpec
from crysgen_aiida.generators.mattergpt.tokenizer import Tokenizer, get_tokenizer

WEIGHTS, CONFIG, VOCABULARY, HISTORY = "weights.safetensors", "config.json", "vocabulary.json", "history.jsonl"
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with all that is needed to use it."""

    model: Transformer
    spec: MatterGPTSpec
    conditions: tuple[Condition, ...]
    tokenizer: Tokenizer
    config: Mapping[str, Any]


def new_model(spec: MatterGPTSpec, conditions: Sequence[Condition], seed: int) -> Transformer:
    """Return a model with random weights that depend on the seed only."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = Transformer(spec.model, get_tokenizer(spec.slices.max_atoms), [c.shape for c in conditions])
    torch.set_rng_state(state)
    return model


def write_checkpoint(
    folder: Path,
    weights: Mapping[str, Tensor],
    spec: MatterGPTSpec,
    conditions: Sequence[Condition],
    history: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> Path:
    """Write the four files and return the folder.

    :param facts: further entries of ``config.json``, e.g. the seed and the last validation loss.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = getattr(torch, spec.training.store_dtype)
    data = save_tensors({name: w.detach().to("cpu", dtype).contiguous() for name, w in weights.items()})
    config = {
        "format": FORMAT,
        "generator": "mattergpt",
        "generator_version": VERSION,
        "mode": spec.mode,
        "n_parameters": sum(w.numel() for w in weights.values()),
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "conditions": {c.name: c.to_json() for c in conditions},
        "condition_order": [c.name for c in conditions],
        "spec": asdict(spec),
        **facts,
    }
    write_atomic(folder / WEIGHTS, data)
    write_atomic(folder / VOCABULARY, get_tokenizer(spec.slices.max_atoms).dump().encode())
    lines = [json.dumps(entry, sort_keys=True, allow_nan=False) for entry in history]
    write_atomic(folder / HISTORY, "".join(f"{line}\n" for line in lines).encode())
    write_atomic(folder / CONFIG, (json.dumps(config, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
    return folder


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder; the model is on the CPU, in float32, ready to sample.

    :raises CorruptWeights: if a file is missing or damaged, or the weights do not fit the configuration.
    """
    config = _read_config(folder)
    try:
        spec: MatterGPTSpec = build_spec(MatterGPTSpec, config["spec"])
        conditions = tuple(Condition(**config["conditions"][name]) for name in config["condition_order"])
        stated = str(config["weights_sha256"])
    except (KeyError, TypeError, ValueError, CrysgenError) as error:
        raise CorruptWeights(
            f"{CONFIG} of the generator in {folder.name} does not describe a MatterGPT model ({error}); "
            "fetch the generator again or train it anew."
        ) from error
    tokenizer = Tokenizer.load(_read(folder, VOCABULARY).decode(errors="replace"))
    weights = load_weights(_read(folder, WEIGHTS), stated, folder.name)
    model = new_model(spec, conditions, seed=0)
    fit_weights(model, weights, folder.name)
    return Checkpoint(model.eval(), spec, conditions, tokenizer, config)


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


def fit_weights(model: Transformer, weights: Mapping[str, Tensor], where: str) -> None:
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
    model.load_state_dict({n: w.float() for n, w in weights.items()})


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that its name never holds half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise CorruptWeights(
            f"The generator folder {folder.name} has no readable {name} ({error.strerror}); it needs {WEIGHTS}, "
            f"{CONFIG}, {VOCABULARY} and {HISTORY}."
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads(_read(folder, CONFIG))
    except ValueError as error:
        raise CorruptWeights(
            f"{CONFIG} of the generator in {folder.name} is not JSON ({error}); fetch the generator again."
        ) from error
    if not isinstance(config, dict) or config.get("generator") != "mattergpt":
        raise CorruptWeights(f"The folder {folder.name} holds no MatterGPT model; choose the generator that made it.")
    if config.get("format", 0) > FORMAT:
        raise CorruptWeights(
            f"The generator in {folder.name} has format {config['format']}, but this program reads up to {FORMAT}; "
            "upgrade crysgen-aiida."
        )
    return config
