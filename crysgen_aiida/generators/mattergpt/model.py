"""The transformer of MatterGPT: decoder only, properties as a prefix, with a key-value cache for sampling.

Y. Chen et al., arXiv:2408.07608 (2024). Shapes are noted as B rows, P prefix positions (one a condition), T tokens,
H heads, C width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor, nn

from crysgen_aiida.generators.mattergpt.reading import NetReader
from crysgen_aiida.generators.mattergpt.spec import ModelSpec
from crysgen_aiida.generators.mattergpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class ConditionShape:
    """What the network must know of a condition: its name, and the number of categories (0: a number)."""

    name: str
    categories: int = 0


class Cache:
    """Keys and values of the positions seen so far, for every layer, in memory that grows by whole blocks.

    With them goes the reader of the strings, where the model has one.
    """

    GROWTH = 64

    def __init__(self, spec: ModelSpec, rows: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (spec.layers, 2, rows, spec.heads, 0, spec.width // spec.heads)
        self.memory = torch.empty(shape, device=device, dtype=dtype)  # (layer, k or v, B, H, room, C / H)
        self.length = 0
        self.reader: NetReader | None = None

    def reserve(self, positions: int) -> None:
        """Make room for so many more positions."""
        room = self.memory.shape[4]
        if self.length + positions > room:
            shape = list(self.memory.shape)
            shape[4] = -(-(self.length + positions) // self.GROWTH) * self.GROWTH
            larger = self.memory.new_empty(shape)
            larger[:, :, :, :, : self.length] = self.memory[:, :, :, :, : self.length]
            self.memory = larger

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append the new positions of a layer; return all of them, each (B, H, length + T, C / H)."""
        end = self.length + k.shape[2]
        held = self.memory[layer]
        held[0, :, :, self.length : end] = k
        held[1, :, :, self.length : end] = v
        return held[0, :, :, :end], held[1, :, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these."""
        self.memory = self.memory[:, :, rows]
        if self.reader is not None:
            self.reader.keep(rows.cpu().numpy())


class Attention(nn.Module):
    """Causal self-attention with several heads."""

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        self.heads, self.dropout, self.layer = spec.heads, spec.attention_dropout, layer
        self.qkv = nn.Linear(spec.width, 3 * spec.width)
        self.out = nn.Linear(spec.width, spec.width)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.heads, C // self.heads).transpose(1, 2) for part in self.qkv(x).split(C, dim=2)
        )  # each (B, H, T, C / H)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        with attention_precision(x.device.type):
            if x.device.type == "cpu":
                q, k, v = q.float(), k.float(), v.float()
            # with a cache, T is either the whole start (nothing cached before) or one token, which may see everything
            y = F.scaled_dot_product_attention(
                q, k, v, is_causal=T > 1, dropout_p=self.dropout if self.training else 0.0
            )  # (B, H, T, C / H)
        return self.out(y.transpose(1, 2).reshape(B, T, C))  # (B, T, C)


def attention_precision(device: str) -> AbstractContextManager[Any]:
    """On CPUs attention is computed in float32: the bf16 kernel's backward pass takes twice as long there."""
    return torch.autocast("cpu", enabled=False) if device == "cpu" else nullcontext()


class Block(nn.Module):
    """A pre-LN transformer block."""

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(spec.width), nn.LayerNorm(spec.width)
        self.attention = Attention(spec, layer)
        self.up = nn.Linear(spec.width, 4 * spec.width)
        self.down = nn.Linear(4 * spec.width, spec.width)
        self.drop = nn.Dropout(spec.dropout)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        x = x + self.drop(self.attention(self.norm_1(x), cache))  # (B, T, C)
        return x + self.drop(self.down(F.gelu(self.up(self.norm_2(x)))))  # (B, T, C)


class NumberCondition(nn.Module):
    """A prefix vector for a scalar condition; a missing value (NaN) has a learned vector of its own."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width = spec.width
        linear = nn.Linear(1, width)
        self.encode = (
            linear if spec.condition_encoder == "linear" else nn.Sequential(linear, nn.GELU(), nn.Linear(width, width))
        )
        self.missing = nn.Parameter(torch.zeros(width))

    def forward(self, value: Tensor) -> Tensor:
        absent = torch.isnan(value)  # (B,)
        encoded = self.encode(value.nan_to_num(0.0).unsqueeze(1))  # (B, C)
        return torch.where(absent.unsqueeze(1), self.missing.to(encoded.dtype), encoded)  # (B, C)


class CategoryCondition(nn.Module):
    """A prefix vector for each category; the last row of the table is the missing one."""

    def __init__(self, categories: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(categories + 1, width)

    def forward(self, value: Tensor) -> Tensor:
        missing = self.table.num_embeddings - 1
        return self.table(value.nan_to_num(float(missing)).long())  # (B, C)


class Transformer(nn.Module):
    """The language model.

    :param spec: sizes.
    :param tokenizer: what the tokens mean; there are V of them.
    :param conditions: what the prefix holds, in order.
    """

    def __init__(self, spec: ModelSpec, tokenizer: Tokenizer, conditions: Sequence[ConditionShape]) -> None:
        super().__init__()
        self.spec, self.tokenizer, self.conditions = spec, tokenizer, tuple(conditions)
        vocabulary = len(tokenizer)
        self.tokens = nn.Embedding(vocabulary, spec.width)
        self.positions = nn.Embedding(spec.block_size, spec.width)
        self.features = nn.Linear(NetReader.width(tokenizer), spec.width, bias=False) if spec.net_features else None
        self.prefix = nn.ModuleDict(
            {
                c.name: CategoryCondition(c.categories, spec.width) if c.categories else NumberCondition(spec)
                for c in conditions
            }
        )
        self.drop = nn.Dropout(spec.dropout)
        self.blocks = nn.ModuleList(Block(spec, layer) for layer in range(spec.layers))
        self.norm = nn.LayerNorm(spec.width)
        self.head = nn.Linear(spec.width, vocabulary, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 or name.endswith("missing"):
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            # projections that write into the residual stream start smaller, as in GPT-2
            if name.endswith(("out.weight", "down.weight")):
                with torch.no_grad():
                    parameter.mul_((2 * self.spec.layers) ** -0.5)

    @property
    def n_parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(p.numel() for p in self.parameters())

    def embed_conditions(self, values: Tensor) -> Tensor:
        """Return the prefix (B, P, C) of condition values (B, P), NaN where a condition is missing."""
        columns = [self.prefix[c.name](values[:, i]) for i, c in enumerate(self.conditions)]
        return torch.stack(columns, dim=1) if columns else values.new_zeros((len(values), 0, self.spec.width))

    def read(self, tokens: Tensor, cache: Cache | None) -> Tensor:
        """Return what the strings so far say beside each token, shape (B, T, F); a cached reader goes on."""
        reader = cache.reader if cache is not None else None
        if reader is None:
            reader = NetReader(self.tokenizer, len(tokens))
        if cache is not None:
            cache.reader = reader
        return torch.from_numpy(reader.read(tokens.cpu().numpy())).to(tokens.device)

    def forward(self, tokens: Tensor, values: Tensor | None, cache: Cache | None = None) -> Tensor:
        """Return the logits of the token after each token.

        :param tokens: (B, T) ids, the start token first.
        :param values: (B, P) condition values; None if the prefix is in the cache already.
        :param cache: what was computed before; it grows by the positions of this call.
        :return: (B, T, V).
        """
        T = tokens.shape[1]
        start = 0 if cache is None or values is not None else cache.length - len(self.conditions)
        x = self.tokens(tokens) + self.positions(torch.arange(start, start + T, device=tokens.device))  # (B, T, C)
        if self.features is not None:
            x = x + self.features(self.read(tokens, cache))  # (B, T, C)
        if values is not None:
            x = torch.cat([self.embed_conditions(values).to(x.dtype), x], dim=1)  # (B, P + T, C)
        x = self.drop(x)
        if cache is not None:
            cache.reserve(x.shape[1])
        for block in self.blocks:
            x = block(x, cache)
        if cache is not None:
            cache.length += x.shape[1]
        return self.head(self.norm(x[:, -T:]))  # (B, T, V)


def summed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy [nats]; targets that are padding (0) do not count.

    :param logits: (B, T, V).
    :param targets: (B, T) ids of the tokens that follow.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=0, reduction="sum")
