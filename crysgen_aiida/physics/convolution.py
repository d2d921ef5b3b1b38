"""Messages between the atoms of pairs: features times spherical harmonics times radial weights, summed at each atom.

For a path from degree ``l1`` by the harmonics of degree ``l2`` to degree ``l3``, channel ``u`` of the message is
``w[u] * sum_{m1 m2} C[m1 m2 m3] x[m1 u] Y[m2]`` ("uvu" in e3nn): no channels are mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    Tensor = torch.Tensor

#: Numbers of a block of messages that are made and summed while they are in the cache.
BLOCK = 400_000


@dataclass(frozen=True)
class Source:
    """What is sent by features of one degree.

    :param coefficients: Clebsch-Gordan coefficients with the harmonics, ((lmax + 1)^2, K (2 l1 + 1)), where K is the
        number of components of all paths.
    :param columns: of the radial weights that belong to it, (paths * channels,), a path's channels together.
    :param n_paths: number of paths.
    :param path_of: path of each component, (K,).
    :param sign: of each component when the vector is reversed, (K, 1).
    :param spans: for each path its degree l3 and the span of its components.
    """

    coefficients: Tensor
    columns: Tensor
    n_paths: int
    path_of: Tensor
    sign: Tensor
    spans: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Paths:
    """All paths of a convolution, one source a degree; ``order`` says how what arrives is laid out.

    :param order: for each degree out, the paths (source, position in it) whose channels follow each other.
    """

    sources: tuple[Source, ...]
    order: tuple[tuple[tuple[int, int], ...], ...]


def make_paths(
    channels: Sequence[int],
    lmax: int,
    out: int,
    allowed: Callable[[int, int, int], bool],
    clebsch_gordan: Callable[[int, int, int], Tensor],
    by_target: bool,
    like: Tensor,
) -> Paths:
    """Return the paths from features to features, in the order of the published codes.

    :param channels: channels of each degree of the features.
    :param lmax: highest degree of the harmonics.
    :param out: highest degree of the features out.
    :param allowed: whether a path l1, l2, l3 exists.
    :param clebsch_gordan: coefficients (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) of unit norm.
    :param by_target: whether the radial weights are laid out by l3 first; otherwise by l1, then l2.
    :param like: whose dtype and device the arrays get.
    """
    paths = [
        (l1, l2, l3)
        for l1 in range(len(channels))
        for l2 in range(lmax + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, out) + 1)
        if allowed(l1, l2, l3)
    ]
    columns, begin = {}, 0
    for path in sorted(paths, key=lambda p: p[2]) if by_target else paths:
        columns[path] = torch.arange(begin, begin + channels[path[0]])
        begin += channels[path[0]]
    sources = tuple(
        _source([p for p in paths if p[0] == l1], lmax, columns, clebsch_gordan, like) for l1 in range(len(channels))
    )
    order = tuple(
        tuple((s, k) for s, source in enumerate(sources) for k, span in enumerate(source.spans) if span[0] == l3)
        for l3 in range(out + 1)
    )
    return Paths(sources, order)


def _source(
    paths: list[tuple[int, int, int]],
    lmax: int,
    columns: dict[tuple[int, int, int], Tensor],
    clebsch_gordan: Callable[[int, int, int], Tensor],
    like: Tensor,
) -> Source:
    l1 = paths[0][0]
    total = sum(2 * l3 + 1 for _, _, l3 in paths)
    table = torch.zeros(((lmax + 1) ** 2, total, 2 * l1 + 1), dtype=torch.float64)
    spans, path_of, sign, begin = [], [], [], 0
    for k, (_, l2, l3) in enumerate(paths):
        end = begin + 2 * l3 + 1
        # components are normalised to unit variance, hence sqrt(2 l3 + 1)
        table[l2 * l2 : (l2 + 1) ** 2, begin:end] = clebsch_gordan(l1, l2, l3).double().permute(1, 2, 0) * (
            (2 * l3 + 1) ** 0.5
        )
        spans.append((l3, begin, end))
        path_of += [k] * (2 * l3 + 1)
        sign += [float((-1) ** l2)] * (2 * l3 + 1)
        begin = end
    return Source(
        coefficients=table.reshape((lmax + 1) ** 2, -1).to(like),
        columns=torch.cat([columns[p] for p in paths]).to(like.device),
        n_paths=len(paths),
        path_of=torch.tensor(path_of, device=like.device),
        sign=torch.tensor(sign).to(like)[:, None],
        spans=tuple(spans),
    )


def convolve(
    features: list[Tensor], harmonics: Tensor, weights: Tensor, i: Tensor, j: Tensor, paths: Paths
) -> list[Tensor]:
    """Return what arrives at each atom, one entry a degree, (N, 2 l + 1, channels of all paths to l).

    :param features: of the atoms, one entry a degree, (N, 2 l + 1, channels).
    :param harmonics: of the vectors from i to j, (U, (lmax + 1)^2).
    :param weights: of each pair, (U, sum of channels over paths).
    """
    arrived = []
    for x, source in zip(features, paths.sources, strict=True):
        turned = (harmonics @ source.coefficients).view(len(i), len(source.path_of), x.shape[1])  # (U, K, 2 l1 + 1)
        weight = weights.index_select(1, source.columns).view(len(i), source.n_paths, x.shape[2])
        arrived.append(_Messages.apply(x, turned, weight, i, j, source))  # type: ignore[no-untyped-call]
    out = []
    for members in paths.order:
        parts = [arrived[s][:, slice(*paths.sources[s].spans[k][1:])] for s, k in members]
        out.append(torch.cat(parts, dim=2))
    return out


class _Messages(torch.autograd.Function):
    """Sum over both directions of all pairs, block by block; nothing but the arguments is kept for the derivative."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, turned: Tensor, weight: Tensor, i: Tensor, j: Tensor, source: Source
    ) -> Tensor:
        ctx.save_for_backward(x, turned, weight, i, j)
        ctx.source = source
        total = x.new_zeros((len(x), turned.shape[1], x.shape[2]))
        blocks = _Blocks(turned, x)
        for part in blocks.parts:
            w = blocks.take(0, weight[part], source.path_of, dim=1)
            for target, sender, sign in ((i[part], j[part], None), (j[part], i[part], source.sign)):
                signed = turned[part] if sign is None else turned[part] * sign
                messages = blocks.multiply(1, signed, x.index_select(0, sender))
                total.index_add_(0, target, messages.mul_(w))
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, turned, weight, i, j = ctx.saved_tensors
        source = ctx.source
        upstream = upstream.contiguous()
        dx, da, dw = torch.zeros_like(x), torch.empty_like(turned), torch.empty_like(weight)
        blocks = _Blocks(turned, x)
        for part in blocks.parts:
            w = blocks.take(0, weight[part], source.path_of, dim=1)
            for target, sender, sign in ((i[part], j[part], None), (j[part], i[part], source.sign)):
                signed = turned[part] if sign is None else turned[part] * sign
                sent = x.index_select(0, sender)
                felt = blocks.take(1, upstream, target, dim=0)  # (block, K, channels)
                product = blocks.multiply(2 if sign is None else 3, signed, sent).mul_(felt)
                felt.mul_(w)
                dx.index_add_(0, sender, torch.bmm(signed.transpose(1, 2), felt))
                back = torch.bmm(felt, sent.transpose(1, 2))
                da[part] = back if sign is None else back.mul_(sign).add_(da[part])
            product = product.add_(blocks.held(2, len(w)))
            for k, (_, first, last) in enumerate(source.spans):
                torch.sum(product[:, first:last], dim=1, out=dw[part, k])
        return dx, da, dw, None, None, None


class _Blocks:
    """Blocks of pairs, and memory that is used again from block to block."""

    def __init__(self, turned: Tensor, x: Tensor) -> None:
        self.shape = (turned.shape[1], x.shape[2])  # components, channels
        n_pairs, size = len(turned), max(1, BLOCK // (self.shape[0] * self.shape[1]))
        self.parts = [slice(begin, min(begin + size, n_pairs)) for begin in range(0, n_pairs, size)]
        self.memory = [x.new_empty((min(size, n_pairs), *self.shape)) for _ in range(4)]

    def held(self, which: int, n: int) -> Tensor:
        return self.memory[which][:n]

    def take(self, which: int, rows: Tensor, index: Tensor, dim: int) -> Tensor:
        n = len(rows) if dim else len(index)
        return torch.index_select(rows, dim, index, out=self.held(which, n))

    def multiply(self, which: int, a: Tensor, b: Tensor) -> Tensor:
        return torch.bmm(a, b, out=self.held(which, len(a)))
