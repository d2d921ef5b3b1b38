"""Meshes of k-points that keep the symmetry of a crystal, from a density."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pymatgen.core import Structure

Mesh = tuple[int, int, int]
Shifts = tuple[tuple[float, float, float], ...]

GAMMA: Shifts = ((0.0, 0.0, 0.0),)
#: Shifts in the order they are tried: those that sample best first. The first fits simple and bcc lattices, the next
#: are those ABINIT documents under ``shiftk`` for primitive cells of fcc crystals, the third fits hexagonal ones;
#: Gamma fits all.
CANDIDATES: tuple[Shifts, ...] = (
    ((0.5, 0.5, 0.5),),
    ((0.5, 0.5, 0.5), (0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5)),
    ((0.0, 0.0, 0.5),),
    GAMMA,
)
_TOLERANCE = 1e-6


def mesh_for(structure: Structure, density: float, symprec: float = 0.01) -> tuple[Mesh, Shifts]:
    """Return divisions and shifts of a mesh that has the symmetry of the crystal.

    Several shifts are several meshes in one, so that the divisions are smaller by the cube root of their number; only
    cells of cubic crystals get them.

    :param density: points in the Brillouin zone per its volume [A^3], 2 pi included.
    :param symprec: tolerance of the symmetry [A].
    """
    rotations = reciprocal_rotations(structure, symprec)
    cubic = len(rotations) >= 24 and any(_order(r) == 3 for r in rotations) and _is_cubic(rotations)
    lengths = np.array(structure.lattice.reciprocal_lattice.abc)
    for shifts in CANDIDATES:
        if len(shifts) > 1 and not cubic:
            continue
        spacing = (density / len(shifts)) ** (1 / 3)
        n = [max(1, round(float(x))) for x in np.round(lengths * spacing, 6)]
        mesh: Mesh = (n[0], n[1], n[2])
        if shifts == GAMMA or keeps_symmetry(mesh, shifts, rotations):
            return mesh, shifts
    raise AssertionError("Gamma is always among the candidates")


def keeps_symmetry(mesh: Mesh, shifts: Shifts, rotations: npt.NDArray[np.int64]) -> bool:
    """Whether rotating a mesh leaves it as it is.

    :param rotations: (n, 3, 3) acting on fractional coordinates of wave vectors.
    """
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in mesh], indexing="ij"), axis=-1).reshape(-1, 3)
    points = np.concatenate([(grid + np.array(shift)) / np.array(mesh) for shift in shifts])
    known = {_key(p) for p in points}
    return all(_key(p) in known for rotation in rotations for p in points @ rotation.T)


def reciprocal_rotations(structure: Structure, symprec: float) -> npt.NDArray[np.int64]:
    """Return the point group with time reversal on fractional coordinates of wave vectors, (n, 3, 3)."""
    import spglib

    cell: Any = (structure.lattice.matrix, structure.frac_coords, [site.specie.Z for site in structure])
    found = spglib.get_symmetry(cell, symprec=symprec)
    real = [np.eye(3, dtype=int)] if found is None else found["rotations"]
    held = {np.round(np.linalg.inv(r).T).astype(int).tobytes() for r in real}
    rotations = np.array([np.frombuffer(b, dtype=int).reshape(3, 3) for b in sorted(held)])
    return np.unique(np.concatenate([rotations, -rotations]), axis=0)


def _key(point: npt.NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(int(x) for x in np.round((point % 1.0) / _TOLERANCE).astype(int) % round(1 / _TOLERANCE))


def _order(rotation: npt.NDArray[np.int64]) -> int:
    return {3: 1, 2: 6, 1: 4, 0: 3, -1: 2}.get(int(np.trace(rotation)) * round(float(np.linalg.det(rotation))), 0)


def _is_cubic(rotations: npt.NDArray[np.int64]) -> bool:
    """Four axes of order three, that is eight proper rotations, make a crystal cubic."""
    return sum(_order(r) == 3 and np.linalg.det(r) > 0 for r in rotations) == 8
