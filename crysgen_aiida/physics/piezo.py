"""The gate a crystal must pass before piezoelectricity is worth computing.

By symmetry every e_iJ vanishes in a crystal with an inversion centre and in class 432 (Nye, Physical Properties of
Crystals, ch. VII); a metal screens the field. The gate says nothing about how large e is: nothing here predicts that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crysgen_aiida.crystals.errors import BadInput

if TYPE_CHECKING:
    import numpy.typing as npt

#: Tolerances [A] at which the symmetry is found and recorded; it must allow piezoelectricity at both.
SYMPRECS = (0.01, 0.1)
#: A gap above this [eV] counts as an insulator.
MIN_GAP = 0.1


@dataclass(frozen=True)
class PiezoGate:
    """Symmetry of a crystal at both tolerances, and what follows.

    :param space_group: number at the tight tolerance; None if spglib finds none.
    :param space_group_loose: number at the loose tolerance.
    :param allowed: whether symmetry allows piezoelectricity at both; None if not found.
    :param active: allowed, and the gap is large enough; None if either is unknown.
    :param reason: why not, or why unknown.
    """

    space_group: int | None
    space_group_loose: int | None
    allowed: bool | None
    active: bool | None
    reason: str | None = None


def piezo_gate(
    lattice: npt.ArrayLike,
    frac_coords: npt.ArrayLike,
    numbers: npt.ArrayLike,
    band_gap: float | None,
    *,
    symprecs: tuple[float, float] = SYMPRECS,
    min_gap: float = MIN_GAP,
) -> PiezoGate:
    """Judge a crystal.

    :param lattice: (3, 3) row vectors [A].
    :param frac_coords: (n, 3).
    :param numbers: (n,) atomic numbers.
    :param band_gap: [eV], None if unknown.
    :param symprecs: the tight and the loose tolerance [A].
    :param min_gap: a gap above this [eV] counts as an insulator.
    """
    from crysgen_aiida.crystals.symmetry import cell_symmetry

    tight, loose = symprecs
    try:
        found = cell_symmetry(lattice, frac_coords, numbers, tight), cell_symmetry(lattice, frac_coords, numbers, loose)
    except BadInput as error:
        return PiezoGate(None, None, None, None, str(error))
    allowed = all(s.piezo_allowed for s in found)
    numbers_found = found[0].number, found[1].number
    if not allowed:
        worst = next(s for s in found if not s.piezo_allowed)
        why = "has an inversion centre" if worst.centrosymmetric else "is of class 432"
        return PiezoGate(
            *numbers_found, False, False, f"{worst.symbol} {why} (symprec {worst.symprec:g} A): every e_iJ is zero"
        )
    if band_gap is None:
        return PiezoGate(*numbers_found, True, None, "the band gap is unknown")
    if band_gap <= min_gap:
        return PiezoGate(*numbers_found, True, False, f"the gap of {band_gap:.2f} eV is not above {min_gap:g} eV")
    return PiezoGate(*numbers_found, True, True)
