"""The optimisers of a training: AdamW as published, or Muon for the matrices of the blocks and AdamW for the rest.

Muon (K. Jordan et al., 2024) makes the momentum of a matrix orthogonal before it steps. In short trainings it is
several times ahead of AdamW by validation loss; after long ones little of that is left: ``docs/results/mattergpt.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from crysgen_aiida.generators.mattergpt.model import Transformer
from crysgen_aiida.generators.mattergpt.spec import TrainingSpec


def learning_rate(spec: TrainingSpec, step: int, total: int) -> float:
    """Return the rate of a step (from 0): linear warm-up, then a cosine down to ``min_lr`` at the last step."""
    warmup = max(1, round(spec.warmup * total))
    if step < warmup:
        return spec.lr * (step + 1) / warmup
    low = min(spec.min_lr, spec.lr)
    done = (step - warmup) / max(1, total - 1 - warmup)
    return low + 0.5 * (spec.lr - low) * (1 + math.cos(math.pi * min(1.0, done)))


class Optimizers:
    """All optimisers of one model, stepped together.

    Decay is on matrices only: no biases, norms, embeddings or *missing* vectors.

    :param spec: ``optimizer`` is ``adamw`` or ``muon``; the rate of Muon is ``matrix_lr`` on the schedule of ``lr``.
    """

    def __init__(self, model: Transformer, spec: TrainingSpec) -> None:
        self.model, self.spec = model, spec
        linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
        inner = {id(p) for p in model.blocks.parameters()} & linear if spec.optimizer == "muon" else set()
        rest = [p for p in model.parameters() if id(p) not in inner]
        groups = [
            {"params": [p for p in rest if id(p) in linear], "weight_decay": spec.weight_decay},
            {"params": [p for p in rest if id(p) not in linear], "weight_decay": 0.0},
        ]
        betas = (spec.beta1, spec.beta2)
        #: each optimiser with the factor of its rate to the scheduled one
        self.members: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(groups, lr=spec.lr, betas=betas, fused=True), 1.0)
        ]
        if inner:
            matrices = [p for p in model.parameters() if id(p) in inner]
            # steps of the size AdamW would make, so that one decay and one schedule suit both
            muon = torch.optim.Muon(
                matrices, lr=spec.matrix_lr, weight_decay=spec.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self.members.append((muon, spec.matrix_lr / spec.lr))

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer, _ in self.members:
            optimizer.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Clip the gradients and do one step at the scheduled rate."""
        nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip_norm)
        for optimizer, factor in self.members:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state by ``<what>.<parameter>``, e.g. ``momentum_buffer.blocks.0.up.weight``."""
        return {
            f"{what}.{name}": value
            for name, held in self._states()
            for what, value in held.items()
            if isinstance(value, Tensor)
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_tensors` gave."""
        names = dict(self.model.named_parameters())
        owner = {id(p): o for o, _ in self.members for g in o.param_groups for p in g["params"]}
        for key, value in tensors.items():
            what, _, name = key.partition(".")
            parameter = names[name]
            optimizer = owner[id(parameter)]
            held = optimizer.state.setdefault(parameter, {})
            # only a fused optimiser counts its steps where the weights are
            stays = what == "step" and not optimizer.defaults.get("fused")
            held[what] = value if stays else value.to(parameter.device)

    def _states(self) -> Iterator[tuple[str, dict[str, object]]]:
        for name, parameter in self.model.named_parameters():
            for optimizer, _ in self.members:
                if parameter in optimizer.state:
                    yield name, optimizer.state[parameter]
