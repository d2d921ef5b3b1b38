"""The state of a training on disk: weights, the optimiser's averages and a few counters in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crysgen_aiida.generators.checkpoint_files import read_state, write_state
from crysgen_aiida.generators.ftcp.optimization import Rate, load_state_tensors, state_tensors

_MODEL, _OPTIMIZER, _BEST = "model.", "optimizer.", "best."


@dataclass
class Progress:
    """How far a training run is. Sums are kept exactly (JSON writes every digit of a float)."""

    rate: Rate
    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    rows: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best_loss: float | None = None
    best_epoch: int = 0
    epochs_since_best: int = 0
    stopped: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)

    def add(self, losses: dict[str, float], rows: int) -> None:
        """Book a step."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.rows += rows
        self.step += 1
        self.step_in_epoch += 1

    def means(self) -> dict[str, float]:
        """Return the losses of the epoch so far, per row."""
        return {name: value / max(1, self.rows) for name, value in self.sums.items()}

    def close_epoch(self, entry: dict[str, Any], judged: float, *, chosen: bool) -> None:
        """Book an epoch.

        :param chosen: whether the best epoch is chosen by ``judged``; if not, the last one counts.
        """
        self.history.append(entry)
        if not chosen or self.best_loss is None or judged < self.best_loss:
            self.best_loss, self.best_epoch, self.epochs_since_best = judged, self.epoch, 0
        else:
            self.epochs_since_best += 1
        self.epoch += 1
        self.step_in_epoch, self.rows, self.sums = 0, 0, {}


class StateFile:
    """Saves and finds the training state.

    :param folder: where it lives.
    :param key: hash of everything that decides the result; a state with another key is not used.
    """

    def __init__(self, folder: Path, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.key = folder / "state.safetensors", key

    def save(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, best: Mapping[str, Tensor]
    ) -> None:
        """Save the weights, the state of the optimiser, the counters and the weights of the best epoch, if any."""
        tensors = {_MODEL + name: w for name, w in model.state_dict().items()}
        tensors |= {_OPTIMIZER + name: t for name, t in state_tensors(model, optimizer).items()}
        tensors |= {_BEST + name: w for name, w in best.items()}
        write_state(self.path, tensors, self.key, {"progress": json.dumps(asdict(progress))})

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Progress, dict[str, Tensor]] | None:
        """Restore the state; return the counters and the weights of the best epoch.

        None if there is no state of this run. A damaged file counts as none.
        """
        found = read_state(self.path, self.key)
        if found is None or "progress" not in found[1]:
            return None
        tensors, metadata = found
        held = json.loads(metadata["progress"])
        progress = Progress(**{**held, "rate": Rate(**held["rate"])})
        model.load_state_dict(_part(tensors, _MODEL))
        load_state_tensors(model, optimizer, _part(tensors, _OPTIMIZER))
        return progress, _part(tensors, _BEST)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
