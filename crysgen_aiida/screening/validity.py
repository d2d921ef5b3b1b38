"""Is it a structure at all? Distances, volume and density, without any energy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crysgen_aiida.screening.protocols import StructureRule

Floats = npt.NDArray[np.float64]

#: Shortest distances are looked for up to here [A].
_REACH = 6.0
_GRAMS_PER_CM3 = 1.66053906660  # of one atomic mass unit per cubic angstrom


@dataclass(frozen=True)
class Geometry:
    """What a structure is judged by.

    :param min_distance: shortest interatomic distance [A]; None if above 6 A.
    :param volume: of the cell [A^3].
    :param density: [g/cm^3].
    :param valid: None if it could not be judged.
    :param reason: why it is not valid.
    """

    min_distance: float | None
    volume: float | None
    density: float | None
    valid: bool | None
    reason: str | None = None


def judge_structure(lattice: Floats, numbers: npt.ArrayLike, frac: Floats, rule: StructureRule) -> Geometry:
    """Judge one structure.

    :param lattice: (3, 3) row vectors [A].
    :param numbers: (n,) atomic numbers.
    :param frac: (n, 3) fractional coordinates.
    """
    from pymatgen.core import Element

    from crysgen_aiida.physics.neighbours import half_list

    if not (np.isfinite(lattice).all() and np.isfinite(frac).all()):
        return Geometry(None, None, None, False, "a coordinate is not a finite number")
    kinds = np.asarray(numbers, dtype=np.int64)
    volume = abs(float(np.linalg.det(lattice)))
    if volume < max(rule.min_volume, 1e-3):
        return Geometry(None, volume, None, False, f"the volume of {volume:.2g} A^3 is below {rule.min_volume:g} A^3")
    lengths = np.linalg.norm(lattice, axis=1)
    density = float(sum(Element.from_Z(int(z)).atomic_mass for z in kinds)) / volume * _GRAMS_PER_CM3
    pairs = half_list(lattice, frac, _REACH, 0.0)
    vectors = (frac[pairs.j] - frac[pairs.i] + pairs.image) @ lattice
    distances = np.sqrt((vectors * vectors).sum(axis=1))
    shortest = float(distances.min()) if len(distances) else None
    reason = None
    if shortest is not None and shortest < rule.min_distance:
        reason = f"atoms {shortest:.2f} A apart, closer than {rule.min_distance:g} A"
    elif rule.radius_factor > 0 and len(distances):
        reason = _too_close(kinds, pairs.i, pairs.j, distances, rule)
    reason = (
        reason
        or _outside("density", density, rule.density, "g/cm^3")
        or _outside("atom density", len(kinds) / volume, rule.atom_density, "atoms/A^3")
        or _outside("cell length", float(lengths.min()), rule.lengths, "A")
        or _outside("cell length", float(lengths.max()), rule.lengths, "A")
    )
    return Geometry(shortest, volume, density, reason is None, reason)


def _too_close(
    kinds: npt.NDArray[np.int64],
    i: npt.NDArray[np.int64],
    j: npt.NDArray[np.int64],
    distances: Floats,
    rule: StructureRule,
) -> str | None:
    from ase.data import chemical_symbols, covalent_radii

    allowed = rule.radius_factor * (rule.radius_offset + covalent_radii[kinds[i]] + covalent_radii[kinds[j]])
    short = np.flatnonzero(distances < allowed)
    if len(short) == 0:
        return None
    worst = short[int(np.argmin(distances[short] / allowed[short]))]
    pair = f"{chemical_symbols[kinds[i[worst]]]}-{chemical_symbols[kinds[j[worst]]]}"
    return f"{pair} {distances[worst]:.2f} A apart, closer than {allowed[worst]:.2f} A allowed by covalent radii"


def _outside(what: str, value: float, allowed: tuple[float, float], unit: str) -> str | None:
    if allowed[0] <= value <= allowed[1]:
        return None
    return f"the {what} of {value:.3g} {unit} is outside {allowed[0]:g} to {allowed[1]:g}"
