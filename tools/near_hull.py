"""The near-hull table: the entries of matbench_mp_e_form on or near the lower convex hull of their chemical system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from pymatgen.core import Composition
from scipy.optimize import linprog

from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import ReferenceSet

METHOD = "pbe-mp-legacy"
SCHEME = "mp-legacy"
NAME = "near-hull-mp-legacy"
NEAR = 0.025  # [eV/atom]: kept if not further above the hull, so that a row can be judged without itself
_SOURCE = "matbench_mp_e_form"


def build_near_hull(formation_energies: Iterable[tuple[str, float]]) -> tuple[ReferenceSet, dict[str, Any]]:
    """Return the near-hull entries, the lowest energy a formula, and a log.

    Elements are at zero by definition of a formation energy; the table's own elemental entries (polymorphs) are not
    used. Compositions are judged systems of few elements first: an entry of k elements is compared with the hull
    entries of all its subsystems and with the entries of its own system.
    """
    lowest, n_read = _lowest(formation_energies)
    elements = sorted({symbol for formula in lowest for symbol in _parts(formula)})
    systems: dict[tuple[str, ...], list[str]] = {}
    for formula in lowest:
        parts = _parts(formula)
        if len(parts) > 1:
            systems.setdefault(tuple(sorted(parts)), []).append(formula)
    on_hull: dict[tuple[str, ...], list[str]] = {(symbol,): [symbol] for symbol in elements}
    energies = {**lowest, **dict.fromkeys(elements, 0.0)}
    above: dict[str, float] = dict.fromkeys(elements, 0.0)
    for system in sorted(systems, key=lambda s: (len(s), s)):
        formulas = systems[system]
        competing = [f for sub in _subsets(system) for f in on_hull.get(sub, ())]
        distances = _above_hull(system, formulas, competing, energies)
        above.update(zip(formulas, distances, strict=True))
        on_hull[system] = [f for f, d in zip(formulas, distances, strict=True) if d < 1e-6]
    kept = sorted((f for f in above if above[f] <= NEAR), key=lambda f: (tuple(sorted(_parts(f))), f))
    reference = _pack(kept, energies, above)
    log = {
        "entries": n_read,
        "formulas": len(lowest),
        "rows": len(kept),
        "on_hull": sum(above[f] < 1e-6 for f in kept),
        "elements": len(elements),
        "chemical_systems": len(systems),
        "by_number_of_elements": dict(sorted(Counter(str(len(_parts(f))) for f in kept).items())),
        "rejected": {f"more than {NEAR} eV/atom above the hull": len(above) - len(kept)},
        "content_hash": reference.content_hash,
    }
    return reference, log


def _lowest(entries: Iterable[tuple[str, float]]) -> tuple[dict[str, float], int]:
    lowest: dict[str, float] = {}
    n = 0
    for text, energy in entries:
        n += 1
        formula = Composition(text).get_integer_formula_and_factor()[0]
        # 0.01 meV is far below what the labels mean and lets the file shrink
        lowest[formula] = min(round(energy, 5), lowest.get(formula, np.inf))
    return lowest, n


_PARTS: dict[str, dict[str, float]] = {}


def _parts(formula: str) -> dict[str, float]:
    """Return {element: amount} of a formula."""
    if formula not in _PARTS:
        _PARTS[formula] = {str(k): float(v) for k, v in Composition(formula).items()}
    return _PARTS[formula]


def _subsets(system: tuple[str, ...]) -> list[tuple[str, ...]]:
    picks = range(1, 2 ** len(system) - 1)
    return [tuple(s for i, s in enumerate(system) if pick >> i & 1) for pick in picks]


def _fractions(system: tuple[str, ...], formulas: list[str]) -> np.ndarray:
    amounts = np.array([[_parts(f).get(s, 0.0) for f in formulas] for s in system])
    return amounts / amounts.sum(axis=0)  # (k, n)


def _above_hull(
    system: tuple[str, ...], formulas: list[str], competing: list[str], energies: dict[str, float]
) -> list[float]:
    """Return the energy above hull of each formula [eV/atom]: one linear programme each, min e·x with Ax = b."""
    candidates = competing + formulas
    matrix = _fractions(system, candidates)
    cost = np.array([energies[f] for f in candidates])
    own = matrix[:, len(competing) :]
    result = []
    for column, formula in enumerate(formulas):
        if len(formulas) == 1 and all(energies[f] == 0.0 for f in competing):
            lowest = min(0.0, energies[formula])  # no rival but the elements
        else:
            lowest = linprog(cost, A_eq=matrix, b_eq=own[:, column], method="highs").fun
        result.append(max(0.0, round(energies[formula] - lowest, 6)))
    return result


def _pack(kept: list[str], energies: dict[str, float], above: dict[str, float]) -> ReferenceSet:
    source = ["definition" if len(_parts(f)) == 1 else _SOURCE for f in kept]
    table = pa.table({"formula": pa.array(kept), "source": pa.array(source)})
    field = property_field("energy_per_atom", METHOD)
    table = table.append_column(field, pa.array([energies[f] for f in kept], type=field.type))
    hull = property_field("e_above_hull", METHOD)
    table = table.append_column(hull, pa.array([round(above[f], 4) for f in kept], type=hull.type))
    metadata = {
        "name": NAME,
        "scheme": SCHEME,
        "method": METHOD,
        "license": "CC-BY-4.0",
        "energy_zero": "elements (energies are formation energies per atom)",
        "near_hull_tolerance": f"{NEAR} eV/atom",
        "source": "crabnet==2.0.8: matbench_mp_e_form",
    }
    return ReferenceSet(table, metadata)
