"""From the bands of a DFT calculation to rows that transport is computed from, as a step of the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from crysgen_aiida.crystals.electron_bands import ElectronBands, bands_table
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.data.packed import PropertyTableData


@calcfunction
def pack_bands(
    structure: orm.StructureData, bands: orm.BandsData, parameters: orm.Dict, method: orm.Str
) -> PropertyTableData:
    """Return a table of one row of electron bands, the input of ``crysgen.transport``.

    :param bands: on a mesh of k-points, whole or irreducible, e.g. ``output_band`` of a Quantum ESPRESSO ``nscf`` run.
    :param parameters: ``number_of_electrons``, and ``fermi_energy`` [eV] of a metal, e.g. ``output_parameters`` of that
        run; ``spin_orbit_calculation`` or ``non_colinear_calculation`` if they are of spinors.
    :param method: what computed them, e.g. ``qe-pbe``: stamped on the properties made from them.
    """
    return PropertyTableData(bands_table([electron_bands(structure, bands, parameters.get_dict())], method.value))


def electron_bands(structure: orm.StructureData, bands: orm.BandsData, parameters: dict[str, Any]) -> ElectronBands:
    """Return the bands of nodes as arrays.

    :raises BadInput: if the bands are not in eV, the number of electrons is not known, or shapes do not agree.
    """
    where = f"BandsData<{bands.pk or bands.uuid}>"
    if bands.units not in ("eV", None):
        raise BadInput(f"{where} is in {bands.units}; give bands in eV.")
    if "number_of_electrons" not in parameters:
        raise BadInput(f"The number of electrons of {where} is not in the parameters; give number_of_electrons.")
    levels = np.asarray(bands.get_bands(), dtype=float)
    degeneracy = 2
    if levels.ndim == 3:  # two spin channels: bands side by side
        degeneracy, levels = 1, np.concatenate(list(levels), axis=1)
    elif parameters.get("spin_orbit_calculation") or parameters.get("non_colinear_calculation"):
        degeneracy = 1
    levels = np.sort(levels, axis=1)
    electrons = float(parameters["number_of_electrons"])
    fermi = parameters.get("fermi_energy")
    if fermi is None:  # of an insulator: the highest filled level
        fermi = levels[:, : max(1, round(electrons / degeneracy))].max()
    return ElectronBands(
        lattice=np.array(structure.cell, dtype=float),
        numbers=np.array([_number(structure, site.kind_name) for site in structure.sites], dtype=np.int64),
        frac_coords=np.array([s.position for s in structure.sites]) @ np.linalg.inv(np.array(structure.cell)),
        kpoints=np.asarray(bands.get_kpoints(), dtype=float),
        energies=levels,
        fermi_energy=float(fermi),
        n_electrons=electrons,
        spin_degeneracy=degeneracy,
    )


def _number(structure: orm.StructureData, kind: str) -> int:
    from aiida.common.constants import elements

    symbol = structure.get_kind(kind).symbol
    return int(next(z for z, held in elements.items() if held["symbol"] == symbol))
