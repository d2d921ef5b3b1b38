"""The checkpoint folder: weights.safetensors, config.json, vocabulary.json, history.jsonl (no clock times)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crysgen_aiida.crystals.errors import CorruptWeights, CrysgenError
from crysgen_aiida.generators.checkpoint_files import (
    CONFIG,
    VOCABULARY,
    WEIGHTS,
    fit_weights,
    load_weights,
    read_config,
    read_file,
    write_folder,
)
from crysgen_aiida.generators.contract import build_spec
from crysgen_aiida.generators.mattergpt.conditions import Condition
from crysgen_aiida.generators.mattergpt.info import VERSION
from crysgen_aiida.generators.mattergpt.model import Transformer
from crysgen_aiida.generators.mattergpt.spec import MatterGPTSpec
from crysgen_aiida.generators.mattergpt.tokenizer import Tokenizer, get_tokenizer

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
    dtype = getattr(torch, spec.training.store_dtype)
    config = {
        "format": FORMAT,
        "generator": "mattergpt",
        "generator_version": VERSION,
        "mode": spec.mode,
        "n_parameters": sum(w.numel() for w in weights.values()),
        "conditions": {c.name: c.to_json() for c in conditions},
        "condition_order": [c.name for c in conditions],
        "spec": asdict(spec),
        **facts,
    }
    tensors = {name: w.detach().to("cpu", dtype) for name, w in weights.items()}
    return write_folder(folder, tensors, config, get_tokenizer(spec.slices.max_atoms).dump(), history)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder; the model is on the CPU, in float32, ready to sample.

    :raises CorruptWeights: if a file is missing or damaged, or the weights do not fit the configuration.
    """
    config = read_config(folder, "mattergpt", "MatterGPT", FORMAT)
    try:
        spec: MatterGPTSpec = build_spec(MatterGPTSpec, config["spec"])
        conditions = tuple(Condition(**config["conditions"][name]) for name in config["condition_order"])
        stated = str(config["weights_sha256"])
    except (KeyError, TypeError, ValueError, CrysgenError) as error:
        raise CorruptWeights(
            f"{CONFIG} of the generator in {folder.name} does not describe a MatterGPT model ({error}); "
            "fetch the generator again or train it anew."
        ) from error
    tokenizer = Tokenizer.load(read_file(folder, VOCABULARY).decode(errors="replace"))
    weights = load_weights(read_file(folder, WEIGHTS), stated, folder.name)
    model = new_model(spec, conditions, seed=0)
    fit_weights(model, weights, folder.name)
    return Checkpoint(model.eval(), spec, conditions, tokenizer, config)
