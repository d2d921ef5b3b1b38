"""Settings of the FTCP generator: frozen dataclasses with our defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from crysgen_aiida.crystals.properties import get_property
from crysgen_aiida.generators.ftcp.constraints import read_constraints, read_tolerances
from crysgen_aiida.generators.row_filter import RowFilter
from crysgen_aiida.generators.settings import require
from crysgen_aiida.representations.ftcp.spec import FtcpSpec


@dataclass(frozen=True)
class ModelSpec:
    """The variational autoencoder, of the published sizes.

    :param filters: channels of the three convolutions (kernels 5, 3, 3; strides 2, 2, 1).
    :param dense: width of the layer between convolutions and latent space.
    :param dense_activation: what follows it: ``sigmoid`` (paper) or ``leaky_relu``.
    :param latent: dimensions of the latent space.
    :param branch: widths of the two hidden layers of a target branch.
    :param norm_momentum: share of the running statistics of a batch normalisation that each batch leaves as it is
        (paper: 0.99, the default of keras; they then lag by epochs while small sets are learned).
    :param norm_epsilon: added to variances; 1e-3 in keras.
    """

    filters: tuple[int, int, int] = (32, 64, 128)
    dense: int = 1024
    dense_activation: str = "leaky_relu"
    latent: int = 256
    branch: tuple[int, int] = (128, 32)
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-3

    def __post_init__(self) -> None:
        require(len(self.filters) == 3, f"model.filters are three numbers, not {self.filters}.")
        require(len(self.branch) == 2, f"model.branch are two numbers, not {self.branch}.")
        require(min(*self.filters, *self.branch, self.dense, self.latent) >= 1, "Every model size must be at least 1.")
        require(
            self.dense_activation in ("sigmoid", "leaky_relu"),
            f"model.dense_activation must be sigmoid or leaky_relu, not {self.dense_activation!r}.",
        )
        require(0 <= self.norm_momentum < 1, f"model.norm_momentum must be in [0, 1), not {self.norm_momentum}.")
        require(self.norm_epsilon > 0, "model.norm_epsilon must be positive.")


@dataclass(frozen=True)
class LossSpec:
    """What is minimised: reconstruction + ``beta`` KL + ``targets`` and ``sparse`` times squared errors of labels.

    :param reconstruction: ``squared`` (paper): the squared errors of all numbers of the matrix, each counting the same,
        so that its 5,487 reciprocal numbers drown the six of the lattice; ``blocks``: cross entropies [nats] of the
        element of each column and of each site (or none), squared errors of the other blocks, weighted as below.
    :param kl: ``mean`` (paper's code): the divergence is averaged over batch and dimensions while all other terms are
        summed, so that ``beta`` is divided by both numbers; ``sum``: summed like the others.
    :param beta: weight of the divergence.
    :param targets: weight of the squared errors of the labels that every row has (paper: lambda).
    :param sparse: the same of labels that some rows have (paper: gamma).
    :param elements: weight of a block in ``blocks``; so are the five that follow.
    :param lattice: of lengths and angles, each scaled to 0..1.
    :param coordinates: of the sites that there are.
    :param properties: of the atom vectors, which follow from the elements.
    :param reciprocal: of distances and structure factors, which follow from the rest.
    """

    reconstruction: str = "blocks"
    kl: str = "sum"
    beta: float = 0.1
    targets: float = 1000.0
    sparse: float = 1000.0
    elements: float = 5.0
    lattice: float = 300.0
    coordinates: float = 30.0
    occupancy: float = 2.0
    properties: float = 1.0
    reciprocal: float = 1.0

    def __post_init__(self) -> None:
        require(
            self.reconstruction in ("squared", "blocks"),
            f"loss.reconstruction must be squared or blocks, not {self.reconstruction!r}.",
        )
        require(self.kl in ("mean", "sum"), f"loss.kl must be mean or sum, not {self.kl!r}.")
        weights = (
            self.beta, self.targets, self.sparse, self.elements, self.lattice, self.coordinates, self.occupancy,
            self.properties, self.reciprocal,
        )  # fmt: skip
        require(min(weights) >= 0 and max(weights) < math.inf, "The weights of the loss must be 0 or more.")


@dataclass(frozen=True)
class DataSpec:
    """What the model learns from.

    :param targets: labels that order the latent space; every row to learn from must have them all. Empty: no branch.
    :param sparse_targets: labels that some rows have, learned by a branch of their own.
    :param log1p: labels that span decades; log(1 + value) is what is scaled to 0..1.
    :param keep: rows to learn from; the default keeps all.
    :param min_elements: rows with fewer elements are left out (the most are ``representation.max_elements``).
    :param max_e_above_hull: rows farther above the hull [eV/atom] are left out; None keeps all.
    :param distrust: ``flag:label`` pairs; rows of a set with a column ``flags`` lose the labels their flags discredit.
    :param split: ``formula`` holds out formulas, ``rows`` single rows (paper).
    :param val_fraction: share that is held out.
    :param scaler_rows: rows whose extremes scale the matrices: ``train``, or ``all`` (paper: the held-out ones leak).
    :param part_rows: crystals a resumable part of the preparation.
    """

    targets: tuple[str, ...] = ("formation_energy_per_atom", "band_gap")
    sparse_targets: tuple[str, ...] = ()
    log1p: tuple[str, ...] = ("piezo_max", "kappa_300k", "dielectric_total", "dielectric_electronic", "power_factor")
    keep: RowFilter = field(default_factory=RowFilter)
    min_elements: int = 1
    max_e_above_hull: float | None = None
    distrust: tuple[str, ...] = (
        "label_conflict:formation_energy_per_atom",
        "gap_conflict:band_gap",
        "piezo_above_20:piezo_max",
        "piezo_small_gap:piezo_max",
        "dielectric_above_50:dielectric_total",
        "dielectric_above_50:dielectric_electronic",
    )
    split: str = "formula"
    val_fraction: float = 0.1
    scaler_rows: str = "train"
    part_rows: int = 1024

    def __post_init__(self) -> None:
        for name in self.labels:
            require(not get_property(name).shape, f"{name} is no single number; data.targets are scalar properties.")
        require(
            len(set(self.labels)) == len(self.labels), "No label may be twice in data.targets and data.sparse_targets."
        )
        require(self.split in ("formula", "rows"), f"data.split must be formula or rows, not {self.split!r}.")
        require(0 <= self.val_fraction < 1, f"data.val_fraction must be in [0, 1), not {self.val_fraction}.")
        require(
            self.scaler_rows in ("train", "all"), f"data.scaler_rows must be train or all, not {self.scaler_rows!r}."
        )
        require(min(self.min_elements, self.part_rows) >= 1, "data.min_elements and part_rows must be at least 1.")

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, those of every row first."""
        return (*self.targets, *self.sparse_targets)


@dataclass(frozen=True)
class TrainingSpec:
    """Optimisation.

    :param weight_decay: of ``adamw`` alone (decoupled: each step shrinks the weights by this times the rate).
        Without it the branches err by a seventh more on held-out rows.
    :param optimizer: ``adamw``, or ``rmsprop`` as keras has it (paper; rho 0.9, epsilon 1e-7).
    :param schedule: ``cosine`` from ``lr`` to ``min_lr``, or ``steps`` (paper): ``lr`` until the first of
        ``step_epochs``, from each of them on the rate beside it in ``step_rates``.
    :param plateau_patience: with ``steps``, epochs without a better training loss after which the rate is multiplied by
        ``plateau_factor``, not below ``min_lr`` (paper: 4); 0: never.
    :param keep: the epoch whose weights are kept: ``best`` on held-out rows, or ``last`` (paper).
    :param patience: epochs without a better held-out loss before an early stop (0: never).
    :param checkpoint_steps: optimiser steps between saved training states (190 MB each for the published sizes).
    :param deadline_steps: steps between two looks at the clock and at the loss.
    :param matrix_memory: memory for matrices [GiB]; if they need more, they are made anew for every batch. The result
        does not depend on it.
    """

    epochs: int = 200
    batch_size: int = 128
    optimizer: str = "adamw"
    lr: float = 7e-4
    min_lr: float = 1e-5
    weight_decay: float = 1.0
    schedule: str = "cosine"
    step_epochs: tuple[int, ...] = (50, 100)
    step_rates: tuple[float, ...] = (1e-4, 5e-5)
    plateau_patience: int = 0
    plateau_factor: float = 0.3
    keep: str = "best"
    patience: int = 0
    checkpoint_steps: int = 250
    deadline_steps: int = 5
    matrix_memory: float = 2.0

    def __post_init__(self) -> None:
        require(
            min(self.epochs, self.batch_size, self.checkpoint_steps, self.deadline_steps) >= 1,
            "training.epochs, batch_size, checkpoint_steps and deadline_steps must each be at least 1.",
        )
        require(
            self.optimizer in ("adamw", "rmsprop"),
            f"training.optimizer must be adamw or rmsprop, not {self.optimizer!r}.",
        )
        require(
            self.schedule in ("cosine", "steps"),
            f"training.schedule must be cosine or steps, not {self.schedule!r}.",
        )
        require(min(self.lr, self.min_lr, *self.step_rates) > 0, "Every learning rate must be positive.")
        require(
            len(self.step_epochs) == len(self.step_rates),
            "training.step_epochs and training.step_rates must be of one length.",
        )
        require(self.keep in ("best", "last"), f"training.keep must be best or last, not {self.keep!r}.")
        require(0 < self.plateau_factor < 1, "training.plateau_factor must be between 0 and 1.")
        require(self.matrix_memory >= 0, "training.matrix_memory cannot be negative.")


@dataclass(frozen=True)
class SamplingSpec:
    """Where in the latent space designs are taken from.

    :param method: ``lp``: around the training points nearest to the target, with Gaussian noise; ``slerp``: on the
        great circle between two of them; ``gp``: a Gaussian with centre and spread of all training points.
    :param noise: what the noise of ``lp`` is relative to: ``posterior``, the widths the encoder gives the point, by
        which the decoder was trained, so that dimensions that matter are moved less; ``unit`` (paper): 1.
    :param scale: factor on the noise of ``lp`` (of ``gp``: on the spread of the points); 0 takes the largest of
        ``scales`` with less than ``max_error`` of ``probe`` designs that decode to no crystal (paper: by hand).
    :param designs_per_point: designs around each training point before the next nearest one's turn (paper: 3).
    :param neighbours: the second point of ``slerp`` is one of so many that are next in rank.
    :param where: constraints that training points must satisfy, e.g. ``formation_energy_per_atom < -1.5``.
    :param rank_by: whether ``label`` or ``predicted`` values of the training points count for target and constraints.
    :param encoder_noise: whether a training point lies where the encoder draws it, as in the published code, instead of
        at its mean.
    :param predict: what the predicted properties are read of: ``crystal``, the decoded crystal, encoded again (none if
        it is no crystal), or ``point``, the point that was drawn. Branches learn at the means of crystals; between
        them they err by several times as much.
    :param filter: draw again, up to ``attempts`` times, until the predicted properties satisfy ``where`` and lie within
        ``tolerances`` of the target, and the decoded crystal is what ``new_formula``, ``even_electrons`` and
        ``min_contact`` ask for; a row that fails has a reason.
    :param tolerances: ``property:value`` pairs, e.g. ``band_gap:0.3``.
    :param new_formula: the filter asks for formulas that no training or held-out row has.
    :param even_electrons: the filter asks for an even number of electrons in the cell: a crystal with an odd number and
        no magnetic moment is a metal.
    :param min_contact: distances between atoms that the filter asks for, in sums of covalent radii: 1 in 1,000 known
        crystals has one below 0.69, but half of the designs of an early model did; 0: any.
    :param batch: designs computed together; results do not depend on it.
    :param part_rows: designs a resumable part.
    """

    method: str = "lp"
    noise: str = "posterior"
    scale: float = 0.0
    scales: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0)
    max_error: float = 0.2
    probe: int = 200
    designs_per_point: int = 3
    neighbours: int = 10
    where: tuple[str, ...] = ()
    rank_by: str = "label"
    encoder_noise: bool = False
    predict: str = "crystal"
    filter: bool = False
    tolerances: tuple[str, ...] = ()
    new_formula: bool = False
    even_electrons: bool = False
    min_contact: float = 0.7
    attempts: int = 50
    batch: int = 256
    part_rows: int = 1024

    def __post_init__(self) -> None:
        require(self.method in ("lp", "slerp", "gp"), f"sampling.method must be lp, slerp or gp, not {self.method!r}.")
        require(self.noise in ("posterior", "unit"), f"sampling.noise must be posterior or unit, not {self.noise!r}.")
        require(self.scale >= 0 and self.scale < math.inf, "sampling.scale cannot be negative; 0 chooses it.")
        require(
            bool(self.scales) and min(self.scales) > 0 and list(self.scales) == sorted(set(self.scales)),
            "sampling.scales must be positive and rise.",
        )
        require(0 < self.max_error <= 1, "sampling.max_error must be in (0, 1].")
        require(
            self.rank_by in ("label", "predicted"),
            f"sampling.rank_by must be label or predicted, not {self.rank_by!r}.",
        )
        require(
            self.predict in ("crystal", "point"),
            f"sampling.predict must be crystal or point, not {self.predict!r}.",
        )
        require(0 <= self.min_contact < 1, f"sampling.min_contact must be in [0, 1), not {self.min_contact}.")
        counts = (self.probe, self.designs_per_point, self.neighbours, self.attempts, self.batch, self.part_rows)
        require(
            min(counts) >= 1,
            "sampling.probe, designs_per_point, neighbours, attempts, batch and part_rows must be at least 1.",
        )
        read_constraints(self.where)
        read_tolerances(self.tolerances)


@dataclass(frozen=True)
class FtcpGeneratorSpec:
    """All settings of the FTCP generator.

    ``mode`` is recorded with every model. The presets ``paper…`` have the published values and keep what the published
    code does where results depend on it: the encoder's noise in the seeds of a design, decoded padding that becomes
    hydrogen, k-points by Miller sum, a scaler that sees the held-out rows. Our defaults reconstruct elements and
    occupancies by cross entropy, let lattice and coordinates count, and hold out formulas.
    """

    mode: str = "default"
    representation: FtcpSpec = field(default_factory=FtcpSpec)
    model: ModelSpec = field(default_factory=ModelSpec)
    loss: LossSpec = field(default_factory=LossSpec)
    data: DataSpec = field(default_factory=DataSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    sampling: SamplingSpec = field(default_factory=SamplingSpec)

    def __post_init__(self) -> None:
        require(self.mode in ("default", "paper"), f"mode must be default or paper, not {self.mode!r}.")
        require(
            self.data.min_elements <= self.representation.max_elements,
            f"data.min_elements ({self.data.min_elements}) is more than representation.max_elements "
            f"({self.representation.max_elements}).",
        )
