"""Settings of element substitution."""

from __future__ import annotations

from dataclasses import dataclass, field

from crysgen_aiida.generators.row_filter import RowFilter
from crysgen_aiida.generators.settings import require


@dataclass(frozen=True)
class DataSpec:
    """Which crystals are prototypes.

    :param conditions: labels by which prototypes can be chosen; those absent from the data set are dropped.
    :param keep: rows to learn from.
    :param log1p: labels that span decades; distances between values are those of log(1 + value).
    :param distrust: ``flag:label`` pairs; rows with a column ``flags`` lose the labels their flags discredit.
    :param max_atoms: largest cell of a prototype.
    """

    conditions: tuple[str, ...] = ("formation_energy_per_atom", "piezo_max", "band_gap")
    keep: RowFilter = field(default_factory=RowFilter)
    log1p: tuple[str, ...] = ("piezo_max", "kappa_300k", "dielectric_total", "dielectric_electronic", "power_factor")
    distrust: tuple[str, ...] = (
        "label_conflict:formation_energy_per_atom",
        "gap_conflict:band_gap",
        "piezo_above_20:piezo_max",
        "piezo_small_gap:piezo_max",
    )
    max_atoms: int = 20

    def __post_init__(self) -> None:
        require(self.max_atoms >= 1, f"data.max_atoms must be at least 1, not {self.max_atoms}.")


@dataclass(frozen=True)
class SamplingSpec:
    """How a proposal is made.

    :param bandwidth: of the kernel that weighs prototypes by how far their labels are from the targets, in standard
        deviations of the labels; small takes the nearest only.
    :param min_probability: ions less likely than this to replace another are never proposed.
    :param max_z: heaviest element proposed.
    :param attempts: draws until a proposal must be neutral, plausible and new to its prototype.
    """

    bandwidth: float = 1.0
    min_probability: float = 1e-3
    max_z: int = 83
    attempts: int = 200

    def __post_init__(self) -> None:
        require(self.bandwidth > 0, f"sampling.bandwidth must be positive, not {self.bandwidth}.")
        require(0 < self.min_probability < 1, "sampling.min_probability must be between 0 and 1.")
        require(self.attempts >= 1, f"sampling.attempts must be at least 1, not {self.attempts}.")


@dataclass(frozen=True)
class SubstitutionSpec:
    """All settings of element substitution."""

    data: DataSpec = field(default_factory=DataSpec)
    sampling: SamplingSpec = field(default_factory=SamplingSpec)
