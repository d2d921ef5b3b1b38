"""SevenNet, evaluated for many crystals at once, with the weights of the published wheel.

Park et al., J. Chem. Theory Comput. 20, 4857 (2024). Only the checkpoints are read from the package (GPL-3), as tensors
and plain values; its code is not run. Energies are those of the trajectories of the Materials Project without
corrections: they may be compared with each other, not with the Materials Project's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.errors import CorruptWeights, NotInstalled
from crysgen_aiida.physics.checkpoints import read_checkpoint

if TYPE_CHECKING:
    import torch

    from crysgen_aiida.physics.equivariant import EquivariantBatch, Layer, Network

    Tensor = torch.Tensor

_FILES = {
    "l3i5": "SevenNet_l3i5/checkpoint_l3i5.pth",
    "0": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
}
#: What the functional form assumes of a checkpoint.
_ASSUMED = {
    "is_parity": False,
    "act_radial": "silu",
    "self_connection_type": "linear",
    "interaction_type": "nequip",
    "_normalize_sph": True,
    "use_bias_in_linear": False,
    "readout_as_fcn": False,
}


def checkpoint_path(model: str = "l3i5") -> Path:
    """Return the checkpoint inside the installed wheel.

    :param model: ``l3i5`` or ``0``.
    :raises NotInstalled: if SevenNet is not installed where the worker runs.
    """
    spec = find_spec("sevenn")
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalled("The potential 'sevennet' is not installed here; run `pip install 'sevenn>=0.11'`.")
    return Path(next(iter(spec.submodule_search_locations))) / "pretrained_potentials" / _FILES[model]


def load(device: str = "cpu", model: str = "l3i5", double: bool = False) -> EquivariantBatch:
    """Return SevenNet, ready to evaluate.

    :param model: ``l3i5`` or ``0``.
    :param double: compute in double precision.
    :raises NotInstalled: if SevenNet is not installed.
    :raises CorruptWeights: if the checkpoint cannot be read or is of another architecture.
    """
    import torch

    from crysgen_aiida.physics.equivariant import EquivariantBatch

    path = checkpoint_path(model)
    reconstruct: Any = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
    # under the name of numpy 1, by which the published files hold it, and of numpy 2
    places = [(reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    numbers = [np.ndarray, np.dtype, *places]
    numbers += [type(np.dtype(t)) for t in (np.float32, np.float64)]
    state = read_checkpoint(path, "cpu", "sevenn", numbers)
    like = torch.zeros((), dtype=torch.float64 if double else torch.float32, device=device)
    try:
        return EquivariantBatch(_network(state["config"], state["model_state_dict"], like), device)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise CorruptWeights(
            f"The checkpoint {path.name} is of another architecture ({type(error).__name__}: {error}); "
            "install sevenn>=0.11,<0.14."
        ) from error


def _network(config: dict[str, Any], weights: dict[str, Tensor], like: Tensor) -> Network:
    import torch
    from e3nn import o3
    from e3nn.math import normalize2mom

    from crysgen_aiida.physics.equivariant import Network

    wrong = [k for k, v in _ASSUMED.items() if config.get(k, v) != v]
    if wrong:
        raise ValueError(f"it differs in {', '.join(wrong)}")
    act = float(normalize2mom(torch.nn.functional.silu).cst)
    shapes = [[ir.mul for ir in o3.Irreps(text)] for text in config["irreps_manual"]]  # channels of degree 0, 1, ...
    species = np.full(120, -1, dtype=np.int64)
    species[list(config["_type_map"])] = list(config["_type_map"].values())
    n_species = len(config["_type_map"])
    hidden = weights["reduce_input_to_hidden.linear.weight"].double().reshape(shapes[-1][0], -1)
    last = weights["reduce_hidden_to_energy.linear.weight"].double()
    embedding = weights["onehot_to_feature_x.linear.weight"].double().reshape(n_species, -1)
    return Network(
        cutoff=config["cutoff"],
        lmax=config["lmax"],
        envelope=_envelope(config),
        frequencies=weights["edge_embedding.basis_function.coeffs"].to(like),
        species=species,
        embedding=(embedding / math.sqrt(n_species)).to(like),
        layers=[
            _layer(k, shapes[k], shapes[k + 1], config["lmax"], weights, act, like)
            for k in range(config["num_convolution_layer"])
        ],
        readout=((hidden @ last[:, None]) / math.sqrt(hidden.numel())).to(like),
        scale=weights["rescale_atomic_energy.scale"].to(like),
        shift=weights["rescale_atomic_energy.shift"].double().numpy(),
    )


def _layer(
    k: int, channels: list[int], out: list[int], lmax: int, weights: dict[str, Tensor], act: float, like: Tensor
) -> Layer:
    """Return the interaction ``k``; checkpoints before 0.11 lay radial weights out by source."""
    from e3nn import o3

    from crysgen_aiida.physics.convolution import make_paths
    from crysgen_aiida.physics.equivariant import Layer

    def clebsch_gordan(l1: int, l2: int, l3: int) -> Tensor:
        # the signs with which it was trained are in the checkpoint
        kept = weights.get(f"{k}_convolution.convolution._compiled_main_left_right._w3j_{l1}_{l2}_{l3}")
        return o3.wigner_3j(l1, l2, l3) if kept is None else kept

    def linear(name: str, rows: list[int], columns: list[int]) -> list[Tensor]:
        flat = weights[f"{k}_{name}.linear.weight"].double()
        shapes = list(zip(rows, columns, strict=False))
        blocks = flat.split([a * b for a, b in shapes])
        return [(w.reshape(a, b) / math.sqrt(a)) for w, (a, b) in zip(blocks, shapes, strict=True)]

    paths = make_paths(channels, lmax, len(out) - 1, lambda *_: True, clebsch_gordan, by_target=False, like=like)
    gated = [out[0] + sum(out[1:]), *out[1:]]
    arriving = [sum(channels[s] for s, _ in members) for members in paths.order]
    denominator = float(weights[f"{k}_convolution.denominator"])
    radial = [weights[f"{k}_convolution.weight_nn.layer{n}.weight"].double() for n in range(3)]
    radial = [w / math.sqrt(w.shape[0]) * (1.0 if n == 0 else act) for n, w in enumerate(radial)]
    skip: list[Tensor | None] = [w.to(like) for w in linear("self_connection_intro", channels, gated)]
    return Layer(
        before=[w.to(like) for w in linear("self_interaction_1", channels, channels)],
        radial=[w.to(like) for w in radial],
        paths=paths,
        after=[(w / denominator).to(like) for w in linear("self_interaction_2", arriving, gated)],
        skip=skip,
        act=act,
    )


def _envelope(config: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    cutoff, settings = float(config["cutoff"]), config["cutoff_function"]
    if settings["cutoff_function_name"] == "poly_cut":
        from crysgen_aiida.physics.equivariant import polynomial_envelope

        return polynomial_envelope(cutoff, settings["poly_cut_p_value"])
    if settings["cutoff_function_name"] != "XPLOR":
        raise ValueError(f"its cutoff function is {settings['cutoff_function_name']}")
    on2, cut2 = float(settings["cutoff_on"]) ** 2, cutoff**2

    def xplor(lengths: Tensor) -> Tensor:
        r2 = lengths * lengths
        switched = (cut2 - r2) ** 2 * (cut2 + 2 * r2 - 3 * on2) / (cut2 - on2) ** 3
        return switched.where(r2 >= on2, switched.new_ones(()))

    return xplor
