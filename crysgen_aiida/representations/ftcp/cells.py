"""Cells as three lengths and three angles, many at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Least volume of a cell over the product of its lengths. Of 15,000 real crystals the least has 0.012; 0 is flat.
MIN_RATIO = 1e-4
#: Shortest and longest edge that is taken for one of a crystal [A].
MIN_LENGTH, MAX_LENGTH = 0.5, 500.0


def parameters(matrices: npt.ArrayLike) -> Floats:
    """Return lengths [A] and angles [degrees], (n, 6), of lattices with rows a, b, c, (n, 3, 3)."""
    matrix = np.asarray(matrices, dtype=np.float64)
    lengths = np.linalg.norm(matrix, axis=2)
    unit = matrix / lengths[:, :, None]
    # atan2 of sine and cosine: arccos alone loses half of the digits near 0 and 180 degrees
    cosines = np.stack([np.sum(unit[:, i] * unit[:, j], axis=1) for i, j in ((1, 2), (0, 2), (0, 1))], axis=1)
    crosses = np.stack([np.cross(unit[:, i], unit[:, j]) for i, j in ((1, 2), (0, 2), (0, 1))], axis=1)
    angles = np.degrees(np.arctan2(np.linalg.norm(crosses, axis=2), cosines))
    return np.concatenate([lengths, angles], axis=1)


def metrics(cells: npt.ArrayLike) -> Floats:
    """Return the metric tensors G_ij = a_i . a_j [A^2], (n, 3, 3), of lengths and angles, (n, 6)."""
    cell = np.asarray(cells, dtype=np.float64)
    cosines = np.cos(np.radians(cell[:, 3:]))
    gram = np.ones((len(cell), 3, 3))
    for cosine, (i, j) in zip(cosines.T, ((1, 2), (0, 2), (0, 1)), strict=True):
        gram[:, i, j] = gram[:, j, i] = cosine
    return cell[:, :3, None] * cell[:, None, :3] * gram


def volume_ratios(cells: npt.ArrayLike) -> Floats:
    """Return the volume over a b c, (n,), of lengths and angles, (n, 6): 1 for right angles, 0 for no cell."""
    alpha, beta, gamma = np.cos(np.radians(np.asarray(cells, dtype=np.float64)[:, 3:])).T
    square = 1 - alpha**2 - beta**2 - gamma**2 + 2 * alpha * beta * gamma
    return np.sqrt(np.maximum(square, 0))


def possible(cells: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which lengths and angles, (n, 6), make a cell that is not flat; none of which NaN is a part does."""
    cell = np.nan_to_num(np.asarray(cells, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return (cell > 0).all(axis=1) & (cell[:, 3:] < 180).all(axis=1) & (volume_ratios(cell) > MIN_RATIO)


def matrices(cells: npt.ArrayLike) -> Floats:
    """Return lattices with rows a, b, c [A], (n, 3, 3), of lengths and angles, (n, 6).

    Right-handed, with a in the xz plane and c along z, as pymatgen writes them.
    """
    cell = np.asarray(cells, dtype=np.float64)
    a, b, c = cell[:, :3].T
    cosines = np.cos(np.radians(cell[:, 3:]))
    sines = np.sin(np.radians(cell[:, 3:]))
    (cos_alpha, cos_beta, cos_gamma), (sin_alpha, sin_beta, _) = cosines.T, sines.T
    cos_star = (cos_alpha * cos_beta - cos_gamma) / (sin_alpha * sin_beta)
    sin_star = volume_ratios(cell) / (sin_alpha * sin_beta)
    zero = np.zeros_like(a)
    rows = (
        np.stack([a * sin_beta, zero, a * cos_beta], axis=1),
        np.stack([-b * sin_alpha * cos_star, b * sin_alpha * sin_star, b * cos_alpha], axis=1),
        np.stack([zero, zero, c], axis=1),
    )
    return np.stack(rows, axis=1)
