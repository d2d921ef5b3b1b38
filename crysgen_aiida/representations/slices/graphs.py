"""Crystals to nets: which atoms are bonded, and the string that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from crysgen_aiida.representations.slices import crystalnn, econnn
from crysgen_aiida.representations.slices.checker import DISCONNECTED, check
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.nets import Net, to_string
from crysgen_aiida.representations.slices.spec import SlicesSpec
from crysgen_aiida.representations.slices.tokens import ELEMENTS

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Cells whose lattice planes are closer than this are no crystals, and their neighbour lists would not end [A].
MIN_SPACING = 0.5

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
#: One bond as seen from its first atom: (i, j, image of j).
HalfBond = tuple[int, int, tuple[int, int, int]]

HEAVY = "The crystal has an element beyond radon, for which there are no bond lengths."
TOO_MANY_ATOMS = "The crystal has more atoms than the vocabulary has indices."
WIDE_LABEL = "A bond crosses two or more cells along one axis, which the labels cannot say."
NO_ATOMS = "The crystal has no atoms."
DISORDERED = "The crystal has partially occupied sites."
FLAT = "The cell is flat or not finite."
NO_GRAPH = "The neighbour search failed on this crystal."


def encode(structure: Structure, spec: SlicesSpec = SlicesSpec()) -> str:  # noqa: B008 - frozen
    """Return the SLICES string of a crystal.

    :raises SlicesError: if the crystal cannot be spelt so that it can be read back; ``reason`` says why.
    """
    return to_string(encode_net(structure, spec), spec.strategy, spec.prefix)


def encode_net(structure: Structure, spec: SlicesSpec = SlicesSpec()) -> Net:  # noqa: B008 - frozen
    """Return the checked net of a crystal, its space group included.

    :raises SlicesError: as :func:`encode`.
    """
    _refuse_unusable(structure)
    prefixed = spec.prefix and spec.strategy == 4
    number = None
    if spec.primitive or prefixed:
        number, primitive = _space_group(structure, spec.symprec)
        if spec.primitive and not primitive:
            structure = _primitive(structure, spec.symprec)
    if len(structure) > spec.max_atoms:
        raise SlicesError(TOO_MANY_ATOMS, f"{len(structure)} > {spec.max_atoms}")
    bare = net_of(structure, spec.graph_method)
    if np.abs(bare.images).max(initial=0) > 1:
        raise SlicesError(WIDE_LABEL)
    net = Net(bare.numbers, bare.edges, bare.images, number if prefixed else None)
    verdict = check(net)
    if not verdict.ok:
        raise SlicesError(verdict.reason or DISCONNECTED)
    return net


def _refuse_unusable(structure: Structure) -> None:
    if not len(structure):
        raise SlicesError(NO_ATOMS)
    if not structure.is_ordered:
        raise SlicesError(DISORDERED)
    if max(structure.atomic_numbers) > len(ELEMENTS):
        raise SlicesError(HEAVY)
    lattice, coords = np.asarray(structure.lattice.matrix), np.asarray(structure.frac_coords)
    if not (np.isfinite(lattice).all() and np.isfinite(coords).all()):
        raise SlicesError(FLAT)
    areas = np.linalg.norm(np.cross(lattice[[1, 2, 0]], lattice[[2, 0, 1]]), axis=1)
    if abs(np.linalg.det(lattice)) < MIN_SPACING * areas.max():
        raise SlicesError(FLAT)


def _space_group(structure: Structure, symprec: float) -> tuple[int | None, bool]:
    """Return the number of the space group, None if spglib finds none, and whether the cell is primitive."""
    import spglib

    cell: Any = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    try:
        found = spglib.get_symmetry_dataset(cell, symprec=symprec, angle_tolerance=5)
    except Exception:  # spglib's own error classes changed between versions; no symmetry is no reason to fail
        found = None
    if found is None:
        return None, True
    return int(found.number), int(found.mapping_to_primitive.max()) + 1 == len(structure)


def _primitive(structure: Structure, symprec: float) -> Structure:
    """Return the primitive cell."""
    import spglib
    from pymatgen.core import Lattice, Structure

    cell: Any = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    found: Any = spglib.find_primitive(cell, symprec=symprec, angle_tolerance=5)
    if found is None:
        return structure
    numbers: list[Any] = list(found[2])
    return Structure(Lattice(found[0]), numbers, found[1])


def net_of(structure: Structure, graph_method: str = "econnn") -> Net:
    """Return the labelled quotient graph of a crystal; atoms keep their order, images are exact (not only signs).

    A bond exists if either of its atoms counts the other as a neighbour, as in pymatgen's ``StructureGraph``.

    :param graph_method: ``econnn`` (Hoppe's effective coordination, tolerance 0.2, cutoff 10 A; bonds in pymatgen's
        order) or ``crystalnn`` (pymatgen's bonds; those of equal weight, which rounding orders there, by place).
    :raises SlicesError: if no graph can be made.
    """
    lattice, coords = np.asarray(structure.lattice.matrix), np.asarray(structure.frac_coords)
    numbers = np.array(structure.atomic_numbers)
    if graph_method == "econnn":
        return _merge(numbers, _listed(*econnn.half_bonds(lattice, coords)))
    if graph_method != "crystalnn":
        raise ValueError(f"There is no graph method {graph_method!r}; choose 'econnn' or 'crystalnn'.")
    found = None
    if not any(hasattr(kind, "oxi_state") for kind in structure.composition):  # charges count for pymatgen
        found = crystalnn.half_bonds(lattice, coords, numbers)
    return _merge(numbers, _listed(*found) if found is not None else _crystalnn(structure))


def _listed(atoms: IntArray, others: IntArray, cells: IntArray) -> list[HalfBond]:
    triples = ((a, b, c) for a, b, c in cells.tolist())
    return list(zip(atoms.tolist(), others.tolist(), triples, strict=True))


def _crystalnn(structure: Structure) -> list[HalfBond]:
    """Find neighbours with pymatgen's own CrystalNN, configured as the SLICES authors do."""
    import warnings

    from pymatgen.analysis.local_env import CrystalNN

    strategy = CrystalNN(porous_adjustment=False, weighted_cn=True)
    half: list[HalfBond] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = strategy.get_all_nn_info(structure)
    except (ValueError, RuntimeError, IndexError, KeyError, ArithmeticError) as error:
        raise SlicesError(NO_GRAPH, str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    for i, neighbours in enumerate(found):
        for neighbour in neighbours:
            a, b, c = (int(x) for x in neighbour["image"])
            half.append((i, int(neighbour["site_index"]), (a, b, c)))
    return half


def _merge(numbers: IntArray, half: list[HalfBond]) -> Net:
    """Join half bonds into undirected ones, grouped by atom pair in the order in which pairs are first seen."""
    by_first: list[dict[int, dict[tuple[int, int, int], None]]] = [{} for _ in numbers]
    for i, j, image in half:
        if i > j or (i == j and next((c for c in image if c), 0) < 0):
            i, j, image = j, i, (-image[0], -image[1], -image[2])
        if i == j and not any(image):
            continue
        by_first[i].setdefault(j, {})[image] = None
    edges, images = [], []
    for i, partners in enumerate(by_first):
        for j, found in partners.items():
            for image in found:
                edges.append((i, j))
                images.append(image)
    return Net(numbers, np.array(edges).reshape(-1, 2), np.array(images).reshape(-1, 3))
