"""Rates with their uncertainty."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crysgen_aiida.crystals.intervals import wilson

__all__ = ["rate", "wilson"]


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
