"""Ranking of candidates: constraints, then weighted desirability or Pareto fronts, with stable ties."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest

if TYPE_CHECKING:
    import pandas as pd

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.table import PropertyTable

DIRECTIONS = ("lower", "higher", "target")
METHODS = ("weighted", "pareto", "lexicographic")

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "==": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "in": lambda column, value: column.isin(list(value)),
    "between": lambda column, value: (column >= value[0]) & (column <= value[1]),
}


@dataclass(frozen=True)
class Objective:
    """What is wanted of one column.

    :param direction: ``lower``, ``higher`` or ``target``.
    :param target: the wanted value, for ``target``.
    :param weight: relative importance.
    :param limits: values that count as worst and best; those of the candidates that meet the constraints if None.
    """

    column: str
    direction: str = "lower"
    target: float | None = None
    weight: float = 1.0
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Query:
    """Which candidates, and in what order.

    :param constraints: ``(column, operator, value)``, all must hold; a missing value never does.
    :param objectives: what to order by; with none, the order of the rows.
    :param method: ``weighted`` (mean desirability), ``pareto`` (front by front, weighted within a front) or
        ``lexicographic`` (the first objective decides, the next among its ties, and so on).
    :param limit: how many ranked rows to keep, None for all.
    """

    constraints: tuple[tuple[str, str, Any], ...] = ()
    objectives: tuple[Objective, ...] = ()
    method: str = "weighted"
    limit: int | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Query:
        """Build a query from plain values (YAML, JSON, ``orm.Dict``); see :meth:`to_dict` for the form.

        :raises BadInput: for an unknown key, operator, direction or method.
        """
        unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise BadInput(
                f"A ranking has no setting {', '.join(unknown)}; give constraints, objectives, method, limit."
            )
        constraints = tuple((str(c[0]), str(c[1]), c[2]) for c in values.get("constraints", ()))
        for column, operator, _ in constraints:
            if operator not in _OPERATORS:
                raise BadInput(f"The constraint on {column} uses {operator!r}; use one of {' '.join(_OPERATORS)}.")
        objectives = tuple(_objective(name, given) for name, given in dict(values.get("objectives", {})).items())
        method = str(values.get("method", "weighted"))
        if method not in METHODS:
            raise BadInput(f"There is no ranking method {method!r}; use {', '.join(METHODS)}.")
        limit = values.get("limit")
        return cls(constraints, objectives, method, None if limit is None else int(limit))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_dict` turns back into this query."""
        return {
            "constraints": [list(c) for c in self.constraints],
            "objectives": {
                o.column: {k: v for k, v in dataclasses.asdict(o).items() if k != "column" and v is not None}
                for o in self.objectives
            },
            "method": self.method,
            "limit": self.limit,
        }


@dataclass(frozen=True)
class Ranking:
    """Ranked rows, best first.

    :param rows: values of the frame's ``row`` column.
    :param scores: mean desirability in [0, 1], higher is better.
    :param fronts: number of the Pareto front, 0 is the best; all 0 for ``weighted``.
    :param funnel: how many rows were left after each constraint, in order, first the number of all.
    """

    rows: list[int]
    scores: list[float]
    fronts: list[int]
    funnel: list[tuple[str, int]] = field(default_factory=list)


def candidate_frame(crystals: CrystalSet, table: PropertyTable) -> pd.DataFrame:
    """Join relaxed crystals with the table that judged them, one row a crystal that was judged.

    ``row`` is the row of the crystals; ``status`` and ``reason`` are the crystal's. Columns of the table win over
    columns of the same name in the crystals.
    """
    left = crystals.to_frame().drop(columns=["lattice", "numbers", "frac_coords", "parent_input", "parent_row"])
    right = table.to_frame().drop(columns=["row", "content_id", "status", "reason", "parent_input"])
    twice = [c for c in right.columns if c in left.columns]
    return (
        left.drop(columns=twice)
        .merge(right, left_on="row", right_on="parent_row", how="inner")
        .drop(columns=["parent_row"])
    )


def rank_frame(frame: pd.DataFrame, query: Query) -> Ranking:
    """Rank the rows of ``frame``, which has a column ``row``.

    Equal scores keep the order of ``row``. A row that lacks a value some objective asks for comes after all that have
    theirs; one that lacks a value some constraint asks for is out, and counted so in the funnel.

    :raises ImpossibleRequest: if a column is not there.
    """
    for column in [c[0] for c in query.constraints] + [o.column for o in query.objectives]:
        if column not in frame.columns:
            raise ImpossibleRequest(f"There is no column {column!r} to rank by; there are {', '.join(frame.columns)}.")
    kept = frame.sort_values("row", kind="stable")
    funnel = [("all", len(kept))]
    for column, operator, value in query.constraints:
        held = _OPERATORS[operator](kept[column], value).fillna(False).astype(bool) & kept[column].notna()
        kept = kept[held]
        funnel.append((f"{column} {operator} {value}", len(kept)))
    rows = kept["row"].to_numpy(dtype=np.int64)
    wishes = np.array([_desirability(kept[o.column].to_numpy(dtype=float), o) for o in query.objectives])
    wishes = wishes.reshape(len(query.objectives), len(rows)).T  # (n, k); NaN where a value is missing
    unknown = np.isnan(wishes).any(axis=1)
    weights = np.array([o.weight for o in query.objectives])
    filled = np.nan_to_num(wishes, nan=0.0)
    scores = filled @ weights / weights.sum() if len(weights) else np.ones(len(rows))
    fronts = np.zeros(len(rows), dtype=int)
    if query.method == "pareto" and len(weights):
        fronts = pareto_fronts(np.nan_to_num(wishes, nan=-1.0))
    # rounding makes a tie of what differs in the last bit only, so that the order does not depend on the machine
    keys: list[np.ndarray] = [rows, -np.round(scores, 12), fronts, unknown]
    if query.method == "lexicographic":
        keys[1:3] = [-np.round(filled[:, k], 12) for k in reversed(range(len(weights)))]
    order = np.lexsort(keys)[: query.limit]
    return Ranking(rows[order].tolist(), scores[order].tolist(), fronts[order].tolist(), funnel)


def pareto_fronts(wishes: np.ndarray) -> np.ndarray:
    """Return the front of each point, 0 the best; ``wishes`` (n, k), higher is better in every column."""
    fronts = np.full(len(wishes), -1)
    left = np.arange(len(wishes))
    front = 0
    while len(left):
        points = wishes[left]
        better_or_equal = (points[None, :, :] >= points[:, None, :]).all(axis=2)
        better = (points[None, :, :] > points[:, None, :]).any(axis=2)
        dominated = np.any(better_or_equal & better, axis=1)
        fronts[left[~dominated]] = front
        left = left[dominated]
        front += 1
    return fronts


def _objective(name: str, given: Mapping[str, Any] | str) -> Objective:
    values = {"direction": given} if isinstance(given, str) else dict(given)
    unknown = sorted(set(values) - {"direction", "target", "weight", "limits"})
    if unknown:
        raise BadInput(f"The objective {name} has no setting {', '.join(unknown)}.")
    direction = str(values.get("direction", "lower"))
    if direction not in DIRECTIONS:
        raise BadInput(f"The objective {name} has direction {direction!r}; use one of {', '.join(DIRECTIONS)}.")
    target = values.get("target")
    if (direction == "target") != (target is not None):
        raise BadInput(f"The objective {name}: give a target with direction 'target', and only then.")
    limits = values.get("limits")
    return Objective(
        name,
        direction,
        None if target is None else float(target),
        float(values.get("weight", 1.0)),
        None if limits is None else (float(limits[0]), float(limits[1])),
    )


def _desirability(values: np.ndarray, objective: Objective) -> np.ndarray:
    """Map values linearly to [0, 1]: 1 at the best limit, 0 at the worst, NaN where there is no value."""
    if objective.direction == "target":
        distance = np.abs(values - (objective.target or 0.0))
    else:
        distance = values if objective.direction == "lower" else -values
    if objective.limits is not None:
        worst, best = objective.limits
        if objective.direction == "higher":
            worst, best = -worst, -best
    elif np.isfinite(distance).any():
        known = distance[np.isfinite(distance)]
        worst, best = float(known.max()), float(known.min())
    else:
        return np.full_like(distance, np.nan)
    if worst == best:
        return np.where(np.isnan(distance), np.nan, 1.0)
    return np.clip((worst - distance) / (worst - best), 0.0, 1.0)
