"""A potential as the :class:`~crysgen_aiida.crystals.relaxing.Relaxer` that decoding is handed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.relaxing import Relaxed, Start
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.physics.potentials import load_potential
from crysgen_aiida.physics.relaxation import RelaxSpec, relax_many, single_threaded


class PotentialRelaxer:
    """A registered potential with the settings of its relaxations.

    :param potential: name of a registered potential.
    :param device: ``cpu`` or ``cuda``.
    :raises ImpossibleRequest: if it is not registered.
    :raises NotInstalled: if its package is missing.
    """

    def __init__(self, potential: str, spec: RelaxSpec | None = None, device: str = "cpu") -> None:
        self.spec = spec or RelaxSpec()
        self.loaded = load_potential(potential, device)

    @property
    def method(self) -> str:
        """The method stamped on its energies."""
        return self.loaded.info.method

    def record(self) -> dict[str, Any]:
        """Return the potential with the hash of its checkpoint, and the settings."""
        return {"potential": self.loaded.record(), "relax_spec": self.spec.record()}

    def energies(self, starts: Sequence[Start], run: Run) -> list[Relaxed]:
        """Return the energies of crystals as they are; a crystal that is no sensible one gets a reason."""
        return self._relaxed(starts, replace(self.spec, max_steps=0), run)

    def relax(self, starts: Sequence[Start], run: Run) -> list[Relaxed]:
        """Return the relaxed crystals."""
        return self._relaxed(starts, self.spec, run)

    def _relaxed(self, starts: Sequence[Start], spec: RelaxSpec, run: Run) -> list[Relaxed]:
        reasons = [self._unusable(start) for start in starts]
        usable = [start for start, reason in zip(starts, reasons, strict=True) if reason is None]
        with single_threaded(run):
            found = iter(relax_many(usable, self.loaded, spec, run) if usable else ())
        return [next(found) if r is None else Relaxed(schema.STATUS_FAILED, r) for r in reasons]

    def _unusable(self, start: Start) -> str | None:
        cell, numbers, _ = start
        if not self.loaded.info.covers(numbers.tolist()):
            return f"{self.method} does not cover all of its elements"
        if abs(float(np.linalg.det(cell))) < 0.1 * len(numbers):
            return "the cell is flat: its volume is below 0.1 A^3 per atom"
        return None
