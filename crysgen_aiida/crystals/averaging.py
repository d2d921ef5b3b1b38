"""A crystal averaged over the operations of a space group that it has only nearly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import spglib

from crysgen_aiida.crystals.errors import BadInput

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Averaged:
    """A crystal that has all operations exactly, its atoms in the order they had.

    :param cell: cell vectors as rows [A], turned like the cell given, (3, 3).
    :param frac: fractional coordinates, near those given and not wrapped, (n, 3).
    :param partners: atom that each operation carries to the place of each atom, (m, n).
    :param moved: the farthest that an atom moved [A].
    """

    cell: Floats
    frac: Floats
    partners: Ints
    moved: float


def operations(cell: Floats, frac: Floats, numbers: npt.ArrayLike, symprec: float) -> tuple[Ints, Floats]:
    """Return the space group of a crystal as rotations (m, 3, 3) and translations (m, 3) in the basis of its cell.

    :param symprec: distance within which atoms are taken to coincide [A].
    :raises BadInput: if spglib finds none (atoms on top of each other, a flat cell).
    """
    given: Any = (cell, frac, np.asarray(numbers))
    try:
        dataset = spglib.get_symmetry_dataset(given, symprec=symprec)
    except (spglib.error.SpglibError, ValueError) as error:
        raise BadInput(f"spglib finds no symmetry ({error}); atoms may overlap or the cell be flat.") from error
    if dataset is None:
        raise BadInput("spglib finds no symmetry; atoms may overlap or the cell be flat.")
    return np.array(dataset.rotations, dtype=np.int64), np.array(dataset.translations, dtype=np.float64)


def averaged(cell: Floats, frac: Floats, numbers: npt.ArrayLike, rotations: Ints, translations: Floats) -> Averaged:
    """Average cell and atoms over operations that hold only nearly.

    :param cell: cell vectors as rows [A], (3, 3).
    :param frac: fractional coordinates, (n, 3).
    :param rotations: (m, 3, 3) and ``translations`` (m, 3) in the basis of the cell, forming a group.
    """
    kinds = np.asarray(numbers)
    gram = cell @ cell.T
    mean = np.einsum("mki,kl,mlj->ij", rotations, gram, rotations) / len(rotations)
    images = np.einsum("mij,nj->mni", rotations, frac) + translations[:, None]
    total = np.zeros_like(frac)
    partners = np.zeros((len(rotations), len(frac)), dtype=np.int64)
    for m, image in enumerate(images):
        apart = image[None] - frac[:, None]  # of every atom to every image, (n, n, 3)
        apart -= np.round(apart)
        distance = np.linalg.norm(apart @ cell, axis=2)
        distance[kinds[:, None] != kinds[None]] = np.inf
        partners[m] = distance.argmin(axis=1)
        total += apart[np.arange(len(frac)), partners[m]]
    shift = total / len(rotations)
    moved = float(np.linalg.norm(shift @ cell, axis=1).max())
    return Averaged(_nearest(cell, mean), frac + shift, partners, moved)


def _nearest(cell: Floats, gram: Floats) -> Floats:
    """Return the cell of a metric that is turned like ``cell``."""
    made = np.linalg.cholesky(gram)
    u, _, v = np.linalg.svd(made.T @ cell)
    return np.asarray(made @ (u @ v), dtype=np.float64)
