"""Conditions: how a requested value becomes what the network sees, and how well the training set supports it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.errors import EmptySet, ImpossibleRequest
from crysgen_aiida.crystals.properties import get_property
from crysgen_aiida.crystals.symmetry import CRYSTAL_SYSTEMS
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.mattergpt.model import ConditionShape
from crysgen_aiida.generators.mattergpt.spec import DataSpec

#: Conditions that are categories, with their number.
CATEGORIES = {"crystal_system": 7, "space_group": 230}

#: Conditions that need no training: the grammar admits nothing else.
CONSTRAINTS = ("elements", "composition")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Condition:
    """One trained condition.

    :ivar categories: number of categories, 0 for a number.
    :ivar log1p: whether log(1 + value) is what is standardised.
    :ivar mean: centre of the (transformed) training values.
    :ivar std: and their spread.
    :ivar support: the training values: ``n``, and ``min``, ``q05``, ``q25``, ``median``, ``q75``, ``q95``, ``max`` for
        numbers or ``counts`` for categories.
    """

    name: str
    categories: int = 0
    log1p: bool = False
    mean: float = 0.0
    std: float = 1.0
    unit: str = "1"
    method: str = ""
    support: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> ConditionShape:
        """What the network must know of it."""
        return ConditionShape(self.name, self.categories)

    def encode(self, values: FloatArray) -> FloatArray:
        """Return what the network sees: standardised numbers, category positions; NaN stays NaN."""
        if self.categories:
            return values
        return ((np.log1p(values) if self.log1p else values) - self.mean) / self.std

    def read(self, value: Any) -> float:
        """Return a requested value as a number (a category as its position).

        :raises ImpossibleRequest: if it cannot be asked for, or is far from everything in the training set.
        """
        if self.name == "crystal_system":
            if value not in CRYSTAL_SYSTEMS:
                raise ImpossibleRequest(
                    f"There is no crystal system {value!r}; choose one of {', '.join(CRYSTAL_SYSTEMS)}."
                )
            return float(CRYSTAL_SYSTEMS.index(value))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ImpossibleRequest(f"The condition {self.name} must be a finite number, not {value!r}.")
        if self.categories:
            if value != int(value) or not 1 <= value <= self.categories:
                raise ImpossibleRequest(f"{self.name} must be a whole number from 1 to {self.categories}, not {value}.")
            return float(value) - 1.0
        low, high = self.support["min"], self.support["max"]
        room = max(high - low, 1e-6)
        if not low - room <= value <= high + room or (self.log1p and value <= -1):
            raise ImpossibleRequest(
                f"{self.name} = {value:g} {self.unit} is out of reach: the {self.support['n']} training values lie "
                f"between {low:g} and {high:g}. Ask for a value in or near that range."
            )
        return float(value)

    def warning(self, value: float) -> str | None:
        """Return a sentence if few training values are near the requested one, else None."""
        if self.categories:
            count = int(self.support["counts"][int(value)])
            if count >= 20:
                return None
            return f"Only {count} training crystals have the requested {self.name}; expect few hits."
        if self.support["q05"] <= value <= self.support["q95"]:
            return None
        where = "inside" if self.support["min"] <= value <= self.support["max"] else "outside"
        return (
            f"{self.name} = {value:g} {self.unit} lies {where} the range of the {self.support['n']} training values "
            f"({self.support['min']:g} to {self.support['max']:g}; 90 % between {self.support['q05']:g} and "
            f"{self.support['q95']:g}), where the model has seen little."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def label_values(training_set: SequenceSet, name: str) -> FloatArray:
    """Return the labels of a condition as numbers, NaN where missing, shape (n,)."""
    if name == "crystal_system":
        place = {system: float(i) for i, system in enumerate(CRYSTAL_SYSTEMS)}
        return np.array([place.get(v, np.nan) for v in training_set.column(name)])
    values = training_set.values(name)
    return values - 1.0 if name == "space_group" else values


def fit_conditions(
    training_set: SequenceSet, rows: npt.NDArray[np.int64], spec: DataSpec, held: Mapping[str, Condition]
) -> tuple[list[Condition], list[str]]:
    """Return the conditions the training set supports, and warnings about those it does not.

    :param rows: the rows to learn from; held-out rows do not touch the normalisation.
    :param held: conditions of a model that is being fine-tuned, whose normalisation is kept.
    """
    found: list[Condition] = []
    warnings: list[str] = []
    for name in spec.conditions:
        if name in CONSTRAINTS:
            warnings.append(f"{name} is not learned: it can be asked of every model.")
            continue
        values = label_values(training_set, name)[rows] if name in training_set.columns else np.array([])
        valid = values[np.isfinite(values)]
        if len(valid) < 2:
            warnings.append(f"The training set has no labels {name}: the model cannot be conditioned on it.")
            continue
        found.append(_fit(name, valid, spec, training_set, held.get(name)))
    return found, warnings


def _fit(name: str, valid: FloatArray, spec: DataSpec, training_set: SequenceSet, held: Condition | None) -> Condition:
    if name in CATEGORIES:
        counts = np.bincount(valid.astype(int), minlength=CATEGORIES[name]).tolist()
        return Condition(name, CATEGORIES[name], support={"n": len(valid), "counts": counts})
    quantiles = np.quantile(valid, [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0])
    names = ("min", "q05", "q25", "median", "q75", "q95", "max")
    support: dict[str, Any] = {"n": len(valid), **{k: float(q) for k, q in zip(names, quantiles, strict=True)}}
    log1p = held.log1p if held else name in spec.log1p
    if log1p and valid.min() <= -1:
        raise ImpossibleRequest(f"{name} has values below -1, so it cannot be seen as log(1 + value): fix data.log1p.")
    seen = np.log1p(valid) if log1p else valid
    mean, std = (float(seen.mean()), float(seen.std()) or 1.0) if spec.standardise else (0.0, 1.0)
    if held:
        mean, std = held.mean, held.std
    return Condition(name, 0, log1p, mean, std, get_property(name).unit, training_set.method(name) or "", support)


def label_matrix(training_set: SequenceSet, conditions: Sequence[Condition]) -> FloatArray:
    """Return what the network sees for every row, shape (n, P), NaN where a label is missing."""
    columns = [c.encode(label_values(training_set, c.name)) for c in conditions]
    return np.stack(columns, axis=1) if columns else np.zeros((len(training_set), 0))


def request_matrix(
    conditions: Sequence[Condition], requested: Mapping[str, Any], n: int
) -> tuple[FloatArray, dict[str, list[Any]], list[str]]:
    """Return what the network sees for ``n`` rows of a request; lists of values are cycled over the rows.

    :return: matrix (n, P) with NaN where nothing is asked; the request spelled out row by row; warnings.
    :raises ImpossibleRequest: for a value that cannot be served.
    """
    matrix = np.full((n, len(conditions)), np.nan)
    spelled: dict[str, list[Any]] = {}
    warnings: list[str] = []
    for column, condition in enumerate(conditions):
        if condition.name not in requested:
            continue
        values = as_list(requested[condition.name], condition.name)
        numbers = np.array([condition.read(v) for v in values])
        warnings += [w for w in map(condition.warning, dict.fromkeys(numbers.tolist())) if w]
        matrix[:, column] = np.resize(condition.encode(numbers), n)
        spelled[condition.name] = [values[i % len(values)] for i in range(n)]
    return matrix, spelled, warnings


def as_list(value: Any, name: str) -> list[Any]:
    """Return a requested value as the list of values to cycle over."""
    values = list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]
    if not values:
        raise ImpossibleRequest(f"The condition {name} is an empty list; give a value or leave it out.")
    return values


def require_rows(n: int, what: str) -> None:
    """Refuse to go on with nothing.

    :raises EmptySet: if ``n`` is zero.
    """
    if n == 0:
        raise EmptySet(f"{what}; check the reasons in the set, or start from more crystals.")
