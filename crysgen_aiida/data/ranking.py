"""Ranking of candidates: constraints, then weighted desirability, Pareto fronts or one objective after another.

The order itself is :mod:`crysgen_aiida.data.ordering`; this module says what is asked, and asks it of a frame.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.data.constraints import Constraint, checked, columns_of, holds, label, plain
from crysgen_aiida.data.elements import elements_of
from crysgen_aiida.data.ordering import Objective, Ranker, desirability, pareto_fronts

if TYPE_CHECKING:
    import pandas as pd

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.table import PropertyTable

__all__ = [
    "DIRECTIONS",
    "DIVERSITY",
    "METHODS",
    "Objective",
    "Query",
    "Ranking",
    "candidate_frame",
    "desirability",
    "diversity_label",
    "pareto_fronts",
    "rank_frame",
]

DIRECTIONS = ("lower", "higher", "target")
METHODS = ("weighted", "pareto", "lexicographic")

#: What candidates may have in common: the reduced formula, the set of elements, the structure (as matched).
DIVERSITY = ("formula", "elements", "structure")

#: Column of a table that holds the standard uncertainty of another.
SIGMA = "{}_uncertainty"


@dataclass(frozen=True)
class Query:
    """Which candidates, and in what order.

    :param constraints: see :mod:`crysgen_aiida.data.constraints`; all must hold; a missing value never does.
    :param objectives: what to order by; with none, the order of the rows.
    :param method: ``weighted`` (mean desirability), ``pareto`` (front by front, weighted within a front) or
        ``lexicographic`` (the first objective decides, the next among its ties, and so on).
    :param limit: how many ranked rows to keep, None for all.
    :param diversity: ``(what, cap)``: of the ranked rows at most ``cap`` share a ``formula``, set of ``elements`` or
        ``structure``; the best of each are kept.
    """

    constraints: tuple[Constraint, ...] = ()
    objectives: tuple[Objective, ...] = ()
    method: str = "weighted"
    limit: int | None = None
    diversity: tuple[tuple[str, int], ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Query:
        """Build a query from plain values (YAML, JSON, ``orm.Dict``); see :meth:`to_dict` for the form.

        :raises BadInput: for an unknown key, operator, direction or method, or a number that is none.
        """
        unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise BadInput(
                f"A ranking has no setting {', '.join(unknown)}; give constraints, objectives, method, limit, "
                "diversity."
            )
        asked, wishes = values.get("constraints") or (), values.get("objectives") or {}
        if not isinstance(asked, (list, tuple)):
            raise BadInput(f"The constraints of a ranking are a list of [column, operator, value], not {asked!r}.")
        if not isinstance(wishes, Mapping):
            raise BadInput(f"The objectives of a ranking are written {{column: direction}}, not {wishes!r}.")
        constraints = tuple(checked(c) for c in asked)
        objectives = tuple(_objective(str(name), given) for name, given in wishes.items())
        if objectives and not any(o.weight for o in objectives):
            raise BadInput("All objectives have weight 0; give at least one of them a weight.")
        method = str(values.get("method", "weighted"))
        if method not in METHODS:
            raise BadInput(f"There is no ranking method {method!r}; use {', '.join(METHODS)}.")
        limit = None if values.get("limit") is None else _whole("limit", values["limit"])
        if limit is not None and limit < 0:
            raise BadInput(f"A ranking's limit is at least 0, not {limit}.")
        caps = tuple((str(what), _whole(f"diversity {what}", cap)) for what, cap in _pairs(values.get("diversity")))
        for what, cap in caps:
            if what not in DIVERSITY or cap < 1:
                raise BadInput(f"The diversity {what!r}: {cap} is not one of {', '.join(DIVERSITY)} and at least 1.")
        return cls(constraints, objectives, method, limit, caps)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_dict` turns back into this query."""
        values: dict[str, Any] = {
            "constraints": [plain(c) for c in self.constraints],
            "objectives": {o.column: _plain_objective(o) for o in self.objectives},
            "method": self.method,
            "limit": self.limit,
        }
        if self.diversity:
            values["diversity"] = dict(self.diversity)
        return values


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
    theirs; one that lacks a value some constraint asks for is out, and counted so in the funnel. The uncertainty of a
    column ``x`` is the column ``x_uncertainty``.

    :raises ImpossibleRequest: if a column is not there.
    """
    needed = [name for c in query.constraints for name in columns_of(c)] + [o.column for o in query.objectives]
    needed += [c for what, _ in query.diversity for c in _KIND_COLUMNS[what]]
    for column in needed:
        if column not in frame.columns:
            raise ImpossibleRequest(f"There is no column {column!r} to rank by; there are {', '.join(frame.columns)}.")
    kept = frame.sort_values("row", kind="stable")
    funnel = [("all", len(kept))]
    for constraint in query.constraints:
        kept = kept[holds(constraint, kept)]
        funnel.append((label(constraint), len(kept)))
    ranker = Ranker(
        kept["row"].to_numpy(dtype=np.int64),
        [kept[o.column].to_numpy(dtype=float, na_value=np.nan) for o in query.objectives],
        query.objectives,
        query.method,
        [_sigmas(kept, o) for o in query.objectives],
    )
    if query.diversity:
        caps = [cap for _, cap in query.diversity]
        order = ranker.diverse(caps, lambda at: _kinds(kept.iloc[at], query), query.limit)
        funnel.append((diversity_label(query), len(order.positions)))
    else:
        order = ranker.best(query.limit)
    rows = ranker.ties[order.positions]
    return Ranking(rows.tolist(), order.scores.tolist(), order.fronts.tolist(), funnel)


def diversity_label(query: Query) -> str:
    """Return the caps of a query in words, for a funnel."""
    caps = ", ".join(f"{cap} of a{'n' if what == 'elements' else ''} {_NAMES[what]}" for what, cap in query.diversity)
    return f"at most {caps}" + (f", the best {query.limit}" if query.limit is not None else "")


_NAMES = {"formula": "formula", "elements": "element set", "structure": "structure"}
_KIND_COLUMNS = {"formula": ("reduced_formula",), "elements": ("reduced_formula",), "structure": ("duplicate_of",)}


def _kinds(rows: pd.DataFrame, query: Query) -> list[list[Any]]:
    made: list[list[Any]] = []
    for what, _ in query.diversity:
        if what == "structure":
            # the first of a group is nobody's duplicate: it stands for the group itself
            values = rows["duplicate_of"].where(rows["duplicate_of"].notna(), rows["row"])
            made.append([int(v) for v in values])
        else:
            held = [f if isinstance(f, str) else None for f in rows["reduced_formula"]]
            made.append(held if what == "formula" else [None if f is None else elements_of(f) for f in held])
    return made


def _sigmas(frame: pd.DataFrame, objective: Objective) -> np.ndarray | None:
    name = SIGMA.format(objective.column)
    if not objective.confidence or name not in frame.columns:
        return None
    return frame[name].to_numpy(dtype=float, na_value=np.nan)


def _objective(name: str, given: Any) -> Objective:
    if not isinstance(given, (str, Mapping)):
        raise BadInput(f"The objective {name} is a direction or settings of one, not {given!r}.")
    values = {"direction": given} if isinstance(given, str) else dict(given)
    unknown = sorted(set(values) - {f.name for f in dataclasses.fields(Objective)} | ({"column"} & set(values)))
    if unknown:
        raise BadInput(f"The objective {name} has no setting {', '.join(unknown)}.")
    direction = str(values.get("direction", "lower"))
    if direction not in DIRECTIONS:
        raise BadInput(f"The objective {name} has direction {direction!r}; use one of {', '.join(DIRECTIONS)}.")
    target = values.get("target")
    if (direction == "target") != (target is not None):
        raise BadInput(f"The objective {name}: give a target with direction 'target', and only then.")
    limits, sigma = values.get("limits"), values.get("sigma")
    if limits is not None and (not isinstance(limits, (list, tuple)) or len(limits) != 2):
        raise BadInput(f"The objective {name} has limits {limits!r}; give two numbers: what is worst, what is best.")
    objective = Objective(
        name,
        direction,
        None if target is None else _number(name, "target", target),
        _number(name, "weight", values.get("weight", 1.0)),
        None if limits is None else (_number(name, "limits", limits[0]), _number(name, "limits", limits[1])),
        _number(name, "confidence", values.get("confidence", 0.0)),
        None if sigma is None else _number(name, "sigma", sigma),
    )
    if objective.weight < 0 or (objective.sigma or 0.0) < 0:
        raise BadInput(f"The objective {name}: weight and sigma are not below 0; turn the direction round instead.")
    return objective


def _plain_objective(objective: Objective) -> dict[str, Any]:
    values = {k: v for k, v in dataclasses.asdict(objective).items() if k != "column" and v is not None}
    if not objective.confidence:  # as it was written before there was one: recorded decisions keep their content
        values.pop("confidence")
    return values


def _pairs(given: Any) -> list[tuple[Any, Any]]:
    if given is None or isinstance(given, Mapping):
        return list((given or {}).items())
    raise BadInput(f"The diversity of a ranking is written {{formula: 1}}, not {given!r}.")


def _whole(what: str, given: Any) -> int:
    try:
        value = int(given)
    except (TypeError, ValueError, OverflowError):
        value = None
    if value is None or (isinstance(given, float) and value != given):
        raise BadInput(f"A ranking's {what} is a whole number, not {given!r}.")
    return value


def _number(name: str, what: str, given: Any) -> float:
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"The objective {name} has {what} {given!r}; give a number.")
    return value
