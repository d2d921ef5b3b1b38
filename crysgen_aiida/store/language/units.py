"""Units: what a number written with one means in another.

A unit is a product of powers of named units: ``eV/atom``, ``C/m^2``, ``uW/cm/K^2``. Factors are exact fractions of SI
units (CODATA 2018, where the electronvolt is exact), so that 1500 meV is 1.5 eV to the last bit.
"""

from __future__ import annotations

import difflib
import re
from fractions import Fraction
from functools import lru_cache

from crysgen_aiida.store.language.place import shown

#: Powers of metre, kilogram, second, coulomb, kelvin and atom.
Dimension = tuple[int, int, int, int, int, int]

_NONE: Dimension = (0, 0, 0, 0, 0, 0)
_ENERGY: Dimension = (2, 1, -2, 0, 0, 0)
_PRESSURE: Dimension = (-1, 1, -2, 0, 0, 0)
_LENGTH: Dimension = (1, 0, 0, 0, 0, 0)
_EV = Fraction("1.602176634e-19")

_NAMED: dict[str, tuple[Fraction, Dimension]] = {
    "1": (Fraction(1), _NONE),
    "%": (Fraction(1, 100), _NONE),
    "atom": (Fraction(1), (0, 0, 0, 0, 0, 1)),
    "eV": (_EV, _ENERGY),
    "J": (Fraction(1), _ENERGY),
    "Ry": (Fraction("2.1798723611035e-18"), _ENERGY),
    "Ha": (Fraction("4.3597447222071e-18"), _ENERGY),
    "A": (Fraction("1e-10"), _LENGTH),  # as in the registry of properties: the angstrom, not the ampere
    "Å": (Fraction("1e-10"), _LENGTH),
    "angstrom": (Fraction("1e-10"), _LENGTH),
    "bohr": (Fraction("5.29177210903e-11"), _LENGTH),
    "m": (Fraction(1), _LENGTH),
    "g": (Fraction(1, 1000), (0, 1, 0, 0, 0, 0)),
    "u": (Fraction("1.66053906660e-27"), (0, 1, 0, 0, 0, 0)),
    "s": (Fraction(1), (0, 0, 1, 0, 0, 0)),
    "Hz": (Fraction(1), (0, 0, -1, 0, 0, 0)),
    "mol": (Fraction(602_214_076_000_000_000_000_000), (0, 0, 0, 0, 0, 1)),  # of atoms
    "K": (Fraction(1), (0, 0, 0, 0, 1, 0)),
    "C": (Fraction(1), (0, 0, 0, 1, 0, 0)),
    "e": (Fraction("1.602176634e-19"), (0, 0, 0, 1, 0, 0)),
    "V": (Fraction(1), (2, 1, -2, -1, 0, 0)),
    "W": (Fraction(1), (2, 1, -3, 0, 0, 0)),
    "N": (Fraction(1), (1, 1, -2, 0, 0, 0)),
    "Pa": (Fraction(1), _PRESSURE),
    "bar": (Fraction(100_000), _PRESSURE),
}
_ALIASES = {"atoms": "atom", "ang": "angstrom", "Angstrom": "angstrom", "Bohr": "bohr", "amu": "u", "\u212b": "A"}
_PREFIXES = {
    "f": -15, "p": -12, "n": -9, "u": -6, "µ": -6, "μ": -6, "m": -3, "c": -2, "d": -1, "k": 3, "M": 6, "G": 9, "T": 12,
}  # fmt: skip
_PREFIXED = frozenset(("eV", "J", "Ry", "Ha", "m", "g", "s", "Hz", "K", "C", "V", "W", "N", "Pa", "bar"))
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_FACTOR = re.compile(r"([^\W\d_]+|%|1)\s*(?:\^?\s*(-?[0-9]{1,2}))?\s*")

#: Longest text that is tried as a unit.
_LONGEST = 40


class UnknownUnit(ValueError):
    """A text is no unit; the message is a clause, without a full stop."""


class DifferentQuantity(ValueError):
    """Two units are of different quantities."""


@lru_cache(maxsize=256)
def parse_unit(text: str) -> tuple[Fraction, Dimension]:
    """Return the factor to SI units, and the dimension, of a unit.

    :raises UnknownUnit: if it is none.
    """
    factor, dimension, at, sign = Fraction(1), _NONE, 0, 1
    words = text.strip().translate(_SUPERSCRIPTS) if len(text) <= _LONGEST else ""
    while at < len(words):
        found = _FACTOR.match(words, at)
        if not found:
            break
        one, powers = _named(found.group(1))
        power = sign * int(found.group(2) or 1)
        factor *= one**power
        dimension = tuple(d + power * p for d, p in zip(dimension, powers, strict=True))  # type: ignore[assignment]
        at = found.end()
        if at == len(words):
            return factor, dimension
        sign = -1 if words[at] == "/" else 1
        if words[at] not in "/*·":
            break
        at += 1
    raise UnknownUnit(f"{shown(text, _LONGEST)} is not a unit")


def convert(value: float, unit: str, to: str) -> float:
    """Return a value in another unit.

    :raises UnknownUnit: if one of them is no unit.
    :raises DifferentQuantity: if they are of different quantities.
    """
    if unit.strip() == to.strip():
        return value
    factor, dimension = parse_unit(unit)
    wanted, other = parse_unit(to)
    if dimension != other:
        raise DifferentQuantity
    try:
        # through the decimal digits: what the reader wrote is exact, its binary form is not
        return float(Fraction(repr(value)) * factor / wanted)
    except OverflowError:
        raise UnknownUnit(f"{value:g} {shown(unit, _LONGEST)} is too large a number") from None


def _named(name: str) -> tuple[Fraction, Dimension]:
    name = _ALIASES.get(name, name)
    if name in _NAMED:
        return _NAMED[name]
    base = _ALIASES.get(name[1:], name[1:])
    if name[0] in _PREFIXES and base in _PREFIXED:
        factor, dimension = _NAMED[base]
        return factor * Fraction(10) ** _PREFIXES[name[0]], dimension
    spellings = [*_NAMED, *(p + n for n in _PREFIXED for p in _PREFIXES if p.isascii())]
    by_lower = {s.lower(): s for s in reversed(spellings)}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    raise UnknownUnit(f"{shown(name, 20)} is not a unit" + (f"; did you mean {by_lower[close[0]]}?" if close else ""))
