"""Random nets and known crystals for the tests of SLICES."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from crysgen_aiida.representations.slices.checker import check
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.nets import Net

ELEMENT_POOL = (1, 3, 5, 6, 7, 8, 9, 11, 14, 16, 17, 22, 26, 30, 31, 38, 50, 53, 56, 58, 82, 86)

GOLDEN = {
    "NaCl": "Cl Na 0 1 ++o 0 1 +o+ 0 1 o++ 0 1 +oo 0 1 o+o 0 1 oo+",
    "Si": "Si Si 0 1 o-- 0 1 -o- 0 1 --o 0 1 ---",
    "CsCl": "Cs Cl 0 1 --- 0 1 --o 0 1 -o- 0 1 -oo 0 1 o-- 0 1 o-o 0 1 oo- 0 1 ooo "
    "0 0 +oo 0 0 o+o 0 0 oo+ 1 1 +oo 1 1 o+o 1 1 oo+",
    "GaN": "Ga Ga N N 0 3 ooo 0 3 o-o 0 3 +oo 0 2 ooo 1 2 -o- 1 2 oo- 1 2 o+- 1 3 ooo",
    "SrTiO3": "Sr Ti O O O 0 2 --o 0 2 -oo 0 2 o-o 0 2 ooo 0 3 -o- 0 3 -oo 0 3 oo- 0 3 ooo 0 4 o-- 0 4 o-o 0 4 oo- "
    "0 4 ooo 1 4 ooo 1 4 +oo 1 3 ooo 1 3 o+o 1 2 ooo 1 2 oo+",
}

#: Space group, decoded first lattice length [A] and volume [A^3] of the published decoder without a potential.
GOLDEN_CELLS = {
    "NaCl": (225, 3.95, 43.6),
    "Si": (227, 3.99, 44.8),
    "CsCl": (221, 3.74, 52.2),
    "GaN": (186, 3.42, 56.7),
    "SrTiO3": (221, 3.70, 50.7),
}


@cache
def golden_structures() -> dict[str, Structure]:
    """Return the experimental standard cells the golden strings were made from."""
    rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    diamond = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.431), ["Si"], [[0, 0, 0]])
    a, b = (2 / 3, 1 / 3), (1 / 3, 2 / 3)
    return {
        "NaCl": rock_salt.get_primitive_structure(),
        "Si": diamond.get_primitive_structure(),
        "CsCl": Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "GaN": Structure(
            Lattice.hexagonal(3.19, 5.189), ["Ga", "Ga", "N", "N"], [[*a, 0.5], [*b, 0], [*a, 0.877], [*b, 0.377]]
        ),
        "SrTiO3": Structure(
            Lattice.cubic(3.905),
            ["Sr", "Ti", "O", "O", "O"],
            [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        ),
    }


@cache
def first_rows(folder: Path, n: int) -> list[Structure]:
    """Return the first ``n`` crystals of the MP-20 part by md5 of their id."""
    with gzip.open(folder / "mp20_part.csv.gz", "rt") as file:
        rows = sorted(csv.DictReader(file), key=lambda r: hashlib.md5(r["material_id"].encode()).hexdigest())
    return [Structure.from_str(row["cif"], fmt="cif") for row in rows[:n]]


def reason_of(call: Callable[[], object]) -> str | None:
    """Return the reason ``call`` fails for, or None if it does not."""
    try:
        call()
    except SlicesError as error:
        return error.reason
    return None


_image = st.tuples(*[st.integers(-1, 1)] * 3)


@st.composite
def any_nets(draw: st.DrawFn, max_atoms: int = 6, max_edges: int = 14) -> Net:
    """Any labelled quotient graph, connected or not, of any rank."""
    n = draw(st.integers(1, max_atoms))
    m = draw(st.integers(0, max_edges))
    numbers = draw(st.lists(st.sampled_from(ELEMENT_POOL), min_size=n, max_size=n))
    vertex = st.integers(0, n - 1)
    edges = draw(st.lists(st.tuples(vertex, vertex), min_size=m, max_size=m))
    images = draw(st.lists(_image, min_size=m, max_size=m))
    group = draw(st.one_of(st.none(), st.integers(1, 230)))
    return Net(np.array(numbers), np.array(edges).reshape(-1, 2), np.array(images).reshape(-1, 3), group)


@st.composite
def valid_nets(draw: st.DrawFn, max_atoms: int = 6) -> Net:
    """Nets that pass the checker: a random tree, three loops that span the lattice, and more bonds."""
    n = draw(st.integers(1, max_atoms))
    numbers = draw(st.lists(st.sampled_from(ELEMENT_POOL), min_size=n, max_size=n))
    edges = [(draw(st.integers(0, v - 1)), v) for v in range(1, n)]
    images = [draw(_image) for _ in edges]
    for axis in np.eye(3, dtype=int).tolist():
        u = draw(st.integers(0, n - 1))
        edges.append((u, u))
        images.append(tuple(axis))
    for _ in range(draw(st.integers(0, 8))):
        u, v = draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1))
        image = draw(_image)
        if u != v or any(image):
            edges.append((u, v))
            images.append(image)
    net = Net(np.array(numbers), np.array(edges), np.array(images)).without_duplicates()
    assert check(net).ok
    return net
