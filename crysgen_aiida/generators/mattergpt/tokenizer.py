"""Tokens of MatterGPT: the fixed SLICES vocabulary and three special tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.errors import CorruptWeights
from crysgen_aiida.representations.slices.nets import Net
from crysgen_aiida.representations.slices.tokens import ELEMENTS, IMAGE_TOKENS, PREFIX_TOKENS, vocabulary

PAD, START, END = 0, 1, 2
SPECIAL = ("<pad>", "<start>", "<end>")

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tokenizer:
    """Translates strings of strategy 4 to ids; those of a class are contiguous: prefix, elements, indices, labels.

    :param max_atoms: number of atom indices.
    """

    max_atoms: int

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Every token, special ones first; the position is the id."""
        return (*SPECIAL, *vocabulary(self.max_atoms))

    @cached_property
    def ids(self) -> dict[str, int]:
        """Id of each token."""
        return {token: i for i, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def first_element(self) -> int:
        """Id of hydrogen; the element of atomic number Z has this id + Z - 1."""
        return len(SPECIAL) + len(PREFIX_TOKENS)

    @cached_property
    def first_index(self) -> int:
        """Id of atom index 0."""
        return self.first_element + len(ELEMENTS)

    @cached_property
    def first_label(self) -> int:
        """Id of the image label ``---``; labels count in base 3, the first axis slowest."""
        return self.first_index + self.max_atoms

    def encode(self, string: str) -> list[int]:
        """Return the ids of a string, without special tokens.

        :raises KeyError: for a word that is not a token.
        """
        return [self.ids[word] for word in string.split()]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the string of token ids up to the end token; special tokens are left out."""
        words = []
        for i in ids:
            if i == END:
                break
            if i >= len(SPECIAL):
                words.append(self.tokens[i])
        return " ".join(words)

    def spell(self, net: Net, prefix: bool) -> IntArray:
        """Return the ids of a net, shape (p + n + 3 E,), without special tokens."""
        head = [self.ids[t] for t in net.prefix] if prefix else []
        triples = np.empty((net.n_edges, 3), dtype=np.int64)
        triples[:, :2] = net.edges + self.first_index
        triples[:, 2] = (np.sign(net.images) + 1) @ np.array([9, 3, 1]) + self.first_label
        return np.concatenate([np.array(head, dtype=np.int64), net.numbers - 1 + self.first_element, triples.ravel()])

    def dump(self) -> str:
        """Return the text of ``vocabulary.json``."""
        return json.dumps({"format": 1, "max_atoms": self.max_atoms, "tokens": list(self.tokens)}, indent=1) + "\n"

    @classmethod
    def load(cls, text: str) -> Tokenizer:
        """Read ``vocabulary.json``.

        :raises CorruptWeights: if it is not the vocabulary this program would write.
        """
        try:
            held = json.loads(text)
            tokenizer = get_tokenizer(int(held["max_atoms"]))
            same = list(tokenizer.tokens) == held["tokens"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptWeights(
                "vocabulary.json of the generator cannot be read; fetch the generator again or train it anew."
            ) from error
        if not same:
            raise CorruptWeights(
                "vocabulary.json of the generator lists other tokens than this version of the program; "
                "use the version that trained it, or train it anew."
            )
        return tokenizer


@lru_cache
def get_tokenizer(max_atoms: int) -> Tokenizer:
    """Return the tokenizer for cells of up to ``max_atoms`` atoms."""
    return Tokenizer(max_atoms)


#: Number of image labels.
N_LABELS = len(IMAGE_TOKENS)
