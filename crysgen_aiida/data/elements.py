"""Symbols of the elements."""

from __future__ import annotations

import re

_SYMBOLS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc
Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi
Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""

#: Symbols of all 118 elements; position ``Z - 1``.
SYMBOLS: tuple[str, ...] = tuple(_SYMBOLS.split())

#: Atomic number of each symbol.
NUMBERS: dict[str, int] = {symbol: z for z, symbol in enumerate(SYMBOLS, start=1)}

_IN_FORMULA = re.compile(r"[A-Z][a-z]?")


def elements_of(formula: str) -> frozenset[str]:
    """Return the elements a chemical formula names."""
    return frozenset(_IN_FORMULA.findall(formula))
