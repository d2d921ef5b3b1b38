"""Rates with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

#: Two-sided 95 % quantile of the normal distribution.
Z95 = 1.959963984540054


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927)).

    With no trials nothing is known: (0, 1).
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    center = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (center - half) / scale), min(1.0, (center + half) / scale)


def rate(verdicts: Iterable[bool | None], denominator: int | None = None) -> dict[str, Any]:
    """Count verdicts: ``{numerator, denominator, rate, wilson95, unknown}``.

    :param denominator: what to divide by; by default the verdicts that are not None. Unknown ones are counted apart.
    """
    held = list(verdicts)
    numerator = sum(v is True for v in held)
    unknown = sum(v is None for v in held)
    trials = len(held) - unknown if denominator is None else denominator
    low, high = wilson(numerator, trials)
    return {
        "numerator": numerator,
        "denominator": trials,
        "rate": numerator / trials if trials else None,
        "wilson95": [low, high],
        "unknown": unknown,
    }
