"""Convex hulls of reference entries by linear programming, one small problem a composition.

The energy of the hull at a composition is the least energy of any mixture of entries with that composition: a linear
programme whose answer is also the decomposition. It agrees with pymatgen's ``PhaseDiagram`` and needs no
triangulation, so elements, binaries and systems of six elements are treated alike.

A hull is only as good as the entries behind it. Where they are too few is told by a rule that looks at the entries
alone, never at an energy: see :data:`MIN_COVERAGE`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

System = tuple[str, ...]
#: Elements in alphabetical order with their atomic fractions, rounded: the key of a composition.
Fractions = tuple[tuple[str, float], ...]

#: A chemical system is incomplete if an element has no entry, if no compound competes there, or if a smaller share than
#: this of its sub-systems (elements, pairs, …, the system itself) has an entry; the entry left out does not count.
MIN_COVERAGE = 0.5

_TOKEN = re.compile(r"([A-Z][a-z]?)\s*([0-9.]*)")


@cache
def fractions(formula: str) -> Fractions:
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


def read_system(formula: str) -> System | None:
    """Return the chemical system of a formula that somebody typed, None if it is none."""
    from pymatgen.core import Element

    try:
        amounts = dict(fractions(formula))
    except (ValueError, ZeroDivisionError):
        return None
    real = all(Element.is_valid_symbol(s) and np.isfinite(x) and x > 0 for s, x in amounts.items())
    whole = "(" in formula or "[" in formula or not _TOKEN.sub("", formula).strip()
    return tuple(amounts) if amounts and real and whole else None


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
    :param decomposition: entries that the composition decomposes into: formula and share of the atoms, largest first.
    """

    energy: float | None
    n_competing: int
    coverage: float
    missing: tuple[str, ...] = ()
    decomposition: tuple[tuple[str, float], ...] = ()

    @property
    def incomplete(self) -> str | None:
        """Why the entries are too few to rely on this point, by the rule above; None if they are not."""
        if self.missing:
            return f"no entry for {', '.join(self.missing)}"
        if self.coverage == 1.0:  # also of an element: its only sub-system is itself
            return None
        if self.n_competing == 0:
            return "no compound competes"
        if self.coverage < MIN_COVERAGE:
            return f"{100 * self.coverage:.0f} % of the sub-systems have an entry"
        return None


class Hull:
    """Entries by chemical system, and the lowest energy at any composition.

    :param formulas: formula of each entry.
    :param energies: energy per atom of each entry [eV/atom]; NaN entries are left out.
    """

    def __init__(self, formulas: Sequence[str], energies: Iterable[float]) -> None:
        self._by_system: dict[System, dict[Fractions, list[float]]] = {}
        self._names: dict[Fractions, str] = {}
        for formula, energy in zip(formulas, energies, strict=True):
            if np.isfinite(energy):
                key = _key(formula)
                self._names.setdefault(key, formula)
                self._by_system.setdefault(system_of(formula), {}).setdefault(key, []).append(float(energy))
        for compositions in self._by_system.values():
            for held in compositions.values():
                held.sort()
        self._cache: dict[System, _Entries] = {}

    @property
    def systems(self) -> dict[System, int]:
        """Number of distinct compositions of each chemical system that has an entry."""
        return {system: len(compositions) for system, compositions in self._by_system.items()}

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
        :param tolerance: within which that energy is recognised [eV/atom]; the nearest entry is left out.
        """
        system = system_of(formula)
        parts = _parts(system)
        present = [p for p in parts if p in self._by_system]
        missing = tuple(s for s in system if (s,) not in self._by_system)
        competing = sum(len(self._by_system[p]) for p in present if len(p) > 1)
        entries, n_present = None, len(present)
        if without is not None and (own := self._own(formula, without, tolerance)) is not None:
            entries, gone = self._without(system, _key(formula), own)
            competing -= int(gone and len(system) > 1)
            n_present -= int(gone and len(self._by_system[system]) == 1)
        if missing or n_present == 0:
            return HullPoint(None, competing, n_present / len(parts), missing)
        target = np.array([x for _, x in fractions(formula)])
        energy, decomposition = _lowest(entries or self._entries(system), target)
        return HullPoint(energy, competing, n_present / len(parts), (), decomposition)

    def compositions(self, system: System) -> list[tuple[str, dict[str, float], float]]:
        """Return formula, atomic fractions and lowest energy [eV/atom] of each composition within a system."""
        return [
            (self._names[key], dict(key), held[0])
            for part in _parts(system)
            for key, held in self._by_system.get(part, {}).items()
        ]

    def _entries(self, system: System) -> _Entries:
        if system not in self._cache:
            held = self.compositions(system)
            matrix = np.array([[part.get(symbol, 0.0) for symbol in system] for _, part, _ in held])
            self._cache[system] = _Entries([name for name, _, _ in held], matrix, np.array([e for *_, e in held]))
        return self._cache[system]

    def _own(self, formula: str, energy: float, tolerance: float) -> int | None:
        """Return the place of the entry nearest in energy among those of a composition, None if none is near."""
        held = self._by_system.get(system_of(formula), {}).get(_key(formula), [])
        near = [(abs(e - energy), k) for k, e in enumerate(held) if abs(e - energy) < tolerance]
        return min(near)[1] if near else None

    def _without(self, system: System, key: Fractions, own: int) -> tuple[_Entries, bool]:
        """Leave one entry out; the last value says whether its composition has no other entry."""
        held = self._by_system[system][key]
        rest = held[:own] + held[own + 1 :]
        entries = self._entries(system)
        row = entries.names.index(self._names[key])
        if rest:
            energies = entries.energies.copy()
            energies[row] = rest[0]
            return _Entries(entries.names, entries.matrix, energies), False
        names = entries.names[:row] + entries.names[row + 1 :]
        return _Entries(names, np.delete(entries.matrix, row, axis=0), np.delete(entries.energies, row)), True


@dataclass(frozen=True)
class _Entries:
    """Lowest entry of each composition of a system: names, atomic fractions (n, elements) and energies [eV/atom]."""

    names: list[str]
    matrix: np.ndarray
    energies: np.ndarray


def _key(formula: str) -> Fractions:
    return tuple((symbol, round(x, 9)) for symbol, x in fractions(formula))


def _parts(system: System) -> list[System]:
    return [part for size in range(1, len(system) + 1) for part in combinations(system, size)]


def _lowest(entries: _Entries, target: np.ndarray) -> tuple[float | None, tuple[tuple[str, float], ...]]:
    """Return min e·x over x >= 0 with matrixᵀ x = target and the mixture x, None and nothing if there is none."""
    matrix, energies = entries.matrix, entries.energies
    if len(target) == 1:
        best = int(energies.argmin())
        return float(energies[best]), ((entries.names[best], 1.0),)
    from scipy.optimize import linprog

    # against the elements the numbers are small: the same minimiser, and a solver tolerance of 1e-7 stays one of 1e-7
    pure = matrix.max(axis=1) > 1.0 - 1e-9
    levels = np.array([energies[pure & (matrix[:, k] > 0.5)].min() for k in range(len(target))])
    found = linprog(energies - matrix @ levels, A_eq=matrix.T, b_eq=target, bounds=(0, None), method="highs")
    if found.status != 0 or found.fun is None:
        return None, ()
    mixture = [(entries.names[k], float(found.x[k])) for k in np.flatnonzero(found.x > 1e-8)]
    return float(found.fun) + float(target @ levels), tuple(sorted(mixture, key=lambda part: -part[1]))


def formation_energy(formula: str, energy_per_atom: float, terminals: Mapping[str, float]) -> float | None:
    """Return the formation energy per atom [eV/atom] against the terminals, None if one is missing."""
    parts = fractions(formula)
    if any(symbol not in terminals for symbol, _ in parts):
        return None
    return energy_per_atom - sum(x * terminals[symbol] for symbol, x in parts)
