"""The space group that a string names, imposed on its crystal.

Decoding follows the bonds alone; the crystal has the symmetry named by the prefix only up to the distortion that the
decoder leaves, and often not at all. Here the operations of the crystal are looked for with a growing tolerance until
they form the group named; cell and atoms are then averaged over them. Nothing is forced: if the crystal never shows
that group, if an atom would move too far, or if other bonds would come out, it stays as it is and the reason is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import spglib

from crysgen_aiida.crystals import averaging
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.symmetry import symmetry
from crysgen_aiida.representations.slices.faithful import keeps_net
from crysgen_aiida.representations.slices.nets import Net
from crysgen_aiida.representations.slices.spec import SlicesSpec

if TYPE_CHECKING:
    from pymatgen.core import Structure

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Tolerances at which operations are looked for, growing [A].
TOLERANCES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)

NO_GROUP = "The string names no space group."
HAS_IT = "The crystal has the group already."
NOT_FOUND = "The operations of the group are not found at any tolerance."
MOVED = "An atom would move too far."
NOT_REACHED = "The averaged crystal does not have the group."
OTHER_NET = "The averaged crystal has other bonds than the string."


@dataclass(frozen=True)
class Symmetrised:
    """A crystal after the attempt.

    :ivar structure: averaged, or as it was.
    :ivar done: whether it was averaged; if not, ``reason`` says why.
    :ivar asked: space-group number of the string, None if it names none.
    :ivar before: space group found before, at ``spec.symprec``; ``after`` likewise. None if none is found.
    """

    structure: Structure
    done: bool
    reason: str | None
    asked: int | None
    before: int | None
    after: int | None


def symmetrise(structure: Structure, net: Net, spec: SlicesSpec) -> Symmetrised:
    """Impose the space group of ``net`` on its decoded crystal, if the crystal is near to it."""
    before, asked = _group(structure, spec.symprec), net.space_group
    if asked is None or asked == before:
        return Symmetrised(structure, False, NO_GROUP if asked is None else HAS_IT, asked, before, before)
    reason = NOT_FOUND
    for operations in _operations(structure, asked):
        made, moved = averaged(structure, *operations)
        if moved > spec.max_move:
            reason = MOVED
        elif _group(made, spec.symprec) != asked:
            reason = NOT_REACHED
        elif not keeps_net(made, net, spec):
            reason = OTHER_NET
        else:
            return Symmetrised(made, True, None, asked, before, asked)
    return Symmetrised(structure, False, reason, asked, before, before)


def averaged(structure: Structure, rotations: IntArray, translations: FloatArray) -> tuple[Structure, float]:
    """Average cell and atoms over operations that hold only nearly.

    :param rotations: (m, 3, 3) and ``translations`` (m, 3) in the basis of the cell, forming a group.
    :returns: the crystal, same atoms in the same order, and the farthest that one of them moved [A].
    """
    from pymatgen.core import Lattice, Structure

    numbers: list[Any] = list(structure.atomic_numbers)
    found = averaging.averaged(structure.lattice.matrix, structure.frac_coords, numbers, rotations, translations)
    return Structure(Lattice(found.cell), numbers, found.frac % 1.0), found.moved


def _operations(structure: Structure, asked: int) -> list[tuple[IntArray, FloatArray]]:
    """Return the operations at every tolerance at which they form the group asked for."""
    cell: Any = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    found: list[tuple[IntArray, FloatArray]] = []
    for tolerance in TOLERANCES:
        try:
            dataset = spglib.get_symmetry_dataset(cell, symprec=tolerance)
        except (spglib.error.SpglibError, ValueError):
            continue
        if dataset is None or dataset.number != asked:
            continue
        if not found or len(dataset.rotations) != len(found[-1][0]):
            found.append((np.array(dataset.rotations), np.array(dataset.translations)))
    return found


def _group(structure: Structure, symprec: float) -> int | None:
    try:
        return symmetry(structure, symprec).number
    except BadInput:
        return None
