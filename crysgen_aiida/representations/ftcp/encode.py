"""Crystals in compact form -> matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.representations.ftcp import kpoints
from crysgen_aiida.representations.ftcp.atom_vectors import atom_vectors
from crysgen_aiida.representations.ftcp.compact import Compact
from crysgen_aiida.representations.ftcp.layout import layout
from crysgen_aiida.representations.ftcp.spec import ELEMENTS, FtcpSpec


def matrices(compact: Compact, spec: FtcpSpec) -> npt.NDArray[np.float32]:
    """Return the FTCP matrices of crystals, float32 (n, rows, columns).

    :func:`~crysgen_aiida.representations.ftcp.layout.layout` says what lies where. F_hkl is Equation 1 of the paper:
    the sum over sites of pi (h x + k y + l z) times the property vector of the element, a linear map of the
    coordinates. It is computed in double precision. What is stored has 24 bits: fractional coordinates to 3e-8, lengths
    and angles to a part in 10^7. A row of ``compact`` without a crystal gives a matrix of zeros.

    The matrices of 1,000 crystals of 20 sites take 60 MB: make them in parts.

    :raises BadInput: if a lattice makes no cell or, with ``kpoints="paper"``, has too few k-points; crystals that
        :func:`~crysgen_aiida.representations.ftcp.compact.compact_of` accepts never do.
    """
    at = layout(spec)
    if compact.numbers.shape[1] != spec.max_elements or compact.coords.shape[1] != spec.max_sites:
        raise BadInput(
            f"These crystals are packed for {compact.coords.shape[1]} sites and {compact.numbers.shape[1]} elements, "
            f"the matrices are to hold {spec.max_sites} and {spec.max_elements}; use one spec for both."
        )
    unknown = np.flatnonzero(((compact.numbers < 0) | (compact.numbers > ELEMENTS)).any(axis=1))
    if len(unknown):
        raise BadInput(f"Row {unknown[0]} names an element that there is not; matrices are made of real crystals.")
    found = np.zeros((len(compact), spec.rows, spec.columns), np.float32)
    row, column = np.nonzero(compact.numbers)
    found[row, compact.numbers[row, column] - 1, column] = 1
    found[:, at.lengths, at.xyz] = compact.lattices[:, :3]
    found[:, at.angles, at.xyz] = compact.lattices[:, 3:]
    found[:, at.coords, at.xyz] = compact.coords
    found[:, at.occupancy, at.species] = compact.occupancy
    vectors = atom_vectors()[compact.numbers].swapaxes(1, 2)  # (n, 92, max_elements)
    found[:, at.properties, at.species] = vectors
    if spec.reciprocal:
        filled = np.flatnonzero(compact.filled)
        choose = kpoints.published if spec.kpoints == "paper" else kpoints.nearest
        hkl, g = choose(compact.lattices[filled], spec.n_kpoints)
        found[filled, at.distance, at.right] = g
        # the map is linear in the coordinates, so those of an element may be added first
        sums = np.einsum("nse,nsx->nex", compact.occupancy[filled].astype(np.float64), compact.coords[filled])
        phases = np.pi * sums @ hkl.astype(np.float64).swapaxes(1, 2)  # (n, max_elements, n_kpoints)
        found[filled, at.properties, at.right] = vectors[filled] @ phases
    return found
