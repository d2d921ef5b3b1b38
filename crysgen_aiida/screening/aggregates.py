"""Rates of a screened set, each with numerator, denominator and interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.screening.protocols import Protocol
from crysgen_aiida.screening.statistics import rate
from crysgen_aiida.screening.uniqueness import Uniqueness

_PLAIN = ("valid_structure", "valid_composition", "unique", "novel", "near_reference", "piezo_allowed", "piezo_active")
#: Verdicts that not every protocol or set of inputs gives.
_MORE = ("new_formula", "dissimilar", "below_elements", "passed")


def aggregate(
    crystals: CrystalSet, table: PropertyTable, rules: Protocol, uniqueness: Uniqueness
) -> dict[str, dict[str, Any]]:
    """Return ``{name: {numerator, denominator, rate, wilson95, unknown, of}}``.

    ``submitted`` are the rows that were not skipped by a rule; a row that failed on the way counts there and nowhere
    else. ``near_unique_novel`` is what the protocols call S.U.N. or metastable, unique, novel; with a reference that is
    a lower bound it is an upper bound of theirs.
    """
    status = crystals.column("status")
    submitted = [s != schema.STATUS_SKIPPED for s in status]
    held: dict[str, list[bool | None]] = {name: table.column(name) for name in (*_PLAIN, "semiconductor")}
    held.update({name: table.column(name) for name in _MORE if name in table.columns})
    valid = [a is True and b is True for a, b in zip(held["valid_structure"], held["valid_composition"], strict=True)]
    base = valid if rules.denominator == "valid" else submitted
    n_base, n_submitted = sum(base), sum(submitted)
    of = rules.denominator
    found: dict[str, dict[str, Any]] = {
        "submitted": {"numerator": n_submitted, "denominator": len(status), "of": "rows"},
        "relaxed": {**rate([s == schema.STATUS_OK for s in status], n_submitted), "of": "submitted"},
        "valid": {**rate(list(valid), n_submitted), "of": "submitted"},
    }
    if "converged" in crystals.columns:
        found["converged"] = {**rate(crystals.column("converged"), n_submitted), "of": "submitted"}
    for name in ("valid_structure", "valid_composition"):
        found[name] = {**rate(held[name], n_submitted), "of": "submitted"}
    for name in [c for c in table.columns if c.startswith(("novel_against.", "new_formula_against."))]:
        held[name] = table.column(name)
    for name in [n for n in held if n not in ("valid_structure", "valid_composition")]:
        found[name] = {**rate(_among(held[name], base), n_base), "of": of}
    near = _among(held["near_reference"], base)
    unique = uniqueness.first_among(near) if rules.near_first else held["unique"]
    joined = [_all(flags) for flags in zip(near, unique, held["novel"], strict=True)]
    found["near_unique_novel"] = {**rate(joined, n_base), "of": of}
    groups = table.column("space_group_loose")
    symmetric = [None if g is None else g != 1 for g in groups]
    ordered = [_all(flags) for flags in zip(joined, symmetric, strict=True)]
    found["near_unique_novel_not_p1"] = {**rate(ordered, n_base), "of": of}
    found["p1"] = {**rate([None if s is None else not s for s in symmetric]), "of": "relaxed"}
    for name in [c for c in table.columns if c.startswith("condition.") or c == "conditions_met"]:
        found[name] = {**rate(table.column(name)), "of": "judged"}
    if "e_above_reference" in table.columns:
        found["e_above_reference"] = _quantiles(table.values("e_above_reference"))
    return found


def _among(verdicts: list[bool | None], base: list[bool]) -> list[bool | None]:
    return [v if counts else False for v, counts in zip(verdicts, base, strict=True)]


def _all(flags: tuple[bool | None, ...]) -> bool | None:
    """Three-valued *and*: false beats unknown, unknown beats true."""
    if any(f is False for f in flags):
        return False
    return None if any(f is None for f in flags) else True


def _quantiles(values: np.ndarray) -> dict[str, Any]:
    held = values[np.isfinite(values)]
    if len(held) == 0:
        return {"n": 0, "unit": "eV/atom"}
    low, middle, high = (float(q) for q in np.quantile(held, [0.25, 0.5, 0.75]))
    return {"n": len(held), "quartiles": [low, middle, high], "unit": "eV/atom"}
