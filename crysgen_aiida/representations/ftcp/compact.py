"""Compact: what an FTCP matrix says of a crystal, without what follows from it.

A matrix of 240 x 62 numbers holds about a hundred that matter. Sets of crystals, real or designed, are kept in this
form, in memory and as columns of a set; the matrices are made when they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.representations.ftcp import cells, kpoints
from crysgen_aiida.representations.ftcp.site_order import canonical_orders
from crysgen_aiida.representations.ftcp.spec import DESCRIBED, ELEMENTS, FtcpSpec

if TYPE_CHECKING:
    from typing_extensions import Self

#: Columns of a set, name to Arrow type. Doubles where a k-point at the rim of a sphere may hang on the last digit.
COLUMNS = {
    "atomic_numbers": "list<int16>",
    "lattice": "list<double>",
    "coordinates": "list<double>",
    "occupancies": "list<float>",
}

_DTYPES: dict[str, Any] = {"list<int16>": np.int16, "list<double>": np.float64, "list<float>": np.float32}


@dataclass(frozen=True)
class Compact:
    """n crystals of at most ``max_sites`` sites and ``max_elements`` elements.

    Rows without a crystal hold zeros.
    """

    numbers: npt.NDArray[
        np.int16
    ]  #: (n, max_elements) atomic number of each element column, 0 for none, -1 for no finite score
    lattices: npt.NDArray[np.float64]  #: (n, 6) a, b, c [A], alpha, beta, gamma [degrees]
    coords: npt.NDArray[np.float64]  #: (n, max_sites, 3) fractional coordinates
    #: (n, max_sites, max_elements) one-hot of the element column of each site, zeros for none; from a network, scores
    occupancy: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def empty(cls, n: int, spec: FtcpSpec) -> Self:
        """Return n rows of zeros."""
        return cls(
            np.zeros((n, spec.max_elements), np.int16),
            np.zeros((n, 6)),
            np.zeros((n, spec.max_sites, 3)),
            np.zeros((n, spec.max_sites, spec.max_elements), np.float32),
        )

    @classmethod
    def concat(cls, parts: Sequence[Compact]) -> Self:
        """Join parts of one spec, of which there must be one at least."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    @property
    def filled(self) -> npt.NDArray[np.bool_]:
        """(n,) whether a row holds anything."""
        return np.asarray(self.numbers.any(axis=1))

    def take(self, rows: Any) -> Self:
        """Return some rows, by index, slice or mask."""
        return type(self)(self.numbers[rows], self.lattices[rows], self.coords[rows], self.occupancy[rows])

    def put(self, rows: Any, other: Self) -> None:
        """Write the rows of another into some rows of this one."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)

    def to_columns(self) -> dict[str, pa.Array]:
        """Return the payload columns of a set (:data:`COLUMNS`), null where there is no crystal."""
        arrays: tuple[np.ndarray, ...] = (self.numbers, self.lattices, self.coords, self.occupancy)
        return {name: _lists(array, self.filled) for name, array in zip(COLUMNS, arrays, strict=True)}

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any] | pa.Table, spec: FtcpSpec) -> Self:
        """Read the payload columns of a set: the inverse of :meth:`to_columns`; nulls become zeros.

        :param columns: an Arrow table, or arrays by name.
        :raises BadInput: if a column is missing or a row of it has another length than the spec says.
        """
        held = columns.column_names if isinstance(columns, pa.Table) else list(columns)
        missing = [name for name in COLUMNS if name not in held]
        if missing:
            raise BadInput(f"The set has no column {missing[0]!r}; an FTCP set has {', '.join(COLUMNS)}.")
        sites, elements = spec.max_sites, spec.max_elements
        shapes = ((elements,), (6,), (sites, 3), (sites, elements))
        arrays = (
            _array(columns[name], name, shape, _DTYPES[kind])
            for (name, kind), shape in zip(COLUMNS.items(), shapes, strict=True)
        )
        return cls(*arrays)


def _lists(array: np.ndarray, filled: np.ndarray) -> pa.Array:
    """Return an array (n, ...) as lists of its numbers, null where not ``filled``."""
    n, size = len(array), int(np.prod(array.shape[1:]))
    offsets = pa.array(np.concatenate([[0], np.cumsum(filled * size)]).astype(np.int32))
    values = pa.array(array[filled].reshape(-1))
    return (
        pa.ListArray.from_arrays(offsets, values, mask=pa.array(~filled)) if n else pa.array([], pa.list_(values.type))
    )


def _array(column: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a column of lists as an array (n, *shape)."""
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    size = int(np.prod(shape))
    try:
        lists = lists.cast(pa.list_(pa.from_numpy_dtype(dtype)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadInput(f"The column {name!r} must be {COLUMNS[name]}, not {lists.type}.") from error
    valid = np.asarray(lists.is_valid())
    lengths = np.asarray(lists.value_lengths().fill_null(size))
    wrong = np.flatnonzero(lengths != size)
    if len(wrong):
        raise BadInput(
            f"Row {wrong[0]} of the column {name!r} holds {lengths[wrong[0]]} numbers, but the representation has "
            f"{size}; use the spec (max_sites, max_elements) that the set was made with."
        )
    values = lists.flatten()
    if values.null_count:
        raise BadInput(f"The column {name!r} has lists with nulls in them; only whole rows may be null.")
    array = np.zeros((len(lists), *shape), dtype)
    array[valid] = values.to_numpy().reshape(-1, *shape)
    return array


def compact_of(crystals: CrystalSet, spec: FtcpSpec) -> tuple[Compact, list[str | None]]:
    """Return every crystal in compact form, row for row, and the reasons of those that have none.

    Elements are in the order of their first site, coordinates in [0, 1). A left-handed cell is inverted together
    with its coordinates (a -> -a, x -> -x): the same crystal, and lengths and angles can say it.
    """
    held = _held(crystals, spec.max_sites)
    reasons = _reasons(held, crystals, spec)
    good = np.array([reason is None for reason in reasons], dtype=bool)
    numbers, coords = held.numbers[good], held.coords[good]
    if spec.site_order == "symmetry":
        order = canonical_orders(held.lattices[good], numbers, coords)
        numbers = np.take_along_axis(numbers, order, axis=1)
        coords = np.take_along_axis(coords, order[:, :, None], axis=1)
    columns, site_columns = _element_columns(numbers, spec.max_elements)
    compact = Compact.empty(len(crystals), spec)
    compact.numbers[good] = columns
    compact.lattices[good] = cells.parameters(held.lattices[good])
    compact.coords[good] = coords
    compact.occupancy[good] = site_columns[:, :, None] == np.arange(spec.max_elements)
    if spec.reciprocal and spec.kpoints == "paper":
        _refuse_few_kpoints(compact, reasons, spec)
    return compact, reasons


@dataclass(frozen=True)
class _Held:
    """What a set holds, padded to ``max_sites``; larger cells are cut off there."""

    lattices: npt.NDArray[np.float64]  # (n, 3, 3), right-handed; zeros where there is none
    numbers: npt.NDArray[np.int16]  # (n, max_sites), zeros at the end
    coords: npt.NDArray[np.float64]  # (n, max_sites, 3) in [0, 1)
    n_atoms: npt.NDArray[np.int64]  # (n,)
    n_coords: npt.NDArray[np.int64]  # (n,) numbers in the list of coordinates


def _held(crystals: CrystalSet, max_sites: int) -> _Held:
    lattices = np.zeros((len(crystals), 3, 3))
    column = crystals.arrow["lattice"].combine_chunks()
    lattices[np.asarray(column.is_valid())] = _numbers(column.drop_null()).reshape(-1, 3, 3)
    numbers, n_atoms = _padded(crystals.arrow["numbers"].combine_chunks(), max_sites)
    coords, n_coords = _padded(crystals.arrow["frac_coords"].combine_chunks(), 3 * max_sites)
    hand = np.where(np.linalg.det(np.nan_to_num(lattices)) < 0, -1.0, 1.0)[:, None, None]
    coords = wrapped(hand * coords.reshape(-1, max_sites, 3))
    return _Held(hand * lattices, np.nan_to_num(numbers).astype(np.int16), coords, n_atoms, n_coords)


def wrapped(coords: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return fractional coordinates in [0, 1)."""
    with np.errstate(invalid="ignore"):  # infinity becomes NaN
        inside = coords - np.floor(coords)
    return np.where(inside >= 1, 0.0, inside)  # -1e-17 becomes 1 in rounding


def _numbers(lists: pa.Array) -> npt.NDArray[np.float64]:
    # a null among the numbers becomes NaN
    return np.asarray(lists.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)


def _padded(lists: pa.Array, size: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return lists of numbers as rows (n, size), cut off or filled with zeros, and their lengths (n,)."""
    lengths = np.asarray(lists.value_lengths().fill_null(0), dtype=np.int64)
    row = np.repeat(np.arange(len(lists)), lengths)
    position = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    fits = position < size
    rows = np.zeros((len(lists), size))
    rows[row[fits], position[fits]] = _numbers(lists)[fits]
    return rows, lengths


def _reasons(held: _Held, crystals: CrystalSet, spec: FtcpSpec) -> list[str | None]:
    """Return, for every row, why it has no matrix, or None; the first reason that holds."""
    reasons: list[str | None] = [None] * len(crystals)
    for row in np.flatnonzero(~(crystals.ok & np.asarray(crystals.arrow["lattice"].is_valid()))):
        why = crystals.arrow["reason"][int(row)].as_py()
        reasons[row] = f"The row it comes from holds nothing to translate: {why or 'no reason given'}"
    finite = np.isfinite(held.lattices).all(axis=(1, 2)) & np.isfinite(held.coords).all(axis=(1, 2))
    lengths = np.linalg.norm(held.lattices, axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = ~(np.linalg.det(np.nan_to_num(held.lattices)) / lengths.prod(axis=1) > cells.MIN_RATIO)
    long = ((lengths < cells.MIN_LENGTH) | (lengths > cells.MAX_LENGTH)).any(axis=1)
    present = np.arange(spec.max_sites) < held.n_atoms[:, None]
    strange = present & ((held.numbers < 1) | (held.numbers > ELEMENTS))
    beyond = present & (held.numbers > DESCRIBED)
    n_elements = first_sites(held.numbers)[1].sum(axis=1)
    checks = (
        (held.n_atoms == 0, "The cell holds no atoms."),
        (held.n_coords != 3 * held.n_atoms, "The row does not hold three coordinates an atom."),
        (~finite, "A number of the lattice or the coordinates is not finite."),
        (flat, "The cell is flat: its vectors span (almost) no volume."),
        (long, f"An edge of the cell is not between {cells.MIN_LENGTH} and {cells.MAX_LENGTH} A."),
        (held.n_atoms > spec.max_sites, f"More sites than the representation holds (max_sites is {spec.max_sites})."),
        (strange.any(axis=1), f"An atomic number is not that of an element from 1 to {ELEMENTS}."),
        (beyond.any(axis=1) & spec.reciprocal, f"An element beyond Z = {DESCRIBED} has no property vector."),
        (n_elements > spec.max_elements,
         f"More elements than the representation holds (max_elements is {spec.max_elements})."),
    )  # fmt: skip
    for wrong, sentence in checks:
        for row in np.flatnonzero(wrong):
            reasons[row] = reasons[row] or sentence
    return reasons


def first_sites(numbers: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return, for atomic numbers (n, sites), the first site of each site's element and which sites are such a first."""
    first = (numbers[:, :, None] == numbers[:, None, :]).argmax(axis=2)
    return first, (first == np.arange(numbers.shape[1])) & (numbers > 0)


def _element_columns(numbers: np.ndarray, max_elements: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the element of each column (n, max_elements) and the column of each site (n, sites), -1 for none."""
    first, is_first = first_sites(numbers)
    column_of_first = np.cumsum(is_first, axis=1) - 1
    site_columns = np.where(numbers > 0, np.take_along_axis(column_of_first, first, axis=1), -1)
    columns = np.zeros((len(numbers), max_elements), np.int16)
    row, site = np.nonzero(is_first)
    columns[row, site_columns[row, site]] = numbers[row, site]
    return columns, site_columns


def _refuse_few_kpoints(compact: Compact, reasons: list[str | None], spec: FtcpSpec) -> None:
    """Empty the rows, and give them a reason, whose cells have too few k-points in the published sphere."""
    rows = np.flatnonzero(compact.filled)
    few = rows[~kpoints.enough(compact.lattices[rows], spec.n_kpoints)]
    for row in few:
        reasons[row] = (
            f"Fewer than {spec.n_kpoints} k-points lie within 1.4 1/A (kpoints: paper); kpoints: length has no limit."
        )
    for array in (compact.numbers, compact.lattices, compact.coords, compact.occupancy):
        array[few] = 0
