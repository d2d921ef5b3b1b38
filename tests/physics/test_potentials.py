"""Potentials behind one interface, each with its record."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from physics_crystals import batch_of, distorted

from crysgen_aiida.crystals.errors import ImpossibleRequest, NotInstalled
from crysgen_aiida.physics.ase_potential import ASEPotential, hash_parameters
from crysgen_aiida.physics.potentials import POTENTIALS, get_potential, load_potential


def test_the_default_is_offline_and_recorded(chgnet: Any) -> None:
    record = chgnet.record()
    assert record["method"] == "chgnet-0.3.0"
    assert record["checkpoint_sha256"].startswith("d14ab7c0")
    assert record["conservative"] is True


def test_every_potential_declares_its_scale_and_its_install_line() -> None:
    for info in POTENTIALS.values():
        assert "self-consistent" in info.schemes
        assert info.install
        assert info.licence
        assert not info.covers([84])
        assert info.covers([1, 8, 26])
    assert [n for n, p in POTENTIALS.items() if "mp2020-compatible" in p.schemes] == ["chgnet"]


def test_a_potential_that_is_not_installed_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "mace.calculators", None)
    with pytest.raises(NotInstalled, match="pip install 'mace-torch"):
        load_potential("mace")


def test_an_unknown_potential_lists_the_known() -> None:
    with pytest.raises(ImpossibleRequest, match="chgnet, sevennet"):
        get_potential("zzz")


def test_an_ase_calculator_gives_the_same_as_the_batch(chgnet: Any, published: Any, structures: dict[str, Any]) -> None:
    from chgnet.model.dynamics import CHGNetCalculator

    calculator = CHGNetCalculator(published, use_device="cpu")
    batch = batch_of([distorted(structures["ZnS"], 1), distorted(structures["Cu"], 2)])
    wanted = chgnet.compute.evaluate(batch)
    chgnet.compute.forget()
    found = ASEPotential(calculator).evaluate(batch)
    np.testing.assert_allclose(found.energies, wanted.energies, atol=1e-4)
    np.testing.assert_allclose(found.forces, wanted.forces, atol=1e-3)
    np.testing.assert_allclose(found.stresses, wanted.stresses, atol=1e-4)
    np.testing.assert_allclose(found.shortest, wanted.shortest, atol=1e-9)
    assert found.isolated.tolist() == [0, 0]
    assert len(hash_parameters(calculator)) == 64


def test_parameters_that_cannot_be_hashed_are_refused() -> None:
    from ase.calculators.emt import EMT

    with pytest.raises(ImpossibleRequest, match="no torch module"):
        hash_parameters(EMT())
