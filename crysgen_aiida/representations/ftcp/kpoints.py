"""Which points of the reciprocal lattice an FTCP matrix has columns for, many crystals at once.

The reciprocal lattice is the crystallographic one, without 2 pi: |g_hkl| = 1/d_hkl.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.representations.ftcp import cells

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int16]
Found = tuple[Ints, Floats]

#: Radii of the published choice [1/A]: the second where the first sphere holds too few points.
RADII = (1.297, 1.4)
#: Points on the rim of a sphere are in it: pymatgen's numerical tolerance [1/A].
RIM = 1e-8
#: Lengths that differ by less are equal: symmetry makes them so, rounding does not keep them so [1/A].
TIE = 1e-5
#: Most numbers of one temporary array.
CHUNK = 2_000_000


def nearest(lattices: npt.ArrayLike, n: int) -> Found:
    """Return the n points nearest to the origin, without it, nearest first.

    Equal lengths are ordered by |h| + |k| + |l|, then by h, k, l descending. There are always enough.

    :param lattices: (rows, 6) lengths [A] and angles [degrees].
    :returns: Miller indices (rows, n, 3) and |g| [1/A] (rows, n).
    :raises BadInput: if a lattice is none.
    """
    lattice = np.asarray(lattices, dtype=np.float64)
    star = _reciprocal(lattice)
    lengths = lattice[:, :3]
    volumes = lengths.prod(axis=1) * cells.volume_ratios(lattice)
    # a sphere that should hold more than enough points, and then the box around it
    radii = 1.25 * (3 * (n + 1) / (4 * np.pi * volumes)) ** (1 / 3)
    bounds = np.maximum(_bounds(radii, lengths), 1)
    while (small := (2 * bounds + 1).prod(axis=1) <= n).any():
        bounds[small] += 1
    hkl, g = np.zeros((len(lattice), n, 3), np.int16), np.zeros((len(lattice), n))
    open_rows = np.arange(len(lattice))
    while len(open_rows):
        for rows, box in _by_box(open_rows, bounds[open_rows]):
            hkl[rows], g[rows] = _nearest_of(star[rows], _box(*box), n)
        # the n-th of a box is at least as far as the true one: its sphere must lie in the box
        needed = _bounds(g[open_rows, -1] + 10 * TIE, lengths[open_rows])
        outside = (needed > bounds[open_rows]).any(axis=1)
        open_rows = open_rows[outside]
        bounds[open_rows] = np.maximum(bounds[open_rows], needed[outside])
    return hkl, g


def published(lattices: npt.ArrayLike, n: int) -> Found:
    """Return the n points that the published code takes.

    Of the points in a sphere of 1.297 1/A, or 1.4 if that holds fewer than n, the first by |h| + |k| + |l|, then by
    h, k, l descending.

    :returns: as :func:`nearest`.
    :raises BadInput: if a sphere of 1.4 1/A holds fewer than n.
    """
    hkl, g, found = _published(np.asarray(lattices, dtype=np.float64), n)
    if not found.all():
        row = int(np.argmin(found))
        raise BadInput(
            f"Row {row} has fewer than {n} k-points within {RADII[-1]} 1/A; use kpoints: length, or leave the row out."
        )
    return hkl, g


def enough(lattices: npt.ArrayLike, n: int) -> npt.NDArray[np.bool_]:
    """Return which lattices have n points for :func:`published`."""
    return _published(np.asarray(lattices, dtype=np.float64), n)[2]


def _published(lattice: Floats, n: int) -> tuple[Ints, Floats, npt.NDArray[np.bool_]]:
    star = _reciprocal(lattice)
    hkl, g = np.zeros((len(lattice), n, 3), np.int16), np.zeros((len(lattice), n))
    found = np.zeros(len(lattice), dtype=bool)
    for radius in RADII:
        # points beyond this sum are outside of the sphere
        largest = _bounds(np.full(len(lattice), radius + RIM), lattice[:, :3]).sum(axis=1)
        size = 4
        rows = np.flatnonzero(~found)
        while len(rows):
            for part in _chunks(rows, len(_octahedron(size))):
                hkl[part], g[part], found[part] = _first_inside(star[part], _octahedron(size), radius, n)
            rows = rows[~found[rows] & (largest[rows] > size)]
            size *= 2
    return hkl, g, found


def _first_inside(star: Floats, hkl: Ints, radius: float, n: int) -> tuple[Ints, Floats, npt.NDArray[np.bool_]]:
    """Return the first n of the given points that lie within a radius, and whether there are n."""
    g = _lengths(star, hkl)
    inside = g <= radius + RIM
    first = np.argsort(~inside, axis=1, kind="stable")[:, :n]
    return hkl[first], np.take_along_axis(g, first, axis=1), inside.sum(axis=1) >= n


def _nearest_of(star: Floats, hkl: Ints, n: int) -> Found:
    """Return the n shortest of the given points, which are in the order that ties take."""
    g = _lengths(star, hkl)
    order = np.argsort(g, axis=1)
    ascending = np.take_along_axis(g, order, axis=1)
    radius = ascending[:, n - 1, None] + 10 * TIE  # lengths tied with the n-th are within
    most = int((ascending <= radius).sum(axis=1).max())
    order, ascending = order[:, :most], ascending[:, :most]
    new = (np.diff(ascending, axis=1) > TIE) | (ascending[:, 1:] > radius)
    group = np.concatenate([np.zeros((len(g), 1), dtype=np.int64), np.cumsum(new, axis=1)], axis=1)
    order = np.take_along_axis(order, np.argsort(group * len(hkl) + order, axis=1)[:, :n], axis=1)
    return hkl[order], np.take_along_axis(g, order, axis=1)


def _reciprocal(lattice: Floats) -> Floats:
    """Return the six numbers of each reciprocal metric tensor (rows, 6): 11, 22, 33, 12, 13, 23 [1/A^2]."""
    wrong = np.flatnonzero(~cells.possible(lattice))
    if len(wrong):
        raise BadInput(f"The lengths and angles of row {wrong[0]} make no cell; k-points exist for real cells only.")
    inverse = np.linalg.inv(cells.metrics(lattice))
    return np.asarray(inverse[:, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]], dtype=np.float64)


def _lengths(star: Floats, hkl: Ints) -> Floats:
    """Return |g| (rows, points)."""
    h, k, m = hkl.T.astype(np.float64)
    terms = np.stack([h * h, k * k, m * m, 2 * h * k, 2 * h * m, 2 * k * m])
    # not a product of matrices: BLAS rounds by the size of the batch, and a crystal is to have one matrix
    squares = np.einsum("nt,tp->np", star, terms)
    return np.sqrt(np.maximum(squares, 0))


def _bounds(radii: Floats, lengths: Floats) -> npt.NDArray[np.int64]:
    """Return the largest |h|, |k|, |l| (rows, 3) of points within each radius: h = g . a, so |h| <= |g| |a|."""
    return np.floor(radii[:, None] * lengths + 1e-9).astype(np.int64)


def _by_box(
    rows: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], tuple[int, int, int]]]:
    """Yield rows that share a box, not too many at once."""
    boxes, members = np.unique(bounds, axis=0, return_inverse=True)
    order = np.argsort(members.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(members.ravel(), minlength=len(boxes)))
    for (h, k, m), part in zip(boxes.tolist(), np.split(rows[order], ends[:-1]), strict=True):
        for chunk in _chunks(part, (2 * h + 1) * (2 * k + 1) * (2 * m + 1)):
            yield chunk, (h, k, m)


def _chunks(rows: npt.NDArray[np.int64], points: int) -> Iterator[npt.NDArray[np.int64]]:
    step = max(1, CHUNK // points)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


@lru_cache(maxsize=32)
def _box(h: int, k: int, m: int) -> Ints:
    """Return the points of a box, without the origin, in the order of :func:`_ordered`."""
    return _ordered(np.mgrid[-h : h + 1, -k : k + 1, -m : m + 1].reshape(3, -1).T)


@lru_cache(maxsize=4)
def _octahedron(size: int) -> Ints:
    """Return the points with |h| + |k| + |l| up to ``size``, without the origin, in the order of :func:`_ordered`."""
    points = _box(size, size, size)
    return points[np.abs(points).sum(axis=1) <= size]


def _ordered(points: npt.NDArray[np.int64]) -> Ints:
    """Return points by |h| + |k| + |l|, then h, k, l descending, without the origin."""
    size = np.abs(points).sum(axis=1)
    h, k, m = -points.T
    return points[np.lexsort((m, k, h, size))][1:].astype(np.int16)
