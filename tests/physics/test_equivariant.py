"""SevenNet and Nequix in one network: equal to the published codes, whatever shares the batch, invariant and smooth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from physics_crystals import batch_of, distorted

from crysgen_aiida.crystals.errors import CorruptWeights, NotInstalled
from crysgen_aiida.physics import convolution, nequix_batch, nequix_weights, sevennet_batch
from crysgen_aiida.physics.batch import CellBatch
from crysgen_aiida.physics.potentials import get_potential, load_potential

pytest.importorskip("e3nn", reason="pip install e3nn")


@pytest.fixture(scope="module")
def sevennet() -> Any:
    pytest.importorskip("sevenn", reason="pip install sevenn")
    return load_potential("sevennet")


@pytest.fixture(scope="module")
def weights(shared_data: Path) -> Path:
    path = shared_data / "nequix-mp-1-pft" / nequix_weights.FILE
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    return path


@pytest.mark.parametrize("model", ["l3i5", "0"])
def test_sevennet_is_its_own_calculator(model: str, structures: dict[str, Any]) -> None:
    published = pytest.importorskip("sevenn.calculator", reason="pip install sevenn")
    from pymatgen.io.ase import AseAtomsAdaptor

    crystals = [distorted(s, k) for k, s in enumerate(structures.values()) if len(s) < 5]
    batch = batch_of(crystals)
    found = sevennet_batch.load("cpu", model).evaluate(batch)
    calculator = published.SevenNetCalculator(f"7net-{model}", device="cpu")
    for b, structure in enumerate(crystals):
        atoms = AseAtomsAdaptor.get_atoms(structure)
        atoms.calc = calculator
        mine = slice(batch.starts[b], batch.starts[b + 1])
        assert found.energies[b] / len(atoms) == pytest.approx(atoms.get_potential_energy() / len(atoms), abs=3e-6)
        np.testing.assert_allclose(found.forces[mine], atoms.get_forces(), atol=2e-5)
        np.testing.assert_allclose(found.stresses[b], atoms.get_stress(voigt=False), atol=2e-6)


@pytest.mark.parametrize("double", [False, True])
def test_nequix_is_the_published_one(weights: Path, double: bool) -> None:
    wanted = json.loads((Path(__file__).parent / "data" / "nequix.json").read_text())["crystals"]
    batch = CellBatch.build(*([c[k] for c in wanted] for k in ("numbers", "frac", "cell")))
    found = nequix_batch.load("cpu", weights, double).evaluate(batch)
    for b, crystal in enumerate(wanted):
        mine = slice(batch.starts[b], batch.starts[b + 1])
        assert found.energies[b] == pytest.approx(crystal["energy"], abs=5e-5)
        np.testing.assert_allclose(found.forces[mine], crystal["forces"], atol=2e-5)
        np.testing.assert_allclose(found.stresses[b], crystal["stress"], atol=2e-6)


def test_double_precision_is_the_same_potential(sevennet: Any, structures: dict[str, Any]) -> None:
    batch = batch_of([distorted(structures["AlN"], 1)])
    single, double = sevennet.compute.evaluate(batch), sevennet_batch.load(double=True).evaluate(batch)
    sevennet.compute.forget()
    np.testing.assert_allclose(single.forces, double.forces, atol=2e-5)
    assert single.energies[0] == pytest.approx(double.energies[0], abs=2e-5)


def test_a_row_does_not_depend_on_its_batch(sevennet: Any, structures: dict[str, Any]) -> None:
    crystals = [distorted(s, k) for k, s in enumerate(structures.values())]
    batch = batch_of(crystals)
    together = sevennet.compute.evaluate(batch)
    again = sevennet.compute.evaluate(batch)
    sevennet.compute.forget()
    assert together.forces.tobytes() == again.forces.tobytes()
    for b, structure in enumerate(crystals):
        alone = sevennet.compute.evaluate(batch_of([structure]))
        sevennet.compute.forget()
        assert together.energies[b] == pytest.approx(alone.energies[0], abs=1e-5)
        mine = slice(batch.starts[b], batch.starts[b + 1])
        np.testing.assert_allclose(together.forces[mine], alone.forces, atol=1e-5)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_energy_turns_with_nothing_and_forces_turn_with_the_crystal(sevennet: Any, seed: int) -> None:
    from scipy.stats import special_ortho_group

    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(3.5, 5, 3)) + rng.uniform(-0.5, 0.5, (3, 3))
    frac, numbers = (
        np.array([[0, 0, 0], [0.5, 0.5, 0.4], [0.1, 0.5, 0.9]]) + rng.uniform(-0.05, 0.05, (3, 3)),
        [14, 8, 3],
    )
    turn = special_ortho_group.rvs(3, random_state=seed)
    found = sevennet.compute.evaluate(CellBatch.build([numbers] * 2, [frac] * 2, np.stack([cell, cell @ turn])))
    sevennet.compute.forget()
    assert found.energies[0] == pytest.approx(found.energies[1], abs=3e-5)
    np.testing.assert_allclose(found.forces[:3] @ turn, found.forces[3:], atol=5e-5)
    np.testing.assert_allclose(turn.T @ found.stresses[0] @ turn, found.stresses[1], atol=2e-6)


def test_blocks_change_nothing(sevennet: Any, structures: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of([distorted(structures["AlN"], 1)])
    whole = sevennet.compute.evaluate(batch)
    monkeypatch.setattr(convolution, "BLOCK", 20_000)
    cut = sevennet.compute.evaluate(batch)
    sevennet.compute.forget()
    np.testing.assert_allclose(cut.forces, whole.forces, atol=1e-5)


def test_the_derivative_of_a_convolution_is_exact() -> None:
    import torch
    from e3nn import o3

    like = torch.zeros((), dtype=torch.float64)
    paths = convolution.make_paths([2, 3], 2, 1, lambda *_: True, o3.wigner_3j, by_target=True, like=like)
    rng = torch.Generator().manual_seed(0)

    def of(*shape: int) -> Any:
        return torch.randn(*shape, generator=rng, dtype=torch.float64, requires_grad=True)

    i, j = torch.tensor([0, 1, 0]), torch.tensor([1, 2, 0])
    n_weights = sum(len(s.columns) for s in paths.sources)

    def energy(a: Any, b: Any, harmonics: Any, weights: Any) -> Any:
        return torch.cat([x.flatten() for x in convolution.convolve([a, b], harmonics, weights, i, j, paths)])

    assert torch.autograd.gradcheck(energy, (of(3, 1, 2), of(3, 3, 3), of(3, 9), of(3, n_weights)))


def test_an_atom_beyond_reach_is_counted(sevennet: Any) -> None:
    found = sevennet.compute.evaluate(CellBatch.build([[2]], [[[0, 0, 0]]], [np.eye(3) * 12.0]))
    sevennet.compute.forget()
    assert found.isolated.tolist() == [1]
    assert np.isfinite(found.energies[0])


def test_records_name_scale_and_checkpoint(sevennet: Any) -> None:
    record = sevennet.record()
    assert record["method"] == "sevennet-l3i5"
    assert record["checkpoint_sha256"].startswith("a7ff190d")
    assert record["schemes"] == ["self-consistent"]
    assert "without corrections" in record["energies"]


def test_the_registry_says_which_elements_the_network_knows(sevennet: Any, weights: Path) -> None:
    for info, network in (
        (sevennet.info, sevennet.compute.network),
        (get_potential("nequix"), nequix_batch.load("cpu", weights).network),
    ):
        assert [z for z in range(1, 120) if info.covers([z])] == np.flatnonzero(network.species >= 0).tolist()


def test_weights_are_found_as_the_variable_says(weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for named in (weights, weights.parent):
        monkeypatch.setenv(nequix_weights.VARIABLE, str(named))
        assert nequix_weights.checkpoint_path() == weights
    monkeypatch.setenv(nequix_weights.VARIABLE, str(tmp_path))
    with pytest.raises(NotInstalled, match="set CRYSGEN_NEQUIX to its path"):
        load_potential("nequix")
    monkeypatch.delenv(nequix_weights.VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(NotInstalled, match="nequix/models"):
        nequix_weights.checkpoint_path()


@pytest.mark.parametrize("damage", ["text", "cut", "longer", "architecture"])
def test_damaged_weights_are_named(weights: Path, tmp_path: Path, damage: str) -> None:
    broken = tmp_path / nequix_weights.FILE
    content = weights.read_bytes()
    if damage == "text":
        broken.write_bytes(b"not weights")
    elif damage == "cut":
        broken.write_bytes(content[:-1000])
    elif damage == "longer":
        shutil.copy(weights, broken)
        with broken.open("ab") as file:
            np.save(file, np.zeros(3))
    else:
        broken.write_bytes(content.replace(b'"n_layers": 4', b'"n_layers": 3'))
    with pytest.raises(CorruptWeights, match=broken.name):
        nequix_batch.load("cpu", broken)


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.nqx"
    with path.open("wb") as file:
        file.write(b"{}\n")
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CorruptWeights, match="no whole"):
        nequix_weights.read_nqx(path)


def test_a_corrupt_checkpoint_of_sevennet_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "checkpoint.pth"
    broken.write_bytes(b"not a checkpoint")
    monkeypatch.setattr(sevennet_batch, "checkpoint_path", lambda model="l3i5": broken)
    with pytest.raises(CorruptWeights, match="install sevenn again"):
        sevennet_batch.load()
