"""The order of candidates: desirability, Pareto fronts, caps for diversity. Arrays in, positions out.

Works on plain arrays, so that the same code ranks a frame in a work chain and a million rows of the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

#: Fronts peeled one by one before all that is left is sorted at once. Few are needed unless the objectives agree.
_PEELED = 8


@dataclass(frozen=True)
class Objective:
    """What is wanted of one column.

    :param direction: ``lower``, ``higher`` or ``target``.
    :param target: the wanted value, for ``target``.
    :param weight: relative importance.
    :param limits: values that count as worst and best; those of the candidates that meet the constraints if None.
    :param confidence: how many standard uncertainties to rank to the worse side of the value: with 1 a value to have
        low counts as ``value + σ``, one to have high as ``value - σ``, one to have near a target as farther by ``σ``.
        Negative is optimistic. Where σ is not known the value counts as missing.
    :param sigma: σ to assume where none is known, in the unit of the column.
    """

    column: str
    direction: str = "lower"
    target: float | None = None
    weight: float = 1.0
    limits: tuple[float, float] | None = None
    confidence: float = 0.0
    sigma: float | None = None

    @property
    def worst_and_best(self) -> tuple[float, float] | None:
        """The limits as distances from what is wanted, see :func:`distances`."""
        if self.limits is None or self.direction != "higher":
            return self.limits
        return -self.limits[0], -self.limits[1]


def distances(values: np.ndarray, objective: Objective, sigmas: np.ndarray | None = None) -> np.ndarray:
    """Return how far values (n,) are from what is wanted, the lower the better; NaN where there is no value.

    :param sigmas: standard uncertainties (n,), NaN where not known; used if the objective has a confidence.
    """
    if objective.direction == "target":
        distance = np.abs(values - (objective.target or 0.0))
    else:
        distance = values if objective.direction == "lower" else -values
    if objective.confidence:
        known = np.full_like(distance, np.nan) if sigmas is None else sigmas
        if objective.sigma is not None:
            known = np.where(np.isnan(known), objective.sigma, known)
        distance = distance + objective.confidence * known
        if objective.direction == "target":
            distance = np.maximum(distance, 0.0)
    return distance


def desirability(values: np.ndarray, objective: Objective, sigmas: np.ndarray | None = None) -> np.ndarray:
    """Map values (n,) linearly to [0, 1]: 1 at the best limit, 0 at the worst, NaN where there is no value.

    :param sigmas: standard uncertainties (n,), NaN where not known; used if the objective has a confidence.
    """
    distance = distances(values, objective, sigmas)
    limits = objective.worst_and_best
    if limits is not None:
        worst, best = limits
    elif np.isfinite(distance).any():
        finite = distance[np.isfinite(distance)]
        worst, best = float(finite.max()), float(finite.min())
    else:
        return np.full_like(distance, np.nan)
    if worst == best:
        return np.where(np.isnan(distance), np.nan, 1.0)
    return np.clip((worst - distance) / (worst - best), 0.0, 1.0)


def pareto_fronts(wishes: np.ndarray, at_least: int | None = None) -> np.ndarray:
    """Return the front of each point, 0 the best; ``wishes`` (n, k), higher is better in every column.

    Equal points are of the same front. Computed by moocore (C; n log n in two dimensions).

    :param at_least: stop once this many points have their front; the others get the number after the last one.
    """
    import moocore

    n = len(wishes)
    points = np.ascontiguousarray(wishes, dtype=float)
    if at_least is None or at_least >= n or points.shape[1] <= 2:
        return np.asarray(moocore.pareto_rank(points, maximise=True), dtype=int) if n else np.zeros(0, dtype=int)
    fronts = np.zeros(n, dtype=int)
    left, front = np.arange(n), 0
    while n - len(left) < at_least:
        if front == _PEELED:
            fronts[left] = front + np.asarray(moocore.pareto_rank(points[left], maximise=True))
            return fronts
        best = np.asarray(moocore.is_nondominated(points[left], maximise=True, keep_weakly=True))
        left, front = left[~best], front + 1
        fronts[left] = front
    return fronts


@dataclass(frozen=True)
class Order:
    """Positions of ranked rows, best first, with score and front of each."""

    positions: np.ndarray
    scores: np.ndarray
    fronts: np.ndarray


class Ranker:
    """Rows to be ordered.

    :param ties: (n,) distinct numbers; rows that are equal otherwise keep their order.
    :param values: (k, n) values of the columns of ``objectives``, NaN where missing.
    :param method: ``weighted``, ``pareto`` or ``lexicographic``.
    :param sigmas: standard uncertainties of each column's values, None where there are none.
    """

    def __init__(
        self,
        ties: np.ndarray,
        values: Sequence[np.ndarray],
        objectives: Sequence[Objective],
        method: str = "weighted",
        sigmas: Sequence[np.ndarray | None] | None = None,
    ) -> None:
        n, known = len(ties), sigmas or [None] * len(objectives)
        self.ties, self.method = ties, method
        columns = [desirability(v, o, s) for v, o, s in zip(values, objectives, known, strict=True)]
        self.wishes = np.array(columns, dtype=float).reshape(len(objectives), n).T  # (n, k); NaN where missing
        self.unknown = np.isnan(self.wishes).any(axis=1)
        self.filled = np.nan_to_num(self.wishes, nan=0.0)
        weights = np.array([o.weight for o in objectives])
        self.scores = self.filled @ weights / weights.sum() if len(weights) else np.ones(n)

    def best(self, limit: int | None = None) -> Order:
        """Return the ``limit`` best rows, all if None.

        A row that lacks a value of an objective comes after all that have theirs.
        """
        n, k = self.wishes.shape
        fronts = np.zeros(n, dtype=int)
        if self.method == "pareto" and k:
            # a row with a missing value never dominates one without, so the best may be found among the latter
            whole = np.flatnonzero(~self.unknown)
            if limit is not None and limit <= len(whole):
                fronts[whole] = pareto_fronts(self.wishes[whole], limit)
            else:
                fronts = pareto_fronts(np.nan_to_num(self.wishes, nan=-1.0))
        # rounding makes a tie of what differs in the last bit only: the order must not depend on the machine
        keys: list[np.ndarray] = [self.ties, -np.round(self.scores, 12), fronts, self.unknown]
        if self.method == "lexicographic":
            keys[1:3] = [-np.round(self.filled[:, j], 12) for j in reversed(range(k))]
        order = np.lexsort(keys)[:limit]
        return Order(order, self.scores[order], fronts[order])

    def diverse(
        self, caps: Sequence[int], kinds: Callable[[np.ndarray], Sequence[Sequence[object]]], limit: int | None = None
    ) -> Order:
        """Return the ``limit`` best rows of which no more than a cap share a kind.

        Walks down the order and takes a row unless one of its kinds is used up.

        :param caps: how many rows may share a kind, one for each list ``kinds`` returns.
        :param kinds: gives the kinds of rows at the given positions: for each cap a sequence as long as these. None
            is nobody's kind: such rows are never capped.
        """
        taken: list[int] = []
        order = self.best(None if limit is None else 4 * limit + 1)
        used: list[dict[object, int]] = [{} for _ in caps]
        done = 0
        while limit != 0:
            for start in range(done, len(order.positions), _BLOCK):
                block = order.positions[start : start + _BLOCK]
                for offset in _within(caps, used, kinds(block)):
                    taken.append(start + offset)
                    if limit is not None and len(taken) == limit:
                        return _take(order, taken)
            done = len(order.positions)
            if done == len(self.ties):
                return _take(order, taken)
            order = self.best(min(8 * done, len(self.ties)))
        return _take(order, taken)


_BLOCK = 2000


def _within(caps: Sequence[int], used: list[dict[object, int]], kinds: Sequence[Sequence[object]]) -> Iterator[int]:
    for offset, of_row in enumerate(zip(*kinds, strict=True)):
        if all(kind is None or u.get(kind, 0) < cap for kind, u, cap in zip(of_row, used, caps, strict=True)):
            for kind, u in zip(of_row, used, strict=True):
                u[kind] = u.get(kind, 0) + 1
            yield offset


def _take(order: Order, taken: list[int]) -> Order:
    at = np.array(taken, dtype=int)
    return Order(order.positions[at], order.scores[at], order.fronts[at])
