"""Electron bands on a mesh of k-points as rows of a table: what transport is computed from, whoever computed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import content_id, structure_of
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.table import PropertyTable

Floats = npt.NDArray[np.float64]

_LIST, _WHOLE = pa.list_(pa.float64()), pa.int32()
#: The columns that make a table one of bands.
FIELDS = (
    pa.field("lattice", pa.list_(pa.float64(), 9)),  # row-major vectors a, b, c [A]
    pa.field("numbers", pa.list_(pa.uint8())),  # atomic numbers, n
    pa.field("frac_coords", _LIST),  # fractional coordinates, flattened n x 3
    pa.field("kpoints", _LIST),  # in the basis of the reciprocal lattice, flattened K x 3
    pa.field("energies", _LIST),  # [eV], flattened K x B, bands of one k-point together and in rising order
    pa.field("n_kpoints", _WHOLE),
    pa.field("n_bands", _WHOLE),
    pa.field("fermi_energy", pa.float64()),  # [eV]
    pa.field("n_electrons", pa.float64()),  # in the cell, those of these bands
    pa.field("spin_degeneracy", _WHOLE),  # electrons a band and k-point holds: 2, or 1 with spin channels or spinors
)


@dataclass(frozen=True)
class ElectronBands:
    """Electron bands of a crystal on a mesh of k-points, whole or its irreducible part.

    :param lattice: vectors as rows [A], (3, 3).
    :param numbers: atomic numbers, (n,).
    :param frac_coords: (n, 3).
    :param kpoints: in the basis of the reciprocal lattice, (K, 3).
    :param energies: [eV], (K, B). Two spin channels are bands side by side, sorted, with ``spin_degeneracy`` 1.
    :param fermi_energy: [eV].
    :param n_electrons: in the cell; core electrons without a band do not count.
    :param spin_degeneracy: electrons a band holds at a k-point, 2 or 1.
    :raises BadInput: if shapes do not agree, something is not finite, or the bands cannot hold the electrons.
    """

    lattice: Floats
    numbers: npt.NDArray[np.int64]
    frac_coords: Floats
    kpoints: Floats
    energies: Floats
    fermi_energy: float
    n_electrons: float
    spin_degeneracy: int = 2

    def __post_init__(self) -> None:
        k, n = len(self.kpoints), len(self.numbers)
        shapes = [np.shape(a) for a in (self.lattice, self.frac_coords, self.kpoints, self.energies)]
        if shapes[:3] != [(3, 3), (n, 3), (k, 3)] or len(shapes[3]) != 2 or shapes[3][0] != k or not k * n:
            raise BadInput(
                f"Bands with lattice, coordinates, k-points and energies of shapes {shapes} for {n} atoms do not fit "
                "together; give (3, 3), (atoms, 3), (k-points, 3) and (k-points, bands)."
            )
        held = (self.lattice, self.frac_coords, self.kpoints, self.energies, [self.fermi_energy, self.n_electrons])
        if not all(np.isfinite(a).all() for a in held):
            raise BadInput("Bands hold numbers that are not finite; compute them again.")
        if self.spin_degeneracy not in (1, 2):
            raise BadInput(
                f"The spin degeneracy is {self.spin_degeneracy!r}; give 2, or 1 with spin channels or spinors."
            )
        if not 0 < self.n_electrons <= self.spin_degeneracy * shapes[3][1]:
            raise BadInput(
                f"{shapes[3][1]} bands of {self.spin_degeneracy} electrons cannot hold {self.n_electrons:g}; give the "
                "electrons of these bands, and the bands above them."
            )


def bands_table(bands: Sequence[ElectronBands], method: str, *, parent_input: str | None = None) -> PropertyTable:
    """Return bands as a table, one row a crystal.

    :param method: what computed them, e.g. ``qe-pbe``; kept as metadata and stamped on what is made from them.
    :param parent_input: link label of what the rows come from, row by row.
    """
    rows: list[dict[str, Any]] = [
        {
            "lattice": np.asarray(b.lattice, dtype=float).ravel().tolist(),
            "numbers": [int(z) for z in b.numbers],
            "frac_coords": np.asarray(b.frac_coords, dtype=float).ravel().tolist(),
            "kpoints": np.asarray(b.kpoints, dtype=float).ravel().tolist(),
            "energies": np.asarray(b.energies, dtype=float).ravel().tolist(),
            "n_kpoints": len(b.kpoints),
            "n_bands": int(np.shape(b.energies)[1]),
            "fermi_energy": float(b.fermi_energy),
            "n_electrons": float(b.n_electrons),
            "spin_degeneracy": b.spin_degeneracy,
        }
        for b in bands
    ]
    names = [structure_of(r["lattice"], r["numbers"], r["frac_coords"]).composition.reduced_formula for r in rows]
    base = {
        "content_id": pa.array([content_id(b.lattice, b.numbers, b.frac_coords) for b in bands], pa.string()),
        "parent_input": pa.array([parent_input] * len(rows), pa.string()),
        "parent_row": pa.array(range(len(rows)) if parent_input else [None] * len(rows), pa.int64()),
        "reduced_formula": pa.array(names, pa.string()),
    }
    table = PropertyTable(pa.table(base), {"method": method})
    return table.with_columns({field: [row[field.name] for row in rows] for field in FIELDS})


def bands_of(record: Mapping[str, Any]) -> ElectronBands:
    """Return the bands of a row.

    :raises BadInput: if the row failed or a column is missing or does not fit the others.
    """
    if record["status"] != schema.STATUS_OK:
        raise BadInput(f"There are no bands: {record['reason']}")
    missing = [field.name for field in FIELDS if record.get(field.name) is None]
    if missing:
        raise BadInput(f"This is no row of bands: it lacks {', '.join(missing)}. Make the table with bands_table.")
    try:
        return ElectronBands(
            lattice=np.array(record["lattice"], dtype=float).reshape(3, 3),
            numbers=np.array(record["numbers"], dtype=np.int64),
            frac_coords=np.array(record["frac_coords"], dtype=float).reshape(-1, 3),
            kpoints=np.array(record["kpoints"], dtype=float).reshape(record["n_kpoints"], 3),
            energies=np.array(record["energies"], dtype=float).reshape(record["n_kpoints"], record["n_bands"]),
            fermi_energy=float(record["fermi_energy"]),
            n_electrons=float(record["n_electrons"]),
            spin_degeneracy=int(record["spin_degeneracy"]),
        )
    except ValueError as error:
        raise BadInput(
            f"The columns of this row of bands do not fit together ({error}); make the table again."
        ) from None
