"""Bounds and tolerances on properties, as settings write them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.properties import get_property

_CONSTRAINT = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*([-+.\deE]+)\s*")


@dataclass(frozen=True)
class Constraint:
    """A bound on a property, e.g. ``band_gap >= 0.3``."""

    name: str
    relation: str
    bound: float

    def holds(self, values: Any) -> Any:
        """Return where an array of values satisfies it; a missing value (NaN) does not."""
        return {
            "<": values < self.bound, "<=": values <= self.bound, ">": values > self.bound, ">=": values >= self.bound
        }[self.relation]  # fmt: skip


def read_constraints(texts: Iterable[str]) -> list[Constraint]:
    """Return the constraints that texts like ``band_gap >= 0.3`` mean.

    :raises ImpossibleRequest: for a text that is none, or an unknown property.
    """
    found = []
    for text in texts:
        match = _CONSTRAINT.fullmatch(text)
        try:
            bound = float(match[3]) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or math.isnan(bound):
            raise ImpossibleRequest(f"The constraint {text!r} is not understood; write e.g. 'band_gap >= 0.3'.")
        found.append(Constraint(get_property(match[1]).name, match[2], bound))
    return found


def read_tolerances(texts: Iterable[str]) -> dict[str, float]:
    """Return the tolerance of each property from texts like ``band_gap:0.3``.

    :raises ImpossibleRequest: for a text that is none, or an unknown property.
    """
    found = {}
    for text in texts:
        name, _, number = text.partition(":")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not value > 0:
            raise ImpossibleRequest(f"The tolerance {text!r} is not understood; write e.g. 'band_gap:0.3'.")
        found[get_property(name).name] = value
    return found
