"""What a reader of a string knows of the net written so far, as numbers beside each token.

The tokens of a bond are meaningless without the atoms they point to, and a transformer has to learn that from the
strings. Here it is told: which element an index stands for, how many bonds an atom has, which atoms have none yet, and
which image labels a pair of atoms has used. Nothing is told that does not follow from the tokens before, nothing is
forbidden: strings are free, and those of other lengths or out of order are read as far as they make sense.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crysgen_aiida.generators.mattergpt.tokenizer import N_LABELS, Tokenizer
from crysgen_aiida.representations.slices.tokens import ELEMENTS

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

#: Roles of a token: none (prefix and special tokens), atom, first and second index of a bond, its label.
NONE, ATOM, FIRST, SECOND, LABEL = range(5)
#: Bonds of an atom are counted up to this many less one.
_COUNTS = 16
_ZERO_LABEL = N_LABELS // 2


class NetReader:
    """Reads a batch of strings token by token; see :meth:`step`.

    :param rows: number of strings B.
    """

    def __init__(self, tokenizer: Tokenizer, rows: int) -> None:
        self._t = tokenizer
        atoms = tokenizer.max_atoms
        self._n = np.zeros(rows, dtype=np.int64)  # atoms so far
        self._z = np.zeros((rows, atoms), dtype=np.int64)  # their atomic numbers
        self._bonds = np.zeros((rows, atoms), dtype=np.int64)  # bonds of each
        self._taken = np.zeros((rows, atoms, atoms), dtype=np.int64)  # labels each pair has used, as bits
        self._role = np.zeros(rows, dtype=np.int64)  # of the token before
        self._u = np.zeros(rows, dtype=np.int64)  # the indices of the bond being written
        self._v = np.zeros(rows, dtype=np.int64)

    @staticmethod
    def width(tokenizer: Tokenizer) -> int:
        """Number of features F of a token."""
        return 5 + 3 * tokenizer.max_atoms + 2 * (len(ELEMENTS) + 1 + _COUNTS) + N_LABELS

    def step(self, tokens: IntArray) -> FloatArray:
        """Read one more token of every string.

        :param tokens: (B,) ids.
        :return: (B, F) zeros and ones: the role of the token; the index an atom gets; which indices stand for atoms,
            and which of those have no bond; the element and number of bonds of the first and second atom of a bond;
            the labels that pair has used, after the second index.
        """
        t, atoms = self._t, self._t.max_atoms
        role = np.select(
            [tokens < t.first_element, tokens < t.first_index, tokens < t.first_label],
            [NONE, ATOM, np.where(self._role == FIRST, SECOND, FIRST)],
            LABEL,
        )
        self._role = role
        features = np.zeros((len(tokens), self.width(t)), dtype=np.float32)
        features[np.arange(len(tokens)), role] = 1
        at = 5
        new = np.flatnonzero((role == ATOM) & (self._n < atoms))
        features[new, at + self._n[new]] = 1
        self._z[new, self._n[new]] = tokens[new] - t.first_element + 1
        self._n[new] += 1
        at += atoms
        first, second, label = (np.flatnonzero(role == r) for r in (FIRST, SECOND, LABEL))
        self._u[first] = tokens[first] - t.first_index
        self._v[second] = tokens[second] - t.first_index
        self._bond(label, tokens[label] - t.first_label)
        there = np.arange(atoms) < self._n[:, None]
        features[:, at : at + atoms] = there
        features[:, at + atoms : at + 2 * atoms] = there & (self._bonds == 0)
        at += 2 * atoms
        both = np.flatnonzero(role >= SECOND)
        for rows, which in ((np.flatnonzero(role >= FIRST), self._u), (both, self._v)):
            atom = which[rows]
            features[rows, at + self._z[rows, atom]] = 1
            at += len(ELEMENTS) + 1
            features[rows, at + np.minimum(self._bonds[rows, atom], _COUNTS - 1)] = 1
            at += _COUNTS
        bits = self._taken[second, self._u[second], self._v[second]]
        features[second, at:] = bits[:, None] >> np.arange(N_LABELS) & 1
        loops = second[self._u[second] == self._v[second]]
        features[loops, at + _ZERO_LABEL] = 1  # no atom is bonded to itself
        return features

    def _bond(self, rows: IntArray, label: IntArray) -> None:
        u, v = self._u[rows], self._v[rows]
        self._taken[rows, u, v] |= 1 << label
        self._taken[rows, v, u] |= 1 << (N_LABELS - 1 - label)
        self._bonds[rows, u] += 1
        self._bonds[rows, v] += 1

    def read(self, tokens: IntArray) -> FloatArray:
        """Read more of every string: tokens (B, T), features (B, T, F)."""
        return np.stack([self.step(column) for column in tokens.T], axis=1)

    def keep(self, rows: IntArray) -> None:
        """Forget all strings but these."""
        for name in ("_n", "_z", "_bonds", "_taken", "_role", "_u", "_v"):
            setattr(self, name, getattr(self, name)[rows])
