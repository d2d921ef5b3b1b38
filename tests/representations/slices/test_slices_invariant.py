"""The hash of a net: equal for all its spellings, different for other nets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from slices_nets import GOLDEN, any_nets, golden_structures, valid_nets

from crysgen_aiida.representations.slices import SlicesSpec
from crysgen_aiida.representations.slices.checker import check
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.graphs import encode_net, net_of
from crysgen_aiida.representations.slices.invariant import net_hash
from crysgen_aiida.representations.slices.nets import Net, augment, parse


def _unimodular(rng: np.random.Generator) -> np.ndarray:
    """Return a random integer matrix with determinant 1 or -1."""
    matrix = np.eye(3, dtype=np.int64)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    for _ in range(3):
        shear = np.eye(3, dtype=np.int64)
        i, j = rng.choice(3, 2, replace=False)
        shear[i, j] = rng.integers(-1, 2)
        matrix = matrix @ shear
    return matrix


def _written_otherwise(net: Net, rng: np.random.Generator) -> Net:
    """Return the net with other atom and bond orders, directions, cells of the atoms and lattice vectors."""
    other = augment(net, rng)
    moved = rng.integers(-2, 3, (other.n_atoms, 3))
    images = other.images + moved[other.edges[:, 1]] - moved[other.edges[:, 0]]
    return Net(other.numbers, other.edges, images @ _unimodular(rng))


def _coordination(net: Net, shells: int = 5) -> list[tuple[int, ...]]:
    """Return the sorted coordination sequences: how many atoms are 0, 1, 2, … bonds away from each atom of the cell."""
    bonds: dict[int, list[tuple[int, np.ndarray]]] = {u: [] for u in range(net.n_atoms)}
    for (u, v), w in zip(net.edges.tolist(), net.images, strict=True):
        bonds[u].append((v, w))
        bonds[v].append((u, -w))
    found = []
    for atom in range(net.n_atoms):
        seen, edge, counts = {(atom, (0, 0, 0))}, [(atom, np.zeros(3, dtype=int))], [int(net.numbers[atom])]
        for _ in range(shells):
            reached = []
            for u, cell in edge:
                for v, w in bonds[u]:
                    place = (v, tuple((cell + w).tolist()))
                    if place not in seen:
                        seen.add(place)
                        reached.append((v, cell + w))
            counts.append(len(reached))
            edge = reached
        found.append(tuple(counts))
    return sorted(found)


@given(net=valid_nets(), seed=st.integers(0, 2**32 - 1))
def test_a_net_has_one_hash_however_it_is_written(net: Net, seed: int) -> None:
    assert net_hash(_written_otherwise(net, np.random.default_rng(seed))) == net_hash(net)


@given(net=valid_nets(), seed=st.integers(0, 2**32 - 1))
def test_other_surroundings_mean_another_hash(net: Net, seed: int) -> None:
    """One label changed at random often gives the same net again, and often not."""
    rng = np.random.default_rng(seed)
    images = net.images.copy()
    images[rng.integers(net.n_edges), rng.integers(3)] += rng.choice([-1, 1])
    other = Net(net.numbers, net.edges, images)
    assume(check(other).ok)
    if _coordination(other.without_duplicates()) != _coordination(net.without_duplicates()):
        assert net_hash(other) != net_hash(net)


@given(net=valid_nets())
def test_elements_and_bonds_count_and_repeats_and_prefixes_do_not(net: Net) -> None:
    held = net_hash(net)
    numbers = net.numbers.copy()
    numbers[0] = 1 if numbers[0] != 1 else 2
    assert net_hash(Net(numbers, net.edges, net.images)) != held
    doubled = Net(net.numbers, np.concatenate([net.edges, net.edges]), np.concatenate([net.images, net.images]), 1)
    assert net_hash(doubled) == held
    single = net.without_duplicates()
    fewer = Net(single.numbers, single.edges[1:], single.images[1:])
    if check(fewer).ok:
        assert net_hash(fewer) != held


def test_the_hash_of_a_known_net_stays_what_it_is() -> None:
    """It is kept in data sets: whoever changes it must say so."""
    assert net_hash(parse(GOLDEN["NaCl"])) == "798e82af31b2cab099bc37b72b37be26"


def test_crystals_keep_their_hash_in_any_cell() -> None:
    rng = np.random.default_rng(3)
    found = {}
    for name, structure in golden_structures().items():
        hashes = set()
        for _ in range(4):
            order = rng.permutation(len(structure))
            lattice = _unimodular(rng)
            coords = (structure.frac_coords[order] + rng.random(3)) @ np.linalg.inv(lattice)
            cell = Structure(
                Lattice(lattice @ structure.lattice.matrix), [structure.atomic_numbers[k] for k in order], coords % 1.0
            )
            hashes.add(net_hash(net_of(cell)))
        assert len(hashes) == 1, name
        found[name] = hashes.pop()
    assert len(set(found.values())) == len(found)


def test_polytypes_differ() -> None:
    a = 5.41
    blende = Structure.from_spacegroup("F-43m", Lattice.cubic(a), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    wurtzite = Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.82, 6.26), ["Zn", "S"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]]
    )
    spec = SlicesSpec(prefix=False)
    assert net_hash(encode_net(blende, spec)) != net_hash(encode_net(wurtzite, spec))


@given(net=any_nets())
def test_what_is_no_crystal_has_no_hash_but_a_reason(net: Net) -> None:
    verdict = check(net)
    if verdict.ok:
        assert len(net_hash(net)) == 32
    else:
        with pytest.raises(SlicesError) as caught:
            net_hash(net)
        assert caught.value.reason == verdict.reason
