"""What representations may ask of a potential without knowing one: energies and relaxed geometries of crystals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.crystal_set import Arrays
from crysgen_aiida.crystals.run import Run

Floats = npt.NDArray[np.float64]

#: A crystal to relax, as arrays.
Start = Arrays


@dataclass(frozen=True)
class Relaxed:
    """How one crystal ended: a geometry with its energy, or the reason why there is none.

    :ivar gate: the gate that kept it from being relaxed at all, if one did.
    """

    status: str
    reason: str | None = None
    cell: Floats | None = None
    frac: Floats | None = None
    energy_per_atom: float | None = None
    max_force: float | None = None
    max_stress: float | None = None
    converged: bool | None = None
    n_steps: int | None = None
    volume_change: float | None = None
    gate: str | None = None


class Relaxer(Protocol):
    """A potential that decoding may be handed by the worker. What it returns for a crystal does not depend on the
    others that come with it, but for round-off."""

    @property
    def method(self) -> str:
        """The method stamped on its energies, e.g. ``chgnet-0.3.0``."""

    def record(self) -> dict[str, Any]:
        """Return what identifies the potential and its settings, for the metadata of a set."""

    def energies(self, starts: Sequence[Start], run: Run) -> list[Relaxed]:
        """Return the energies of crystals as they are, in their order."""

    def relax(self, starts: Sequence[Start], run: Run) -> list[Relaxed]:
        """Return the relaxed crystals, in their order."""
