"""What a training reads: matrices made from their compact form, kept if memory allows, and labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crysgen_aiida.crystals.errors import EmptySet
from crysgen_aiida.crystals.run import keyed_rng
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.ftcp.labels import Label, fit_labels, label_matrix, scaled
from crysgen_aiida.generators.ftcp.preparation import training_rows
from crysgen_aiida.generators.ftcp.spec import FtcpGeneratorSpec
from crysgen_aiida.representations.ftcp.compact import Compact
from crysgen_aiida.representations.ftcp.encode import matrices
from crysgen_aiida.representations.ftcp.scaler import RowScaler
from crysgen_aiida.representations.ftcp.spec import FtcpSpec

IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

#: Matrices made at once where all are wanted.
_CHUNK = 1024


class Matrices:
    """The scaled matrices of a set, by row: made once if they fit into ``memory``, else whenever they are asked for.

    :param compact: (n) crystals.
    :param memory: bytes that all matrices may take together, on the device.
    """

    def __init__(
        self, compact: Compact, spec: FtcpSpec, scaler: RowScaler, memory: float, device: torch.device
    ) -> None:
        self.compact, self.spec, self.scaler, self.device = compact, spec, scaler, device
        self._held: Tensor | None = None
        if device.type == "cuda":  # the network needs room too
            memory = min(memory, torch.cuda.mem_get_info()[0] / 2)
        if len(compact) * spec.rows * spec.columns * 4 <= memory:
            with suppress(torch.OutOfMemoryError):  # others may use the GPU: it does without then
                self._held = self._all()

    def __len__(self) -> int:
        return len(self.compact)

    def take(self, rows: IntArray) -> Tensor:
        """Return the matrices of some rows, (B, rows, columns)."""
        return self._make(rows) if self._held is None else self._held[torch.from_numpy(rows).to(self.device)]

    def _all(self) -> Tensor:
        held = torch.empty((len(self), self.spec.rows, self.spec.columns), device=self.device)
        for start in range(0, len(self), _CHUNK):
            held[start : start + _CHUNK] = self._make(slice(start, start + _CHUNK))
        return held

    def _make(self, rows: IntArray | slice) -> Tensor:
        made = self.scaler.transform(matrices(self.compact.take(rows), self.spec))
        return torch.from_numpy(made.astype(np.float32, copy=False)).to(self.device)


@dataclass(frozen=True)
class Batch:
    """Some rows: matrices scaled to 0..1, labels scaled to 0..1 with NaN where one is missing; all on the device."""

    matrices: Tensor  #: (B, rows, columns)
    labels: Tensor  #: (B, P)


@dataclass(frozen=True)
class TrainingData:
    """Everything a training reads, by row of ``rows``: the training rows and the held-out rows that can be used."""

    rows: IntArray  #: (n,) rows of the training set
    held_out: npt.NDArray[np.bool_]  #: (n,)
    matrices: Matrices
    values: npt.NDArray[np.float64]  #: (n, P) labels as they are
    scaled: Float32Array  #: (n, P) labels scaled to 0..1
    labels: tuple[Label, ...]
    scaler: RowScaler
    formulas: tuple[str, ...]
    batch_size: int
    seed: int

    @property
    def train(self) -> IntArray:
        """Positions of the training rows."""
        return np.flatnonzero(~self.held_out)

    @property
    def val(self) -> IntArray:
        """Positions of the held-out rows."""
        return np.flatnonzero(self.held_out)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.train) // self.batch_size)

    def batch(self, positions: IntArray) -> Batch:
        """Return the rows at some positions."""
        labels = torch.from_numpy(self.scaled[positions])
        return Batch(self.matrices.take(positions), labels.to(self.matrices.device))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[IntArray]:
        """Yield the positions of the shuffled batches of an epoch, from ``start`` on; seed and epoch decide them."""
        shuffled = keyed_rng(self.seed, "batches", epoch).permutation(self.train)
        for index in range(start, self.steps):
            yield shuffled[index * self.batch_size : (index + 1) * self.batch_size]

    def plain(self, positions: IntArray) -> Iterator[IntArray]:
        """Yield positions in their order, in batches."""
        for start in range(0, len(positions), self.batch_size):
            yield positions[start : start + self.batch_size]


def read_training_data(
    training_set: SequenceSet,
    spec: FtcpGeneratorSpec,
    seed: int,
    held: tuple[RowScaler, tuple[Label, ...]] | None = None,
    device: str = "cpu",
) -> TrainingData:
    """Read a training set.

    :param device: where the batches are to be, ``cpu`` or ``cuda``.
    :param held: scaler and labels of a model that is being fine-tuned, which are kept.
    :raises EmptySet: if there is no row to learn from.
    :raises ImpossibleRequest: if a label lacks or cannot be learned.
    """
    train, val = (training_rows(training_set, side) for side in ("train", "val"))
    if not len(train):
        raise EmptySet(
            "No row of the training set can be learned from; check the reasons in the set, or start from more crystals."
        )
    rows = np.sort(np.concatenate([train, val]))
    held_out = np.isin(rows, val)
    known = {label.name: label for label in held[1]} if held else None
    labels = fit_labels(training_set, train, spec.data, known)
    compact = Compact.from_columns(training_set.arrow, spec.representation).take(rows)
    fitted = np.ones(len(rows), dtype=bool) if spec.data.scaler_rows == "all" else ~held_out
    scaler = held[0] if held else fit_scaler(compact.take(fitted), spec.representation)
    values = label_matrix(training_set, labels)[rows]
    formulas = training_set.column("reduced_formula")
    return TrainingData(
        rows,
        held_out,
        Matrices(compact, spec.representation, scaler, spec.training.matrix_memory * 2**30, torch.device(device)),
        values,
        scaled(values, labels).astype(np.float32),
        labels,
        scaler,
        tuple(formulas[row] for row in rows),
        spec.training.batch_size,
        seed,
    )


def fit_scaler(compact: Compact, spec: FtcpSpec) -> RowScaler:
    """Return the scaler of some crystals, whose matrices need not fit into memory together."""
    chunks = (slice(start, start + _CHUNK) for start in range(0, len(compact), _CHUNK))
    return RowScaler.fit_parts(matrices(compact.take(chunk), spec) for chunk in chunks)
