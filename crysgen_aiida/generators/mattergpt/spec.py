"""Settings of MatterGPT: frozen dataclasses whose defaults describe the published model, and named presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crysgen_aiida.generators.row_filter import RowFilter
from crysgen_aiida.generators.settings import require
from crysgen_aiida.representations.slices.spec import SlicesSpec


@dataclass(frozen=True)
class ModelSpec:
    """The transformer: paper A has 12 layers, 12 heads, width 768 (85 M parameters).

    :param block_size: most tokens of a string, its end token included.
    :param dropout: chance of zeroing what a layer writes (paper: 0.1).
    :param attention_dropout: the same of attention weights (paper: 0.1); any but 0 rules out the fast CPU kernel.
    :param condition_encoder: how a scalar condition becomes a prefix vector: ``linear`` (paper) or ``mlp``.
    :param net_features: whether each token comes with what the string so far says of its atoms and bonds
        (:mod:`~crysgen_aiida.generators.mattergpt.reading`; paper: no).
    """

    layers: int = 12
    heads: int = 12
    width: int = 768
    block_size: int = 450
    dropout: float = 0.1
    attention_dropout: float = 0.0
    condition_encoder: str = "mlp"
    net_features: bool = False

    def __post_init__(self) -> None:
        require(min(self.layers, self.heads, self.width) > 0, "Every model size must be at least 1.")
        require(
            self.width % self.heads == 0,
            f"model.width ({self.width}) must be a multiple of model.heads ({self.heads}).",
        )
        require(self.block_size >= 32, f"model.block_size must be at least 32, not {self.block_size}.")
        require(0 <= self.dropout < 1, f"model.dropout must be in [0, 1), not {self.dropout}.")
        require(0 <= self.attention_dropout < 1, "model.attention_dropout must be in [0, 1).")
        require(
            self.condition_encoder in ("linear", "mlp"),
            f"model.condition_encoder must be linear or mlp, not {self.condition_encoder!r}.",
        )


@dataclass(frozen=True)
class DataSpec:
    """What the model learns from.

    :param conditions: labels to condition on; those absent from the data set are dropped with a warning.
    :param keep: rows to learn from; the default keeps all.
    :param order: ``sorted`` (atoms by Z, bonds u <= v and in order: least to learn) or ``graph`` (as encoded: paper).
    :param augmentation: spellings of a crystal in the training set; the first is the plain one.
    :param standardise: whether condition values are centred and scaled (paper: raw values).
    :param log1p: conditions spanning decades; log(1 + value) is what the model sees.
    :param distrust: ``flag:label`` pairs; rows of a set with a column ``flags`` lose the labels their flags discredit.
    :param val_fraction: share of the formulas held out.
    :param part_rows: crystals a resumable part of the preparation.
    """

    conditions: tuple[str, ...] = ("formation_energy_per_atom", "piezo_max")
    keep: RowFilter = field(default_factory=RowFilter)
    order: str = "sorted"
    augmentation: int = 1
    standardise: bool = True
    log1p: tuple[str, ...] = ("piezo_max", "kappa_300k", "dielectric_total", "dielectric_electronic", "power_factor")
    distrust: tuple[str, ...] = (
        "label_conflict:formation_energy_per_atom",
        "gap_conflict:band_gap",
        "piezo_above_20:piezo_max",
        "piezo_small_gap:piezo_max",
        "dielectric_above_50:dielectric_total",
        "dielectric_above_50:dielectric_electronic",
    )
    val_fraction: float = 0.1
    part_rows: int = 256

    def __post_init__(self) -> None:
        require(
            self.order in ("sorted", "graph"),
            f"data.order must be sorted or graph, not {self.order!r}.",
        )
        require(self.augmentation >= 1, f"data.augmentation must be at least 1, not {self.augmentation}.")
        require(0 <= self.val_fraction < 1, f"data.val_fraction must be in [0, 1), not {self.val_fraction}.")
        require(self.part_rows >= 1, f"data.part_rows must be at least 1, not {self.part_rows}.")


@dataclass(frozen=True)
class TrainingSpec:
    """Optimisation. Paper A: Adam, learning rate 1e-4, batch 60; its code: AdamW, decay 0.1 on matrices, clip 1.

    :param max_steps: stop after so many optimiser steps (0: only ``epochs`` decides); the schedule ends there too.
    :param optimizer: ``adamw`` for everything (paper), or ``muon`` for the matrices of the blocks beside it.
    :param matrix_lr: highest learning rate of Muon; it follows the schedule of ``lr``.
    :param warmup: share of all steps with a linearly rising rate; a cosine to ``min_lr`` follows.
    :param augment: spell every string anew each epoch, with its ``atoms`` renumbered, or ``atoms+axes``: the cell axes
        permuted and reversed as well; ``none`` repeats the strings as they are.
    :param condition_dropout: chance that all conditions of a string are hidden, and that each single one is.
    :param patience: epochs without a better validation loss before an early stop (0: never).
    :param precision: ``fp32``, ``bf16`` (autocast) or ``auto`` (bf16 where the hardware multiplies it; on a GPU
        for networks at least 768 wide, smaller ones are faster without).
    :param store_dtype: number format of the stored weights, ``float32`` or ``bfloat16``.
    :param processes: data-parallel processes, started through accelerate.
    :param checkpoint_steps: optimiser steps between saved training states; 0 saves only at the end of epochs.
    :param deadline_steps: steps between two looks at the clock and at the loss.
    """

    epochs: int = 50
    max_steps: int = 0
    batch_size: int = 60
    optimizer: str = "adamw"
    lr: float = 3.3e-4
    matrix_lr: float = 5e-3
    min_lr: float = 1e-5
    warmup: float = 0.04
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    augment: str = "none"
    condition_dropout: float = 0.1
    patience: int = 5
    precision: str = "auto"
    store_dtype: str = "float32"
    processes: int = 1
    checkpoint_steps: int = 200
    deadline_steps: int = 5

    def __post_init__(self) -> None:
        positive = (self.epochs, self.batch_size, self.processes, self.deadline_steps)
        require(
            min(positive) >= 1,
            "training.epochs, batch_size, processes and deadline_steps must each be at least 1.",
        )
        require(
            min(self.lr, self.matrix_lr, self.clip_norm) > 0,
            "training.lr, training.matrix_lr and training.clip_norm must be positive.",
        )
        require(
            self.optimizer in ("adamw", "muon"),
            f"training.optimizer must be adamw or muon, not {self.optimizer!r}.",
        )
        require(0 <= self.condition_dropout <= 1, "training.condition_dropout must be in [0, 1].")
        require(
            self.precision in ("auto", "fp32", "bf16"),
            f"training.precision must be auto, fp32 or bf16, not {self.precision!r}.",
        )
        require(
            self.store_dtype in ("float32", "bfloat16"),
            f"training.store_dtype must be float32 or bfloat16, not {self.store_dtype!r}.",
        )
        require(
            self.augment in ("none", "atoms", "atoms+axes"),
            f"training.augment must be none, atoms or atoms+axes, not {self.augment!r}.",
        )


@dataclass(frozen=True)
class SamplingSpec:
    """How strings are drawn. Gumbel-max sampling at temperature T is multinomial sampling at T.

    :param top_k: keep the k likeliest tokens (0: all).
    :param top_p: keep the likeliest tokens that together hold this probability (1: all).
    :param guidance: classifier-free guidance; logits = without + guidance * (with - without conditions), so 0 ignores
        the conditions, 1 is plain conditional sampling (and costs half).
    :param grammar: only draw tokens after which a valid net can still be written.
    :param max_tokens: most tokens of a string, end token included (0: the model's block size).
    :param batch: strings computed together; results do not depend on it.
    :param part_rows: strings a resumable part.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.95
    greedy: bool = False
    guidance: float = 1.0
    grammar: bool = True
    max_tokens: int = 0
    batch: int = 64
    part_rows: int = 64

    def __post_init__(self) -> None:
        require(self.temperature > 0, "sampling.temperature must be positive; for the likeliest string set greedy.")
        require(0 < self.top_p <= 1, f"sampling.top_p must be in (0, 1], not {self.top_p}.")
        require(self.top_k >= 0 and self.max_tokens >= 0, "sampling.top_k and max_tokens cannot be negative.")
        require(self.guidance >= 0, f"sampling.guidance cannot be negative, but is {self.guidance}.")
        require(min(self.batch, self.part_rows) >= 1, "sampling.batch and part_rows must be at least 1.")


@dataclass(frozen=True)
class MatterGPTSpec:
    """All settings of MatterGPT.

    ``mode`` is recorded with every model. ``paper`` (see the preset) feeds raw condition values through a linear
    layer, never hides a condition, writes bonds in the encoder's order and samples without a grammar. The published
    loss also counts padding; that bug only rescales the loss and is not repeated.
    """

    mode: str = "default"
    slices: SlicesSpec = field(default_factory=SlicesSpec)
    model: ModelSpec = field(default_factory=ModelSpec)
    data: DataSpec = field(default_factory=DataSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    sampling: SamplingSpec = field(default_factory=SamplingSpec)

    def __post_init__(self) -> None:
        require(self.mode in ("default", "paper"), f"mode must be default or paper, not {self.mode!r}.")
        require(
            self.slices.strategy == 4,
            f"MatterGPT spells crystals by strategy 4, not {self.slices.strategy}; leave slices.strategy at 4.",
        )


_STARTER_CONDITIONS = ("formation_energy_per_atom", "piezo_max", "band_gap", "crystal_system")

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "mode": "paper",
        "model": {"layers": 12, "heads": 12, "width": 768, "condition_encoder": "linear", "attention_dropout": 0.1},
        "slices": {"graph_method": "crystalnn"},
        "data": {"order": "graph", "standardise": False, "log1p": ()},
        "training": {"lr": 1e-4, "batch_size": 60, "condition_dropout": 0.0},
        "sampling": {"temperature": 1.2, "top_p": 0.9, "grammar": False},
    },
    "large": {
        "model": {"net_features": True},
        "training": {"batch_size": 128, "augment": "atoms+axes", "optimizer": "muon"},
    },
    "small": {
        "model": {"layers": 8, "heads": 8, "width": 512, "net_features": True},
        "training": {"batch_size": 64, "lr": 5e-4, "optimizer": "muon"},
    },
    "base": {
        "model": {"layers": 6, "heads": 4, "width": 256, "net_features": True},
        "training": {"batch_size": 32, "lr": 1e-3, "optimizer": "muon"},
    },
    "tiny": {
        "model": {"layers": 4, "heads": 2, "width": 128, "net_features": True},
        "training": {"batch_size": 32, "lr": 2e-3, "optimizer": "muon"},
    },
    "starter": {
        "model": {"layers": 5, "heads": 4, "width": 256, "block_size": 320, "dropout": 0.05, "net_features": True},
        "data": {"conditions": _STARTER_CONDITIONS},
        "training": {
            "epochs": 26, "batch_size": 32, "lr": 1e-3, "optimizer": "muon", "store_dtype": "bfloat16",
            "augment": "atoms",
        },
    },
    "test": {
        "model": {"layers": 2, "heads": 2, "width": 64, "block_size": 160, "dropout": 0.0, "net_features": True},
        "data": {"conditions": ("formation_energy_per_atom", "band_gap"), "part_rows": 16},
        "training": {
            "epochs": 3, "batch_size": 8, "lr": 3e-3, "precision": "fp32", "checkpoint_steps": 2, "deadline_steps": 1,
            "patience": 0,
        },
        "sampling": {"batch": 16, "part_rows": 16},
    },
}  # fmt: skip
