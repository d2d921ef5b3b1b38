"""Paths through the Brillouin zone belong to the crystal, not to the cell that describes it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from crysgen_aiida.physics.band_path import band_path

CRYSTALS = {
    "fcc": Structure.from_spacegroup(216, Lattice.cubic(5.4), ["Zn", "S"], [[0, 0, 0], [0.25] * 3]),
    "bcc": Structure.from_spacegroup(229, Lattice.cubic(3.2), ["Nb"], [[0, 0, 0]]),
    "hexagonal": Structure.from_spacegroup(
        186, Lattice.hexagonal(3.1, 5.0), ["Al", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.38]]
    ),
    "rhombohedral": Structure.from_spacegroup(
        166, Lattice.hexagonal(4.3, 29.0), ["Bi", "Te"], [[0, 0, 0.4], [0, 0, 0]]
    ),
    "monoclinic": Structure.from_spacegroup(
        12, Lattice.monoclinic(12.2, 3.0, 5.8, 103.8), ["Ga", "O"], [[0.09, 0, 0.79], [0.16, 0, 0.11]]
    ),
    "triclinic": Structure(
        Lattice.from_parameters(4, 5, 6, 80, 95, 103), ["Na", "Cl", "K"], [[0, 0, 0], [0.3, 0.4, 0.6], [0.7, 0.5, 0.1]]
    ),
    "face-centred orthorhombic": Structure.from_spacegroup(70, Lattice.orthorhombic(3.5, 5.5, 8), ["S"], [[0, 0, 0]]),
}


def lengths(structure: Structure) -> list[float]:
    """Return where the points of the path lie, as the lengths of segments [1/A] in their order."""
    path = band_path(structure.lattice.matrix, structure.frac_coords, [s.specie.Z for s in structure])
    reciprocal = structure.lattice.inv_matrix.T
    return [float(np.linalg.norm((path.points[b] - path.points[a]) @ reciprocal)) for a, b in path.segments]


@pytest.mark.parametrize("name", CRYSTALS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_another_cell_in_another_orientation_has_the_same_path(name, seed):
    primitive = CRYSTALS[name].get_primitive_structure()
    rng = np.random.default_rng(seed)
    change = np.eye(3, dtype=int)
    for _ in range(3):
        i, j = rng.permutation(3)[:2]
        change[i] += rng.integers(-1, 2) * change[j]
    other = primitive.make_supercell(change, in_place=False, to_unit_cell=False)
    turned = Lattice(other.lattice.matrix @ Rotation.random(random_state=rng).as_matrix().T)
    shift = rng.random(3)
    same = Structure(turned, other.species, other.frac_coords + shift)
    assert lengths(same) == pytest.approx(lengths(primitive), abs=2e-3)


def test_a_cell_that_is_not_primitive_is_refused():
    conventional = CRYSTALS["bcc"]
    numbers = [site.specie.Z for site in conventional]
    with pytest.raises(ValueError, match="not a primitive cell"):
        band_path(conventional.lattice.matrix, conventional.frac_coords, numbers)
