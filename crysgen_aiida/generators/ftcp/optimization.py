"""Optimisers and learning rates: RMSprop with steps and plateaus as published, or AdamW with a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crysgen_aiida.generators.ftcp.spec import TrainingSpec

#: What keras' ReduceLROnPlateau calls an improvement.
_MIN_DELTA = 1e-4


@dataclass
class Rate:
    """The learning rate and what decides how it goes on (keras: LearningRateScheduler, then ReduceLROnPlateau).

    The scheduler sets the rate only in the epochs it names, so between them a plateau keeps what it has reached.
    """

    value: float
    best: float = math.inf
    waited: int = 0

    def begin(self, spec: TrainingSpec, epoch: int) -> None:
        """Set the rate of an epoch (from 0)."""
        if spec.schedule == "cosine":
            low = min(spec.min_lr, spec.lr)
            done = epoch / max(1, spec.epochs - 1)
            self.value = low + 0.5 * (spec.lr - low) * (1 + math.cos(math.pi * done))
        elif epoch in spec.step_epochs:
            self.value = spec.step_rates[spec.step_epochs.index(epoch)]

    def end(self, spec: TrainingSpec, loss: float) -> None:
        """Look at the training loss of an epoch."""
        if spec.schedule == "cosine" or not spec.plateau_patience:
            return
        if loss < self.best - _MIN_DELTA:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited >= spec.plateau_patience and self.value > spec.min_lr:
            self.value, self.waited = max(self.value * spec.plateau_factor, spec.min_lr), 0


def make_optimizer(model: nn.Module, spec: TrainingSpec) -> torch.optim.Optimizer:
    """Return the optimiser of a model."""
    if spec.optimizer == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), lr=spec.lr, alpha=0.9, eps=1e-7, foreach=True)
    return torch.optim.AdamW(model.parameters(), lr=spec.lr, weight_decay=spec.weight_decay, fused=True)


def state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser by ``<what>.<parameter>``, e.g. ``square_avg.encoder.mean.weight``."""
    return {
        f"{what}.{name}": value
        for name, parameter in model.named_parameters()
        for what, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what :func:`state_tensors` gave."""
    names = dict(model.named_parameters())
    for key, value in tensors.items():
        what, _, name = key.partition(".")
        held = optimizer.state.setdefault(names[name], {})
        # only a fused optimiser counts its steps where the weights are
        stays = what == "step" and not optimizer.defaults.get("fused")
        held[what] = value if stays else value.to(names[name].device)
