"""Training: resumable to the bit on a CPU, with the losses of every part, and the latent space at its end.

Everything random is keyed by the seed and by the step or epoch it belongs to, so a training state is the weights, the
averages of the optimiser and a few counters: one safetensors file, replaced atomically.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crysgen_aiida.crystals.errors import Diverged, ImpossibleRequest, OutOfTime
from crysgen_aiida.crystals.hashing import json_hash
from crysgen_aiida.crystals.run import Run, keyed_rng
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.ftcp.checkpoint import Checkpoint, new_model, read_checkpoint, write_checkpoint
from crysgen_aiida.generators.ftcp.data import Batch, IntArray, TrainingData, read_training_data
from crysgen_aiida.generators.ftcp.labels import unscaled
from crysgen_aiida.generators.ftcp.latent_space import LatentSpace
from crysgen_aiida.generators.ftcp.model import Vae
from crysgen_aiida.generators.ftcp.optimization import Rate, make_optimizer
from crysgen_aiida.generators.ftcp.reconstruction import Reconstruction, divergence
from crysgen_aiida.generators.ftcp.spec import FtcpGeneratorSpec, SamplingSpec
from crysgen_aiida.generators.ftcp.state import Progress, StateFile
from crysgen_aiida.generators.memory import memory_guard
from crysgen_aiida.generators.threads import threads


class Objective:
    """The loss of a batch and its parts."""

    def __init__(self, spec: FtcpGeneratorSpec) -> None:
        self.spec, self.reconstruction = spec, Reconstruction(spec.representation, spec.loss)

    def __call__(
        self, model: Vae, batch: Batch, noise: Tensor | None, whole: int
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return the weighted sum, its unweighted parts (sums over the rows), and the scaled properties read (B, P).

        :param noise: (B, Z) unit Gaussian noise; None decodes the means.
        :param whole: rows of the batch that this is a piece of.
        """
        spec = self.spec.loss
        matrices, labels = batch.matrices, batch.labels  # (B, rows, columns), (B, P)
        mean, log_variance = model.encoder(matrices)  # (B, Z)
        points = mean if noise is None else mean + (log_variance / 2).exp() * noise
        predicted = model.properties(mean)
        errors = (predicted - labels.nan_to_num()).square() * labels.isfinite()  # (B, P)
        n = len(self.spec.data.targets)
        parts = {
            "reconstruction": self.reconstruction.loss(model.decoder(points), matrices),
            "kl": divergence(mean, log_variance).sum(),
            "targets": errors[:, :n].sum(),
            "sparse": errors[:, n:].sum(),
        }
        beta = spec.beta / (whole * self.spec.model.latent) if spec.kl == "mean" else spec.beta
        weights = {"reconstruction": 1.0, "kl": beta, "targets": spec.targets, "sparse": spec.sparse}
        weighted = torch.stack([weights[name] * part for name, part in parts.items()])
        return weighted.sum(), parts, predicted


class Trainer:
    """Trains one model; :meth:`fit` starts or resumes, :meth:`write` gives the checkpoint folder."""

    def __init__(
        self,
        data: TrainingData,
        spec: FtcpGeneratorSpec,
        state_file: StateFile,
        *,
        seed: int,
        run: Run,
        parent: Checkpoint | None = None,
    ) -> None:
        self.data, self.spec, self.seed, self.run = data, spec, seed, run
        self.device = torch.device(run.device)
        self.objective = Objective(spec)
        self.model = new_model(spec, seed)
        if parent is not None:
            inherit(self.model, spec, parent)
        self.model.to(self.device)
        self.optimizer = make_optimizer(self.model, spec.training)
        self.state_file = state_file
        #: whether the best epoch is kept, not the last
        self.chosen = spec.training.keep == "best" and len(data.val) > 0
        held = state_file.load(self.model, self.optimizer)
        self.progress, self.best = held or (Progress(Rate(spec.training.lr)), {})
        self.scale = float(getattr(run, "batch_scale", 1.0))
        self.total = spec.training.epochs * data.steps

    def fit(self) -> None:
        """Train to the end.

        :raises OutOfTime: when the run says so; the state is saved first.
        :raises OutOfMemory: if a batch does not fit.
        :raises Diverged: if the loss is no longer finite.
        """
        try:
            while not self.progress.stopped:
                self._epoch()
        except OutOfTime:
            self._save()
            raise

    # -- an epoch --------------------------------------------------------------------------------------------------

    def _epoch(self) -> None:
        spec, progress = self.spec.training, self.progress
        if progress.step_in_epoch == 0:
            progress.rate.begin(spec, progress.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = progress.rate.value
        self.model.train()
        for positions in self.data.epoch(progress.epoch, start=progress.step_in_epoch):
            self._look_around()
            with memory_guard("training.batch_size", round(spec.batch_size * self.scale)):
                losses = self._step(positions)
            progress.add(losses, len(positions))
            if progress.step % spec.checkpoint_steps == 0:
                self._save()
        self._finish_epoch()

    def _look_around(self) -> None:
        if self.progress.step % self.spec.training.deadline_steps:
            return
        self.run.check_time()
        if self.progress.rows:
            means = self.progress.means()
            self._check_finite(means["loss"])
            self.run.progress("train", self.progress.step, self.total, **means)

    def _step(self, positions: IntArray) -> dict[str, float]:
        """Do one optimiser step on some rows; return the losses, summed over them.

        After memory ran out a batch is computed in pieces, each normalised by its own statistics.
        """
        rng = keyed_rng(self.seed, "noise", self.progress.step)
        whole = len(positions)
        noise = rng.standard_normal((whole, self.spec.model.latent), dtype=np.float32)
        size = max(1, math.ceil(self.spec.training.batch_size * self.scale))
        sums: dict[str, float] = {}
        self.optimizer.zero_grad(set_to_none=True)
        for start in range(0, whole, size):
            piece = slice(start, start + size)
            drawn = torch.from_numpy(noise[piece]).to(self.device)
            loss, parts, _ = self.objective(self.model, self.data.batch(positions[piece]), drawn, whole)
            loss.backward()  # type: ignore[no-untyped-call]
            for name, value in _numbers({"loss": loss, **parts}).items():
                sums[name] = sums.get(name, 0.0) + value
        self.optimizer.step()
        return sums

    # -- between epochs --------------------------------------------------------------------------------------------

    def _finish_epoch(self) -> None:
        spec, progress = self.spec.training, self.progress
        means = progress.means()
        self._check_finite(means["loss"])
        held_out = self.evaluate()
        judged = held_out.get("val_loss", means["loss"])
        self._check_finite(judged)
        entry = {
            "epoch": progress.epoch,
            "step": progress.step,
            "lr": progress.rate.value,
            **{f"train_{name}": value for name, value in means.items()},
            **held_out,
        }
        progress.rate.end(spec, means["loss"])
        progress.close_epoch(entry, judged, chosen=self.chosen)
        if self.chosen and progress.best_epoch == entry["epoch"]:
            self.best = {name: w.detach().cpu().clone() for name, w in self.model.state_dict().items()}
        if progress.epoch >= spec.epochs:
            progress.stopped = "complete"
        elif spec.patience and progress.epochs_since_best >= spec.patience:
            progress.stopped = "early"
        if progress.stopped:
            self._save()
        self.run.progress("train", progress.step, self.total, **means, val_loss=judged)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the losses of the held-out rows, decoded at their means, and the mean absolute errors of their labels.

        Empty if there are none.
        """
        val = self.data.val
        if not len(val):
            return {}
        self.model.eval()
        sums: dict[str, float] = {}
        predicted = []
        for positions in self.data.plain(val):
            whole = len(positions)
            with memory_guard("training.batch_size", whole):
                loss, parts, read = self.objective(self.model, self.data.batch(positions), None, whole)
            predicted.append(read.double().cpu().numpy())
            for name, value in _numbers({"loss": loss, **parts}).items():
                sums[name] = sums.get(name, 0.0) + value
        errors = np.abs(unscaled(np.concatenate(predicted), self.data.labels) - self.data.values[val])
        found = {f"val_{name}": value / len(val) for name, value in sums.items()}
        for column, label in enumerate(self.data.labels):
            known = errors[:, column][np.isfinite(errors[:, column])]
            if len(known):
                found[f"val_mae.{label.name}"] = float(known.mean())
        return found

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise Diverged(
                f"The training loss is no longer a finite number (step {self.progress.step}); lower training.lr "
                f"({self.spec.training.lr:g})."
            )

    def _save(self) -> None:
        if math.isfinite(self.progress.sums.get("loss", 0.0)):
            self.state_file.save(self.model, self.optimizer, self.progress, self.best)

    # -- the end ---------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> Path:
        """Write the checkpoint folder of the epoch that is kept."""
        progress = self.progress
        if self.best:
            self.model.load_state_dict(self.best)
        kept = next(e for e in progress.history if e["epoch"] == progress.best_epoch)
        facts: dict[str, Any] = {
            "seed": self.seed,
            "best_epoch": progress.best_epoch,
            "epochs_run": len(progress.history),
            "steps": progress.step,
            "stopped": progress.stopped,
            "train_loss": kept["train_loss"],
            "val_loss": kept.get("val_loss"),
            "n_train": len(self.data.train),
            "n_val": len(self.data.val),
        }
        return write_checkpoint(
            folder, self.model.state_dict(), self.spec, self.data.labels, self.data.scaler, self.latent_space(),
            progress.history, facts,
        )  # fmt: skip

    @torch.no_grad()
    def latent_space(self) -> LatentSpace:
        """Return where all rows of the training set lie."""
        self.model.eval()
        found: list[tuple[np.ndarray, ...]] = []
        for positions in self.data.plain(np.arange(len(self.data.rows))):
            self.run.check_time()
            with memory_guard("training.batch_size", len(positions)):
                mean, log_variance = self.model.encoder(self.data.batch(positions).matrices)
                properties = self.model.properties(mean)
            found.append(tuple(t.double().cpu().numpy() for t in (mean, log_variance, properties)))
        means, log_variances, read = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return LatentSpace(
            means, log_variances, self.data.values, unscaled(read, self.data.labels), self.data.rows,
            self.data.held_out, self.data.formulas,
        )  # fmt: skip


def _numbers(parts: dict[str, Tensor]) -> dict[str, float]:
    """Return scalars as numbers; a GPU is waited for once."""
    return dict(zip(parts, torch.stack([part.detach() for part in parts.values()]).tolist(), strict=True))


def inherit(model: Vae, spec: FtcpGeneratorSpec, parent: Checkpoint) -> None:
    """Start from the weights of another model.

    :raises ImpossibleRequest: if it has other sizes or labels.
    """
    own = (spec.representation, spec.model, spec.data.targets, spec.data.sparse_targets)
    held = (parent.spec.representation, parent.spec.model, parent.spec.data.targets, parent.spec.data.sparse_targets)
    if own != held:
        raise ImpossibleRequest(
            "The model to start from has other sizes or labels than spec.model, spec.representation and "
            "spec.data.targets ask for; use the same preset and overrides it was trained with."
        )
    model.load_state_dict(parent.model.state_dict())


def fit_generator(
    training_set: SequenceSet, spec: FtcpGeneratorSpec, *, seed: int, run: Run, start_from: Path | None = None
) -> Path:
    """Train and return the checkpoint folder ``generator`` in ``run.folder``.

    A training state of the same run in ``run.folder`` is continued.
    """
    parent = read_checkpoint(start_from) if start_from else None
    # neither how it is sampled nor how much memory it may take changes a training
    deciding = replace(spec, sampling=SamplingSpec(), training=replace(spec.training, matrix_memory=0.0))
    identity = {
        "training_set": training_set.content_hash,
        "spec": asdict(deciding),
        "seed": seed,
        "start_from": parent.config["weights_sha256"] if parent else None,
    }
    state = StateFile(run.folder / "training", json_hash(identity))
    with threads(run.threads):
        data = read_training_data(
            training_set, spec, seed, (parent.scaler, parent.labels) if parent else None, run.device
        )
        trainer = Trainer(data, spec, state, seed=seed, run=run, parent=parent)
        trainer.fit()
        return trainer.write(run.folder / "generator")
