"""Which rows of a data set a generator learns from: a declared rule, with a reason for each row it leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest


@dataclass(frozen=True)
class RowFilter:
    """Rules for the rows to learn from; the default keeps all.

    The piezoelectrics paper keeps three-dimensional crystals of elements up to radon that are no metals and have a
    piezoelectric tensor: ``{labelled: [piezo_max], min_band_gap: 0.1, max_z: 86, dimensionality: 3}`` with the flags of
    the starter set for implausible tensors refused.

    :param labelled: properties every row must have.
    :param min_band_gap: the labelled gap must be above this [eV]; a row without a gap is left out.
    :param max_z: largest atomic number.
    :param dimensionality: directions in which the bonds (EconNN) of the crystal must go on; 3 leaves out layers, chains
        and molecules.
    :param refuse_flags: words of the column ``flags`` that rule a row out, e.g. ``piezo_above_20``.
    """

    labelled: tuple[str, ...] = ()
    min_band_gap: float | None = None
    max_z: int | None = None
    dimensionality: int | None = None
    refuse_flags: tuple[str, ...] = ()

    @property
    def keeps_all(self) -> bool:
        """Whether there is no rule."""
        return self == RowFilter()

    def reasons(self, crystals: CrystalSet) -> list[str | None]:
        """Return for each row None if it is kept, else the first rule that leaves it out; cheap rules first.

        Rows that hold no crystal are left to whoever reads them.

        :raises ImpossibleRequest: if the set lacks a column that a rule needs.
        """
        found: list[str | None] = [None] * len(crystals)
        if self.keeps_all:
            return found
        self._check(crystals)
        labels = {name: np.isfinite(crystals.values(name)) for name in self.labelled}
        gaps = crystals.values("band_gap") if self.min_band_gap is not None else None
        flags = crystals.column("flags") if self.refuse_flags and "flags" in crystals.columns else None
        numbers = crystals.column("numbers")
        for row in np.flatnonzero(crystals.ok).tolist():
            found[row] = (
                next((f"it has no {name}" for name, there in labels.items() if not there[row]), None)
                or self._flagged(flags[row] if flags else None)
                or self._metal(None if gaps is None else float(gaps[row]))
                or self._heavy(numbers[row])
                or self._flat(crystals, row)
            )
        return found

    def _check(self, crystals: CrystalSet) -> None:
        needed = [*self.labelled, *(["band_gap"] if self.min_band_gap is not None else [])]
        if lacking := [name for name in needed if name not in crystals.columns]:
            raise ImpossibleRequest(
                f"The rows to learn from are chosen by {', '.join(lacking)}, but the data set has no such column; "
                "change data.keep, or give a set with these labels."
            )

    def _flagged(self, flags: str | None) -> str | None:
        hit = sorted(set((flags or "").split(",")) & set(self.refuse_flags))
        return f"it is flagged {', '.join(hit)}" if hit else None

    def _metal(self, gap: float | None) -> str | None:
        if self.min_band_gap is None or gap is None:
            return None
        if not np.isfinite(gap):
            return "it has no band gap label"
        return None if gap > self.min_band_gap else f"its gap of {gap:.2f} eV is not above {self.min_band_gap:g} eV"

    def _heavy(self, numbers: list[int]) -> str | None:
        heaviest = max(numbers)
        return f"Z = {heaviest} is above {self.max_z}" if self.max_z is not None and heaviest > self.max_z else None

    def _flat(self, crystals: CrystalSet, row: int) -> str | None:
        from crysgen_aiida.representations.slices import SlicesError, dimensionality, net_of

        if self.dimensionality is None:
            return None
        try:
            found = dimensionality(net_of(crystals.structure(row)))
        except (SlicesError, ValueError) as error:
            return f"its bonds cannot be found ({error})"
        return None if found == self.dimensionality else f"its bonds go on in {found} directions only"


def discredited_rows(crystals: CrystalSet, distrust: Iterable[str]) -> dict[str, set[int]]:
    """Return for each label the rows whose flags (comma-separated text in the column ``flags``) discredit it."""
    found: dict[str, set[int]] = {}
    if "flags" in crystals.columns:
        flags = [set((text or "").split(",")) for text in crystals.column("flags")]
        for pair in distrust:
            flag, _, label = pair.partition(":")
            found.setdefault(label, set()).update(row for row, held in enumerate(flags) if flag in held)
    return found
