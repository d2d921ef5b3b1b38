"""Which crystals are the same? pymatgen's StructureMatcher behind a pre-hash that loses nothing.

Two crystals can match only if they have the same reduced formula and, once reduced by the matcher itself, the same
number of sites; so crystals are put in buckets by these two and compared only within one. A space group would split
buckets further but is unsafe on cells that are not relaxed. Rows without a crystal (None) match nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crysgen_aiida.crystals.errors import BadInput

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

#: (reduced formula, sites of the cell as the matcher reduces it)
Bucket = tuple[str, int]


@dataclass(frozen=True)
class MatchSpec:
    """Tolerances of the matcher; the defaults are pymatgen's, used by most published evaluations."""

    ltol: float = 0.2  #: fractional tolerance on cell lengths
    stol: float = 0.3  #: site tolerance as a fraction of (volume / n_atoms)^(1/3)
    angle_tol: float = 5.0  #: tolerance on cell angles [degrees]
    scale: bool = True  #: bring both cells to the same volume first

    def matcher(self) -> StructureMatcher:
        """Return the pymatgen matcher."""
        from pymatgen.analysis.structure_matcher import StructureMatcher

        return StructureMatcher(
            ltol=self.ltol, stol=self.stol, angle_tol=self.angle_tol, scale=self.scale, primitive_cell=True
        )


@dataclass(frozen=True)
class Matches:
    """Result of a matching: ``first[i]`` is the row matched by row i, None if there is none.

    For :func:`group_duplicates` the row is in the same set, and the first member of a group points at itself.
    """

    first: tuple[int | None, ...]
    compared: int  #: pairs given to the matcher
    avoided: int  #: pairs the buckets saved, against comparing with every representative before

    def groups(self) -> dict[int, list[int]]:
        """Return ``{first member: members in order}``."""
        found: dict[int, list[int]] = {}
        for row, first in enumerate(self.first):
            if first is not None:
                found.setdefault(first, []).append(row)
        return found

    @property
    def unique(self) -> tuple[int, ...]:
        """The first member of each group, in order."""
        return tuple(sorted({first for first in self.first if first is not None}))


def reduced(structure: Structure) -> Structure:
    """Return the crystal as the matcher compares it: no oxidation states, primitive (0.25 A), Niggli.

    :raises BadInput: if the cell cannot be reduced.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    plain = structure.copy(site_properties={})
    plain.remove_oxidation_states()
    try:
        return StructureMatcher._get_reduced_structure(plain, True, True)
    except (ValueError, ArithmeticError, IndexError) as error:
        raise BadInput(f"The crystal cannot be reduced for matching ({error}); check its cell and sites.") from error


def prehash(structure: Structure) -> Bucket:
    """Return the bucket of a crystal: crystals that match always share it (the converse need not hold)."""
    return _bucket(reduced(structure))


def matches(one: Structure, other: Structure, spec: MatchSpec | None = None) -> bool:
    """Return whether two crystals are the same within ``spec``."""
    small, large = reduced(one), reduced(other)
    return _bucket(small) == _bucket(large) and _fit((spec or MatchSpec()).matcher(), small, large)


def rms_distance(one: Structure, other: Structure, spec: MatchSpec | None = None) -> float | None:
    """Return the root mean square displacement of matched sites over (V/n)^(1/3), or None without a match."""
    small, large = reduced(one), reduced(other)
    if _bucket(small) != _bucket(large):
        return None
    result = (spec or MatchSpec()).matcher().get_rms_dist(small, large)
    return None if result is None else float(result[0])


def moved(before: Structure, after: Structure) -> tuple[float, bool]:
    """Return how far the atoms of a crystal moved in a relaxation [A], root mean square, and whether a match was found.

    Without rescaling, with the tolerances of MatterGen's evaluation; where nothing matches it is their largest, half of
    (V/n)^(1/3), which is a lower bound.

    :raises ValueError: if a cell is degenerate.
    """
    length = 0.5 * ((before.volume / len(before)) ** (1 / 3) + (after.volume / len(after)) ** (1 / 3))
    found = rms_distance(before, after, MatchSpec(ltol=0.5, stol=0.5, angle_tol=10.0, scale=False))
    return (0.5 if found is None else found) * length, found is not None


def group_duplicates(structures: Sequence[Structure | None], spec: MatchSpec | None = None) -> Matches:
    """Group equal crystals, first of group in order: each is compared with the first members found before it.

    A crystal that the matcher cannot reduce stands alone, in a group of its own.
    """
    matcher = (spec or MatchSpec()).matcher()
    buckets: dict[Bucket, list[tuple[int, Structure]]] = {}
    first: list[int | None] = []
    compared = avoided = representatives = 0
    for row, structure in enumerate(structures):
        if structure is None:
            first.append(None)
            continue
        try:
            small = reduced(structure)
        except BadInput:
            first.append(row)
            continue
        bucket = buckets.setdefault(_bucket(small), [])
        found: int | None = None
        for index, candidate in bucket:
            compared += 1
            if _fit(matcher, candidate, small):
                found = index
                break
        avoided += representatives - len(bucket)
        if found is None:
            bucket.append((row, small))
            representatives += 1
            found = row
        first.append(found)
    return Matches(tuple(first), compared, avoided)


class KnownCrystals:
    """A set of known crystals to match others against; reduced only when their formula is asked for."""

    def __init__(self, structures: Sequence[Structure | None], spec: MatchSpec | None = None) -> None:
        self._structures = structures
        self._matcher = (spec or MatchSpec()).matcher()
        self._by_formula: dict[str, list[int]] = {}
        self._reduced: dict[int, Structure | None] = {}
        for row, structure in enumerate(structures):
            if structure is not None:
                self._by_formula.setdefault(_formula(structure), []).append(row)
        self._n = sum(len(rows) for rows in self._by_formula.values())

    def match(self, structures: Sequence[Structure | None]) -> Matches:
        """Return, for each crystal, the first known one it matches."""
        first: list[int | None] = []
        compared = avoided = 0
        for structure in structures:
            found, pairs = (None, 0) if structure is None else self._match(structure)
            first.append(found)
            compared += pairs
            if structure is not None:
                avoided += (self._n if found is None else self._rank(found)) - pairs
        return Matches(tuple(first), compared, avoided)

    def _match(self, structure: Structure) -> tuple[int | None, int]:
        rows = self._by_formula.get(_formula(structure), [])
        if not rows:
            return None, 0
        try:
            small = reduced(structure)
        except BadInput:
            return None, 0
        pairs = 0
        for row in rows:
            known = self._reduce(row)
            if known is None or _bucket(known) != _bucket(small):
                continue
            pairs += 1
            if _fit(self._matcher, known, small):
                return row, pairs
        return None, pairs

    def _reduce(self, row: int) -> Structure | None:
        if row not in self._reduced:
            structure = self._structures[row]
            try:
                self._reduced[row] = None if structure is None else reduced(structure)
            except BadInput:
                self._reduced[row] = None
        return self._reduced[row]

    def _rank(self, row: int) -> int:
        # known crystals up to and including this row: what a plain scan would have compared
        return sum(1 for structure in self._structures[: row + 1] if structure is not None)


def match_known(
    structures: Sequence[Structure | None], known: Sequence[Structure | None], spec: MatchSpec | None = None
) -> Matches:
    """Return, for each crystal, the first crystal of ``known`` it matches (None: it is new)."""
    return KnownCrystals(known, spec).match(structures)


def _formula(structure: Structure) -> str:
    return str(structure.composition.element_composition.reduced_formula)


def _bucket(small: Structure) -> Bucket:
    return _formula(small), len(small)


def _fit(matcher: StructureMatcher, one: Structure, other: Structure) -> bool:
    return bool(matcher.fit(one, other, skip_structure_reduction=True))
