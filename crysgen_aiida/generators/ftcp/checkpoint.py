"""The checkpoint folder: network and latent space in weights.safetensors, scaler and labels in config.json."""

from __future__ import annotations

import json
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
from crysgen_aiida.generators.ftcp.info import VERSION
from crysgen_aiida.generators.ftcp.labels import Label
from crysgen_aiida.generators.ftcp.latent_space import LatentSpace
from crysgen_aiida.generators.ftcp.model import Vae
from crysgen_aiida.generators.ftcp.spec import FtcpGeneratorSpec
from crysgen_aiida.generators.latent_points import PREFIX
from crysgen_aiida.representations.ftcp.scaler import RowScaler

FORMAT = 1
_MODEL, _LATENT = "model.", PREFIX


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with all that is needed to use it."""

    model: Vae
    spec: FtcpGeneratorSpec
    labels: tuple[Label, ...]
    scaler: RowScaler
    space: LatentSpace
    config: Mapping[str, Any]


def new_model(spec: FtcpGeneratorSpec, seed: int) -> Vae:
    """Return a model with random weights that depend on the seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = (len(spec.data.targets), len(spec.data.sparse_targets))
        return Vae(spec.representation.rows, spec.representation.columns, *sizes, spec.model)


def write_checkpoint(
    folder: Path,
    weights: Mapping[str, Tensor],
    spec: FtcpGeneratorSpec,
    labels: Sequence[Label],
    scaler: RowScaler,
    space: LatentSpace,
    history: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> Path:
    """Write the four files and return the folder.

    :param facts: further entries of ``config.json``, e.g. the seed and the last validation loss.
    """
    tensors = {_MODEL + name: w.detach().cpu() for name, w in weights.items()}
    tensors |= {_LATENT + name: t for name, t in space.tensors().items()}
    config = {
        "format": FORMAT,
        "generator": "ftcp",
        "generator_version": VERSION,
        "mode": spec.mode,
        "n_parameters": sum(w.numel() for w in weights.values()),
        "conditions": {label.name: label.to_json() for label in labels},
        "condition_order": [label.name for label in labels],
        "scaler": scaler.to_dict(),
        "spec": asdict(spec),
        **facts,
    }
    return write_folder(folder, tensors, config, json.dumps({"formulas": list(space.formulas)}), history)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder; the model is on the CPU, in float32, ready to sample.

    :raises CorruptWeights: if a file is missing or damaged, or the weights do not fit the configuration.
    """
    config = read_config(folder, "ftcp", "FTCP", FORMAT)
    try:
        spec: FtcpGeneratorSpec = build_spec(FtcpGeneratorSpec, config["spec"])
        labels = tuple(Label(**config["conditions"][name]) for name in config["condition_order"])
        scaler = RowScaler.from_dict(config["scaler"])
        stated = str(config["weights_sha256"])
    except (KeyError, TypeError, ValueError, CrysgenError) as error:
        raise CorruptWeights(
            f"{CONFIG} of the generator in {folder.name} does not describe an FTCP model ({error}); "
            "fetch the generator again or train it anew."
        ) from error
    try:
        formulas = json.loads(read_file(folder, VOCABULARY))["formulas"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptWeights(
            f"{VOCABULARY} of the generator in {folder.name} lists no formulas; fetch the generator again."
        ) from error
    tensors = load_weights(read_file(folder, WEIGHTS), stated, folder.name)
    model = new_model(spec, seed=0)
    fit_weights(model, _part(tensors, _MODEL), folder.name)
    space = LatentSpace.from_tensors(_part(tensors, _LATENT), formulas)
    return Checkpoint(model.eval(), spec, labels, scaler, space, config)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
