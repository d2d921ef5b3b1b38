"""Drawing strings: temperature, top-k, top-p, classifier-free guidance and the grammar, with a key-value cache.

Random numbers belong to a row and a step, not to a batch: neither the batch size nor a resumption changes a string.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crysgen_aiida.crystals.run import Run, keyed_rng
from crysgen_aiida.generators.mattergpt.grammar import Constraint, Grammar, Row
from crysgen_aiida.generators.mattergpt.model import Cache, Transformer
from crysgen_aiida.generators.mattergpt.spec import SamplingSpec
from crysgen_aiida.generators.mattergpt.tokenizer import END, PAD, START, Tokenizer
from crysgen_aiida.generators.memory import memory_guard

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Steps for which random numbers are drawn at once.
_CHUNK = 32


@dataclass(frozen=True)
class Drawn:
    """One string: its ids, end token included if it came, and how likely the model found it."""

    ids: list[int]
    ended: bool
    log_probability: float  #: sum over tokens, of the distribution drawn from before top-k and top-p, in nats


class Noise:
    """Gumbel noise of a set of rows, the same whatever batch a row is in."""

    def __init__(self, seed: int, rows: Sequence[int], vocabulary: int) -> None:
        self._generators = [keyed_rng(seed, "sample", row) for row in rows]
        self._vocabulary = vocabulary
        self._chunks = np.zeros((len(rows), 0, vocabulary), dtype=np.float32)
        self._step = 0

    def next(self) -> npt.NDArray[np.float32]:
        """Return the noise of the next step, shape (B, V)."""
        at = self._step % _CHUNK
        if at == 0:
            shape = (_CHUNK, self._vocabulary)
            uniform = np.stack([g.random(shape, dtype=np.float32) for g in self._generators])
            self._chunks = -np.log(-np.log(np.maximum(uniform, np.float32(1e-20))) + np.float32(1e-20))
        self._step += 1
        return self._chunks[:, at]

    def keep(self, rows: IntArray) -> None:
        """Forget all rows but these."""
        self._generators = [self._generators[i] for i in rows]
        self._chunks = self._chunks[rows]


def choose(
    logits: npt.NDArray[np.float32], noise: npt.NDArray[np.float32] | None, spec: SamplingSpec
) -> tuple[IntArray, FloatArray]:
    """Choose a token for every row by the Gumbel-max trick; forbidden tokens have logit -inf.

    :param logits: (B, V).
    :param noise: (B, V) Gumbel noise; None takes the likeliest token.
    :return: ids (B,) and their log-probabilities (B,).
    """
    scaled = logits.astype(np.float64) / spec.temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    log_p = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    kept = log_p
    if spec.top_k and spec.top_k < kept.shape[1]:
        threshold = -np.partition(-kept, spec.top_k - 1, axis=1)[:, spec.top_k - 1 : spec.top_k]
        kept = np.where(kept >= threshold, kept, -np.inf)
    if spec.top_p < 1:
        order = np.argsort(-kept, axis=1, kind="stable")
        p = np.exp(np.take_along_axis(kept, order, axis=1))
        p /= p.sum(axis=1, keepdims=True)
        # a token stays if those before it do not hold top_p yet, so the likeliest always stays
        outside = np.zeros(kept.shape, dtype=bool)
        np.put_along_axis(outside, order, np.cumsum(p, axis=1) - p >= spec.top_p, axis=1)
        kept = np.where(outside, -np.inf, kept)
    chosen = (kept if noise is None else kept + noise).argmax(axis=1)
    return chosen, np.take_along_axis(log_p, chosen[:, None], axis=1)[:, 0]


class Sampler:
    """Draws strings from a model.

    :param grammar: the mask, or None to draw freely.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, spec: SamplingSpec, grammar: Grammar | None, device: str
    ) -> None:
        self.model = model.to(device).eval()
        self.tokenizer, self.spec, self.grammar = tokenizer, spec, grammar
        self.device = torch.device(device)
        self.max_tokens = min(spec.max_tokens or model.spec.block_size, model.spec.block_size)

    def draw(
        self, rows: range, values: FloatArray, constraints: Sequence[Constraint | None], *, seed: int, run: Run
    ) -> list[Drawn]:
        """Draw the strings of some rows, in batches.

        :param values: (n, P) what the network sees of the conditions of these rows.
        :param constraints: (n,) what their headers must be.
        :raises OutOfMemory: if a batch does not fit; nothing of the part is kept.
        """
        scale = float(getattr(run, "batch_scale", 1.0))
        size = max(1, int(self.spec.batch * scale))
        drawn: list[Drawn] = []
        for start in range(0, len(rows), size):
            which = slice(start, start + size)
            run.check_time()
            with memory_guard("sampling.batch", size):
                drawn += self._batch(rows[which], values[which], constraints[which], seed, run)
        return drawn

    @torch.inference_mode()
    def _batch(
        self, rows: Sequence[int], values: FloatArray, constraints: Sequence[Constraint | None], seed: int, run: Run
    ) -> list[Drawn]:
        n = len(rows)
        ids: list[list[int]] = [[] for _ in rows]
        log_p = np.zeros(n)
        ended = np.zeros(n, dtype=bool)
        state = [self.grammar.row(self.max_tokens, c) for c in constraints] if self.grammar else None
        noise = None if self.spec.greedy else Noise(seed, rows, len(self.tokenizer))
        stream = _Stream(self.model, values, self.spec.guidance, self.device)
        alive = np.arange(n)  # rows of the batch that the model still computes
        tokens = np.full(n, START, dtype=np.int64)
        for step in range(self.max_tokens):
            logits = self._masked(stream.next(tokens), alive, state)
            tokens, chosen_log_p = choose(logits, noise.next() if noise else None, self.spec)
            tokens[ended[alive]] = PAD
            going = ~ended[alive]
            log_p[alive[going]] += chosen_log_p[going]
            for row, token in zip(alive[going].tolist(), tokens[going].tolist(), strict=True):
                ids[row].append(token)
                if state:
                    state[row].push(token)
                ended[row] = token == END
            left = np.flatnonzero(~ended[alive])
            if not len(left):
                break
            # dropping rows costs a copy of the cache, so it waits until a quarter of them has ended
            if len(left) <= 0.75 * len(alive):
                alive, tokens = alive[left], tokens[left]
                stream.keep(left)
                if noise:
                    noise.keep(left)
            if step % 64 == 63:
                run.check_time()
        return [Drawn(ids[i], bool(ended[i]), float(log_p[i])) for i in range(n)]

    def _masked(
        self, logits: npt.NDArray[np.float32], alive: IntArray, state: list[Row] | None
    ) -> npt.NDArray[np.float32]:
        """Forbid special tokens, and with a grammar whatever cannot be completed."""
        logits[:, [PAD, START]] = -np.inf
        if state is not None and self.grammar is not None:
            allowed = self.grammar.mask([state[row] for row in alive.tolist()])
            logits = np.where(allowed, logits, -np.inf).astype(np.float32)
            logits[[state[row].phase == Row.DONE for row in alive.tolist()], PAD] = 0.0
        return logits


class _Stream:
    """The model run token by token, with its cache; guided streams carry every row twice."""

    def __init__(self, model: Transformer, values: FloatArray, guidance: float, device: torch.device) -> None:
        self.model, self.guidance, self.device = model, guidance, device
        asked = torch.tensor(values, dtype=torch.float32, device=device)  # (B, P)
        nothing = torch.full_like(asked, float("nan"))
        anything = bool(np.isfinite(values).any())
        self.guided = anything and guidance not in (0.0, 1.0)
        self.values: Tensor | None = torch.cat([asked, nothing]) if self.guided else nothing if guidance == 0 else asked
        dtype = model.head.weight.dtype
        self.cache = Cache(model.spec, len(self.values), device, dtype)

    def next(self, tokens: IntArray) -> npt.NDArray[np.float32]:
        """Return the logits (B, V) after one more token a row."""
        ids = torch.tensor(tokens, device=self.device).unsqueeze(1)  # (B, 1)
        if self.guided:
            ids = torch.cat([ids, ids])  # (2 B, 1)
        logits = self.model(ids, self.values, self.cache)[:, -1].float()  # (B or 2 B, V)
        self.values = None  # the prefix is in the cache from now on
        if self.guided:
            with_, without = logits.chunk(2)
            logits = without + self.guidance * (with_ - without)  # (B, V)
        return np.array(logits.cpu().numpy(), dtype=np.float32)

    def keep(self, rows: IntArray) -> None:
        """Forget all rows but these."""
        index = torch.tensor(rows, device=self.device)
        if self.guided:
            half = self.cache.memory.shape[2] // 2
            index = torch.cat([index, index + half])
        self.cache.keep(index)
