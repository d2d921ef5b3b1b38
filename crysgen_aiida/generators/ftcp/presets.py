"""Named settings: the published cases, and small models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PAPER: Mapping[str, Any] = {
    "mode": "paper",
    "representation": {"kpoints": "paper", "occupancy": "paper", "max_elements": 3, "max_sites": 20},
    "model": {"dense_activation": "sigmoid", "norm_momentum": 0.99},
    "loss": {"reconstruction": "squared", "kl": "mean", "beta": 2.0, "targets": 10.0, "sparse": 5.0},
    "data": {
        "targets": ("formation_energy_per_atom",), "log1p": (), "min_elements": 3, "max_e_above_hull": 0.08,
        "split": "rows", "val_fraction": 0.2, "scaler_rows": "all",
    },
    "training": {
        "batch_size": 256, "optimizer": "rmsprop", "weight_decay": 0.0, "lr": 5e-4, "min_lr": 1e-6,
        "schedule": "steps", "step_epochs": (50, 100),
        "step_rates": (1e-4, 5e-5), "plateau_patience": 4, "plateau_factor": 0.3, "keep": "last",
    },
    "sampling": {"encoder_noise": True, "noise": "unit", "predict": "point", "min_contact": 0.0},
}  # fmt: skip


def _paper(**changes: Mapping[str, Any]) -> dict[str, Any]:
    return {**_PAPER, **{name: {**_PAPER[name], **changed} for name, changed in changes.items()}}


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # coefficients of case 1 are not published; those of case 2 are taken
    "paper": _PAPER,
    "paper-band-gap": _paper(
        representation={"max_sites": 40, "max_elements": 4},
        data={"targets": ("formation_energy_per_atom", "band_gap")},
        sampling={"scale": 0.6, "where": ("formation_energy_per_atom < -1.5",)},
    ),
    "paper-thermoelectric": _paper(
        representation={"max_sites": 40, "max_elements": 4},
        data={"targets": ("formation_energy_per_atom", "band_gap"), "sparse_targets": ("power_factor_over_tau",)},
        loss={"beta": 3.0, "targets": 20.0},
        training={"lr": 8e-4, "step_rates": (2e-4, 5e-5)},
        sampling={
            "scale": 0.9, "rank_by": "predicted",
            "where": ("band_gap >= 0.3", "band_gap <= 1.5", "formation_energy_per_atom < 0"),
        },
    ),
    # so small a network gives crystals back worse where its branch counts as much as by default
    "tiny": {
        "model": {"filters": (16, 32, 64), "dense": 256, "latent": 64, "branch": (64, 32)},
        "loss": {"targets": 100.0, "sparse": 100.0, "properties": 0.02, "reciprocal": 0.02},
        "training": {"epochs": 40, "batch_size": 128, "lr": 2e-3, "weight_decay": 0.0},
    },
    "test": {
        "representation": {"max_sites": 6, "n_kpoints": 9},
        "model": {"filters": (8, 16, 16), "dense": 64, "latent": 16, "branch": (16, 8), "norm_momentum": 0.8},
        "loss": {
            "lattice": 30.0, "coordinates": 10.0, "elements": 1.0, "occupancy": 1.0, "targets": 10.0, "sparse": 10.0,
            "properties": 0.02, "reciprocal": 0.02,
        },
        "data": {"part_rows": 16},
        "training": {
            "epochs": 3, "batch_size": 8, "lr": 3e-3, "weight_decay": 0.0, "checkpoint_steps": 2, "deadline_steps": 1
        },
        "sampling": {"probe": 16, "scales": (0.1, 0.5, 1.0, 2.0), "batch": 16, "part_rows": 16},
    },
}  # fmt: skip
