"""Space groups (spglib), the symmetry gate for piezoelectricity, and cell reductions.

A space group is a statement about a tolerance: every function takes ``symprec`` [A] and every record keeps it.
Usual values are 0.01 for DFT-relaxed cells and 0.1 for cells relaxed with a potential.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import spglib

from crysgen_aiida.crystals.errors import BadInput

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: The eleven point groups with an inversion centre (the Laue classes).
CENTROSYMMETRIC_POINT_GROUPS = frozenset(
    ("-1", "2/m", "mmm", "4/m", "4/mmm", "-3", "-3m", "6/m", "6/mmm", "m-3", "m-3m")
)

#: Last space-group number of each crystal system, in order.
_SYSTEMS = (
    (2, "triclinic"),
    (15, "monoclinic"),
    (74, "orthorhombic"),
    (142, "tetragonal"),
    (167, "trigonal"),
    (194, "hexagonal"),
    (230, "cubic"),
)

CRYSTAL_SYSTEMS = tuple(name for _, name in _SYSTEMS)


@dataclass(frozen=True)
class Symmetry:
    """Symmetry of a crystal as found at one tolerance."""

    number: int  #: space-group number, 1-230
    symbol: str  #: international short symbol, e.g. ``P6_3mc``
    point_group: str  #: e.g. ``6mm``
    symprec: float  #: distance tolerance it was found with [A]

    @property
    def crystal_system(self) -> str:
        """One of the seven crystal systems."""
        return crystal_system(self.number)

    @property
    def centrosymmetric(self) -> bool:
        """Whether the point group has an inversion centre."""
        return self.point_group in CENTROSYMMETRIC_POINT_GROUPS

    @property
    def piezo_allowed(self) -> bool:
        """Whether symmetry lets any e_iJ differ from zero: no inversion centre, and not class 432 (Nye, ch. VII)."""
        return not self.centrosymmetric and self.point_group != "432"


def crystal_system(number: int) -> str:
    """Return the crystal system of a space-group number.

    :raises BadInput: if the number is not in 1-230.
    """
    if not 1 <= number <= 230:
        raise BadInput(f"{number} is not a space-group number; they run from 1 to 230.")
    return next(name for last, name in _SYSTEMS if number <= last)


def cell_symmetry(
    lattice: npt.ArrayLike, frac_coords: npt.ArrayLike, numbers: npt.ArrayLike, symprec: float = 0.01
) -> Symmetry:
    """Return the symmetry of a cell given as arrays.

    :param lattice: (3, 3) row vectors [A].
    :param frac_coords: (n, 3) fractional coordinates.
    :param numbers: (n,) atomic numbers.
    :raises BadInput: if spglib finds none (atoms on top of each other, a flat cell).
    """
    dataset = _spglib_call(spglib.get_symmetry_dataset, _cell(lattice, frac_coords, numbers), symprec)
    return Symmetry(int(dataset.number), str(dataset.international), str(dataset.pointgroup), symprec)


def equivalent_sites(
    lattice: npt.ArrayLike, frac_coords: npt.ArrayLike, numbers: npt.ArrayLike, symprec: float = 0.01
) -> npt.NDArray[np.int64]:
    """Return a label for each site (n,), equal for those that the space group maps onto each other.

    Arguments and errors as in :func:`cell_symmetry`.
    """
    dataset = _spglib_call(spglib.get_symmetry_dataset, _cell(lattice, frac_coords, numbers), symprec)
    return np.asarray(dataset.equivalent_atoms, dtype=np.int64)


def symmetry(structure: Structure, symprec: float = 0.01) -> Symmetry:
    """Return the symmetry of a structure; see :func:`cell_symmetry`."""
    return cell_symmetry(structure.lattice.matrix, structure.frac_coords, _numbers(structure), symprec)


def piezo_gate(structure: Structure, symprecs: Sequence[float] = (0.01, 0.1)) -> bool:
    """Return whether a crystal may be piezoelectric by symmetry at every tolerance given.

    The loosest tolerance decides in practice: noise hides an inversion centre from a tight one, and such a crystal
    has e = 0 up to that noise.

    :raises BadInput: if spglib finds no symmetry at all.
    """
    return all(symmetry(structure, symprec).piezo_allowed for symprec in symprecs)


def primitive(structure: Structure, symprec: float = 0.01, *, idealize: bool = False) -> Structure:
    """Return the primitive cell in spglib's standard setting.

    Without ``idealize`` the atoms stay where they are in space (axes are not rotated), so tensors keep their meaning.

    :raises BadInput: if spglib finds no symmetry at all.
    """
    return _standard(structure, symprec, to_primitive=True, no_idealize=not idealize)


def conventional(structure: Structure, symprec: float = 0.01, *, idealize: bool = False) -> Structure:
    """Return the conventional cell in spglib's standard setting; ``idealize`` as in :func:`primitive`.

    :raises BadInput: if spglib finds no symmetry at all.
    """
    return _standard(structure, symprec, to_primitive=False, no_idealize=not idealize)


def _standard(structure: Structure, symprec: float, **how: bool) -> Structure:
    from pymatgen.core import Element, Lattice, Structure

    cell = _cell(structure.lattice.matrix, structure.frac_coords, _numbers(structure))
    lattice, frac, numbers = _spglib_call(spglib.standardize_cell, cell, symprec=symprec, **how)
    return Structure(Lattice(lattice), [Element.from_Z(int(z)) for z in numbers], frac)


def niggli(structure: Structure) -> Structure:
    """Return the same crystal in its Niggli-reduced cell (same number of atoms).

    :raises BadInput: if the cell is too flat or skewed to be reduced.
    """
    try:
        return structure.get_reduced_structure("niggli")
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        raise BadInput(f"The cell cannot be Niggli-reduced ({error}); check that its vectors span a volume.") from error


def _numbers(structure: Structure) -> list[int]:
    if not structure.is_ordered:
        raise BadInput("The crystal has partially occupied sites; order it before asking for its symmetry.")
    return [int(site.specie.Z) for site in structure]


def _cell(lattice: npt.ArrayLike, frac_coords: npt.ArrayLike, numbers: npt.ArrayLike) -> tuple[Any, Any, Any]:
    lat = np.asarray(lattice, dtype=float).reshape(3, 3)
    frac = np.asarray(frac_coords, dtype=float).reshape(-1, 3)
    kinds = np.asarray(numbers, dtype=int).ravel()
    if len(kinds) == 0 or len(kinds) != len(frac):
        raise BadInput(f"A crystal needs as many positions as atoms, and an atom; got {len(frac)} and {len(kinds)}.")
    if not (np.isfinite(lat).all() and np.isfinite(frac).all()):
        raise BadInput("The crystal has a coordinate that is not a finite number.")
    return lat, frac, kinds


def _spglib_call(function: Any, cell: tuple[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
    # spglib returned None up to 2.6 and may raise since: both mean that it found nothing
    try:
        found = function(cell, *args, **kwargs)
    except (spglib.error.SpglibError, ValueError) as error:
        raise BadInput(f"spglib finds no symmetry ({error}); atoms may overlap or the cell be flat.") from error
    if found is None:
        raise BadInput("spglib finds no symmetry; atoms may overlap or the cell be flat.")
    return found
