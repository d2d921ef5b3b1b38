"""The state of a training run on disk: safetensors with JSON in its header, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from crysgen_aiida.generators.checkpoint_files import read_state, write_state
from crysgen_aiida.generators.mattergpt.model import Transformer
from crysgen_aiida.generators.mattergpt.optimization import Optimizers

_MODEL, _OPTIMIZER = "model.", "optimizer."


@dataclass
class Progress:
    """How far a training run is. Sums are kept exactly (JSON writes every digit of a float)."""

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    loss_sum: float = 0.0
    n_targets: int = 0
    best_loss: float | None = None
    best_epoch: int = 0
    epochs_since_best: int = 0
    stopped: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return bool(self.stopped)

    def close_epoch(self, entry: dict[str, Any], judged: float, *, has_val: bool) -> None:
        """Book an epoch. Without held-out strings the last epoch is the best one."""
        self.history.append(entry)
        if not has_val or self.best_loss is None or judged < self.best_loss:
            self.best_loss, self.best_epoch, self.epochs_since_best = judged, self.epoch, 0
        else:
            self.epochs_since_best += 1
        self.epoch += 1
        self.step_in_epoch, self.loss_sum, self.n_targets = 0, 0.0, 0


class StateFile:
    """Saves and finds the training state.

    :param folder: where it lives.
    :param key: hash of everything that decides the result; a state with another key is not used.
    """

    def __init__(self, folder: Path, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.best_path, self.key = folder / "state.safetensors", folder / "best.safetensors", key

    def save(self, model: Transformer, optimizers: Optimizers, progress: Progress) -> None:
        """Save the weights, the state of the optimisers and the counters."""
        tensors = {_MODEL + name: w for name, w in model.state_dict().items()}
        tensors |= {_OPTIMIZER + name: t for name, t in optimizers.state_tensors().items()}
        write_state(self.path, tensors, self.key, {"progress": json.dumps(asdict(progress))})

    def save_best(self, model: Transformer) -> None:
        """Keep the present weights as the best."""
        write_state(self.best_path, model.state_dict(), self.key, {})

    def load(self, model: Transformer, optimizers: Optimizers) -> Progress | None:
        """Restore the state, or return None if there is none of this run. A damaged file counts as none."""
        found = read_state(self.path, self.key)
        if found is None or "progress" not in found[1]:
            return None
        tensors, metadata = found
        progress = Progress(**json.loads(metadata["progress"]))
        if progress.history and "val_loss" in progress.history[0] and read_state(self.best_path, self.key) is None:
            return None
        model.load_state_dict(_part(tensors, _MODEL))
        optimizers.load_state_tensors(_part(tensors, _OPTIMIZER))
        return progress

    def load_best(self) -> dict[str, Tensor] | None:
        """Return the best weights; None without held-out strings, where the last weights count."""
        found = read_state(self.best_path, self.key)
        return found[0] if found else None


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
