"""Tensors of the literature keep their meaning: whatever the axes, the scalars and the standard form are the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.core.tensors import Tensor
from scipy.spatial.transform import Rotation

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.physics.tensors import elastic_properties, ieee_axes, optical_modes, tensor_properties

WURTZITE = Structure.from_spacegroup(
    186, Lattice.hexagonal(3.13, 5.02), ["Al", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.3817]]
)
ZINCBLENDE = Structure.from_spacegroup(216, Lattice.cubic(4.4), ["Al", "N"], [[0, 0, 0], [0.25] * 3])
QUARTZ_LIKE = Structure(
    Lattice.orthorhombic(6.1, 4.2, 5.3), ["Na", "N", "O"], [[0, 0, 0], [0, 0.5, 0.4], [0.5, 0, 0.1]]
)

#: wurtzite AlN in PBE by density functional perturbation theory: e [C/m^2] and C [GPa].
E33, E31, E15 = 1.455, -0.585, -0.333
PIEZO = np.array([[0, 0, 0, 0, E15, 0], [0, 0, 0, E15, 0, 0], [E31, E31, E33, 0, 0, 0]])
C11, C12, C13, C33, C44 = 386.0, 128.0, 99.0, 365.0, 116.0
STIFFNESS = np.array(
    [
        [C11, C12, C13, 0, 0, 0],
        [C12, C11, C13, 0, 0, 0],
        [C13, C13, C33, 0, 0, 0],
        [0, 0, 0, C44, 0, 0],
        [0, 0, 0, 0, C44, 0],
        [0, 0, 0, 0, 0, (C11 - C12) / 2],
    ]
)


def turned(
    structure: Structure, rotation: np.ndarray, **tensors: np.ndarray
) -> tuple[Structure, dict[str, np.ndarray]]:
    """Return a crystal and its tensors in other axes."""
    moved = Structure(Lattice(structure.lattice.matrix @ rotation.T), structure.species, structure.frac_coords)
    found = {}
    for name, tensor in tensors.items():
        whole = Tensor(tensor) if tensor.shape == (3, 3) else Tensor.from_voigt(tensor)
        rotated = whole.rotate(rotation, tol=1e-6)
        found[name] = np.array(rotated if tensor.shape == (3, 3) else rotated.voigt)
    return moved, found


def test_aluminium_nitride_has_the_strain_constants_of_its_stress_constants():
    values, facts = tensor_properties(WURTZITE, {"piezo_total": PIEZO, "elastic_relaxed": STIFFNESS})
    assert values["piezo_max"] == pytest.approx(E33)
    d = np.array(facts["piezo_strain_tensor"])
    # d33 = e31 (s13 + s23) + e33 s33, by hand for a crystal of class 6mm
    volume = C33 * (C11 + C12) - 2 * C13**2
    d33 = (E33 * (C11 + C12) - 2 * E31 * C13) / volume * 1000
    assert d[2, 2] == pytest.approx(d33, rel=1e-9)
    assert abs(d[2, 2]) == pytest.approx(5.13, abs=0.02)  # from constants rounded to a GPa
    assert values["piezo_strain_max"] == pytest.approx(np.abs(d).max())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_axes_change_no_scalar_and_no_standard_tensor(seed):
    rotation = Rotation.random(random_state=np.random.default_rng(seed)).as_matrix()
    dielectric = np.diag([4.8, 4.8, 4.63])
    given_tensors = {"piezo_total": PIEZO, "elastic_relaxed": STIFFNESS, "dielectric_electronic": dielectric}
    before, standard = tensor_properties(WURTZITE, given_tensors)
    after, moved = tensor_properties(*turned(WURTZITE, rotation, **given_tensors))
    assert after == pytest.approx(before, rel=1e-6)
    for name in given_tensors:
        np.testing.assert_allclose(np.abs(moved[name]), np.abs(standard[name]), atol=1e-6)
        assert moved[f"residual.{name}"] == pytest.approx(0.0, abs=1e-9)


def test_symmetry_removes_what_it_forbids_and_says_how_much():
    noisy = PIEZO.copy()
    noisy[0, 0] += 0.02
    _, facts = tensor_properties(WURTZITE, {"piezo_total": noisy})
    assert facts["residual.piezo_total"] == pytest.approx(0.02, abs=1e-9)
    np.testing.assert_allclose(
        facts["piezo_total"], tensor_properties(WURTZITE, {"piezo_total": PIEZO})[1]["piezo_total"]
    )


def test_zincblende_has_one_constant():
    e14 = 0.593
    tensor = np.zeros((3, 6))
    tensor[[0, 1, 2], [3, 4, 5]] = e14
    values, facts = tensor_properties(ZINCBLENDE, {"piezo_total": tensor})
    assert values["piezo_max"] == pytest.approx(e14)
    np.testing.assert_allclose(facts["piezo_total"], tensor, atol=1e-9)


@pytest.mark.parametrize("structure", [WURTZITE, ZINCBLENDE, QUARTZ_LIKE], ids=["6mm", "-43m", "1"])
def test_standard_axes_are_right_handed(structure):
    axes = ieee_axes(structure)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(axes) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({}, "not known"),
        ({"gamma_frequencies": [0, 0, 0.1, -2.0, 5, 6], "elastic_relaxed": STIFFNESS}, "imaginary"),
        ({"gamma_frequencies": [0, 0, 0.1, 2.0, 5, 6], "elastic_relaxed": -STIFFNESS}, "elastically unstable"),
    ],
)
def test_a_huge_constant_needs_an_otherwise_stable_crystal(more, word):
    values, facts = tensor_properties(WURTZITE, {"piezo_total": 20 * PIEZO, **more})
    assert "piezo_max" not in values
    assert word in facts["doubts"][0]


def test_a_huge_constant_of_a_stable_crystal_is_reported():
    more = {"gamma_frequencies": [0, 0, 0.1, 2.0, 5, 6], "elastic_relaxed": STIFFNESS}
    values, facts = tensor_properties(WURTZITE, {"piezo_total": 20 * PIEZO, **more})
    assert values["piezo_max"] == pytest.approx(20 * E33)
    assert facts["doubts"] == []


def test_a_strain_that_costs_nothing_leaves_no_averages():
    assert set(elastic_properties(-STIFFNESS)) == {"elastic_min_eigenvalue"}


def test_acoustic_modes_are_the_three_nearest_to_zero():
    np.testing.assert_allclose(optical_modes(np.array([-3.0, -0.2, 0.1, 0.0, 5.0, 7.0])), [-3.0, 5.0, 7.0])


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"piezo_total": np.zeros((6, 3))}, r"must be \(3, 6\)"),
        ({"dielectric_total": np.full((3, 3), np.nan)}, "not a finite number"),
        ({"born_charges": np.zeros((2, 3, 3))}, r"must be \(4, 3, 3\)"),
    ],
)
def test_tensors_that_cannot_be_are_refused(tensors, why):
    with pytest.raises(BadInput, match=why):
        tensor_properties(WURTZITE, tensors)


def test_axes_of_an_orthorhombic_crystal_with_two_equal_lengths():
    crystal = Structure(Lattice.tetragonal(4.0, 5.0), ["Si", "O"], [[0, 0, 0], [0.5, 0, 0.5]])
    axes = ieee_axes(crystal)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(axes) > 0
