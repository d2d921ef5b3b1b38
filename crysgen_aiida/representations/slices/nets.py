"""Nets (labelled quotient graphs) and the SLICES strings that spell them.

SLICES: Xiao et al., Nat. Commun. 14, 7027 (2023). Four spellings ("strategies") are in use:

1. for every edge ``El_u El_v u v a b c`` (no header);
2. fixed width, no spaces: symbols padded to two characters with ``_``, then two-digit indices and three signs;
3. symbols, then for every edge ``u v a b c``;
4. optional space-group prefix, symbols, then for every edge ``u v abc`` (the default).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import numpy.typing as npt

from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.tokens import (
    ELEMENTS,
    IMAGE_OF_TOKEN,
    VALUE_OF_SIGN,
    Z_OF_SYMBOL,
    image_token,
    space_group_of_prefix,
    space_group_prefix,
)

IntArray = npt.NDArray[np.int64]

EMPTY = "The string is empty."
BAD_TOKEN = "The string has a token that is not allowed where it stands."
BAD_INDEX = "An edge names an atom that is not in the header."
BAD_LENGTH = "The last edge is incomplete."
BAD_PREFIX = "The prefix is not that of any space group."
CLASHING_SYMBOLS = "Two edges disagree about the element of an atom."


@dataclass(frozen=True, eq=False)
class Net:
    """A labelled quotient graph: atoms, and bonds with the lattice translation each one crosses.

    :ivar numbers: (n,) atomic numbers.
    :ivar edges: (E, 2) indices of the atoms a bond joins; a loop bonds an atom to its own image.
    :ivar images: (E, 3) translation of the cell of the second atom against that of the first.
    :ivar space_group: international number stated by the prefix, or None. It decorates: decoding does not use it.
    """

    numbers: IntArray
    edges: IntArray
    images: IntArray
    space_group: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", np.asarray(self.numbers, dtype=np.int64).reshape(-1))
        object.__setattr__(self, "edges", np.asarray(self.edges, dtype=np.int64).reshape(-1, 2))
        object.__setattr__(self, "images", np.asarray(self.images, dtype=np.int64).reshape(-1, 3))
        if len(self.edges) != len(self.images):
            raise ValueError(f"{len(self.edges)} edges but {len(self.images)} images; give one image an edge.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Net):
            return NotImplemented
        return (
            np.array_equal(self.numbers, other.numbers)
            and np.array_equal(self.edges, other.edges)
            and np.array_equal(self.images, other.images)
            and self.space_group == other.space_group
        )

    def __hash__(self) -> int:
        return hash((self.numbers.tobytes(), self.edges.tobytes(), self.images.tobytes(), self.space_group))

    @property
    def n_atoms(self) -> int:
        """Number of atoms in the cell."""
        return len(self.numbers)

    @property
    def n_edges(self) -> int:
        """Number of bonds in the cell."""
        return len(self.edges)

    @property
    def symbols(self) -> list[str]:
        """Element symbols."""
        return [ELEMENTS[z - 1] for z in self.numbers]

    @property
    def prefix(self) -> tuple[str, ...]:
        """Prefix tokens of the space group, empty if none is stated."""
        return space_group_prefix(self.space_group) if self.space_group else ()

    def edge_set(self) -> frozenset[tuple[int, int, int, int, int]]:
        """Return the bonds without their direction and order; repeated bonds collapse."""
        return frozenset(
            _undirected(u, v, tuple(w)) for (u, v), w in zip(self.edges.tolist(), self.images.tolist(), strict=True)
        )

    def without_duplicates(self) -> Net:
        """Return the net with repeated bonds (also reversed ones) removed, the first of each kept."""
        seen: set[tuple[int, int, int, int, int]] = set()
        keep = []
        for e, ((u, v), w) in enumerate(zip(self.edges.tolist(), self.images.tolist(), strict=True)):
            key = _undirected(u, v, tuple(w))
            if key not in seen:
                seen.add(key)
                keep.append(e)
        return self if len(keep) == self.n_edges else replace(self, edges=self.edges[keep], images=self.images[keep])


def _undirected(u: int, v: int, w: tuple[int, ...]) -> tuple[int, int, int, int, int]:
    a = (u, v, w[0], w[1], w[2])
    b = (v, u, -w[0], -w[1], -w[2])
    return min(a, b)


def to_string(net: Net, strategy: int = 4, prefix: bool = True) -> str:
    """Spell a net.

    :param strategy: 1 to 4, see the module.
    :param prefix: write the space-group prefix if the net states a group (strategy 4 only).
    :raises SlicesError: for an element beyond radon, or more than 100 atoms in the fixed-width strategy 2.
    """
    if net.n_atoms and (net.numbers.max() > len(ELEMENTS) or net.numbers.min() < 1):
        raise SlicesError("An element beyond radon has no SLICES symbol.")
    symbols = net.symbols
    rows = [(u, v, image_token(tuple(w))) for (u, v), w in zip(net.edges.tolist(), net.images.tolist(), strict=True)]
    if strategy == 4:
        words = [*(net.prefix if prefix else ()), *symbols]
        for u, v, label in rows:
            words += [str(u), str(v), label]
        return " ".join(words)
    if strategy == 3:
        words = list(symbols)
        for u, v, label in rows:
            words += [str(u), str(v), *label]
        return " ".join(words)
    if strategy == 2:
        if net.n_atoms > 100:
            raise SlicesError("Strategy 2 has two digits for an index: at most 100 atoms fit.")
        return "".join(s.ljust(2, "_") for s in symbols) + "".join(f"{u:02d}{v:02d}{label}" for u, v, label in rows)
    if strategy == 1:
        words = []
        for u, v, label in rows:
            words += [symbols[u], symbols[v], str(u), str(v), *label]
        return " ".join(words)
    raise ValueError(f"Strategy {strategy} does not exist; choose 1, 2, 3 or 4.")


def parse(string: str, strategy: int = 4) -> Net:
    """Read a string. Whether the net is a crystal is for :func:`~crysgen_aiida.representations.slices.checker.check`.

    :raises SlicesError: if the string is not of this strategy; ``reason`` is one of a few sentences.
    """
    if strategy == 4:
        return _parse_headed(string.split(), 3)
    if strategy == 3:
        return _parse_headed(string.split(), 5)
    if strategy == 2:
        return _parse_fixed(string.strip())
    if strategy == 1:
        return _parse_edges(string.split())
    raise ValueError(f"Strategy {strategy} does not exist; choose 1, 2, 3 or 4.")


def _parse_headed(words: list[str], width: int) -> Net:
    if not words:
        raise SlicesError(EMPTY)
    start = next((i for i, word in enumerate(words) if word in Z_OF_SYMBOL), None)
    if start is None:
        raise SlicesError(BAD_TOKEN, "there is no element symbol")
    space_group = None
    if start:
        space_group = space_group_of_prefix(words[:start]) if width == 3 else None
        if space_group is None:
            raise SlicesError(BAD_PREFIX)
    numbers = []
    for word in words[start:]:
        if word not in Z_OF_SYMBOL:
            break
        numbers.append(Z_OF_SYMBOL[word])
    body = words[start + len(numbers) :]
    edges, images = [], []
    for k in range(0, len(body), width):
        edge = body[k : k + width]
        if len(edge) < width:
            raise SlicesError(BAD_LENGTH)
        edges.append((_index(edge[0], len(numbers)), _index(edge[1], len(numbers))))
        images.append(_image("".join(edge[2:]) if all(len(c) == 1 for c in edge[2:]) or width == 3 else "?"))
    return Net(np.array(numbers), np.array(edges).reshape(-1, 2), np.array(images).reshape(-1, 3), space_group)


def _parse_fixed(text: str) -> Net:
    if not text:
        raise SlicesError(EMPTY)
    numbers, at = [], 0
    while at < len(text) and not text[at].isdigit():
        symbol = text[at : at + 2].rstrip("_")
        if len(text[at : at + 2]) < 2 or symbol not in Z_OF_SYMBOL:
            raise SlicesError(BAD_TOKEN, f"{text[at : at + 2]!r} at character {at}")
        numbers.append(Z_OF_SYMBOL[symbol])
        at += 2
    edges, images = [], []
    for k in range(at, len(text), 7):
        edge = text[k : k + 7]
        if len(edge) < 7:
            raise SlicesError(BAD_LENGTH)
        edges.append((_index(edge[:2], len(numbers)), _index(edge[2:4], len(numbers))))
        images.append(_image(edge[4:]))
    return Net(np.array(numbers), np.array(edges).reshape(-1, 2), np.array(images).reshape(-1, 3))


def _parse_edges(words: list[str]) -> Net:
    if not words:
        raise SlicesError(EMPTY)
    held: dict[int, int] = {}
    edges, images = [], []
    for k in range(0, len(words), 7):
        edge = words[k : k + 7]
        if len(edge) < 7:
            raise SlicesError(BAD_LENGTH)
        pair = (_index(edge[2], 1000), _index(edge[3], 1000))
        for symbol, i in zip(edge[:2], pair, strict=True):
            if symbol not in Z_OF_SYMBOL:
                raise SlicesError(BAD_TOKEN, repr(symbol))
            if held.setdefault(i, Z_OF_SYMBOL[symbol]) != Z_OF_SYMBOL[symbol]:
                raise SlicesError(CLASHING_SYMBOLS, f"atom {i}")
        edges.append(pair)
        images.append(_image("".join(edge[4:]) if all(len(c) == 1 for c in edge[4:]) else "?"))
    n = max(held) + 1
    if len(held) != n:
        raise SlicesError(BAD_INDEX, "strategy 1 has no header, so atoms must be numbered without gaps")
    return Net(np.array([held[i] for i in range(n)]), np.array(edges), np.array(images))


def _index(word: str, n: int) -> int:
    if not (word.isascii() and word.isdigit()):
        raise SlicesError(BAD_TOKEN, repr(word))
    value = int(word) if len(word) < 5 else n
    if value >= n:
        raise SlicesError(BAD_INDEX, f"{word} of {n}")
    return value


def _image(label: str) -> tuple[int, int, int]:
    image = IMAGE_OF_TOKEN.get(label)
    if image is None:
        if len(label) == 3 and all(c in VALUE_OF_SIGN for c in label):
            return (VALUE_OF_SIGN[label[0]], VALUE_OF_SIGN[label[1]], VALUE_OF_SIGN[label[2]])
        raise SlicesError(BAD_TOKEN, repr(label))
    return image


def canonical(net: Net, mode: str = "strict") -> Net:
    """Return one spelling for many: atoms by Z, edges u <= v and sorted, label columns in a fixed order.

    Independent of the order and direction of bonds and of the order of axes; canonical outright if all elements of the
    cell differ. The order of atoms of one element and other changes of axes stay free, so use structure matching to
    decide whether two nets are one crystal.

    :param mode: ``strict`` takes the axis order whose sorted labels come first, and points loops along the first axis
        they move on; ``paper`` sorts the columns by their sums as published, which depends on the order of bonds.
    """
    order = np.argsort(net.numbers, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    edges, images = place[net.edges], net.images.copy()
    flip = edges[:, 0] > edges[:, 1]
    edges[flip] = edges[flip][:, ::-1]
    images[flip] *= -1
    if mode == "paper":
        edges, images = _paper_columns(edges, images)
    elif mode == "strict":
        edges, images = min(
            (_sorted_rows(edges, images[:, list(axes)]) for axes in permutations(range(3))),
            key=lambda pair: pair[1].ravel().tolist(),
        )
    else:
        raise ValueError(f"There is no canonical form {mode!r}; choose 'strict' or 'paper'.")
    return Net(net.numbers[order], edges, images, net.space_group)


def _sorted_rows(edges: IntArray, images: IntArray) -> tuple[IntArray, IntArray]:
    leading = images[np.arange(len(images)), (images != 0).argmax(axis=1)]
    backwards = (edges[:, 0] == edges[:, 1]) & (leading < 0)
    images = np.where(backwards[:, None], -images, images)
    rows = np.lexsort((images[:, 2], images[:, 1], images[:, 0], edges[:, 1], edges[:, 0]))
    return edges[rows], images[rows]


def _paper_columns(edges: IntArray, images: IntArray) -> tuple[IntArray, IntArray]:
    by_pair = np.lexsort((edges[:, 1], edges[:, 0]))
    edges, images = edges[by_pair], images[by_pair]
    weight = (np.arange(1, len(images) + 1, dtype=np.int64) ** 3)[:, None]
    images = images[:, np.lexsort(((images * weight).sum(axis=0), images.sum(axis=0)))]
    rows = np.lexsort((images[:, 2], images[:, 1], images[:, 0], edges[:, 1], edges[:, 0]))
    return edges[rows], images[rows]


def augment(net: Net, rng: np.random.Generator) -> Net:
    """Return the same net written at random: atoms and edges shuffled, about half of the edges reversed."""
    n, m = net.n_atoms, net.n_edges
    order = rng.permutation(n)
    place = np.empty_like(order)
    place[order] = np.arange(n)
    shuffled = rng.permutation(m)
    edges, images = place[net.edges][shuffled], net.images[shuffled].copy()
    flip = rng.random(m) < 0.5
    edges[flip] = edges[flip][:, ::-1]
    images[flip] *= -1
    return Net(net.numbers[order], edges, images, net.space_group)


def augmented_strings(net: Net, n: int, rng: np.random.Generator, strategy: int = 4, prefix: bool = True) -> list[str]:
    """Return up to ``n`` different spellings of a net, in the order they were drawn (at most ``10 n`` draws)."""
    strings: dict[str, None] = {}
    for _ in range(10 * n):
        if len(strings) >= n:
            break
        strings[to_string(augment(net, rng), strategy, prefix)] = None
    return list(strings)
