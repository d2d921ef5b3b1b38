"""Nequix, evaluated for many crystals at once; weights from the published ``.nqx`` files.

Koker et al., arXiv:2508.16067; the variant MP-1 PFT is fine-tuned on second derivatives of the energy, which makes its
phonons and thermal conductivities good. The published package is not needed (it needs jax).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.errors import CorruptWeights
from crysgen_aiida.physics.nequix_weights import checkpoint_path, read_nqx

if TYPE_CHECKING:
    import torch

    from crysgen_aiida.physics.equivariant import EquivariantBatch, Network

__all__ = ["checkpoint_path", "load"]


def load(device: str = "cpu", path: Path | None = None, double: bool = False) -> EquivariantBatch:
    """Return Nequix with the weights of a file.

    :param double: compute in double precision.
    :raises NotInstalled: if there are no weights, or e3nn is missing.
    :raises CorruptWeights: if the file cannot be read or holds another architecture.
    """
    from crysgen_aiida.physics.equivariant import EquivariantBatch

    path = path or checkpoint_path()
    settings, arrays = read_nqx(path)
    try:
        return EquivariantBatch(_network(settings, arrays, device, double), device)
    except (KeyError, IndexError, StopIteration, ValueError, RuntimeError) as error:
        raise CorruptWeights(
            f"{path.name} holds another architecture than Nequix 0.4's ({type(error).__name__}: {error})."
        ) from error


def _network(settings: dict[str, Any], arrays: list[Any], device: str, double: bool) -> Network:
    import torch
    from e3nn import o3

    from crysgen_aiida.physics.convolution import make_paths
    from crysgen_aiida.physics.equivariant import Layer, Network, polynomial_envelope

    like = torch.zeros((), dtype=torch.float64 if double else torch.float32, device=device)
    if settings["index_weights"] or not settings["layer_norm"]:
        raise ValueError("index_weights or no layer_norm")
    hidden = [ir.mul for ir in o3.Irreps(settings["hidden_irreps"])]  # channels of degree 0, 1, ...
    n_species, lmax, n_layers = len(settings["atomic_numbers"]), settings["lmax"], settings["n_layers"]
    left = iter(torch.from_numpy(a).double() for a in arrays)

    def fan(count: int) -> list[torch.Tensor]:
        return [(w / math.sqrt(w.shape[0])).to(like) for w in (next(left) for _ in range(count))]

    shift = next(left).numpy() + settings["shift"]
    layers = []
    for k in range(n_layers):
        channels = [n_species] if k == 0 else hidden
        out = len(hidden) if k < n_layers - 1 else 1
        paths = make_paths(
            channels, lmax, out - 1, lambda a, b, c: (a + b + c) % 2 == 0, o3.wigner_3j, by_target=True, like=like
        )
        radial = [next(left).to(like) for _ in range(settings["radial_mlp_layers"] + 1)]
        before, after = fan(len(channels)), fan(out)
        after = [w / math.sqrt(settings["avg_n_neighbors"]) for w in after]
        skip: list[torch.Tensor | None] = [*fan(min(len(channels), out))]
        norm = [next(left).to(like) for _ in range(out)]
        layers.append(Layer(before, radial, paths, after, skip, _silu_constant(), norm))
    readout = fan(1)[0]
    if next(left, None) is not None:
        raise ValueError("arrays are left over")
    species = np.full(120, -1, dtype=np.int64)
    species[settings["atomic_numbers"]] = np.arange(n_species)
    return Network(
        cutoff=settings["cutoff"],
        lmax=lmax,
        envelope=polynomial_envelope(settings["cutoff"], settings["radial_polynomial_p"]),
        frequencies=math.pi * torch.arange(1, settings["radial_basis_size"] + 1).to(like) / settings["cutoff"],
        species=species,
        embedding=torch.eye(n_species).to(like),
        layers=layers,
        readout=readout,
        scale=torch.full((n_species,), settings["scale"]).to(like),
        shift=shift,
    )


def _silu_constant() -> float:
    """Return what normalises silu of a standard normal variable, by the quantiles that e3nn-jax uses."""
    from scipy.special import erfinv

    x = np.sqrt(2.0) * erfinv(np.linspace(-1.0, 1.0, 1_000_003)[1:-1])
    return float(np.mean((x / (1.0 + np.exp(-x))) ** 2) ** -0.5)
