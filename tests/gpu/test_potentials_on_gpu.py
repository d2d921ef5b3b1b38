"""Potentials and relaxations on a GPU give the numbers of a processor."""

from __future__ import annotations

import numpy as np
import pytest

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.physics.batch import CellBatch
from crysgen_aiida.physics.potentials import get_potential, load_potential
from crysgen_aiida.physics.relaxation import RelaxSpec, relax_set


def pushed(crystals: CrystalSet) -> CellBatch:
    """Return a batch of crystals with atoms off their places."""
    rng = np.random.default_rng(1)
    coords = [np.asarray(x) + rng.normal(0, 0.01, np.shape(x)) for x in crystals.column("frac_coords")]
    return CellBatch.build(crystals.column("numbers"), coords, crystals.column("lattice"))


@pytest.mark.parametrize("name", ["chgnet", "sevennet", "nequix"])
def test_energies_forces_and_stresses(name: str, crystals: CrystalSet) -> None:
    if (missing := get_potential(name).missing()) is not None:
        pytest.skip(missing)
    here, there = (load_potential(name, device).compute for device in ("cpu", "cuda"))
    rows = [row for row in range(40) if get_potential(name).covers(crystals.column("numbers")[row])]
    some = crystals.take(rows)
    wanted, found = here.evaluate(pushed(some)), there.evaluate(pushed(some))
    sizes = np.array([len(z) for z in some.column("numbers")])
    np.testing.assert_allclose(found.energies / sizes, wanted.energies / sizes, atol=2e-5)
    np.testing.assert_allclose(found.forces, wanted.forces, atol=1e-3)
    np.testing.assert_allclose(found.stresses, wanted.stresses, atol=1e-4)


def test_relaxations(crystals: CrystalSet) -> None:
    if (missing := get_potential("chgnet").missing()) is not None:
        pytest.skip(missing)
    some = crystals.take(range(0, 160, 5))
    energies = []
    for device in ("cpu", "cuda"):
        relaxed = relax_set(
            some, potential="chgnet", spec=RelaxSpec(max_steps=60), selection=None, run=InProcess(device=device),
            time_box_seconds=None,
        )  # fmt: skip
        energies.append(relaxed.values("energy_per_atom"))
    assert np.isfinite(energies[0]).sum() >= 28
    assert np.array_equal(np.isfinite(energies[0]), np.isfinite(energies[1]))
    difference = np.abs(energies[0] - energies[1])[np.isfinite(energies[0])]
    assert np.median(difference) < 1e-4
    assert np.quantile(difference, 0.9) < 5e-3  # a flat minimum may end elsewhere
