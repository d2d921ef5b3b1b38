"""The state of a training on disk: weights, the optimiser's averages and a few counters in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crysgen_aiida.generators.checkpoint_files import read_state, write_state
from crysgen_aiida.generators.ftcp.optimization import Rate, load_state_tensors, state_tensors

_MODEL, _OPTIMIZER = "model.", "optimizer."


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
        self.path, self.best_path, self.key = folder / "state.safetensors", folder / "best.safetensors", key

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Save the weights, the state of the optimiser and the counters."""
        tensors = {_MODEL + name: w for name, w in model.state_dict().items()}
        tensors |= {_OPTIMIZER + name: t for name, t in state_tensors(model, optimizer).items()}
        write_state(self.path, tensors, self.key, {"progress": json.dumps(asdict(progress))})

    def save_best(self, model: nn.Module, epoch: int) -> None:
        """Keep the present weights as the best."""
        write_state(self.best_path, model.state_dict(), self.key, {"epoch": str(epoch)})

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, *, chosen: bool) -> Progress | None:
        """Restore the state, or return None if there is none of this run. A damaged file counts as none.

        :param chosen: whether the weights of the best epoch are needed too.
        """
        found = read_state(self.path, self.key)
        if found is None or "progress" not in found[1]:
            return None
        tensors, metadata = found
        held = json.loads(metadata["progress"])
        progress = Progress(**{**held, "rate": Rate(**held["rate"])})
        if chosen and progress.history and self.load_best() is None:
            return None
        model.load_state_dict(_part(tensors, _MODEL))
        load_state_tensors(model, optimizer, _part(tensors, _OPTIMIZER))
        return progress

    def load_best(self) -> dict[str, Tensor] | None:
        """Return the weights of the best epoch, None if none were kept."""
        found = read_state(self.best_path, self.key)
        return found[0] if found else None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
