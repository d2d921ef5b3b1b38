"""The elements in the structures that end every hull, and their energies with a potential."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from crysgen_aiida.crystals.errors import EnergySchemeMismatch
from crysgen_aiida.physics.batch import CellBatch
from crysgen_aiida.physics.potentials import LoadedPotential

#: Where the structures come from; ``tools/build_element_structures.py`` writes the file.
SOURCE = "Materials Project elemental ground states (PBE), from the PyPI package matcalc"


@cache
def element_structures() -> dict[int, dict[str, Any]]:
    """Return ``{atomic number: {"lattice": (3, 3) [A], "frac_coords": (n, 3)}}`` of the elemental ground states."""
    text = (files("crysgen_aiida.physics") / "elements.json").read_text(encoding="utf-8")
    return {int(z): held for z, held in json.loads(text)["structures"].items()}


def one_shot_element_energies(numbers: Sequence[int], potential: LoadedPotential) -> dict[int, float]:
    """Return the energy per atom [eV/atom] of each element at its PBE structure, one evaluation each.

    :raises EnergySchemeMismatch: if there is no structure for an element.
    """
    held = element_structures()
    missing = [z for z in numbers if z not in held]
    if missing:
        raise EnergySchemeMismatch(
            f"There is no elemental structure for Z = {', '.join(map(str, missing))}; leave such crystals out."
        )
    found: dict[int, float] = {}
    for z in numbers:
        frac = np.array(held[z]["frac_coords"], dtype=float).reshape(-1, 3)
        batch = CellBatch.build([[z] * len(frac)], [frac], [held[z]["lattice"]])
        found[z] = float(potential.compute.evaluate(batch).energies[0]) / len(frac)
        potential.compute.forget()
    return found


@cache
def element_pbe_energies() -> dict[int, float]:
    """Return ``{atomic number: energy per atom [eV/atom]}`` by PBE of the same structures, where known."""
    text = (files("crysgen_aiida.physics") / "elements.json").read_text(encoding="utf-8")
    return {int(z): float(e) for z, e in json.loads(text)["pbe_energy_per_atom"].items()}
