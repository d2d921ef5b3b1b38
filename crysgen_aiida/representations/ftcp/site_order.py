"""An order of the sites of a crystal that does not depend on the order they are listed in."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.symmetry import equivalent_sites

#: Coordinates that differ by less are equal in the order of sites.
STEP = 1e-4


def canonical_orders(
    lattices: npt.NDArray[np.float64], numbers: npt.NDArray[np.int16], coords: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Return, for crystals padded with zeros (n, sites), the order of their sites (n, sites); padding stays last."""
    orders = np.tile(np.arange(numbers.shape[1]), (len(numbers), 1))
    for row, n_atoms in enumerate((numbers > 0).sum(axis=1)):
        orders[row, :n_atoms] = canonical_order(lattices[row], numbers[row, :n_atoms], coords[row, :n_atoms])
    return orders


def canonical_order(
    lattice: npt.NDArray[np.float64],
    numbers: npt.NDArray[np.int16],
    coords: npt.NDArray[np.float64],
    symprec: float = 0.01,
) -> npt.NDArray[np.int64]:
    """Return the canonical order of n sites.

    Elements by electronegativity; their orbits under the space group by size, then by their first site; sites of an
    orbit by x, y, z. It does not remove the choice of cell, of origin and of axes. Where spglib finds no symmetry every
    site is an orbit of its own.

    :param lattice: (3, 3) rows [A].
    :param coords: (n, 3) in [0, 1).
    :param symprec: tolerance of the space group [A].
    """
    try:
        labels = equivalent_sites(lattice, coords, numbers, symprec)
    except BadInput:
        labels = np.arange(len(numbers))
    # rounded first, so that noise does not decide; then as they are, so that nothing is left to the list
    steps = np.round(coords / STEP).astype(np.int64) % round(1 / STEP)
    places = [tuple(step) + tuple(place) for step, place in zip(steps.tolist(), coords.tolist(), strict=True)]
    orbits: dict[int, list[int]] = {}
    for site in sorted(range(len(numbers)), key=places.__getitem__):
        orbits.setdefault(int(labels[site]), []).append(site)
    ranks = _electronegativity_ranks()
    ordered = sorted(orbits.values(), key=lambda orbit: (ranks[int(numbers[orbit[0]])], len(orbit), places[orbit[0]]))
    return np.array([site for orbit in ordered for site in orbit], dtype=np.int64)


@cache
def _electronegativity_ranks() -> dict[int, int]:
    """Return the place of each atomic number by Pauling electronegativity; elements without one come last."""
    from pymatgen.core import Element

    def key(number: int) -> tuple[float, int]:
        value = Element.from_Z(number).data.get("X")
        return (float("inf") if value is None or np.isnan(value) else float(value)), number

    return {number: rank for rank, number in enumerate(sorted(range(1, 104), key=key))}
