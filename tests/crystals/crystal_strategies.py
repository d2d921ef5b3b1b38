"""Hypothesis strategies and small builders the crystal tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.schema import property_field

METHOD = "pbe-mp-legacy"

#: Settings of every property-based test here: few examples, no clock (two slow cores must not decide).
QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


_FACES = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def rocksalt(a: float = 5.69, cation: str = "Na", anion: str = "Cl") -> Structure:
    sites = np.vstack([_FACES, _FACES + 0.5])
    return Structure(Lattice.cubic(a), [cation] * 4 + [anion] * 4, sites % 1)


def zincblende(a: float = 5.65, cation: str = "Ga", anion: str = "As") -> Structure:
    sites = np.vstack([_FACES, _FACES + 0.25])
    return Structure(Lattice.cubic(a), [cation] * 4 + [anion] * 4, sites % 1)


def wurtzite(a: float = 3.19, c: float = 5.19, cation: str = "Ga", anion: str = "N") -> Structure:
    pair = np.array([[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5]])
    sites = np.vstack([pair, pair + np.array([0, 0, 0.377])])
    return Structure(Lattice.hexagonal(a, c), [cation] * 2 + [anion] * 2, sites)


def perovskite(a: float = 3.9) -> Structure:
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(a), ["Sr", "Ti", "O", "O", "O"], sites)


def rutile(u: float = 0.305) -> Structure:
    oxygen = [[u, u, 0], [1 - u, 1 - u, 0], [0.5 + u, 0.5 - u, 0.5], [0.5 - u, 0.5 + u, 0.5]]
    return Structure(Lattice.tetragonal(4.59, 2.96), ["Ti"] * 2 + ["O"] * 4, [[0, 0, 0], [0.5, 0.5, 0.5], *oxygen])


PROTOTYPES = {
    "rocksalt": rocksalt,
    "zincblende": zincblende,
    "wurtzite": wurtzite,
    "perovskite": perovskite,
    "rutile": rutile,
}


@st.composite
def structures(draw: st.DrawFn, max_atoms: int = 4) -> Structure:
    """Any ordered cell: skewed, with any elements, atoms anywhere."""
    n = draw(st.integers(1, max_atoms))
    lengths = draw(st.lists(st.floats(2.5, 9.0), min_size=3, max_size=3))
    angles = draw(st.lists(st.floats(70.0, 110.0), min_size=3, max_size=3))
    numbers = draw(st.lists(st.integers(1, 94), min_size=n, max_size=n))
    frac = draw(st.lists(st.floats(-0.5, 1.5), min_size=3 * n, max_size=3 * n))
    return Structure(Lattice.from_parameters(*lengths, *angles), numbers, np.array(frac).reshape(n, 3))


@st.composite
def crystal_sets(draw: st.DrawFn, max_rows: int = 6) -> CrystalSet:
    """A set with failed rows, a label that may be missing, and text."""
    held = draw(st.lists(st.one_of(st.none(), structures()), min_size=0, max_size=max_rows))
    gaps = draw(st.lists(st.one_of(st.none(), st.floats(0, 20)), min_size=len(held), max_size=len(held)))
    names = draw(st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=len(held), max_size=len(held)))
    columns: dict[pa.Field, Any] = {
        property_field("band_gap", METHOD): gaps,
        pa.field("material_id", pa.string()): names,
    }
    return CrystalSet.from_structures(
        held,
        reasons=[None if s is not None else "could not be read" for s in held],
        columns=columns,
        metadata={"name": "drawn"},
    )


def disguise(structure: Structure, rng: np.random.Generator, rattle: float = 0.01) -> Structure:
    """Return the same crystal written differently: supercell, order, origin, images, rotation, small rattle."""
    other = structure.copy()
    scaling = [1, 1, 1]
    scaling[rng.integers(3)] = int(rng.integers(1, 3))
    other.make_supercell(scaling)
    if rattle:
        other.perturb(rattle)
    order = rng.permutation(len(other))
    shift = rng.random(3)
    frac = other.frac_coords[order] + shift + rng.integers(-1, 2, size=(len(other), 3))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    return Structure(Lattice(other.lattice.matrix @ rotation), [other[i].specie for i in order], frac)
