"""Potentials behind one interface, each with its record."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import pytest
from physics_crystals import batch_of, distorted

from crysgen_aiida.crystals.errors import ImpossibleRequest, NotInstalled
from crysgen_aiida.physics.ase_potential import ASEPotential, hash_parameters
from crysgen_aiida.physics.potentials import POTENTIALS, PotentialInfo, get_potential, load_potential, potentials


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
    monkeypatch.setitem(POTENTIALS, "mace", replace(POTENTIALS["mace"], package="no_such_package"))
    potentials.cache_clear()
    with pytest.raises(NotInstalled, match="pip install 'mace-torch"):
        load_potential("mace")
    monkeypatch.undo()
    potentials.cache_clear()


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


def test_nothing_is_imported_to_say_what_is_missing() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from crysgen_aiida.physics.potentials import potentials\n"
        "for p in potentials().values(): p.missing()\n"
        "print([m for m in ('torch', 'e3nn', 'sevenn', 'chgnet') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


PLUGIN = PotentialInfo("ours", "1", ("self-consistent",), True, 94, "ours", "nobody", "MIT", "none", "ase",
                       calculator="ase.calculators.emt:EMT")  # fmt: skip


def test_plug_ins_add_potentials_and_a_bad_one_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def __init__(self, name: str, value: Any) -> None:
            self.name, self.value, self.held = name, f"package:{name}", value

        def load(self) -> Any:
            if isinstance(self.held, Exception):
                raise self.held
            return self.held

    taken = replace(PLUGIN, name="chgnet")
    entries = [Entry("a", PLUGIN), Entry("b", ImportError("no such module")), Entry("c", 3), Entry("d", taken)]
    monkeypatch.setattr(metadata, "entry_points", lambda group: entries)
    potentials.cache_clear()
    with pytest.warns(UserWarning, match="(no such module|names no PotentialInfo|two potentials)") as told:
        found = potentials()
    assert len(told) == 3
    assert list(found) == [*POTENTIALS, "ours"]
    assert found["chgnet"] is POTENTIALS["chgnet"]
    assert get_potential("ours").method == "ours-1"
    monkeypatch.undo()
    potentials.cache_clear()


def test_direct_forces_are_registered_as_such() -> None:
    assert [n for n, p in POTENTIALS.items() if not p.conservative] == ["orb-direct"]


def test_parameters_that_cannot_be_hashed_are_refused() -> None:
    from ase.calculators.emt import EMT

    with pytest.raises(ImpossibleRequest, match="no torch module"):
        hash_parameters(EMT())
