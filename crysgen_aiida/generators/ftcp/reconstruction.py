"""How well a matrix is reconstructed, and what a reconstruction says.

The decoder gives numbers without bounds, one for each entry of a matrix whose rows are scaled to 0..1. ``squared`` is
the published form: a sigmoid, and the squared error of every entry. ``blocks`` reads each block as what it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor

from crysgen_aiida.generators.ftcp.spec import LossSpec
from crysgen_aiida.representations.ftcp.layout import layout
from crysgen_aiida.representations.ftcp.spec import FtcpSpec


class Reconstruction:
    """Loss and reading of reconstructed matrices.

    :param representation: where what lies in a matrix.
    :param spec: which form of the loss, and its weights.
    """

    def __init__(self, representation: FtcpSpec, spec: LossSpec) -> None:
        self.at, self.spec = layout(representation), spec

    def loss(self, logits: Tensor, matrices: Tensor) -> Tensor:
        """Return the weighted loss, summed over the batch.

        :param logits: (B, rows, columns) what the decoder gives.
        :param matrices: (B, rows, columns) scaled to 0..1.
        """
        if self.spec.reconstruction == "squared":
            return (logits.sigmoid() - matrices).square().sum()
        return (
            self._element_loss(logits, matrices)
            + self._site_loss(logits, matrices)
            + self._number_loss(logits, matrices)
        )

    def scores(self, logits: Tensor) -> Tensor:
        """Return the reconstructed matrices, scaled to 0..1: one-hot blocks hold scores between 0 and 1.

        In ``blocks`` a site that is most likely empty scores 0 for all elements.
        """
        found = logits.sigmoid()
        if self.spec.reconstruction == "squared":
            return found
        at = self.at
        found[:, at.elements, at.species] = logits[:, at.elements, at.species].softmax(dim=1)
        shares = _with_empty(logits[:, at.occupancy, at.species]).softmax(dim=-1)  # (B, sites, columns + 1)
        empty = shares.argmax(dim=-1, keepdim=True) == shares.shape[-1] - 1
        found[:, at.occupancy, at.species] = shares[..., :-1].masked_fill(empty, 0.0)
        return found

    def _element_loss(self, logits: Tensor, matrices: Tensor) -> Tensor:
        """Cross entropy of the element of each column that has one."""
        at = self.at
        truth = matrices[:, at.elements, at.species].transpose(1, 2)  # (B, columns, 103)
        shares = logits[:, at.elements, at.species].transpose(1, 2).log_softmax(dim=-1)
        return -self.spec.elements * (truth * shares).sum()

    def _site_loss(self, logits: Tensor, matrices: Tensor) -> Tensor:
        """Cross entropy of the column each site belongs to, or of its being empty; errors of the coordinates."""
        at, spec = self.at, self.spec
        truth = matrices[:, at.occupancy, at.species]  # (B, sites, columns)
        there = truth.sum(dim=-1, keepdim=True)  # (B, sites, 1)
        shares = _with_empty(logits[:, at.occupancy, at.species]).log_softmax(dim=-1)
        occupancy = -(torch.cat([truth, 1 - there], dim=-1) * shares).sum()
        errors = (logits[:, at.coords, at.xyz].sigmoid() - matrices[:, at.coords, at.xyz]).square() * there
        return spec.occupancy * occupancy + spec.coordinates * errors.sum()

    def _number_loss(self, logits: Tensor, matrices: Tensor) -> Tensor:
        """Squared errors of lattice, atom vectors and reciprocal features."""
        at, spec = self.at, self.spec
        lattice = slice(at.lengths, at.angles + 1)
        reciprocal = slice(at.distance, at.properties.stop)
        blocks = (
            (spec.lattice, lattice, at.xyz),
            (spec.properties, at.properties, at.species),
            (spec.reciprocal, reciprocal, at.right),
        )
        errors = [
            weight * F.mse_loss(logits[:, rows, columns].sigmoid(), matrices[:, rows, columns], reduction="sum")
            for weight, rows, columns in blocks
        ]
        return torch.stack(errors).sum()


def _with_empty(logits: Tensor) -> Tensor:
    """Return logits (B, sites, columns) with those of an empty site, which are 0, beside them."""
    return torch.cat([logits, torch.zeros_like(logits[..., :1])], dim=-1)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of each row and dimension from a unit Gaussian [nats], (B, Z)."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp())
