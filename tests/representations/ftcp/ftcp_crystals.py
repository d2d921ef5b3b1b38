"""Crystals for the tests of FTCP."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from crysgen_aiida.crystals.crystal_set import Arrays, CrystalSet

ROOT = Path(__file__).resolve().parents[3]


def published() -> ModuleType:
    """Return the published way, which the benchmark measures."""
    spec = importlib.util.spec_from_file_location("ftcp_published", ROOT / "benchmarks" / "ftcp_published.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cesium_chloride() -> Structure:
    return Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def perovskite() -> Structure:
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(3.91), ["Sr", "Ti", "O", "O", "O"], places)


def calcite() -> Structure:
    """CaCO3 in the hexagonal cell of calcite, 30 atoms."""
    return Structure.from_spacegroup(
        "R-3c", Lattice.hexagonal(4.99, 17.06), ["Ca", "C", "O"], [[0, 0, 0], [0, 0, 0.25], [0.257, 0, 0.25]]
    )


def hydride() -> Structure:
    """LiH with hydrogen first and last."""
    return Structure(Lattice.cubic(4.0), ["H", "Li", "H"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])


def packed(*structures: Structure | Arrays | None) -> CrystalSet:
    return CrystalSet.from_structures(structures, reasons=[None if s is not None else "Gone." for s in structures])


@cache
def real_rows(folder: Path, n: int) -> list[dict[str, str]]:
    """Return n rows of MP-20 in the order of the md5 of their id."""
    with gzip.open(folder / "mp20_part.csv.gz", "rt") as file:
        rows = sorted(csv.DictReader(file), key=lambda r: hashlib.md5(r["material_id"].encode()).hexdigest())
    return rows[:n]


@st.composite
def crystals(draw: st.DrawFn, max_sites: int = 8, max_elements: int = 3, largest: int = 100) -> Arrays:
    """Cells of all kinds, right-handed and left-handed, with atoms anywhere, outside of the cell too."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(2.5, 12, 3)
    while True:
        lattice = lengths[:, None] * np.linalg.qr(rng.normal(size=(3, 3)))[0] + rng.normal(0, 0.8, (3, 3))
        edges = np.linalg.norm(lattice, axis=1)
        if edges.min() > 1 and abs(np.linalg.det(lattice)) / edges.prod() > 0.05:
            break
    n = draw(st.integers(1, max_sites))
    elements = draw(st.lists(st.integers(1, largest), min_size=1, max_size=max_elements, unique=True))
    numbers = np.array(draw(st.lists(st.sampled_from(elements), min_size=n, max_size=n)), dtype=np.int64)
    return lattice, numbers, rng.uniform(-2, 2, (n, 3))
