"""The fixed vocabulary of SLICES strings: it depends on no data set, so every model of one size shares it."""

from __future__ import annotations

from itertools import product

from crysgen_aiida.representations.slices.space_groups import PREFIX_TOKENS, space_group_of_prefix, space_group_prefix

__all__ = [
    "ELEMENTS",
    "IMAGE_OF_TOKEN",
    "IMAGE_TOKENS",
    "MAX_ATOMS",
    "PREFIX_TOKENS",
    "VOCABULARY",
    "Z_OF_SYMBOL",
    "image_token",
    "space_group_of_prefix",
    "space_group_prefix",
    "vocabulary",
]

_SYMBOLS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc
Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi
Po At Rn
"""

#: Symbols of the elements SLICES can decode (GFN-FF ends at radon); position ``Z - 1``.
ELEMENTS: tuple[str, ...] = tuple(_SYMBOLS.split())

#: Atomic number of each symbol.
Z_OF_SYMBOL: dict[str, int] = {symbol: z for z, symbol in enumerate(ELEMENTS, start=1)}

#: Characters of an image component: -1, 0, +1.
SIGNS: dict[int, str] = {-1: "-", 0: "o", 1: "+"}
VALUE_OF_SIGN: dict[str, int] = {sign: value for value, sign in SIGNS.items()}

#: The 27 image labels of strategy 4, ``---`` to ``+++``.
IMAGE_TOKENS: tuple[str, ...] = tuple("".join(t) for t in product("-o+", repeat=3))
IMAGE_OF_TOKEN: dict[str, tuple[int, int, int]] = {
    t: (VALUE_OF_SIGN[t[0]], VALUE_OF_SIGN[t[1]], VALUE_OF_SIGN[t[2]]) for t in IMAGE_TOKENS
}

#: Most atoms a cell may have in the published vocabularies (indices 0 to 19).
MAX_ATOMS = 20


def image_token(image: tuple[int, int, int]) -> str:
    """Return the label of an image. Only signs are kept: components beyond ±1 are written as ±1."""
    return "".join(SIGNS[(c > 0) - (c < 0)] for c in image)


def vocabulary(max_atoms: int = MAX_ATOMS) -> tuple[str, ...]:
    """Return the tokens of strategy 4 in their fixed order: prefix, elements, indices, image labels.

    Prefix tokens, element symbols, indices and labels are disjoint, so a token says what it is.

    :param max_atoms: number of atom indices, ``0`` to ``max_atoms - 1``.
    """
    return (*PREFIX_TOKENS, *ELEMENTS, *(str(i) for i in range(max_atoms)), *IMAGE_TOKENS)


#: The vocabulary for up to :data:`MAX_ATOMS` atoms.
VOCABULARY: tuple[str, ...] = vocabulary()
