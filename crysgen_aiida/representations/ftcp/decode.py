"""Matrices, of crystals or made by a network, -> crystals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.crystal_set import Arrays, CrystalSet
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.representations.ftcp import cells
from crysgen_aiida.representations.ftcp.compact import Compact, wrapped
from crysgen_aiida.representations.ftcp.layout import layout
from crysgen_aiida.representations.ftcp.overlaps import overlapping
from crysgen_aiida.representations.ftcp.spec import ELEMENTS, FtcpSpec

#: Said of a row that holds nothing, if nobody knows better.
NOTHING = "The row it comes from holds nothing to translate."


def read_matrices(matrices: npt.ArrayLike, spec: FtcpSpec) -> Compact:
    """Read the left block of matrices (n, rows, columns): the inverse of ``encode.matrices``, for scores too.

    The element of a column is the row with the highest score; a column without any score above 0 has none. Lattices,
    coordinates and occupancies are taken as they are. The reciprocal block is not read.

    :raises BadInput: if the matrices have another shape than the spec says.
    """
    values = np.asarray(matrices)
    if values.ndim != 3 or values.shape[1:] != (spec.rows, spec.columns):
        raise BadInput(
            f"Matrices of this spec have {spec.rows} rows and {spec.columns} columns each; these have the shape "
            f"{values.shape}: use the spec they were made with."
        )
    at = layout(spec)
    scores = values[:, at.elements, at.species]
    with np.errstate(invalid="ignore"):
        numbers = np.where(scores.max(axis=1) > 0, scores.argmax(axis=1) + 1, 0)
    numbers[~np.isfinite(scores).all(axis=1)] = -1
    lattices = np.concatenate([values[:, at.lengths, at.xyz], values[:, at.angles, at.xyz]], axis=1)
    return Compact(
        numbers.astype(np.int16),
        lattices.astype(np.float64),
        values[:, at.coords, at.xyz].astype(np.float64),
        values[:, at.occupancy, at.species].astype(np.float32),
    )


def crystals_of(
    compact: Compact,
    spec: FtcpSpec,
    *,
    reasons: Sequence[str | None] | None = None,
    parent_input: str | None = None,
    parent_rows: Iterable[int] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> CrystalSet:
    """Return one row each: a crystal, or the reason why there is none.

    Sites keep their order, coordinates are brought into [0, 1), cells are right-handed with c along z. How empty sites
    are read is said by ``spec.occupancy``. Atoms are tested for overlap in both ways of reading, unless
    ``spec.min_distance`` is 0.

    :param reasons: why rows that hold nothing do, as far as it is known.
    :param parent_input: lineage of the rows, as for ``CrystalSet.from_structures``.
    """
    sites = _sites_of(compact, spec)
    why = _reasons(compact, sites, spec)
    for row, known in enumerate(reasons or ()):
        if why[row] == NOTHING:
            why[row] = known or NOTHING
    good = np.array([reason is None for reason in why], dtype=bool)
    lattices = np.zeros((len(compact), 3, 3))
    lattices[good] = cells.matrices(compact.lattices[good])
    if spec.min_distance > 0:
        rows = np.flatnonzero(good)
        close = rows[overlapping(lattices[rows], sites.coords[rows], sites.numbers[rows], spec.min_distance)]
        for row in close:
            why[row] = f"Atoms overlap: two are nearer than {spec.min_distance} A."
    crystals: list[Arrays | None] = [
        None if why[row] else (lattices[row], sites.numbers[row][used], sites.coords[row][used])
        for row, used in enumerate(sites.numbers > 0)
    ]
    return CrystalSet.from_structures(
        crystals, reasons=why, parent_input=parent_input, parent_rows=parent_rows, metadata=metadata
    )


@dataclass(frozen=True)
class _Sites:
    """What the sites of each row are read as."""

    numbers: npt.NDArray[np.int64]  # (n, max_sites) atomic numbers, 0 for an empty site
    coords: npt.NDArray[np.float64]  # (n, max_sites, 3) in [0, 1)
    nameless: npt.NDArray[np.bool_]  # (n,) whether a site belongs to a column that names no element


def _sites_of(compact: Compact, spec: FtcpSpec) -> _Sites:
    occupied = compact.occupancy.max(axis=2) >= spec.threshold  # NaN is not
    column = compact.occupancy.argmax(axis=2)
    elements = np.take_along_axis(compact.numbers.astype(np.int64), column, axis=1)
    if spec.occupancy == "paper":
        numbers = _published_sites(np.where(occupied, elements, 0))
        nameless = occupied & (elements > ELEMENTS)  # a column without a name is index 0 there, hydrogen
    else:
        nameless = occupied & ((elements < 1) | (elements > ELEMENTS))
        numbers = np.where(occupied & ~nameless, elements, 0)
    return _Sites(numbers, wrapped(compact.coords), nameless.any(axis=1))


def _published_sites(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the atomic numbers of sites as the published code reads them, 0 after the last.

    There, an empty site and hydrogen are both index 0: the last site is the last that is neither, and what is 0 before
    it is hydrogen. A cell of nothing else is one hydrogen atom.
    """
    position = np.arange(numbers.shape[1])
    last = np.where(numbers > 1, position, 0).max(axis=1)
    return np.where(position <= last[:, None], np.maximum(numbers, 1), 0)


def _reasons(compact: Compact, sites: _Sites, spec: FtcpSpec) -> list[str | None]:
    """Return, for every row, why it is no crystal, or None; the first reason that holds. Overlaps are not looked at."""
    finite = np.isfinite(compact.lattices).all(axis=1) & (compact.numbers >= 0).all(axis=1)
    finite &= np.isfinite(compact.coords).all(axis=(1, 2)) & np.isfinite(compact.occupancy).all(axis=(1, 2))
    lengths = compact.lattices[:, :3]
    absurd = ((lengths < cells.MIN_LENGTH) | (lengths > cells.MAX_LENGTH)).any(axis=1)
    checks = (
        (~compact.filled, NOTHING),
        (~finite, "A number of the design is not finite."),
        (sites.nameless, "A site belongs to an element column that names no element."),
        ((sites.numbers == 0).all(axis=1), f"No site is occupied: every score is below {spec.threshold}."),
        (absurd, f"An edge of the cell is not between {cells.MIN_LENGTH} and {cells.MAX_LENGTH} A."),
        (~cells.possible(compact.lattices), "The angles make no cell."),
    )
    reasons: list[str | None] = [None] * len(compact)
    for wrong, sentence in checks:
        for row in np.flatnonzero(wrong):
            reasons[row] = reasons[row] or sentence
    return reasons
