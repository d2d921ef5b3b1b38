"""Born charges and dielectric tensors for phonons of polar crystals, moved onto the cell phonopy works in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import spglib

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.physics.batch import Floats

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: e^2 / (4 pi eps0) [eV A].
COULOMB = 14.3996454785


@dataclass(frozen=True)
class Born:
    """Response of a crystal to an electric field, in the axes and the order of atoms of its structure.

    :param charges: Born effective charges [e], (n, 3, 3).
    :param dielectric: electronic dielectric tensor, (3, 3).
    """

    charges: Floats
    dielectric: Floats


def phonopy_nac(structure: Structure, born: Born, phonopy: Any, symprec: float) -> dict[str, Any]:
    """Return ``nac_params`` of phonopy for the crystal it holds in spglib's standard setting.

    The tensors are turned with the crystal, averaged over atoms that translations make equal, and symmetrised.

    :param structure: the crystal the charges are of.
    :raises BadInput: if the charges are not one for each of its atoms.
    """
    from phonopy.structure.symmetry import symmetrize_borns_and_epsilon

    charges, dielectric = np.asarray(born.charges, dtype=float), np.asarray(born.dielectric, dtype=float)
    if charges.shape != (len(structure), 3, 3) or dielectric.shape != (3, 3):
        raise BadInput(
            f"Born charges of shape {charges.shape} and a dielectric tensor of shape {dielectric.shape} do not fit a "
            f"crystal of {len(structure)} atoms; give ({len(structure)}, 3, 3) and (3, 3)."
        )
    numbers = [int(site.specie.Z) for site in structure]
    cell: Any = (structure.lattice.matrix, structure.frac_coords, numbers)
    found: Any = spglib.get_symmetry_dataset(cell, symprec)
    turn = np.array(found.std_rotation_matrix)
    turned = turn @ charges @ turn.T
    unit = np.array(
        [turned[np.array(found.mapping_to_primitive) == p].mean(axis=0) for p in found.std_mapping_to_primitive]
    )
    z, epsilon = symmetrize_borns_and_epsilon(
        unit, turn @ dielectric @ turn.T, phonopy.unitcell, primitive=phonopy.primitive
    )
    return {"born": z, "dielectric": epsilon, "factor": COULOMB}
