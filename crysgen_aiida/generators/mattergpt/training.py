"""Training: warm-up and cosine, bf16 where the hardware has it, early stop, and resumption to the bit.

Everything random is keyed by the seed and by the step or epoch it belongs to, so a training state is the weights, the
moments of the optimiser and a few counters: one safetensors file, replaced atomically.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from crysgen_aiida.crystals.errors import Diverged, ImpossibleRequest, OutOfTime
from crysgen_aiida.crystals.hashing import json_hash
from crysgen_aiida.crystals.run import Run, keyed_rng
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.mattergpt.checkpoint import Checkpoint, new_model, read_checkpoint, write_checkpoint
from crysgen_aiida.generators.mattergpt.conditions import Condition, fit_conditions, label_matrix, require_rows
from crysgen_aiida.generators.mattergpt.data import Batch, Loader, read_examples
from crysgen_aiida.generators.mattergpt.model import Transformer, summed_loss
from crysgen_aiida.generators.mattergpt.optimization import Optimizers, learning_rate
from crysgen_aiida.generators.mattergpt.spec import MatterGPTSpec, SamplingSpec
from crysgen_aiida.generators.mattergpt.state import Progress, StateFile
from crysgen_aiida.generators.mattergpt.tokenizer import PAD, get_tokenizer
from crysgen_aiida.generators.memory import memory_guard
from crysgen_aiida.generators.threads import threads

#: A GPU that waits for the next kernel gains nothing by bf16 and pays for its casts (docs/results/gpu.md).
_BF16_WIDTH = 768


class Workers(Protocol):
    """The processes that train together."""

    rank: int
    world: int
    device: torch.device

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model with gradients averaged over the processes."""

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes."""

    def no_sync(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Return a context in which gradients stay local."""


class Alone:
    """One process."""

    rank, world = 0, 1

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def sum(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def no_sync(self, model: nn.Module) -> AbstractContextManager[Any]:
        return nullcontext()


@dataclass(frozen=True)
class TrainingData:
    """What is learned from, and what is held out."""

    train: Loader
    val: Loader
    conditions: tuple[Condition, ...]
    warnings: tuple[str, ...]


def read_training_data(
    training_set: SequenceSet, spec: MatterGPTSpec, seed: int, parent: Checkpoint | None
) -> TrainingData:
    """Read the strings and labels.

    :raises EmptySet: if no row is left to learn from.
    """
    require_rows(len(training_set), "The training set has no rows")
    ok = training_set.ok
    split = np.array([s or "" for s in training_set.column("split")]) if len(ok) else np.array([])
    fits = training_set.values("n_tokens") < spec.model.block_size
    rows = {name: np.flatnonzero(ok & fits & (split == name)) for name in ("train", "val")}
    require_rows(len(rows["train"]), "No row of the training set can be learned from")
    held = {c.name: c for c in parent.conditions} if parent else {}
    conditions, warnings = fit_conditions(training_set, rows["train"], spec.data, held)
    too_long = int((ok & ~fits).sum())
    if too_long:
        warnings.append(f"{too_long} strings are longer than model.block_size ({spec.model.block_size}): left out.")
    values = label_matrix(training_set, conditions)
    tokenizer = get_tokenizer(spec.slices.max_atoms)
    common: dict[str, Any] = {"batch_size": spec.training.batch_size, "seed": seed, "limit": spec.model.block_size}
    respelling: dict[str, Any] = {
        "order": spec.data.order,
        "prefix": spec.slices.prefix,
        "augment": spec.training.augment,
        "dropout": spec.training.condition_dropout,
    }
    train = Loader(
        read_examples(training_set, rows["train"].tolist(), tokenizer),
        values[rows["train"]], tokenizer, **common, **respelling,
    )  # fmt: skip
    val = Loader(read_examples(training_set, rows["val"].tolist(), tokenizer), values[rows["val"]], tokenizer, **common)
    return TrainingData(train, val, tuple(conditions), tuple(warnings))


def use_bf16(spec: MatterGPTSpec, device: torch.device) -> bool:
    """Whether to multiply in bf16: as told, or wherever the hardware does and it is faster."""
    if spec.training.precision != "auto":
        return spec.training.precision == "bf16"
    if device.type == "cuda":
        return spec.model.width >= _BF16_WIDTH and torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Trainer:
    """Trains one model; :meth:`fit` starts or resumes, and writes the checkpoint folder."""

    def __init__(
        self,
        data: TrainingData,
        spec: MatterGPTSpec,
        state_file: StateFile,
        workers: Workers,
        *,
        seed: int,
        run: Run,
        parent: Checkpoint | None = None,
    ) -> None:
        self.data, self.spec, self.workers, self.seed, self.run = data, spec, workers, seed, run
        self.model = new_model(spec, data.conditions, seed)
        if parent is not None:
            inherit(self.model, parent)
        self.model.to(workers.device)
        self.optimizers = Optimizers(self.model, spec.training)
        self.state_file = state_file
        self.progress = state_file.load(self.model, self.optimizers) or Progress()
        self.wrapped = workers.wrap(self.model)
        self.bf16 = use_bf16(spec, workers.device)
        self.scale = float(getattr(run, "batch_scale", 1.0))
        steps = spec.training.epochs * len(data.train)
        self.total = min(steps, spec.training.max_steps) if spec.training.max_steps else steps

    def fit(self) -> None:
        """Train to the end.

        :raises OutOfTime: when the run says so; the state is saved first.
        :raises OutOfMemory: if a batch does not fit.
        :raises Diverged: if the loss is no longer finite.
        """
        try:
            while not self.progress.finished:
                self._epoch()
        except OutOfTime:
            self._save()
            raise

    # -- an epoch --------------------------------------------------------------------------------------------------

    def _epoch(self) -> None:
        spec, progress = self.spec.training, self.progress
        self.model.train()
        for batch in self.data.train.epoch(progress.epoch, start=progress.step_in_epoch):
            if progress.step >= self.total:
                break
            self._look_around()
            with memory_guard("training.batch_size", round(spec.batch_size * self.scale)):
                loss = self._step(batch)
            progress.loss_sum += loss
            progress.n_targets += batch.n_targets
            progress.step += 1
            progress.step_in_epoch += 1
            if spec.checkpoint_steps and progress.step % spec.checkpoint_steps == 0:
                self._save()
        self._finish_epoch()

    def _look_around(self) -> None:
        progress, every = self.progress, self.spec.training.deadline_steps
        if progress.step % every:
            return
        self.run.check_time()
        if progress.n_targets:
            self._check_finite(progress.loss_sum)
            self.run.progress("train", progress.step, self.total, loss=progress.loss_sum / progress.n_targets)

    def _step(self, batch: Batch) -> float:
        """Do one optimiser step on a global batch; return the summed loss over all processes."""
        spec, workers = self.spec.training, self.workers
        step = self.progress.step
        key = int(keyed_rng(self.seed, "dropout", step).integers(2**62))
        torch.manual_seed(key + workers.rank)
        mine = share(batch, workers.rank, workers.world)
        size = max(1, math.ceil(spec.batch_size * self.scale / workers.world))
        pieces = [mine.rows(slice(i, i + size)) for i in range(0, len(mine.tokens), size)]
        total = torch.zeros((), device=workers.device)
        self.optimizers.zero_grad()
        for i, piece in enumerate(pieces):
            last = i == len(pieces) - 1
            with nullcontext() if last else workers.no_sync(self.wrapped):
                loss = self._loss(piece)
                # processes average their gradients, so each scales its share of the mean over the global batch
                (loss * (workers.world / batch.n_targets)).backward()
            total += loss.detach()
        self.optimizers.step(learning_rate(spec, step, self.total))
        return workers.sum([float(total)])[0]

    def _loss(self, batch: Batch) -> Tensor:
        device = self.workers.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bf16):
            logits = self.wrapped(
                torch.from_numpy(batch.tokens).to(device), torch.from_numpy(batch.values).float().to(device)
            )
        return summed_loss(logits, torch.from_numpy(batch.targets).to(device))

    # -- between epochs --------------------------------------------------------------------------------------------

    def _finish_epoch(self) -> None:
        spec, progress = self.spec.training, self.progress
        self._check_finite(progress.loss_sum)
        train_loss = progress.loss_sum / max(1, progress.n_targets)
        val_loss = self.evaluate()
        judged = train_loss if val_loss is None else val_loss
        self._check_finite(judged)
        entry = {
            "epoch": progress.epoch,
            "step": progress.step,
            "train_loss": train_loss,
            "lr": learning_rate(spec, max(0, progress.step - 1), self.total),
            **({} if val_loss is None else {"val_loss": val_loss}),
        }
        progress.close_epoch(entry, judged, has_val=val_loss is not None)
        if val_loss is not None and progress.best_epoch == entry["epoch"] and self.workers.rank == 0:
            self.state_file.save_best(self.model)
        if progress.step >= self.total or progress.epoch >= spec.epochs:
            progress.stopped = "complete"
        elif spec.patience and progress.epochs_since_best >= spec.patience:
            progress.stopped = "early"
        self._save()
        self.run.progress("train", progress.step, self.total, loss=train_loss, val_loss=judged)

    @torch.no_grad()
    def evaluate(self) -> float | None:
        """Return the loss per token [nats] on the held-out strings, or None if there are none."""
        if not self.data.val.examples:
            return None
        self.model.eval()
        loss, count = 0.0, 0
        for batch in self.data.val.plain():
            mine = share(batch, self.workers.rank, self.workers.world)
            with memory_guard("training.batch_size", len(batch.tokens)):
                device = self.workers.device
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bf16):
                    logits = self.model(
                        torch.from_numpy(mine.tokens).to(device), torch.from_numpy(mine.values).float().to(device)
                    )
                loss += float(summed_loss(logits, torch.from_numpy(mine.targets).to(device)))
            count += batch.n_targets
        self.model.train()
        return self.workers.sum([loss])[0] / count

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise Diverged(
                f"The training loss is no longer a finite number (step {self.progress.step}); lower training.lr "
                f"({self.spec.training.lr:g}) or training.clip_norm, or set training.precision to fp32."
            )

    def _save(self) -> None:
        if self.workers.rank == 0 and math.isfinite(self.progress.loss_sum):
            self.state_file.save(self.model, self.optimizers, self.progress)

    def write(self, folder: Path) -> Path:
        """Write the checkpoint folder of the best epoch."""
        progress = self.progress
        best = next(e for e in progress.history if e["epoch"] == progress.best_epoch)
        facts: dict[str, Any] = {
            "seed": self.seed,
            "precision": "bf16" if self.bf16 else "fp32",
            "best_epoch": progress.best_epoch,
            "epochs_run": len(progress.history),
            "steps": progress.step,
            "stopped": progress.stopped,
            "train_loss": best["train_loss"],
            "val_loss": best.get("val_loss"),
            "n_train": len(self.data.train.examples),
            "n_val": len(self.data.val.examples),
        }
        weights: Mapping[str, Tensor] = self.state_file.load_best() or self.model.state_dict()
        return write_checkpoint(folder, weights, self.spec, self.data.conditions, progress.history, facts)


def fit_generator(
    training_set: SequenceSet,
    spec: MatterGPTSpec,
    workers: Workers,
    *,
    seed: int,
    run: Run,
    start_from: Path | None = None,
) -> Path:
    """Train in this process (one of several, perhaps) and return the checkpoint folder ``generator`` in ``run.folder``.

    A training state of the same run in ``run.folder`` is continued.
    """
    parent = read_checkpoint(start_from) if start_from else None
    identity = {
        "training_set": training_set.content_hash,
        "spec": asdict(replace(spec, sampling=SamplingSpec())),
        "seed": seed,
        "start_from": parent.config["weights_sha256"] if parent else None,
    }
    data = read_training_data(training_set, spec, seed, parent)
    if workers.rank == 0:
        for warning in data.warnings:
            run.warn(warning)
    state = StateFile(run.folder / "training", json_hash(identity))
    with torch.random.fork_rng(), threads(run.threads):
        trainer = Trainer(data, spec, state, workers, seed=seed, run=run, parent=parent)
        trainer.fit()
    folder = run.folder / "generator"
    return trainer.write(folder) if workers.rank == 0 else folder


#: Settings that do not change the shape of a model.
_REGULARISATION = {"dropout": 0.0, "attention_dropout": 0.0}


def share(batch: Batch, rank: int, world: int) -> Batch:
    """Return the rows of one process; a process without rows gets one that does not count."""
    if world == 1:
        return batch
    mine = batch.rows(slice(rank, None, world))
    if len(mine.tokens):
        return mine
    idle = batch.rows(slice(0, 1))
    return Batch(idle.tokens, np.full_like(idle.targets, PAD), idle.values)


def inherit(model: Transformer, parent: Checkpoint) -> None:
    """Start from the weights of another model; conditions it does not have keep their random start.

    :raises ImpossibleRequest: if its sizes are other ones.
    """
    own = model.state_dict()
    held = parent.model.state_dict()
    if parent.spec.model.__dict__ | _REGULARISATION != model.spec.__dict__ | _REGULARISATION or (
        parent.model.tokenizer != model.tokenizer
    ):
        raise ImpossibleRequest(
            "The model to start from has other sizes than spec.model and spec.slices.max_atoms ask for; use the same "
            "preset and overrides it was trained with."
        )
    model.load_state_dict({name: held.get(name, w) for name, w in own.items()})
