"""No inversion centre, not class 432, a gap: or the reason why not."""

from __future__ import annotations

from typing import Any

import pytest

from crysgen_aiida.physics.piezo import piezo_gate


def gate(structure: Any, gap: float | None) -> Any:
    return piezo_gate(structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers, gap)


@pytest.mark.parametrize(("name", "group"), [("ZnS", 216), ("AlN", 186)])
def test_known_piezoelectrics_pass(structures: dict[str, Any], name: str, group: int) -> None:
    found = gate(structures[name], 2.0)
    assert found.active is True
    assert (found.space_group, found.space_group_loose) == (group, group)


@pytest.mark.parametrize("name", ["NaCl", "Si", "SrTiO3"])
def test_an_inversion_centre_forbids(structures: dict[str, Any], name: str) -> None:
    found = gate(structures[name], 2.0)
    assert found.active is False
    assert "inversion centre" in found.reason


def test_class_432_forbids_although_it_has_no_centre() -> None:
    from pymatgen.core import Lattice, Structure

    # beta manganese, P4_132: both Wyckoff positions of the real crystal
    beta = Structure.from_spacegroup(
        "P4_132", Lattice.cubic(6.315), ["Mn", "Mn"], [[0.0636, 0.0636, 0.0636], [0.125, 0.2022, 0.4522]]
    )
    found = gate(beta, 1.0)
    assert found.space_group == 213
    assert found.active is False
    assert "class 432" in found.reason


def test_a_metal_and_an_unknown_gap_do_not_pass(structures: dict[str, Any]) -> None:
    assert gate(structures["ZnS"], 0.05).active is False
    unknown = gate(structures["ZnS"], None)
    assert unknown.allowed is True
    assert unknown.active is None
    assert "unknown" in unknown.reason


def test_a_centre_hidden_by_noise_is_found_at_the_loose_tolerance(structures: dict[str, Any]) -> None:
    noisy = structures["SrTiO3"].copy()
    noisy.translate_sites([1], [0.008, 0.0, 0.0])  # 0.03 A: above 0.01, below 0.1
    found = gate(noisy, 2.0)
    assert found.space_group != 221
    assert found.space_group_loose == 221
    assert found.active is False


def test_atoms_on_top_of_each_other_are_unknown() -> None:
    import numpy as np

    found = piezo_gate(np.eye(3) * 4, [[0, 0, 0], [0, 0, 0]], [11, 11], 2.0)
    assert found.active is None
    assert found.reason
