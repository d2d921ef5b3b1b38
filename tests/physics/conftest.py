"""Potentials are loaded once a session; crystals are small and built from their space groups."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def chgnet() -> Any:
    from crysgen_aiida.physics.potentials import load_potential

    return load_potential("chgnet")


@pytest.fixture(scope="session")
def published() -> Any:
    """The published implementation, to compare with."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from chgnet.model import CHGNet

        return CHGNet.load(use_device="cpu", verbose=False)


@pytest.fixture(scope="session")
def structures() -> dict[str, Any]:
    from pymatgen.core import Lattice, Structure

    def build(group: str, lattice: Lattice, species: list[str], coords: list[list[float]]) -> Structure:
        return Structure.from_spacegroup(group, lattice, species, coords).get_primitive_structure()

    return {
        "NaCl": build("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "Si": build("Fd-3m", Lattice.cubic(5.47), ["Si"], [[0, 0, 0]]),
        "ZnS": build("F-43m", Lattice.cubic(5.45), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
        "SrTiO3": build("Pm-3m", Lattice.cubic(3.95), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]),
        "AlN": build("P6_3mc", Lattice.hexagonal(3.13, 5.02), ["Al", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]),
        "Cu": build("Fm-3m", Lattice.cubic(3.58), ["Cu"], [[0, 0, 0]]),
    }
