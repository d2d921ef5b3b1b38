"""Which token may come next: a stateful mask that only lets valid nets be written.

Every row keeps the graph written so far (union-find with cell translations, and the lattice its cycles generate), so
that a string may end only as one connected three-periodic net: rank 3, lattice index 1. It can never run into a dead
end: an upper bound on the bonds still needed is known at every step, and when the tokens left allow no more than
those, only bonds that bring the net nearer to completion are allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.generators.mattergpt.tokenizer import END, N_LABELS, Tokenizer
from crysgen_aiida.representations.slices.lattice_algebra import IncrementalNet, Vector, VoltageLattice
from crysgen_aiida.representations.slices.tokens import IMAGE_OF_TOKEN, IMAGE_TOKENS, Z_OF_SYMBOL

BoolArray = npt.NDArray[np.bool_]
Rows = tuple[Vector | None, Vector | None, Vector | None]

_IMAGES: tuple[Vector, ...] = tuple(IMAGE_OF_TOKEN[t] for t in IMAGE_TOKENS)
#: Position of the zero image; the negative of label k is label 26 - k.
_ZERO = _IMAGES.index((0, 0, 0))
_UNITS: tuple[Vector, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
#: Trie of prefixes: token id -> subtree; the leaf is empty.
Trie = dict[int, "Trie"]


@lru_cache(maxsize=200_000)
def _missing(rows: Rows) -> int:
    """Return an upper bound, met by loops along cell axes, on the cycles a lattice lacks to be all of Z^3."""
    for count in range(4):
        for units in combinations(_UNITS, count):
            lattice = VoltageLattice(rows)
            for unit in units:
                lattice.add(unit)
            if lattice.index == 1:
                return count
    raise AssertionError("three unit vectors always generate Z^3")


@lru_cache(maxsize=200_000)
def _helpful(rows: Rows, offset: Vector) -> tuple[int, ...]:
    """Return the labels whose bond, closing a cycle of voltage label - offset, lowers the bound :func:`_missing`."""
    now = _missing(rows)
    found = []
    for label, (a, b, c) in enumerate(_IMAGES):
        lattice = VoltageLattice(rows)
        lattice.add((a - offset[0], b - offset[1], c - offset[2]))
        if _missing(_key(lattice)) < now:
            found.append(label)
    return tuple(found)


def _key(lattice: VoltageLattice) -> Rows:
    a, b, c = lattice.rows
    return (a, b, c)


@dataclass(frozen=True)
class Constraint:
    """What the header must be, beyond being a crystal.

    :param elements: atomic numbers; all of them must occur and no others (empty: any).
    :param composition: reduced formula as atomic number -> count; only multiples of it are written (empty: any).
    :param space_groups: numbers the prefix may state (empty: any).
    """

    elements: frozenset[int] = frozenset()
    composition: tuple[tuple[int, int], ...] = ()
    space_groups: frozenset[int] = frozenset()

    @classmethod
    def read(cls, elements: Iterable[str] = (), composition: str | None = None, max_atoms: int = 20) -> Constraint:
        """Read the conditions ``elements`` and ``composition``.

        :raises ImpossibleRequest: for an unknown element, or a formula unit that does not fit a cell.
        """
        symbols = [elements] if isinstance(elements, str) else list(elements)
        counts: dict[str, int] = {}
        if composition:
            from pymatgen.core import Composition

            try:
                formula = Composition(composition).reduced_composition
            except (ValueError, KeyError) as error:
                raise ImpossibleRequest(
                    f"{composition!r} is not a chemical formula; write for example 'BaTiO3'."
                ) from error
            counts = {e.symbol: int(n) for e, n in formula.items() if n == int(n)}
            if len(counts) < len(formula) or sum(counts.values()) > max_atoms:
                raise ImpossibleRequest(
                    f"One formula unit of {composition} does not fit a cell of {max_atoms} whole atoms, "
                    "the most this generator writes."
                )
        for symbol in (*symbols, *counts):
            if symbol not in Z_OF_SYMBOL:
                raise ImpossibleRequest(f"{symbol!r} is no element this generator writes; it knows hydrogen to radon.")
        if len(set(symbols)) > max_atoms:
            raise ImpossibleRequest(f"{len(set(symbols))} elements do not fit a cell of {max_atoms} atoms.")
        if symbols and counts and set(symbols) != set(counts):
            raise ImpossibleRequest(f"The composition {composition} is not made of exactly {', '.join(symbols)}.")
        return cls(
            frozenset(Z_OF_SYMBOL[s] for s in symbols),
            tuple(sorted((Z_OF_SYMBOL[s], n) for s, n in counts.items())),
        )


@dataclass
class _Header:
    """Progress through the atoms of a constrained string: which elements may come next, and whether it may stop."""

    constraint: Constraint
    counts: dict[int, int] = field(default_factory=dict)

    def next_elements(self, room: int) -> set[int]:
        """Return the atomic numbers that may follow, if ``room`` more atoms fit."""
        if self.constraint.composition:
            formula = dict(self.constraint.composition)
            total = sum(self.counts.values())
            units = (total + room) // sum(formula.values())
            return {z for z, n in formula.items() if self.counts.get(z, 0) < units * n}
        absent = self.constraint.elements - self.counts.keys()
        if room <= 0:
            return set()
        return set(absent) if room <= len(absent) else set(self.constraint.elements)

    def complete(self) -> bool:
        """Whether the atoms so far satisfy the constraint."""
        if self.constraint.composition:
            units = {self.counts.get(z, 0) / n for z, n in self.constraint.composition}
            return len(units) == 1 and next(iter(units)) == int(next(iter(units))) and 0 not in units
        return self.constraint.elements <= self.counts.keys()


class Row:
    """The grammar's view of one string.

    :param budget: tokens the string may have, its end token included.
    :param trie: prefixes that may start it; None if it has no prefix.
    """

    __slots__ = (
        "_budget", "_forced", "_header", "_max_atoms", "_net", "_open", "_pairs", "_t", "_trie", "_u", "_v",
        "n", "phase",
    )  # fmt: skip

    PREFIX, ATOMS, FIRST, SECOND, LABEL, DONE = range(6)

    def __init__(
        self, tokenizer: Tokenizer, budget: int, trie: Trie | None = None, constraint: Constraint | None = None
    ) -> None:
        self._t = tokenizer
        self._budget = budget
        self._trie = trie
        self._max_atoms = tokenizer.max_atoms
        constrained = constraint is not None and (constraint.elements or constraint.composition)
        self._header = _Header(constraint) if constraint is not None and constrained else None
        self._net = IncrementalNet(0)
        #: labels taken by the bonds of each pair u <= v, as bits
        self._pairs: dict[tuple[int, int], int] = {}
        self._open: list[int] = []  # for each atom, the partners it can still be bonded to
        self._forced = False
        self._u = self._v = self.n = 0
        self.phase = self.ATOMS if trie is None else self.PREFIX

    # -- what may come ---------------------------------------------------------------------------------------------

    def allow(self, mask: BoolArray) -> None:
        """Set the entries of tokens that may come next, shape (V,), which is all False before."""
        t = self._t
        if self.phase == self.PREFIX and self._trie is not None:
            mask[list(self._trie)] = True
        elif self.phase == self.ATOMS:
            self._allow_atoms(mask)
        elif self.phase == self.FIRST:
            needed = self._needed()
            mask[END] = needed == 0
            if needed or self._budget >= 4:
                mask[t.first_index : t.first_index + self.n] = [partners > 0 for partners in self._open]
        elif self.phase == self.SECOND:
            mask[[t.first_index + v for v in self._partners(self._u)]] = True
        elif self.phase == self.LABEL:
            mask[[t.first_label + label for label in self._labels(self._u, self._v)]] = True
        else:
            mask[0] = True

    def _allow_atoms(self, mask: BoolArray) -> None:
        t = self._t
        # the n atoms need at most n - 1 bonds to connect, 3 more to span space, and an end token
        room = min(self._max_atoms - self.n, (self._budget - 3 * (self.n + 2) - 1) // 4)
        first = t.first_element
        if self._header is not None:
            mask[[first + z - 1 for z in self._header.next_elements(room)]] = True
        elif room > 0:
            mask[first : t.first_index] = True
        if self.n and (self._header is None or self._header.complete()):
            mask[t.first_index : t.first_index + self.n] = True

    def _needed(self) -> int:
        """Return an upper bound on the bonds that complete the net; 0 if it is complete."""
        return self._net.components - 1 + _missing(_key(self._net.lattice))

    def _partners(self, u: int) -> list[int]:
        if self._forced and self._net.components > 1:
            root, _ = self._net.find(u)
            return [v for v in range(self.n) if self._net.find(v)[0] != root]
        if self._forced:
            return [v for v in range(self.n) if _helpful(_key(self._net.lattice), self._offset(u, v))]
        return [v for v in range(self.n) if self._free(u, v)]

    def _labels(self, u: int, v: int) -> Iterable[int]:
        if self._forced and self._net.components == 1:
            return _helpful(_key(self._net.lattice), self._offset(u, v))
        taken = self._pairs.get((u, v) if u <= v else (v, u), 0)
        if u == v:
            taken |= 1 << _ZERO
        if u > v:
            return [k for k in range(N_LABELS) if not taken >> (N_LABELS - 1 - k) & 1]
        return [k for k in range(N_LABELS) if not taken >> k & 1]

    def _free(self, u: int, v: int) -> bool:
        taken = self._pairs.get((u, v) if u <= v else (v, u), 0)
        return taken.bit_count() < (N_LABELS - 1 if u == v else N_LABELS)

    def _offset(self, u: int, v: int) -> Vector:
        voltage = self._net.cycle_voltage(u, v, (0, 0, 0))
        assert voltage is not None, "offsets are asked for within one component only"
        return (-voltage[0], -voltage[1], -voltage[2])

    # -- what has come ---------------------------------------------------------------------------------------------

    def push(self, token: int) -> None:
        """Take note of the token that was chosen; it must have been allowed."""
        t = self._t
        self._budget -= 1
        if self.phase == self.PREFIX and self._trie is not None:
            self._trie = self._trie[token]
            if not self._trie:
                self.phase = self.ATOMS
        elif self.phase == self.ATOMS and token < t.first_index:
            self.n += 1
            if self._header is not None:
                z = token - t.first_element + 1
                self._header.counts[z] = self._header.counts.get(z, 0) + 1
        elif self.phase in (self.ATOMS, self.FIRST):
            self._start_bond(token)
        elif self.phase == self.SECOND:
            self._v = token - t.first_index
            self.phase = self.LABEL
        elif self.phase == self.LABEL:
            self._bond(token - t.first_label)
            self.phase = self.FIRST

    def _start_bond(self, token: int) -> None:
        if token == END:
            self.phase = self.DONE
            return
        if self.phase == self.ATOMS:
            self._net = IncrementalNet(self.n)
            self._open = [self.n] * self.n
        # two tokens of this bond and the end token are still to come: if what is left besides is only just enough for
        # the bonds the net needs, this one must be one of them
        self._forced = self._budget - 3 < 3 * self._needed()
        self._u = token - self._t.first_index
        self.phase = self.SECOND

    def _bond(self, label: int) -> None:
        u, v = self._u, self._v
        self._net.add_edge(u, v, _IMAGES[label])
        pair = (u, v) if u <= v else (v, u)
        bits = 1 << (label if u <= v else N_LABELS - 1 - label)
        if u == v:
            bits |= 1 << (N_LABELS - 1 - label)
        self._pairs[pair] = self._pairs.get(pair, 0) | bits
        if not self._free(u, v):
            self._open[u] -= 1
            if u != v:
                self._open[v] -= 1


class Grammar:
    """Makes the mask of a batch of rows.

    :param prefix: whether strings start with a space-group prefix.
    """

    def __init__(self, tokenizer: Tokenizer, *, prefix: bool) -> None:
        self.tokenizer, self.prefix = tokenizer, prefix
        self._tries: dict[frozenset[int], Trie] = {}

    def row(self, budget: int, constraint: Constraint | None = None) -> Row:
        """Return the state of a new string of up to ``budget`` tokens, its end token included."""
        groups = constraint.space_groups if constraint else frozenset()
        return Row(self.tokenizer, budget, self.trie(groups) if self.prefix else None, constraint)

    def trie(self, groups: frozenset[int]) -> Trie:
        """Return the prefixes of some space groups (none named: of all)."""
        if groups not in self._tries:
            self._tries[groups] = prefix_trie(self.tokenizer.ids, groups or frozenset(range(1, 231)))
        return self._tries[groups]

    def mask(self, rows: list[Row]) -> BoolArray:
        """Return what may come next, shape (B, V)."""
        mask = np.zeros((len(rows), len(self.tokenizer)), dtype=bool)
        for i, row in enumerate(rows):
            row.allow(mask[i])
        return mask


def prefix_trie(ids: Mapping[str, int], groups: frozenset[int]) -> Trie:
    """Return a trie of the prefixes of some space groups."""
    from crysgen_aiida.representations.slices.tokens import space_group_prefix

    root: Trie = {}
    for group in sorted(groups):
        node = root
        for token in space_group_prefix(group):
            node = node.setdefault(ids[token], {})
    return root
