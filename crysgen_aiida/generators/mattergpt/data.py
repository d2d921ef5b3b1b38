"""Strings as arrays: respelling, batches of similar length, padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.run import keyed_rng
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.mattergpt.tokenizer import END, PAD, START, Tokenizer
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.nets import Net, parse

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

#: Batches whose strings are sorted by length together: larger pads less, smaller mixes better.
_BUCKET = 16
#: Lengths of batches are multiples of this.
_ROUND = 16


def respell(net: Net, order: str, how: str, rng: np.random.Generator) -> Net:
    """Return the same crystal spelled in another way.

    :param order: ``sorted`` puts atoms by Z and bonds u <= v in order; ``graph`` keeps the order they come in.
    :param how: ``none``, ``atoms`` (renumbered at random; in ``graph`` order bonds are shuffled and half of them
        reversed too) or ``atoms+axes`` (also one of the 48 signed permutations of the cell axes).
    """
    numbers, edges, images = net.numbers, net.edges, net.images
    if how != "none":
        atoms = rng.permutation(len(numbers))
        numbers, edges = numbers[atoms], np.argsort(atoms)[edges]
        if order == "graph":
            bonds = rng.permutation(len(edges))
            edges, images = edges[bonds], images[bonds]
            edges, images = _flip(edges, images, rng.random(len(edges)) < 0.5)
    if how == "atoms+axes":
        images = images[:, rng.permutation(3)] * rng.choice(np.array([-1, 1]), 3)
    if order == "sorted":
        by_element = np.argsort(numbers, kind="stable")
        numbers, edges = numbers[by_element], np.argsort(by_element)[edges]
        edges, images = _flip(edges, images, edges[:, 0] > edges[:, 1])
        loops = edges[:, 0] == edges[:, 1]
        edges, images = _flip(edges, images, loops & (images @ np.array([9, 3, 1]) < 0))
        keys = np.lexsort((*images.T[::-1], edges[:, 1], edges[:, 0]))
        edges, images = edges[keys], images[keys]
    return Net(numbers, edges, images, net.space_group)


def _flip(edges: IntArray, images: IntArray, which: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    return np.where(which[:, None], edges[:, ::-1], edges), np.where(which[:, None], -images, images)


@dataclass(frozen=True)
class Example:
    """A string to learn from, as a net, so that it can be spelled anew every epoch."""

    net: Net
    ids: IntArray  #: the string as it stands in the training set, without special tokens, shape (t,)


@dataclass(frozen=True)
class Batch:
    """Rows of similar length, padded."""

    tokens: IntArray  #: (B, T) start token first
    targets: IntArray  #: (B, T) the tokens that follow, end token last
    values: FloatArray  #: (B, P) what the network sees of the conditions

    @property
    def n_targets(self) -> int:
        """Number of tokens in the loss: padding does not count."""
        return int((self.targets != PAD).sum())

    def rows(self, which: slice) -> Batch:
        """Return some of the rows."""
        return Batch(self.tokens[which], self.targets[which], self.values[which])


def read_examples(training_set: SequenceSet, rows: Sequence[int], tokenizer: Tokenizer) -> list[Example]:
    """Read the strings of some rows.

    :raises BadInput: if a row holds no string of strategy 4, or one with an unknown token.
    """
    strings = training_set.column("sequence")
    examples = []
    for row in rows:
        try:
            examples.append(Example(parse(strings[row]), np.array(tokenizer.encode(strings[row]), dtype=np.int64)))
        except (SlicesError, KeyError, AttributeError) as error:
            raise BadInput(
                f"Row {row} of the training set is no SLICES string this model can learn ({error}); "
                "prepare the set again with this generator's spec."
            ) from error
    return examples


def assemble(strings: Sequence[IntArray], values: FloatArray, limit: int | None = None) -> Batch:
    """Pad strings to a batch.

    :param limit: most positions there are. If given, lengths are rounded up towards it: kernels and buffers are kept
        for every shape that occurs, so few shapes need a fraction of the memory.
    """
    length = max(len(s) for s in strings) + 1
    if limit is not None:
        length = max(length, min(limit, -(-length // _ROUND) * _ROUND))
    tokens = np.full((len(strings), length), PAD, dtype=np.int64)
    targets = np.full((len(strings), length), PAD, dtype=np.int64)
    for i, s in enumerate(strings):
        tokens[i, 0], tokens[i, 1 : len(s) + 1] = START, s
        targets[i, : len(s)], targets[i, len(s)] = s, END
    return Batch(tokens, targets, values)


class Loader:
    """Gives the batches of an epoch; which ones depends on the seed and the epoch only.

    :param values: (n, P) what the network sees of the labels, NaN where missing.
    :param limit: most positions the model has.
    :param augment: see :func:`respell`.
    :param dropout: chance that all conditions of a row are hidden, and that each single one is.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        values: FloatArray,
        tokenizer: Tokenizer,
        *,
        batch_size: int,
        seed: int,
        limit: int | None = None,
        order: str = "sorted",
        prefix: bool = True,
        augment: str = "none",
        dropout: float = 0.0,
    ) -> None:
        self.examples, self.values, self.tokenizer = examples, values, tokenizer
        self.batch_size, self.seed, self.order, self.prefix = batch_size, seed, order, prefix
        self.augment, self.dropout, self.limit = augment, dropout, limit
        self.lengths = np.array([len(e.ids) for e in examples])

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the shuffled batches of an epoch, from batch ``start`` on."""
        for index, rows in enumerate(self._groups(keyed_rng(self.seed, "batches", epoch))):
            if index >= start:
                yield self._batch(rows, epoch)

    def plain(self) -> Iterator[Batch]:
        """Yield all strings as they stand, with all conditions, shortest first."""
        by_length = np.argsort(self.lengths, kind="stable")
        for start in range(0, len(by_length), self.batch_size):
            rows = by_length[start : start + self.batch_size]
            yield assemble([self.examples[i].ids for i in rows], self.values[rows], self.limit)

    def _groups(self, rng: np.random.Generator) -> list[IntArray]:
        shuffled = rng.permutation(len(self.examples))
        groups: list[IntArray] = []
        step = self.batch_size * _BUCKET
        for start in range(0, len(shuffled), step):
            bucket = shuffled[start : start + step]
            bucket = bucket[np.argsort(self.lengths[bucket], kind="stable")]
            groups += [bucket[i : i + self.batch_size] for i in range(0, len(bucket), self.batch_size)]
        return [groups[i] for i in rng.permutation(len(groups))]

    def _batch(self, rows: IntArray, epoch: int) -> Batch:
        strings, values = [], self.values[rows].copy()
        for position, row in enumerate(rows.tolist()):
            rng = keyed_rng(self.seed, f"example-{epoch}", row)
            strings.append(self._spelled(row, rng))
            hidden = rng.random(values.shape[1] + 1) < self.dropout
            values[position, hidden[1:] | hidden[0]] = np.nan
        return assemble(strings, values, self.limit)

    def _spelled(self, row: int, rng: np.random.Generator) -> IntArray:
        if self.augment == "none":
            return self.examples[row].ids
        return self.tokenizer.spell(respell(self.examples[row].net, self.order, self.augment, rng), self.prefix)
