"""Target bond lengths and angles of a net, in closed form from the published GFN-FF parameters.

Only the connectivity enters: no coordinates, no charges, no external program. Method: Spicher & Grimme,
Angew. Chem. Int. Ed. 59, 15665 (2020), as used without rings and coordination numbers by SLICES.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from crysgen_aiida.representations.slices.gfnff_elements import (
    ANGL,
    ANGL2,
    CNFAK,
    ELECTRONEGATIVITY,
    GROUP,
    METAL_CLASS,
    NORMAL_COORDINATION,
    P1,
    P2,
    RADIUS,
    row_of,
)

BOHR = 0.529177  # [A]
#: Bond lengths are 5 % longer than GFN-FF's, as published; ``bond_scaling`` of the spec comes on top.
LENGTH_FACTOR = 1.05


class Atom(NamedTuple):
    """What GFN-FF knows of an atom of a net: element, number of bonds, hybridisation and effective metal class."""

    z: int
    nn: int
    h: int
    metal: int


class Angle(NamedTuple):
    """Target of one angle: ``theta`` [rad] and force weight (without charge factor)."""

    theta: float
    weight: float


def atoms_of(numbers: Sequence[int], edges: Sequence[Sequence[int]]) -> list[Atom]:
    """Classify the atoms of a net. A bond to an own image counts twice.

    :param numbers: (n,) atomic numbers, 1 to 86.
    :param edges: (E, 2) bonds.
    """
    n = len(numbers)
    count = [0] * n
    metal_neighbour = [False] * n
    for u, v in edges:
        count[u] += 1
        count[v] += 1
        metal_neighbour[u] |= METAL_CLASS[numbers[v] - 1] > 0
        metal_neighbour[v] |= METAL_CLASS[numbers[u] - 1] > 0
    return [_atom(int(z), count[i], metal_neighbour[i]) for i, z in enumerate(numbers)]


@lru_cache(maxsize=4096)
def _atom(z: int, nn: int, metal_neighbour: bool) -> Atom:
    metal = METAL_CLASS[z - 1]
    if z in (50, 82, 83, 84) and nn <= 4:
        metal = 0
    return Atom(z, nn, _hybridisation(z, nn, metal_neighbour), metal)


def _hybridisation(z: int, nn: int, metal_neighbour: bool) -> int:
    """Return 1 (sp), 2 (sp2), 3 (sp3), 5 (hypervalent) or 0 (none)."""
    group = GROUP[z - 1]
    if group <= 2:
        return 0 if nn > 4 else 3 if nn >= 3 else 1 if nn == 2 else 0
    if 3 <= group <= 12:
        if nn <= 2:
            return 1 if group <= 5 else 2
        return {3: 2, 4: 3, 5: 3 if group == 3 else 0}.get(nn, 0)
    if group == 18:
        return 5 if nn else 0
    heavy = z > 10
    if group in (13, 14):
        if nn > 4 and heavy:
            return 5
        if nn >= 3:
            return 3 if nn >= 4 else 2
        return 1 if group == 14 or nn == 2 else 0
    if group == 15:
        if nn > 4 and heavy:
            return 5
        return 3 if nn >= 3 else 1 if nn < 2 or metal_neighbour else 2
    if group == 16:
        return 5 if nn > 3 and heavy else 3 if nn >= 2 else 2
    return 5 if nn > 2 and heavy else 1 if nn == 2 else 0


@lru_cache(maxsize=65536)
def bond_length(a: Atom, b: Atom) -> float:
    """Return the GFN-FF equilibrium bond length r0 [bohr]."""
    shift = -0.110 + (_metal_shift(a, b) if a.metal or b.metal else _covalent_shift(a, b))
    if a.z > 10 and b.z > 10:
        shift -= 0.11 + 0.11 * ((a.z > 18) + (b.z > 18)) + 0.06 * ((a.z > 36) + (b.z > 36))
    radii = sum(RADIUS[x.z - 1] + CNFAK[x.z - 1] * NORMAL_COORDINATION[x.z - 1] for x in (a, b))
    row_a, row_b = row_of(a.z), row_of(b.z)
    d = abs(ELECTRONEGATIVITY[a.z - 1] - ELECTRONEGATIVITY[b.z - 1])
    k1, k2 = 0.005 * (P1[row_a] + P1[row_b]), 0.005 * (P2[row_a] + P2[row_b])
    return (radii + shift) * (1.0 - k1 * d - k2 * d * d)


def _covalent_shift(a: Atom, b: Atom) -> float:
    shift = 0.03 if 5 in (a.h, b.h) else 0.0
    if 1 in (a.z, b.z):
        shift = -0.05
    if a.z == b.z == 9:
        shift = 0.22
    pair = {a.h, b.h}
    if pair == {3, 0}:
        shift -= 0.022
    elif pair == {1, 0}:
        shift += 0.14
    return shift


def _metal_shift(a: Atom, b: Atom) -> float:
    shift = 0.0
    for atom, other in ((a, b), (b, a)):
        if atom.metal == 2:
            shift += 0.15
            if other.z == 6 and other.h == 1:
                shift -= 0.45
            elif other.z == 7 and other.h == 1 and other.nn > 1:
                shift += 0.47
        elif atom.metal == 1:
            shift += 0.20 if GROUP[atom.z - 1] <= 2 else 0.05
    return shift


@lru_cache(maxsize=65536)
def target_length(a: Atom, b: Atom, bond_scaling: float = 1.05) -> float:
    """Return the bond length the decoder aims at [A]."""
    return bond_length(a, b) * BOHR * LENGTH_FACTOR * bond_scaling


@lru_cache(maxsize=65536)
def angle(centre: Atom, a: Atom, b: Atom) -> Angle | None:
    """Return the target of the angle a - centre - b, or None if GFN-FF has none there."""
    strength = ANGL[centre.z - 1] * (ANGL2[a.z - 1] * ANGL2[b.z - 1])
    if not 2 <= centre.nn <= 6 or strength < 1e-3:
        return None
    degrees, factor = _angle_rule(centre, a, b)
    theta = math.radians(degrees)
    damping = (1.0 - 2.36 / centre.nn**2) * (1.0 - 0.50 * math.exp(-0.64 * (theta - math.pi) ** 2))
    return Angle(theta, strength * factor * damping)


def _angle_rule(c: Atom, a: Atom, b: Atom) -> tuple[float, float]:
    """Return the angle [degrees] and the force factor: later rules override earlier ones."""
    degrees, factor = {1: 180.0, 2: 120.0, 3: 109.5}.get(c.h, 100.0), 1.0
    pair = (a.z, b.z)
    group = GROUP[c.z - 1]
    if c.h == 3 and c.z > 10:
        degrees = _heavy_sp3(c, group, pair.count(1))
    if c.h == 5:
        degrees, factor = 90.0, 0.11
    degrees, factor = _light_centre(c, a, b, degrees, factor)
    carbon_dioxide = c.z == 6 and c.h == 1 and pair.count(8) == 2
    if 1 in (c.h, a.h, b.h) and not carbon_dioxide:
        factor = 1.0 if 7 in pair else 0.6
    if group == 16 and c.nn == 4 and 8 in pair:
        degrees = 115.0
    if c.z in (9, 17, 35, 53) and c.h == 1:
        degrees, factor = 90.0, 0.6 * c.z**-0.15
    if c.metal:
        degrees = {0: 90.0, 1: 180.0, 2: 120.0, 3: 109.5}.get(c.h, degrees)
        factor = 1.35 if c.h == 0 else factor
    return degrees, factor


def _heavy_sp3(c: Atom, group: int, n_hydrogen: int) -> float:
    degrees = 89.0 if c.nn <= 3 else 100.0
    if c.nn == 4 and (group == 15 or c.z in (50, 82)):
        degrees = 109.5
    return degrees - 5.0 * n_hydrogen if group in (14, 15, 16) else degrees


def _light_centre(c: Atom, a: Atom, b: Atom, degrees: float, factor: float) -> tuple[float, float]:
    """Apply the rules of B, C, N and O as centres."""
    pair = (a.z, b.z)
    n_h, n_c, n_o = pair.count(1), pair.count(6), pair.count(8)
    if c.z == 5 and c.h in (2, 3):
        degrees = 115.0
    elif c.z == 6:
        if c.h == 3 and n_h == 2:
            degrees = 108.6
        elif c.h == 3 and n_o == 1:
            degrees = 108.5
        elif c.h == 2 and n_o == 2:
            degrees = 122.0
        elif c.h == 1 and n_o == 2:
            factor = 2.0
        if c.h == 2 and n_o == 1:
            factor = 0.7
    elif c.z == 8 and c.nn == 2:
        degrees = 100.0 if n_h == 2 else 104.5
        factor = 1.2 if n_h == 2 else factor
        degrees += 7.0 * pair.count(14) + 14.0 * ((a.metal > 0) + (b.metal > 0))
    elif c.z == 7 and c.nn == 2:
        factor = 1.4
        degrees = 180.0 if c.h == 1 else 102.0 if 9 in pair else 103.0 if n_o else 115.0
    elif c.z == 7 and c.h == 3:
        degrees, factor = 104.0, 0.40 + 0.19 * n_h + 0.25 * n_o + 0.01 * n_c
    return degrees, factor
