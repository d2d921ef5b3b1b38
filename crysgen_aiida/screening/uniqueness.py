"""Unique within the set, new against known sets: by the structure matcher, in the order of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crysgen_aiida.screening.protocols import MatcherRule

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.matching import KnownCrystals, MatchSpec


@dataclass(frozen=True)
class Uniqueness:
    """Verdicts on a set.

    :param unique: whether the row is the first of its group of equal crystals; None if it was not judged. The matcher
        is not transitive, so the order matters: it is that of the rows.
    :param duplicate_of: the first row it is equal to.
    :param groups: group of each row, named after its first member; None if it was not judged.
    """

    unique: list[bool | None]
    duplicate_of: list[int | None]
    groups: list[int | None]

    def first_among(self, rows: Sequence[bool | None]) -> list[bool]:
        """Return for each row whether it is the first of its group among the rows that are True."""
        seen: set[int] = set()
        first = []
        for group, counts in zip(self.groups, rows, strict=True):
            new = counts is True and group is not None and group not in seen
            if new and group is not None:
                seen.add(group)
            first.append(new)
        return first


def judge_uniqueness(structures: Sequence[Structure | None], rule: MatcherRule) -> Uniqueness:
    """Group equal crystals; None is not judged."""
    from crysgen_aiida.crystals.matching import group_duplicates

    first = group_duplicates(structures, _spec(rule)).first
    unique = [None if f is None else f == row for row, f in enumerate(first)]
    return Uniqueness(unique, [None if f is None or f == row else f for row, f in enumerate(first)], list(first))


class Known:
    """Known sets by label, ready to be matched against."""

    def __init__(self, known: Mapping[str, CrystalSet], rule: MatcherRule) -> None:
        self._sets = known
        self._spec = _spec(rule)

    @property
    def labels(self) -> list[str]:
        """Labels of the sets, sorted."""
        return sorted(self._sets)

    def match(self, label: str, structures: Sequence[Structure | None]) -> list[int | None]:
        """Return for each crystal the row of the first known crystal of a set that it matches."""
        known, rows = self._prepare(label, {_formula(s) for s in structures if s is not None})
        return [None if hit is None else rows[hit] for hit in known.match(structures).first]

    def _prepare(self, label: str, formulas: set[str]) -> tuple[KnownCrystals, list[int]]:
        # only the crystals of these formulas can match: the others are never built
        from crysgen_aiida.crystals.matching import KnownCrystals

        held = self._sets[label]
        rows = [
            row
            for row, (formula, there) in enumerate(zip(held.column("reduced_formula"), held.ok, strict=True))
            if there and formula in formulas
        ]
        return KnownCrystals([held.structure(row) for row in rows], self._spec), rows


def _formula(structure: Structure) -> str:
    return str(structure.composition.reduced_formula)


def _spec(rule: MatcherRule) -> MatchSpec:
    from crysgen_aiida.crystals.matching import MatchSpec

    return MatchSpec(ltol=rule.ltol, stol=rule.stol, angle_tol=rule.angle_tol, scale=rule.scale)
