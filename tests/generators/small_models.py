"""Crystals and settings small enough to train a model of MatterGPT's kind in seconds."""

from __future__ import annotations

from itertools import product

from pymatgen.core import Lattice, Structure

from crysgen_aiida.generators.contract import deep_merge
from crysgen_aiida.generators.ftcp.info import INFO as FTCP_INFO
from crysgen_aiida.generators.ftcp.spec import FtcpGeneratorSpec
from crysgen_aiida.generators.mattergpt.info import INFO
from crysgen_aiida.generators.mattergpt.spec import MatterGPTSpec


def prototypes() -> list[Structure]:
    """Return 40 binary and ternary crystals: rock salt, zinc blende, caesium chloride, perovskite."""
    found = []
    fcc = Lattice([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]])
    for cation, anion in product(("Li", "Na", "K", "Rb"), ("F", "Cl", "Br")):
        found.append(Structure(fcc, [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    for cation, anion in product(("Zn", "Cd", "Ga", "In"), ("S", "P", "As")):
        found.append(Structure(fcc, [cation, anion], [[0, 0, 0], [0.25, 0.25, 0.25]]))
    for cation, anion in product(("Cs", "Tl"), ("Cl", "Br", "I")):
        found.append(Structure(Lattice.cubic(4.1), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    for a, b in product(("Ca", "Sr", "Ba", "Pb", "K"), ("Ti", "Zr")):
        sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        found.append(Structure(Lattice.cubic(3.9), [a, b, "O", "O", "O"], sites))
    return found


def make_spec(**overrides: object) -> MatterGPTSpec:
    """Return the test preset with overrides."""
    return INFO.make_spec(overrides, preset="test")


def make_ftcp_spec(**overrides: object) -> FtcpGeneratorSpec:
    """Return the test preset of FTCP with overrides; the band gap is a label that some rows have."""
    labels = {"data": {"targets": ("formation_energy_per_atom",), "sparse_targets": ("band_gap",)}}
    return FTCP_INFO.make_spec(deep_merge(labels, overrides), preset="test")
