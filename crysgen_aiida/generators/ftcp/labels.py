"""Labels of the latent space: how they are scaled to 0..1, and which values may be asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.properties import get_property
from crysgen_aiida.crystals.table import PackedTable
from crysgen_aiida.generators.ftcp.spec import DataSpec

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Label:
    """One label the model has learned.

    :ivar sparse: whether only some rows have it.
    :ivar log1p: whether log(1 + value) is what is scaled.
    :ivar low: least training value.
    :ivar high: greatest training value.
    :ivar n: training rows that have it.
    """

    name: str
    sparse: bool
    log1p: bool
    low: float
    high: float
    n: int
    unit: str
    method: str

    def encode(self, values: FloatArray) -> FloatArray:
        """Return values scaled so that the training rows fill 0..1; NaN stays NaN."""
        low, high = self._seen(np.array([self.low, self.high]))
        scaled: FloatArray = (self._seen(values) - low) / (high - low)
        return scaled

    def decode(self, scaled: FloatArray) -> FloatArray:
        """Return the values of scaled numbers."""
        low, high = self._seen(np.array([self.low, self.high]))
        seen = low + scaled * (high - low)
        found: FloatArray = np.expm1(seen) if self.log1p else seen
        return found

    def _seen(self, values: FloatArray) -> FloatArray:
        # a value below -1 can be asked for or held out, but not logged
        return np.log1p(np.maximum(values, -1 + 1e-9)) if self.log1p else values

    def read(self, value: Any) -> float:
        """Return a requested value.

        :raises ImpossibleRequest: if it is no number, or far from everything in the training set.
        """
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ImpossibleRequest(f"The condition {self.name} must be a finite number, not {value!r}.")
        room = self.high - self.low
        if not self.low - room <= value <= self.high + room:
            raise ImpossibleRequest(
                f"{self.name} = {value:g} {self.unit} is out of reach: the {self.n} training values lie between "
                f"{self.low:g} and {self.high:g}. Ask for a value in or near that range."
            )
        return float(value)

    def warning(self, value: float) -> str | None:
        """Return a sentence if a requested value lies outside the training values, else None."""
        if self.low <= value <= self.high:
            return None
        return (
            f"{self.name} = {value:g} {self.unit} lies outside the {self.n} training values ({self.low:g} to "
            f"{self.high:g}); the training points nearest to it are taken."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def check_columns(table: PackedTable, names: Sequence[str], what: str) -> None:
    """Refuse a set without the label columns.

    :raises ImpossibleRequest: naming the columns that lack.
    """
    if lacking := [name for name in names if name not in table.columns]:
        raise ImpossibleRequest(
            f"The {what} has no column {', '.join(lacking)}, which data.targets and data.sparse_targets name; give a "
            "set with these labels or change the spec."
        )


def fit_labels(
    table: PackedTable, rows: npt.NDArray[np.int64], spec: DataSpec, held: Mapping[str, Label] | None = None
) -> tuple[Label, ...]:
    """Return the labels of the training rows, those of ``data.targets`` first.

    :param rows: rows to learn from; held-out rows do not touch the scaling.
    :param held: labels of a model that is being fine-tuned, whose scaling is kept.
    :raises ImpossibleRequest: if a column lacks, is constant or empty, or was made by another method than that of the
        model to start from.
    """
    check_columns(table, spec.labels, "training set")
    return tuple(_fit(name, table, rows, spec, (held or {}).get(name)) for name in spec.labels)


def _fit(name: str, table: PackedTable, rows: npt.NDArray[np.int64], spec: DataSpec, held: Label | None) -> Label:
    values = table.values(name)[rows]
    valid = values[np.isfinite(values)]
    unit, method = get_property(name).unit, table.method(name) or ""
    if held is not None:
        if held.method != method:
            raise ImpossibleRequest(
                f"The labels {name} are of method {method or 'unknown'!r}, but the model to start from has learned "
                f"those of {held.method or 'unknown'!r}; values of different methods are never mixed."
            )
        return held
    if not len(valid):
        raise ImpossibleRequest(f"No row to learn from has a label {name}; leave it out of the spec or add labels.")
    low, high = float(valid.min()), float(valid.max())
    if low == high:
        raise ImpossibleRequest(
            f"The label {name} is {low:g} in all {len(valid)} rows to learn from: there is nothing to learn. Leave it "
            "out of the spec, or give rows that differ in it."
        )
    log1p = name in spec.log1p
    if log1p and low <= -1:
        raise ImpossibleRequest(f"{name} has values below -1, so it cannot be seen as log(1 + value): fix data.log1p.")
    return Label(name, name in spec.sparse_targets, log1p, low, high, len(valid), unit, method)


def label_matrix(table: PackedTable, labels: Sequence[Label]) -> FloatArray:
    """Return the labels of every row as they are, shape (n, P), NaN where one is missing."""
    return np.stack([table.values(label.name) for label in labels], axis=1) if labels else np.zeros((len(table), 0))


def scaled(values: FloatArray, labels: Sequence[Label]) -> FloatArray:
    """Return labels (n, P) scaled to 0..1."""
    columns = [label.encode(values[:, i]) for i, label in enumerate(labels)]
    return np.stack(columns, axis=1) if columns else values[:, :0]


def unscaled(values: FloatArray, labels: Sequence[Label]) -> FloatArray:
    """Return the inverse of :func:`scaled`."""
    columns = [label.decode(values[:, i]) for i, label in enumerate(labels)]
    return np.stack(columns, axis=1) if columns else values[:, :0]
