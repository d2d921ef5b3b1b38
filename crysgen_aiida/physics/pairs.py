"""Pairs of atoms of a batch of crystals, and what a potential that is a sum over pairs' vectors makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crysgen_aiida.physics.batch import CellBatch, Evaluation, Floats, Ints
from crysgen_aiida.physics.neighbours import HalfList, half_list

#: Extra reach of the neighbour lists [A]: searched again only when atoms or cell have moved that far.
SKIN = 0.6


class PairLists:
    """The neighbour lists of the crystals being worked on, kept from one evaluation to the next.

    :param cutoff: reach of the potential [A].
    """

    def __init__(self, cutoff: float) -> None:
        self.cutoff = cutoff
        self._held: dict[int, HalfList] = {}

    def pairs(self, batch: CellBatch) -> tuple[Ints, Ints, Floats]:
        """Return the pairs inside the cutoff: atoms i and j, and the vectors from i to j [A]; (U,), (U,), (U, 3)."""
        starts = batch.starts
        first, second, vectors = [], [], []
        for b, key in enumerate(batch.keys):
            cell = batch.cells[b]
            positions = batch.positions[starts[b] : starts[b + 1]]
            frac = positions @ np.linalg.inv(cell)
            held = self._held.get(key)
            if held is None or len(held.frac) != len(frac) or not held.covers(cell, frac, self.cutoff):
                held = self._held[key] = half_list(cell, frac, self.cutoff, SKIN)
            vector = positions[held.j] - positions[held.i] + held.image @ cell
            near = (vector * vector).sum(axis=1) < self.cutoff**2
            first.append(held.i[near] + starts[b])
            second.append(held.j[near] + starts[b])
            vectors.append(vector[near])
        return np.concatenate(first), np.concatenate(second), np.concatenate(vectors)

    def forget(self, keys: Sequence[int] | None = None) -> None:
        """Drop the neighbour lists of these crystals (all, if None)."""
        for key in list(self._held) if keys is None else keys:
            self._held.pop(key, None)


def evaluation(
    batch: CellBatch, pairs: tuple[Ints, Ints, Floats], site_energies: Floats, gradient: Floats
) -> Evaluation:
    """Return energies, forces and stresses from the energy of each atom and its derivative to the pairs' vectors.

    :param site_energies: [eV], (N,).
    :param gradient: derivative of the total energy with respect to the vectors [eV/A], (U, 3).
    """
    i, j, vectors = pairs
    owners, n_crystals = batch.owners, len(batch.counts)
    n_atoms = len(owners)
    degree = np.bincount(i, minlength=n_atoms) + np.bincount(j, minlength=n_atoms)
    forces = [np.bincount(i, gradient[:, k], n_atoms) - np.bincount(j, gradient[:, k], n_atoms) for k in range(3)]
    pair_owner = owners[i]
    outer = (vectors[:, :, None] * gradient[:, None, :]).reshape(-1, 9)
    virial = np.stack([np.bincount(pair_owner, outer[:, k], n_crystals) for k in range(9)], axis=1).reshape(-1, 3, 3)
    shortest = np.full(n_crystals, np.inf)
    np.minimum.at(shortest, pair_owner, np.sqrt((vectors * vectors).sum(axis=1)))
    return Evaluation(
        energies=np.bincount(owners, site_energies, n_crystals).astype(np.float64),
        forces=np.stack(forces, axis=1),
        stresses=0.5 * (virial + virial.transpose(0, 2, 1)) / batch.volumes[:, None, None],
        isolated=np.bincount(owners[degree == 0], minlength=n_crystals),
        shortest=shortest,
    )
