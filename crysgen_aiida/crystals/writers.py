"""Crystal sets -> the formats people want. Every file is written atomically."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import EmptySet, ImpossibleRequest
from crysgen_aiida.crystals.files import write_text
from crysgen_aiida.crystals.formats import guess_format

if TYPE_CHECKING:
    from ase import Atoms


def write_crystals(crystals: CrystalSet, path: str | os.PathLike[str], *, fmt: str | None = None) -> list[int]:
    """Write a set; return the rows left out because they hold no crystal (CIF, POSCAR, extended XYZ, OPTIMADE).

    JSON lines, CSV and Parquet keep every row with its status and reason. ``json`` is an OPTIMADE response.

    :raises ImpossibleRequest: if the format is not known, or a POSCAR is asked of several crystals.
    :raises EmptySet: if nothing is left to write.
    :raises DiskFull: if there is no room.
    """
    fmt = fmt or guess_format(path)
    if fmt == "parquet":
        crystals.write(path)
        return []
    if fmt not in WRITERS:
        raise ImpossibleRequest(f"There is no format {fmt!r} to write; known are {', '.join(WRITERS)}, parquet.")
    left_out = [row for row, value in enumerate(crystals.column("lattice")) if value is None]
    if fmt not in ("jsonl", "csv") and len(left_out) == len(crystals):
        raise EmptySet(f"No row holds a crystal, so there is nothing to write to {Path(path).name}.")
    write_text(path, WRITERS[fmt](crystals))
    return [] if fmt in ("jsonl", "csv") else left_out


def to_ase(crystals: CrystalSet) -> list[Atoms | None]:
    """Return ASE atoms for every row, None where there is no crystal; ``info`` holds row and properties."""
    from ase import Atoms

    found: list[Atoms | None] = []
    for record in crystals.iter():
        if record["lattice"] is None:
            found.append(None)
            continue
        info = {"row": record["row"], **_values(crystals, record)}
        cell = np.array(record["lattice"]).reshape(3, 3)
        frac = np.array(record["frac_coords"]).reshape(-1, 3)
        found.append(Atoms(numbers=record["numbers"], cell=cell, scaled_positions=frac, pbc=True, info=info))
    return found


def to_cif(crystals: CrystalSet) -> str:
    """Return one data block a crystal, without symmetry (P1), as ``data_row<row>_<formula>``."""
    return "\n".join(
        cif_block(crystals, row) for row, value in enumerate(crystals.column("lattice")) if value is not None
    )


def cif_block(crystals: CrystalSet, row: int) -> str:
    """Return the CIF data block of one row.

    :raises BadInput: if the row holds no crystal.
    """
    from pymatgen.io.cif import CifWriter

    structure = crystals.structure(row)
    lines = str(CifWriter(structure, significant_figures=10)).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("data_"))
    return "\n".join([f"data_row{row}_{structure.composition.reduced_formula}", *lines[start + 1 :], ""])


def to_poscar(crystals: CrystalSet) -> str:
    """Return the POSCAR of a set of one crystal.

    :raises ImpossibleRequest: if the set holds several.
    """
    from pymatgen.io.vasp import Poscar

    rows = [row for row, value in enumerate(crystals.column("lattice")) if value is not None]
    if len(rows) != 1:
        raise ImpossibleRequest(f"A POSCAR holds one crystal, the set holds {len(rows)}; select a row first.")
    structure = crystals.structure(rows[0])
    comment = f"{structure.composition.reduced_formula} row {rows[0]}"
    return Poscar(structure, comment=comment, sort_structure=True).get_str(significant_figures=12)


def to_extxyz(crystals: CrystalSet) -> str:
    """Return one frame a crystal."""
    from ase.io.extxyz import write_xyz

    stream = io.StringIO()
    for atoms in to_ase(crystals):
        if atoms is not None:
            atoms.info = {k: np.asarray(v) if isinstance(v, list) else v for k, v in atoms.info.items()}
            write_xyz(stream, atoms)
    return stream.getvalue()


def to_jsonl(crystals: CrystalSet) -> str:
    """Return one JSON object a row, numbers exact; :func:`~crysgen_aiida.crystals.formats.read_crystals` reads it."""
    lines = []
    for record in crystals.iter():
        keep = {k: record[k] for k in ("row", "status", "reason", "content_id") if record[k] is not None}
        if record["lattice"] is not None:
            keep["lattice"] = np.array(record["lattice"]).reshape(3, 3).tolist()
            keep["numbers"] = record["numbers"]
            keep["frac_coords"] = np.array(record["frac_coords"]).reshape(-1, 3).tolist()
        keep["properties"] = _values(crystals, record)
        lines.append(json.dumps(keep, allow_nan=False))
    return "\n".join([*lines, ""])


def to_csv(crystals: CrystalSet) -> str:
    """Return a CSV with the crystal as CIF in the column ``cif`` and units in the headers of properties."""
    names = list(_value_names(crystals))
    header = {name: _header(crystals, name) for name in names}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["row", "status", "reason", "reduced_formula", *header.values(), "cif"])
    for record in crystals.iter():
        block = cif_block(crystals, record["row"]) if record["lattice"] is not None else ""
        values = [record[name] for name in names]
        cells = ["" if v is None else json.dumps(v) if isinstance(v, list) else v for v in values]
        reason, formula = record["reason"] or "", record["reduced_formula"] or ""
        writer.writerow([record["row"], record["status"], reason, formula, *cells, block])
    return stream.getvalue()


def to_optimade(crystals: CrystalSet) -> str:
    """Return an OPTIMADE 1.2 ``structures`` response; properties carry the prefix ``_crysgen_``."""
    data = [
        {"type": "structures", "id": str(record["row"]), "attributes": _optimade(crystals, record)}
        for record in crystals.iter()
        if record["lattice"] is not None
    ]
    meta = {"api_version": "1.2.0", "data_returned": len(data), "more_data_available": False}
    return json.dumps({"data": data, "meta": meta}, allow_nan=False) + "\n"


def _optimade(crystals: CrystalSet, record: dict[str, Any]) -> dict[str, Any]:
    composition = crystals.structure(record["row"]).composition
    lattice = np.array(record["lattice"]).reshape(3, 3)
    frac = np.array(record["frac_coords"]).reshape(-1, 3)
    symbols = _symbols(record["numbers"])
    elements = sorted(set(symbols))
    amounts = composition.reduced_composition.get_el_amt_dict()
    reduced = "".join(f"{e}{int(amounts[e]) if amounts[e] != 1 else ''}" for e in elements)
    return {
        "elements": elements,
        "nelements": len(elements),
        "elements_ratios": [symbols.count(e) / len(symbols) for e in elements],
        "chemical_formula_reduced": reduced,
        "chemical_formula_descriptive": reduced,
        "chemical_formula_anonymous": composition.reduced_composition.anonymized_formula.replace(" ", ""),
        "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3,
        "lattice_vectors": lattice.tolist(),
        "cartesian_site_positions": (frac @ lattice).tolist(),
        "nsites": len(symbols),
        "species_at_sites": symbols,
        "species": [{"name": e, "chemical_symbols": [e], "concentration": [1.0]} for e in elements],
        "structure_features": [],
        "last_modified": None,
        **{f"_crysgen_{name.replace('.', '_')}": value for name, value in _values(crystals, record).items()},
    }


def _symbols(numbers: list[int]) -> list[str]:
    from pymatgen.core import Element

    return [Element.from_Z(z).symbol for z in numbers]


def _value_names(crystals: CrystalSet) -> list[str]:
    from crysgen_aiida.crystals.schema import required_schema

    base = set(required_schema(crystals.kind).names)
    return [name for name in crystals.columns if name not in base]


def _values(crystals: CrystalSet, record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in _value_names(crystals) if record[name] is not None}


def _header(crystals: CrystalSet, name: str) -> str:
    metadata = crystals.arrow.schema.field(name).metadata or {}
    return f"{name} [{metadata[b'unit'].decode()}]" if b"unit" in metadata else name


WRITERS: dict[str, Callable[[CrystalSet], str]] = {
    "cif": to_cif,
    "poscar": to_poscar,
    "extxyz": to_extxyz,
    "jsonl": to_jsonl,
    "json": to_optimade,
    "csv": to_csv,
}
