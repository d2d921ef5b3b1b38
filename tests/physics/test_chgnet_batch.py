"""The batched CHGNet is CHGNet: same energies, forces and stresses, whatever shares the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from physics_crystals import batch_of, distorted

from crysgen_aiida.physics.batch import EV_PER_A3_IN_GPA, CellBatch
from crysgen_aiida.physics.neighbours import half_list


def test_equal_to_the_published_implementation(chgnet: Any, published: Any, structures: dict[str, Any]) -> None:
    crystals = [distorted(s, k) for k, s in enumerate(structures.values())]
    batch = batch_of(crystals)
    found = chgnet.compute.evaluate(batch)
    chgnet.compute.forget()
    for b, structure in enumerate(crystals):
        wanted = published.predict_structure(structure, task="efs")
        mine = slice(batch.starts[b], batch.starts[b + 1])
        assert found.energies[b] / len(structure) == pytest.approx(float(wanted["e"]), abs=2e-6)
        np.testing.assert_allclose(found.forces[mine], wanted["f"], atol=2e-4)
        np.testing.assert_allclose(found.stresses[b] * EV_PER_A3_IN_GPA, wanted["s"], atol=5e-3)


def test_a_row_does_not_depend_on_its_batch(chgnet: Any, structures: dict[str, Any]) -> None:
    crystals = [distorted(s, k) for k, s in enumerate(structures.values())]
    together = chgnet.compute.evaluate(batch_of(crystals))
    chgnet.compute.forget()
    for b, structure in enumerate(crystals):
        alone = chgnet.compute.evaluate(batch_of([structure]))
        chgnet.compute.forget()
        assert together.energies[b] == pytest.approx(alone.energies[0], abs=1e-5)


def test_forces_and_stress_are_derivatives_of_the_energy(chgnet: Any, structures: dict[str, Any]) -> None:
    structure = distorted(structures["AlN"], 3)
    batch = batch_of([structure])
    base = chgnet.compute.evaluate(batch)
    step = 0.01
    energies = []
    for sign in (1, -1):
        moved = batch_of([structure])
        moved.positions[1, 2] += sign * step
        energies.append(chgnet.compute.evaluate(moved).energies[0])
    assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(base.forces[1, 2], rel=0.01, abs=2e-3)
    energies = []
    for sign in (1, -1):
        strain = np.eye(3)
        strain[2, 2] += sign * step
        strained = batch_of([structure])
        strained.positions = strained.positions @ strain
        strained.cells = strained.cells @ strain
        energies.append(chgnet.compute.evaluate(strained).energies[0])
    chgnet.compute.forget()
    slope = (energies[0] - energies[1]) / (2 * step) / batch.volumes[0]
    assert slope == pytest.approx(base.stresses[0, 2, 2], rel=0.02, abs=2e-4)


def test_the_same_batch_gives_the_same_bytes(chgnet: Any, structures: dict[str, Any]) -> None:
    crystals = [distorted(s, k) for k, s in enumerate(structures.values())]
    first = chgnet.compute.evaluate(batch_of(crystals))
    chgnet.compute.forget()
    again = chgnet.compute.evaluate(batch_of(crystals))
    chgnet.compute.forget()
    assert first.forces.tobytes() == again.forces.tobytes()


def test_an_atom_beyond_reach_is_counted(chgnet: Any) -> None:
    batch = CellBatch.build([[2]], [[[0, 0, 0]]], [np.eye(3) * 12.0])
    found = chgnet.compute.evaluate(batch)
    chgnet.compute.forget()
    assert found.isolated.tolist() == [1]
    assert np.isinf(found.shortest[0])
    assert np.isfinite(found.energies[0])


def test_a_corrupt_checkpoint_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from crysgen_aiida.crystals.errors import CorruptWeights
    from crysgen_aiida.physics import chgnet_batch

    broken = tmp_path / "weights.pth.tar"
    broken.write_bytes(b"not a checkpoint")
    monkeypatch.setattr(chgnet_batch, "checkpoint_path", lambda: broken)
    with pytest.raises(CorruptWeights, match="install chgnet again"):
        chgnet_batch.CHGNetBatch()


def pairs_within(held: Any, cell: np.ndarray, frac: np.ndarray, cutoff: float) -> set[tuple[int, ...]]:
    vectors = (frac[held.j] - frac[held.i] + held.image) @ cell
    near = np.sqrt((vectors**2).sum(axis=1)) < cutoff
    return {
        (int(i), int(j), *map(int, n)) for i, j, n in zip(held.i[near], held.j[near], held.image[near], strict=True)
    }


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(0.0, 0.4), strain=st.floats(-0.06, 0.06))
def test_a_kept_neighbour_list_misses_no_pair(seed: int, size: float, strain: float) -> None:
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(3, 6, 3)) + rng.uniform(-1, 1, (3, 3))
    frac = rng.uniform(-0.5, 1.5, (3, 3))
    kept = half_list(cell, frac, 4.0, 0.6)
    deform = np.eye(3) + strain * rng.uniform(-1, 1, (3, 3))
    cell2 = cell @ deform
    frac2 = frac + rng.uniform(-1, 1, (3, 3)) * size @ np.linalg.inv(cell)
    if kept.covers(cell2, frac2, 4.0):
        fresh = half_list(cell2, frac2, 4.0, 0.0)
        assert pairs_within(kept, cell2, frac2, 4.0 - 1e-6) == pairs_within(fresh, cell2, frac2, 4.0 - 1e-6)


def test_a_list_that_moved_too_far_is_refused() -> None:
    cell, frac = np.eye(3) * 4.0, np.zeros((1, 3))
    kept = half_list(cell, frac, 4.5, 0.5)
    assert kept.covers(cell, frac, 4.5)
    assert not kept.covers(cell * 0.85, frac, 4.5)
    assert not kept.covers(cell, frac + 0.1, 4.5)
