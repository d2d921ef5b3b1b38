"""The network of FTCP: a variational autoencoder of one-dimensional convolutions with branches that read properties.

Z. Ren et al., Matter 5, 314 (2022). Shapes are noted as B rows, L rows of a matrix (the length that is convolved over),
C its columns, Z latent dimensions, P properties. Convolutions pad as keras does (``SAME``), weights start as there
(Glorot uniform, biases 0); batch normalisation has keras' momentum and epsilon (:class:`ModelSpec`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor, nn

from crysgen_aiida.generators.ftcp.spec import ModelSpec

_KERNELS, _STRIDES = (5, 3, 3), (2, 2, 1)
_SLOPE = 0.2  # of the leaky ReLUs


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros that keras puts before and after ``length`` numbers: the odd one comes last."""
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


class SameConv(nn.Conv1d):
    """A convolution whose output has ceil(length / stride) numbers."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, same_padding(input.shape[-1], self.kernel_size[0], self.stride[0])))


class SameConvTransposed(nn.ConvTranspose1d):
    """The transpose of :class:`SameConv`: its output has length * stride numbers."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        length = input.shape[-1] * stride
        before, _ = same_padding(length, kernel, stride)
        whole = super().forward(input, output_size)  # (B, C, (length / stride - 1) * stride + kernel)
        return F.pad(whole, (0, max(0, before + length - whole.shape[-1])))[..., before : before + length]


class Encoder(nn.Module):
    """From matrices to the mean and the logarithm of the variance of their latent points."""

    def __init__(self, rows: int, columns: int, spec: ModelSpec) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = columns
        for filters, kernel, stride in zip(spec.filters, _KERNELS, _STRIDES, strict=True):
            layers += [SameConv(channels, filters, kernel, stride), _norm(filters, spec), nn.LeakyReLU(_SLOPE)]
            channels = filters
        activation = nn.Sigmoid() if spec.dense_activation == "sigmoid" else nn.LeakyReLU(_SLOPE)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (rows // 4), spec.dense), activation)
        self.mean = nn.Linear(spec.dense, spec.latent)
        self.log_variance = nn.Linear(spec.dense, spec.latent)

    def forward(self, matrices: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(matrices.transpose(1, 2))  # (B, L, C) -> (B, C, L) -> (B, dense)
        return self.mean(hidden), self.log_variance(hidden)  # (B, Z) each


class Decoder(nn.Module):
    """From latent points to matrices, before the last activation."""

    def __init__(self, rows: int, columns: int, spec: ModelSpec) -> None:
        super().__init__()
        first, second, third = spec.filters
        self.shape = (third, rows // 4)
        self.dense = nn.Linear(spec.latent, third * (rows // 4))
        self.body = nn.Sequential(
            _norm(third, spec), SameConvTransposed(third, second, 3), _norm(second, spec), nn.ReLU(),
            SameConvTransposed(second, first, 3, stride=2), _norm(first, spec), nn.ReLU(),
            SameConvTransposed(first, columns, 5, stride=2),
        )  # fmt: skip

    def forward(self, points: Tensor) -> Tensor:
        hidden = F.relu(self.dense(points)).unflatten(1, self.shape)  # (B, Z) -> (B, filters, L / 4)
        logits: Tensor = self.body(hidden).transpose(1, 2)  # (B, L, C)
        return logits


class Branch(nn.Sequential):
    """From latent points to properties scaled to 0..1."""

    def __init__(self, properties: int, spec: ModelSpec) -> None:
        wide, narrow = spec.branch
        super().__init__(
            nn.ReLU(), nn.Linear(spec.latent, wide), nn.ReLU(), nn.Linear(wide, narrow), nn.ReLU(),
            nn.Linear(narrow, properties), nn.Sigmoid(),
        )  # fmt: skip


class Vae(nn.Module):
    """Encoder, decoder and the branches: one for the labels every row has, one for those that some have.

    :param rows: of a matrix, a multiple of 4.
    :param columns: of a matrix.
    :param targets: number of labels that every row has.
    :param sparse: number of the others.
    """

    def __init__(self, rows: int, columns: int, targets: int, sparse: int, spec: ModelSpec) -> None:
        super().__init__()
        self.encoder = Encoder(rows, columns, spec)
        self.decoder = Decoder(rows, columns, spec)
        self.branches = nn.ModuleList(Branch(count, spec) for count in (targets, sparse) if count)
        self.apply(_start)

    def properties(self, points: Tensor) -> Tensor:
        """Return the properties (B, P), scaled to 0..1, of latent points (B, Z): those of every row first."""
        read = [branch(points) for branch in self.branches]
        return torch.cat(read, dim=1) if read else points[:, :0]


def _norm(channels: int, spec: ModelSpec) -> nn.BatchNorm1d:
    # what torch calls momentum is the share of the new batch, keras means that of the old statistics
    return nn.BatchNorm1d(channels, eps=spec.norm_epsilon, momentum=1 - spec.norm_momentum)


def _start(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.ConvTranspose1d)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
