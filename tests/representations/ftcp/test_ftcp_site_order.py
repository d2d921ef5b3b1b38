"""The canonical order of sites does not depend on the list they came in."""

from __future__ import annotations

import ftcp_crystals as made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.symmetry import equivalent_sites
from crysgen_aiida.representations.ftcp import FtcpSpec, compact_of, crystals_of, matrices
from crysgen_aiida.representations.ftcp.site_order import canonical_order

SPEC = FtcpSpec(max_sites=30, site_order="symmetry")

KNOWN = {
    "CsCl": made.cesium_chloride(), "SrTiO3": made.perovskite(), "CaCO3": made.calcite(),
    "quartz": Structure.from_spacegroup(
        "P3_221", Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.47, 0, 2 / 3], [0.41, 0.27, 0.79]]
    ),
}  # fmt: skip


@given(st.sampled_from(sorted(KNOWN)), st.randoms(use_true_random=False))
def test_permuted_sites_give_the_same_matrix(name: str, random: st.DrawFn) -> None:
    structure = KNOWN[name]
    order = list(range(len(structure)))
    random.shuffle(order)  # type: ignore[attr-defined]
    permuted = Structure.from_sites([structure[site] for site in order])
    compact, reasons = compact_of(made.packed(structure, permuted), SPEC)
    assert reasons == [None, None]
    one, other = matrices(compact, SPEC)
    # the coordinates are summed in another order: F_hkl may differ in the last bit
    assert np.array_equal(one[:, :3], other[:, :3])
    assert np.allclose(one, other, rtol=1e-6, atol=1e-5)


@given(made.crystals(), st.randoms(use_true_random=False))
def test_permuted_sites_of_any_crystal_give_the_same_order(crystal: made.Arrays, random: st.DrawFn) -> None:
    lattice, numbers, coords = crystal
    order = list(range(len(numbers)))
    random.shuffle(order)  # type: ignore[attr-defined]
    compact, _ = compact_of(made.packed(crystal, (lattice, numbers[order], coords[order])), SPEC)
    assert np.array_equal(compact.numbers[0], compact.numbers[1])
    assert np.array_equal(compact.coords[0], compact.coords[1])
    assert np.array_equal(compact.occupancy[0], compact.occupancy[1])


def test_orbits_are_together_and_elements_in_order() -> None:
    structure = KNOWN["CaCO3"]
    compact, _ = compact_of(made.packed(structure), SPEC)
    assert compact.numbers[0].tolist() == [20, 6, 8]  # by electronegativity
    assert compact.occupancy[0].argmax(axis=1).tolist() == [0] * 6 + [1] * 6 + [2] * 18
    found = crystals_of(compact, SPEC).structure(0)
    labels = equivalent_sites(found.lattice.matrix, found.frac_coords, [site.specie.Z for site in found])
    assert (np.diff(labels) != 0).sum() == len(set(labels.tolist())) - 1
    # the same list as given, where that is asked for
    given_order, _ = compact_of(made.packed(structure), FtcpSpec(max_sites=30))
    assert np.allclose(given_order.coords[0], structure.frac_coords % 1)


def test_orbits_of_one_element_are_by_size() -> None:
    # two kinds of oxygen: one site on the axis, four around it
    lattice, frac = np.diag([5.0, 5.0, 4.0]), [[0.3, 0, 0], [0, 0, 0], [0, 0.3, 0], [0.7, 0, 0], [0, 0.7, 0]]
    order = canonical_order(lattice, np.array([8] * 5, np.int16), np.array(frac))
    assert order[0] == 1
    assert [frac[site] for site in order[1:]] == [[0, 0.3, 0], [0, 0.7, 0], [0.3, 0, 0], [0.7, 0, 0]]


def test_noise_and_borders_do_not_decide() -> None:
    lattice, numbers = np.diag([5.0, 5.0, 4.0]), np.array([8, 8], np.int16)
    first = canonical_order(lattice, numbers, np.array([[0.0, 0.5, 0], [0.5, 0, 0]]))
    noisy = canonical_order(lattice, numbers, np.array([[0.999999, 0.5, 0], [0.5, 1e-7, 0.9999999]]))
    assert first.tolist() == noisy.tolist()


def test_atoms_on_one_point_still_have_an_order() -> None:
    lattice, frac = 5 * np.eye(3), np.array([[0.5, 0, 0], [0, 0, 0], [0, 0, 0]])
    with pytest.raises(BadInput, match="spglib"):
        equivalent_sites(lattice, frac, [1, 8, 8])
    assert canonical_order(lattice, np.array([1, 8, 8], np.int16), frac).tolist() == [0, 1, 2]
