"""Settings of relaxations, which may be read without loading anything heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

OPTIMIZERS = ("fire", "lbfgs")
#: Settings that came later: a set made with their defaults says nothing of them, as before they existed.
_LATER = ("optimizer", "fix_symmetry", "symprec")


@dataclass(frozen=True)
class RelaxSpec:
    """When a relaxation ends, and how it goes there.

    :param fmax: largest generalised force left [eV/A]: on atoms and, divided by the number of atoms, on the cell.
    :param max_steps: steps after which a crystal is kept as it is, ``converged`` false.
    :param relax_cell: whether the cell moves as well.
    :param max_step: longest step of all coordinates of a crystal together [A].
    :param min_volume_ratio: a cell that shrinks below this times its first volume has collapsed.
    :param max_volume_ratio: a cell that grows above this times its first volume has exploded.
    :param min_distance: atoms closer than this [A] have collapsed.
    :param optimizer: ``fire`` or ``lbfgs``.
    :param fix_symmetry: whether the crystal keeps the space group it starts with. Its energy may then be above that of
        the nearest minimum: a saddle point is at rest too if all ways down break the symmetry.
    :param symprec: distance within which that space group is looked for [A]; the start is averaged over it.
    """

    fmax: float = 0.1
    max_steps: int = 100
    relax_cell: bool = True
    max_step: float = 0.2
    min_volume_ratio: float = 0.3
    max_volume_ratio: float = 3.0
    min_distance: float = 0.5
    optimizer: str = "fire"
    fix_symmetry: bool = False
    symprec: float = 0.01

    def __post_init__(self) -> None:
        if self.fmax <= 0 or self.max_step <= 0 or self.max_steps < 0:
            raise ValueError("fmax and max_step must be positive and max_steps not negative")
        if not 0 < self.min_volume_ratio < 1 < self.max_volume_ratio:
            raise ValueError("min_volume_ratio must be below 1 and max_volume_ratio above it")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}; it may be {' or '.join(OPTIMIZERS)}")
        if self.symprec <= 0:
            raise ValueError("symprec must be positive")

    def record(self) -> dict[str, Any]:
        """Return the settings for the metadata of a set; ``RelaxSpec(**record)`` gives them back."""
        plain = {f.name: f.default for f in fields(self) if f.name in _LATER}
        return {name: value for name, value in asdict(self).items() if name not in plain or value != plain[name]}
