"""Crystals to strings: golden vectors, equality with pymatgen, and the reasons of crystals that have no string."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymatgen.analysis.graphs import StructureGraph
from pymatgen.analysis.local_env import CrystalNN, EconNN, NearNeighbors, solid_angle
from pymatgen.core import Lattice, Structure
from scipy.spatial import Voronoi
from slices_nets import GOLDEN, GOLDEN_CELLS, first_rows, golden_structures

from crysgen_aiida.representations.slices.crystalnn import solid_angles
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.graphs import encode, encode_net, net_of
from crysgen_aiida.representations.slices.nets import parse
from crysgen_aiida.representations.slices.spec import SlicesSpec
from crysgen_aiida.representations.slices.tokens import space_group_prefix


def pymatgen_bonds(
    structure: Structure, strategy: NearNeighbors | None = None
) -> list[tuple[int, int, tuple[int, ...]]]:
    graph = StructureGraph.from_local_env_strategy(structure, strategy or EconNN()).graph
    return [(u, v, tuple(data["to_jimage"])) for u, v, data in graph.edges(data=True)]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_strings(name: str) -> None:
    prefix = " ".join(space_group_prefix(GOLDEN_CELLS[name][0]))
    structure = golden_structures()[name]
    assert encode(structure) == f"{prefix} {GOLDEN[name]}"
    assert encode(structure, SlicesSpec(prefix=False)) == GOLDEN[name]


def test_a_conventional_cell_is_reduced_first() -> None:
    rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert encode_net(rock_salt).n_atoms == 2
    assert encode_net(rock_salt, SlicesSpec(primitive=False)).n_atoms == 8


def our_bonds(structure: Structure, method: str = "econnn") -> list[tuple[int, int, tuple[int, ...]]]:
    net = net_of(structure, method)
    return [(u, v, tuple(w)) for (u, v), w in zip(net.edges.tolist(), net.images.tolist(), strict=True)]


def test_bonds_and_their_order_are_those_of_pymatgen(shared_data: Path) -> None:
    for structure in first_rows(shared_data, 40):
        assert our_bonds(structure) == pymatgen_bonds(structure)


def test_golden_bonds_are_those_of_pymatgen() -> None:
    for structure in golden_structures().values():
        assert our_bonds(structure) == pymatgen_bonds(structure)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), grid=st.sampled_from([0, 2, 3, 4]), skew=st.integers(0, 2))
def test_bonds_of_any_cell_are_those_of_pymatgen(seed: int, grid: int, skew: int) -> None:
    """Atoms anywhere or on special positions, some outside the cell, in skewed cells of either handedness."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    lattice = np.diag(rng.choice([3.0, 4.0, 5.5], 3)) + (rng.uniform(-0.5, 0.5, (3, 3)) if rng.integers(2) else 0.0)
    lattice[rng.integers(3)] *= rng.choice([-1, 1])
    lattice = (np.eye(3) + skew * np.triu(rng.integers(-1, 2, (3, 3)), 1)) @ lattice
    coords = rng.random((n, 3)) if not grid else np.unique(rng.integers(0, grid, (n, 3)), axis=0) / grid
    coords = coords + rng.integers(-1, 2, coords.shape)
    structure = Structure(Lattice(lattice), rng.choice(["Na", "Cl", "Ti"], len(coords)).tolist(), coords)
    assert our_bonds(structure) == pymatgen_bonds(structure)


AS_THE_AUTHORS = CrystalNN(porous_adjustment=False, weighted_cn=True)


def test_crystalnn_bonds_are_those_of_pymatgen_as_the_authors_set_it_up(shared_data: Path) -> None:
    for structure in first_rows(shared_data, 10):
        bonds = our_bonds(structure, "crystalnn")
        assert len(set(bonds)) == len(bonds)
        assert set(bonds) == set(pymatgen_bonds(structure, AS_THE_AUTHORS))


def test_golden_crystalnn_bonds_are_those_of_pymatgen() -> None:
    structures = golden_structures()
    assert np.bincount(net_of(structures["NaCl"], "crystalnn").edges.ravel()).tolist() == [6, 6]
    assert np.bincount(net_of(structures["Si"], "crystalnn").edges.ravel()).tolist() == [4, 4]
    for structure in structures.values():
        assert set(our_bonds(structure, "crystalnn")) == set(pymatgen_bonds(structure, AS_THE_AUTHORS))


def test_crystalnn_counts_charges_and_wide_gaps_as_pymatgen_does() -> None:
    charged = golden_structures()["SrTiO3"].copy()
    charged.add_oxidation_state_by_element({"Sr": 2, "Ti": 4, "O": -2})
    sparse = Structure(Lattice.cubic(9.0), ["Cs", "I"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    for structure in (charged, sparse):
        assert set(our_bonds(structure, "crystalnn")) == set(pymatgen_bonds(structure, AS_THE_AUTHORS))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(6, 80))
def test_the_faces_of_a_voronoi_cell_see_the_whole_sphere(seed: int, n: int) -> None:
    """Against scipy's tessellation, face by face."""
    rng = np.random.default_rng(seed)
    around = np.concatenate([np.eye(3), -np.eye(3)]) * 4.0 + rng.uniform(-0.5, 0.5, (6, 3))
    points = np.concatenate([around, rng.normal(size=(n, 3)) * 3.0])
    points = points[np.linalg.norm(points, axis=1) > 0.5]
    points = points[np.argsort(np.linalg.norm(points, axis=1))]
    found = solid_angles(points, np.linalg.norm(points, axis=1))
    assume(found is not None)
    assert found is not None
    assert found.sum() == pytest.approx(4 * np.pi)
    cells = Voronoi(np.concatenate([np.zeros((1, 3)), points]))
    expected = np.zeros(len(points))
    for pair, corners in cells.ridge_dict.items():
        if 0 in pair:
            expected[max(pair) - 1] = solid_angle(np.zeros(3), cells.vertices[corners])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_open_voronoi_cell_has_no_solid_angles() -> None:
    for points in (np.eye(3), np.eye(3) + 1.0, np.concatenate([np.eye(3), np.eye(3) + 0.5])):
        assert solid_angles(points, np.linalg.norm(points, axis=1)) is None


@pytest.mark.parametrize(
    ("structure", "sentence"),
    [
        (Structure(Lattice.cubic(4.0), ["U"], [[0, 0, 0]]), "beyond radon"),
        (Structure(Lattice.cubic(4.0), [], []), "no atoms"),
        (Structure(Lattice.cubic(4.0), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]]), "partially occupied"),
        (Structure(Lattice.from_parameters(3, 3, 1e-4, 90, 90, 90), ["Po"], [[0, 0, 0]]), "flat"),
        (Structure(Lattice.cubic(4.0), ["Po"], [[0, 0, np.nan]]), "not finite"),
        (Structure(Lattice.cubic(30.0), ["Ar"], [[0, 0, 0]]), "no neighbour"),
        (Structure(Lattice.hexagonal(2.46, 6.7), ["C", "C"], [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0]]), "2 directions"),
        (Structure(Lattice.cubic(6.0), ["O", "O"], [[0, 0, 0], [0.2, 0, 0]]), "no direction"),
        (Structure(Lattice.from_parameters(3, 3, 30, 90, 90, 90), ["Po", "Te"], [[0, 0, 0], [0, 0, 0.5]]), "pieces"),
    ],
)
def test_what_has_no_string_says_why(structure: Structure, sentence: str) -> None:
    with pytest.raises(SlicesError, match=sentence):
        encode(structure)


def test_a_cell_larger_than_the_vocabulary_is_refused() -> None:
    big = golden_structures()["NaCl"] * (3, 2, 2)
    with pytest.raises(SlicesError, match="more atoms"):
        encode(big, SlicesSpec(primitive=False))


def test_a_bond_over_two_cells_is_refused_not_misspelt() -> None:
    flat = Structure(Lattice.from_parameters(3.0, 3.0, 3.0, 90, 90, 90), ["Po"], [[0, 0, 0]])
    skewed = Structure(Lattice(np.array([[1, 0, 0], [3, 1, 0], [0, 0, 1]]) @ flat.lattice.matrix), ["Po"], [[0, 0, 0]])
    with pytest.raises(SlicesError, match="two or more cells"):
        encode(skewed, SlicesSpec(primitive=False))


def test_the_string_has_the_exact_net() -> None:
    for structure in golden_structures().values():
        assert parse(encode(structure)).edge_set() == net_of(structure).edge_set()
