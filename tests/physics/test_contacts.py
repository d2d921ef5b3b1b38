"""The closest atoms of a crystal against a plain search over images."""

from __future__ import annotations

import itertools

import numpy as np
from ase.data import covalent_radii
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.physics.contacts import closest_contact


def plain(cell: np.ndarray, numbers: np.ndarray, frac: np.ndarray) -> float:
    """Return the least ratio of distance to radii, by looking at many images."""
    images = np.array(list(itertools.product(range(-4, 5), repeat=3)))
    found = []
    for i, j in itertools.combinations_with_replacement(range(len(numbers)), 2):
        vectors = (frac[j] - frac[i] + images) @ cell
        distances = np.linalg.norm(vectors, axis=1)
        if i == j:
            distances = distances[images.any(axis=1)]
        found.append(distances.min() / (covalent_radii[numbers[i]] + covalent_radii[numbers[j]]))
    return float(min(found))


@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0.2, 1.5))
@settings(max_examples=40, deadline=None)
def test_the_closest_atoms_are_found(seed: int, n: int, below: float) -> None:
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(2.5, 7, 3)) + rng.uniform(-1, 1, (3, 3))
    numbers, frac = rng.integers(1, 90, n), rng.uniform(-1, 2, (n, 3))
    ratio = plain(cell, numbers, frac)
    contact = closest_contact(cell, numbers, frac, below)
    if ratio >= below * (1 + 1e-9):
        assert contact is None
    elif ratio < below * (1 - 1e-9):
        assert contact is not None
        np.testing.assert_allclose(contact.distance / contact.radii, ratio, rtol=1e-7, atol=1e-9)
        expected = covalent_radii[numbers[contact.i]] + covalent_radii[numbers[contact.j]]
        np.testing.assert_allclose(contact.radii, expected)


def test_atoms_on_top_of_each_other_are_found() -> None:
    contact = closest_contact(4 * np.eye(3), [14, 8], np.array([[0.1, 0.2, 0.3], [1.1, 0.2, -0.7]]), 0.5)
    assert contact is not None
    assert (contact.i, contact.j) == (0, 1)
    assert contact.distance < 1e-12
