"""Convex hulls of reference entries by linear programming, one small problem a composition.

The energy of the hull at a composition is the least energy of any mixture of entries with that composition: a linear
programme whose answer is also the decomposition. It agrees with pymatgen's ``PhaseDiagram`` and needs no
triangulation, so elements, binaries and systems of six elements are treated alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

System = tuple[str, ...]

_TOKEN = re.compile(r"([A-Z][a-z]?)\s*([0-9.]*)")


@cache
def fractions(formula: str) -> tuple[tuple[str, float], ...]:
    """Return the atomic fractions of a formula, elements in alphabetical order.

    Plain formulas (``Al2 O3``) are read at once; those with brackets by pymatgen.
    """
    amounts: dict[str, float] = {}
    if "(" in formula or "[" in formula:
        from pymatgen.core import Composition

        amounts = {str(e): float(n) for e, n in Composition(formula).element_composition.items()}
    else:
        for symbol, count in _TOKEN.findall(formula):
            amounts[symbol] = amounts.get(symbol, 0.0) + float(count or 1)
    total = sum(amounts.values())
    return tuple(sorted((symbol, n / total) for symbol, n in amounts.items()))


def system_of(formula: str) -> System:
    """Return the chemical system of a formula, e.g. ``("Al", "O")``."""
    return tuple(symbol for symbol, _ in fractions(formula))


def same_composition(one: str, other: str) -> bool:
    """Whether two formulas have the same atomic fractions."""
    a, b = dict(fractions(one)), dict(fractions(other))
    return a.keys() == b.keys() and all(abs(a[k] - b[k]) < 1e-6 for k in a)


@dataclass(frozen=True)
class HullPoint:
    """What a set of entries says of one composition.

    :param energy: hull energy [eV/atom]; None if a terminal is missing.
    :param n_competing: distinct compounds of the reference in the chemical system, elements not counted.
    :param coverage: share of the sub-systems (elements, pairs, …, the system itself) that have an entry.
    :param missing: elements without an entry.
    """

    energy: float | None
    n_competing: int
    coverage: float
    missing: tuple[str, ...] = ()


class Hull:
    """Entries by chemical system, and the lowest energy at any composition.

    :param formulas: formula of each entry.
    :param energies: energy per atom of each entry [eV/atom]; NaN entries are left out.
    """

    def __init__(self, formulas: Sequence[str], energies: Iterable[float]) -> None:
        self._by_system: dict[System, dict[tuple[tuple[str, float], ...], list[float]]] = {}
        for formula, energy in zip(formulas, energies, strict=True):
            if np.isfinite(energy):
                key = tuple((s, round(x, 9)) for s, x in fractions(formula))
                self._by_system.setdefault(system_of(formula), {}).setdefault(key, []).append(float(energy))
        for compositions in self._by_system.values():
            for held in compositions.values():
                held.sort()
        self._cache: dict[System, tuple[np.ndarray, np.ndarray]] = {}

    def terminals(self) -> dict[str, float]:
        """Return the energy per atom of each element that has an entry [eV/atom]."""
        return {
            system[0]: min(e for held in compositions.values() for e in held)
            for system, compositions in self._by_system.items()
            if len(system) == 1
        }

    def at(self, formula: str, *, without: float | None = None, tolerance: float = 1e-6) -> HullPoint:
        """Return the hull at a composition.

        :param without: energy per atom [eV/atom] of one entry of exactly this composition that is left out once
            (the row's own entry, when a row is judged against a set that contains it).
        :param tolerance: within which that energy is recognised [eV/atom].
        """
        system = system_of(formula)
        parts = [p for size in range(1, len(system) + 1) for p in combinations(system, size)]
        present = [p for p in parts if p in self._by_system]
        missing = tuple(s for s in system if (s,) not in self._by_system)
        competing = sum(len(self._by_system[p]) for p in present if len(p) > 1)
        coverage = len(present) / len(parts)
        if missing:
            return HullPoint(None, competing, coverage, missing)
        matrix, energies = self._arrays(system, present)
        target = np.array([x for _, x in fractions(formula)])
        if without is not None:
            matrix, energies, gone = self._drop(system, formula, (without, tolerance), matrix, energies)
            competing -= int(gone and len(system) > 1)
        return HullPoint(_lowest(matrix, energies, target), competing, coverage)

    def _arrays(self, system: System, present: list[System]) -> tuple[np.ndarray, np.ndarray]:
        if system not in self._cache:
            column = {symbol: k for k, symbol in enumerate(system)}
            rows, energies = [], []
            for part in present:
                for key, held in self._by_system[part].items():
                    row = np.zeros(len(system))
                    for symbol, x in key:
                        row[column[symbol]] = x
                    rows.append(row)
                    energies.append(held[0])
            self._cache[system] = np.array(rows), np.array(energies)
        return self._cache[system]

    def _drop(
        self,
        system: System,
        formula: str,
        own_energy: tuple[float, float],
        matrix: np.ndarray,
        energies: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Leave one entry out; the last value says whether its composition has no other entry."""
        key = tuple((s, round(x, 9)) for s, x in fractions(formula))
        held = self._by_system.get(system, {}).get(key, [])
        own = next((k for k, e in enumerate(held) if abs(e - own_energy[0]) < own_energy[1]), None)
        if own is None:
            return matrix, energies, False
        rest = held[:own] + held[own + 1 :]
        row = np.flatnonzero(np.abs(matrix - np.array([x for _, x in key])).max(axis=1) < 1e-9)
        if rest:
            energies = energies.copy()
            energies[row] = rest[0]
            return matrix, energies, False
        return np.delete(matrix, row, axis=0), np.delete(energies, row), True


def _lowest(matrix: np.ndarray, energies: np.ndarray, target: np.ndarray) -> float | None:
    """Return min e·x over x >= 0 with matrixᵀ x = target, None if there is no such x."""
    if len(target) == 1:
        return float(energies.min()) if len(energies) else None
    from scipy.optimize import linprog

    # against the elements the numbers are small: the same minimiser, and a solver tolerance of 1e-7 stays one of 1e-7
    pure = matrix.max(axis=1) > 1.0 - 1e-9
    levels = np.array([energies[pure & (matrix[:, k] > 0.5)].min() for k in range(len(target))])
    found = linprog(energies - matrix @ levels, A_eq=matrix.T, b_eq=target, bounds=(0, None), method="highs")
    if found.status != 0 or found.fun is None:
        return None
    return float(found.fun) + float(target @ levels)


def formation_energy(formula: str, energy_per_atom: float, terminals: Mapping[str, float]) -> float | None:
    """Return the formation energy per atom [eV/atom] against the terminals, None if one is missing."""
    parts = fractions(formula)
    if any(symbol not in terminals for symbol, _ in parts):
        return None
    return energy_per_atom - sum(x * terminals[symbol] for symbol, x in parts)
