"""Finite differences tell a potential whose forces are derivatives of its energy from one whose are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crysgen_aiida.physics.batch import CellBatch, Evaluation
from crysgen_aiida.physics.consistency import TOLERANCE, built_in, consistency
from crysgen_aiida.physics.neighbours import half_list
from crysgen_aiida.physics.potentials import POTENTIALS, load_potential


class Gauss:
    """Pairs repel each other by a Gaussian of their distance; forces and stress may be made wrong."""

    def __init__(self, force: float = 1.0, stress: float = 1.0) -> None:
        self.force, self.stress = force, stress

    def evaluate(self, batch: CellBatch) -> Evaluation:
        n = len(batch.counts)
        energies, forces, stresses = np.zeros(n), np.zeros_like(batch.positions), np.zeros((n, 3, 3))
        for b in range(n):
            part = slice(batch.starts[b], batch.starts[b + 1])
            cell, positions = batch.cells[b], batch.positions[part]
            pairs = half_list(cell, positions @ np.linalg.inv(cell), 6.0, 0.0)
            v = positions[pairs.j] - positions[pairs.i] + pairs.image @ cell
            e = np.exp(-(v * v).sum(axis=1))
            gradient = -2 * v * e[:, None]
            energies[b] = e.sum()
            np.add.at(forces[part], pairs.i, self.force * gradient)
            np.add.at(forces[part], pairs.j, -self.force * gradient)
            stresses[b] = self.stress * v.T @ gradient / batch.volumes[b]
        none = np.zeros(n, dtype=np.int64)
        return Evaluation(100 * energies, 100 * forces, 100 * stresses, none, np.full(n, 1.0))

    def forget(self, keys: Any = None) -> None:
        pass


def test_exact_derivatives_deviate_by_the_truncation_only() -> None:
    for found in consistency(Gauss(), list(built_in().values())):
        assert found.worst < 2e-3


@pytest.mark.parametrize(("wrong", "which"), [({"force": 1.1}, "force"), ({"stress": -1.0}, "stress")])
def test_wrong_forces_and_wrong_stress_are_told_apart(wrong: dict[str, float], which: str) -> None:
    (found,) = consistency(Gauss(**wrong), [built_in()["AlN"]])
    other = "stress" if which == "force" else "force"
    assert getattr(found, which) > 0.08
    assert getattr(found, other) < 2e-3
    assert found.worst > TOLERANCE


def test_a_potential_that_says_nothing_does_not_pass() -> None:
    (found,) = consistency(Gauss(force=float("nan")), [built_in()["Si"]])
    assert not found.worst <= TOLERANCE


@pytest.mark.parametrize("name", list(POTENTIALS))
def test_every_potential_that_is_here_is_conservative_as_registered(name: str) -> None:
    info = POTENTIALS[name]
    if (missing := info.missing()) is not None:
        pytest.skip(missing)
    found = consistency(load_potential(name).compute, [built_in()[crystal] for crystal in ("Si", "Cu", "NaCl")])
    assert (max(one.worst for one in found) <= TOLERANCE) == info.conservative
