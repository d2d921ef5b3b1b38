"""Text of the usual crystal formats -> raw rows. What cannot be read becomes a row with a reason, never a crash."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Columns of a CSV file that are tried, in order, for the crystal.
STRUCTURE_COLUMNS = ("cif", "CIF", "structure", "poscar", "POSCAR")

#: Smallest cell volume that is taken for one [A^3].
MIN_VOLUME = 0.1


@dataclass(frozen=True)
class RawRow:
    """One crystal as read, or why there is none, and whatever else the file said about it."""

    structure: Structure | None
    reason: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def guarded(make: Callable[[], Structure], values: Mapping[str, Any] | None = None) -> RawRow:
    """Return the row of the crystal that ``make`` returns, or a failed row that says what went wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structure = plain(make())
    except Exception as error:  # parsers raise anything on garbage; one bad row must not stop the others
        text = " ".join(str(error).split())[:200] or "no details"
        reason = text if isinstance(error, BadInput) else f"unreadable: {type(error).__name__}: {text}"
        return RawRow(None, reason, values or {})
    return RawRow(structure, None, values or {})


def plain(structure: Structure) -> Structure:
    """Return the crystal without oxidation states, labels and site properties.

    :raises BadInput: if it is not one that a set can hold; the message is the row's reason.
    """
    from pymatgen.core import Element, Structure

    if len(structure) == 0:
        raise BadInput("the cell holds no atoms")
    if not structure.is_ordered:
        first = next(site for site in structure if not site.is_ordered)
        raise BadInput(f"partially occupied sites (the first is {first.species_string}); order the crystal first")
    symbols = []
    for site in structure:
        # a dummy species has a symbol but is no element; deuterium is hydrogen
        name = getattr(site.specie, "symbol", str(site.specie))
        if not Element.is_valid_symbol(name):
            raise BadInput(f"unknown element {name!r}")
        symbols.append(Element.from_Z(Element(name).Z))
    lattice, frac = structure.lattice.matrix, structure.frac_coords
    if not (np.isfinite(lattice).all() and np.isfinite(frac).all()):
        raise BadInput("a coordinate is not a finite number")
    if abs(np.linalg.det(lattice)) < MIN_VOLUME:
        raise BadInput(f"the cell spans less than {MIN_VOLUME} A^3")
    return Structure(lattice, symbols, frac)


def read_cif(text: str) -> list[RawRow]:
    """Read every data block of a CIF file; blocks without cell and atoms (``data_global``) are not rows."""
    blocks = re.split(r"(?im)^(?=data_)", text)
    crystals = [block for block in blocks if re.search(r"(?i)_atom_site_|_cell_length_", block)]
    if not crystals and text.strip():
        return [RawRow(None, "no CIF data block with a cell and atoms", {"name": _block_name(blocks[-1])})]
    return [guarded(lambda block=block: cif_structure(block), {"name": _block_name(block)}) for block in crystals]  # type: ignore[misc]


def _block_name(block: str) -> str | None:
    found = re.match(r"(?i)data_(\S+)", block)
    return found.group(1) if found else None


def cif_structure(text: str) -> Structure:
    """Return the crystal of one CIF data block, in the cell as written.

    :raises Exception: of many kinds, if it cannot be read.
    """
    from pymatgen.io.cif import CifParser

    found = CifParser.from_str(text).parse_structures(primitive=False, on_error="raise")
    if not found:
        raise BadInput("the CIF block holds no crystal")
    return found[0]


def poscar_structure(text: str) -> Structure:
    """Return the crystal of a POSCAR that names its elements.

    :raises BadInput: if it is of the old kind that leaves the elements to the POTCAR.
    """
    from pymatgen.io.vasp import Poscar

    poscar = Poscar.from_str(text)
    if not poscar.true_names:
        raise BadInput("the POSCAR does not name its elements; add the line of symbols (VASP 5 format)")
    return poscar.structure


def read_poscar(text: str) -> list[RawRow]:
    """Read one POSCAR or CONTCAR."""
    return [guarded(lambda: poscar_structure(text), {"name": text.split("\n", 1)[0].strip() or None})]


def read_extxyz(text: str) -> list[RawRow]:
    """Read the frames of an extended XYZ file. A broken atom count ends the file: no frame after it can be found."""
    lines = text.splitlines()
    rows = []
    start = 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        try:
            count = int(lines[start])
        except ValueError:
            rows.append(
                RawRow(None, f"line {start + 1}: {lines[start][:40]!r} is not a number of atoms; rest not read")
            )
            break
        frame = lines[start : start + count + 2]
        if len(frame) < count + 2:
            rows.append(RawRow(None, f"line {start + 1}: the frame of {count} atoms is truncated"))
        else:
            rows.append(_frame("\n".join(frame) + "\n"))
        start += count + 2
    return rows


def _frame(text: str) -> RawRow:
    from ase.io.extxyz import read_xyz

    values: dict[str, Any] = {}

    def make() -> Structure:
        atoms = next(read_xyz(io.StringIO(text), slice(None)))
        values.update(atoms.info)
        return ase_structure(atoms)

    row = guarded(make)
    return RawRow(row.structure, row.reason, values)


def ase_structure(atoms: Any) -> Structure:
    """Return the crystal of ASE atoms.

    :raises BadInput: if they are not periodic in three dimensions.
    """
    from pymatgen.core import Element, Structure

    if not all(atoms.pbc):
        raise BadInput("the atoms are not periodic in three dimensions")
    return Structure(atoms.cell.array, [Element.from_Z(int(z)) for z in atoms.numbers], atoms.get_scaled_positions())


def read_jsonl(text: str) -> list[RawRow]:
    """Read one JSON object a line: our own form, pymatgen's, an OPTIMADE entry, or one with a ``cif``."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            rows.append(RawRow(None, f"line {number} is not JSON ({error.msg})"))
            continue
        rows.append(_record(record, f"line {number}"))
    return rows


def read_json(text: str) -> list[RawRow]:
    """Read a JSON document: an OPTIMADE response (``data``), a list of records, or one record.

    :raises BadInput: if it is not JSON.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"This is not JSON ({error}); it is probably truncated.") from error
    records = document.get("data", document) if isinstance(document, dict) else document
    records = records if isinstance(records, list) else [records]
    return [_record(record, f"record {number}") for number, record in enumerate(records, 1)]


#: Keys of a JSON record that describe the crystal; all others are values.
_CRYSTAL_KEYS = frozenset(
    ("lattice", "numbers", "species", "frac_coords", "structure", "cif", "properties", "sites", "charge")
) | {"@class", "@module", "@version"}


#: Short names of the keys of our own form, where a record has all of them.
_SHORT = {"a": "lattice", "z": "numbers", "x": "frac_coords"}


def _record(record: Any, where: str) -> RawRow:
    if not isinstance(record, dict):
        return RawRow(None, f"{where} is not a JSON object")
    if "attributes" in record:
        attributes = record["attributes"] or {}
        values = {"id": record.get("id"), **{k: v for k, v in attributes.items() if k.startswith("_")}}
        return guarded(lambda: optimade_structure(attributes), values)
    nested = record.get("properties")
    used = {
        "lattice",
        "numbers",
        "species",
        "frac_coords",
        "structure",
        "cif",
        "properties",
        "@class",
        "@module",
        "sites",
    }
    values = {k: v for k, v in record.items() if k not in used} | (nested if isinstance(nested, dict) else {})
    if record.get("status", "ok") != "ok":
        return RawRow(None, str(record.get("reason") or f"{where} has status {record['status']!r}"), values)
    return guarded(lambda: _record_structure(record), values)


def _record_structure(record: Mapping[str, Any]) -> Structure:
    from pymatgen.core import Element, Structure

    if isinstance(record.get("cif"), str):
        return cif_structure(record["cif"])
    held = record.get("structure", record)
    if isinstance(held, str):
        return text_structure(held)
    if "sites" in held:
        return Structure.from_dict(held)
    held = {_SHORT.get(key, key): value for key, value in held.items()} if _SHORT.keys() <= held.keys() else held
    missing = [key for key in ("lattice", "frac_coords") if key not in held]
    if missing or not ("numbers" in held or "species" in held):
        raise BadInput(f"the record has no {' and no '.join(missing or ['numbers or species'])}")
    kinds = held["species"] if "numbers" not in held else [Element.from_Z(int(z)) for z in held["numbers"]]
    frac = np.asarray(held["frac_coords"], dtype=float).reshape(-1, 3)
    return Structure(np.asarray(held["lattice"], dtype=float).reshape(3, 3), kinds, frac)


def optimade_structure(attributes: Mapping[str, Any]) -> Structure:
    """Return the crystal of an OPTIMADE ``structures`` entry (specification 1.2).

    :raises BadInput: if it is not a fully known, ordered, three-dimensional crystal.
    """
    from pymatgen.core import Structure

    if attributes.get("nperiodic_dimensions", 3) != 3:
        raise BadInput("the OPTIMADE entry is not periodic in three dimensions")
    species = {kind["name"]: kind for kind in attributes.get("species") or []}
    symbols = []
    for name in attributes["species_at_sites"]:
        kind = species.get(name, {"chemical_symbols": [name], "concentration": [1.0]})
        held = [(s, c) for s, c in zip(kind["chemical_symbols"], kind["concentration"], strict=True) if c > 0]
        if len(held) != 1 or not math.isclose(held[0][1], 1.0) or held[0][0] in ("vacancy", "X"):
            raise BadInput(f"the OPTIMADE species {name!r} is disordered, vacant or unknown; order the crystal first")
        symbols.append(held[0][0])
    positions = np.array(attributes["cartesian_site_positions"], dtype=float)
    lattice = np.array(attributes["lattice_vectors"], dtype=float)
    return Structure(lattice, symbols, positions, coords_are_cartesian=True)


def text_structure(text: str) -> Structure:
    """Return the crystal of a text that is a CIF, pymatgen's JSON or a POSCAR, whichever it looks like."""
    if text.lstrip().startswith("{"):
        return _record_structure(json.loads(text))
    if re.search(r"(?i)_cell_length_", text):
        return cif_structure(text)
    return poscar_structure(text)


def read_csv(text: str, structure_column: str | None = None) -> list[RawRow]:
    """Read a CSV file with one crystal a row, as CIF, POSCAR or JSON in ``structure_column``.

    :raises ImpossibleRequest: if there is no such column.
    """
    csv.field_size_limit(1 << 30)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    header = [name for name in reader.fieldnames or [] if name]
    wanted = [structure_column] if structure_column else list(STRUCTURE_COLUMNS)
    column = next((name for name in wanted if name in header), None)
    if column is None:
        has = ", ".join(header) or "none"
        raise ImpossibleRequest(f"The file has no column {' or '.join(map(repr, wanted))}; it has {has}.")
    rows = []
    for record in reader:
        values = {k: v for k, v in record.items() if k and k != column}
        content = record[column]
        if not (content or "").strip():
            reason = values.get("reason") or f"the column {column!r} is empty"
            rows.append(RawRow(None, reason, values))
        else:
            rows.append(guarded(lambda content=content: text_structure(content), values))  # type: ignore[misc]
    return rows


READERS: dict[str, Callable[[str], list[RawRow]]] = {
    "cif": read_cif,
    "poscar": read_poscar,
    "extxyz": read_extxyz,
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
}
