"""Crystal sets from and to the formats people have: CIF, POSCAR, extended XYZ, JSON lines, CSV of CIFs, OPTIMADE.

Every crystal of a file gets a row; one that cannot be read is a failed row with a reason. A column named after a
registered property, with or without its unit (``band_gap`` or ``band_gap [eV]``), becomes a property column.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, EmptySet, ImpossibleRequest
from crysgen_aiida.crystals.files import read_text
from crysgen_aiida.crystals.properties import PROPERTIES, get_property
from crysgen_aiida.crystals.readers import READERS, RawRow, ase_structure, guarded, plain, read_csv

if TYPE_CHECKING:
    from pymatgen.core import Structure

_SUFFIXES = {
    ".cif": "cif",
    ".vasp": "poscar",
    ".poscar": "poscar",
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}

FORMATS = (*READERS, "parquet")

#: Columns that are taken for the name of a crystal in its source, in order.
_ID_COLUMNS = ("material_id", "id", "name")

#: What our own writers add about a row; it is not a property of the crystal.
_OWN_COLUMNS = frozenset(
    ("row", "content_id", "status", "reason", "parent_input", "parent_row", "reduced_formula", "n_atoms")
)


def guess_format(path: str | os.PathLike[str]) -> str:
    """Return the format that the name of a file stands for.

    :raises ImpossibleRequest: if the name says nothing; the message lists the formats.
    """
    name = Path(path).name.lower().removesuffix(".gz")
    if name.split(".")[0] in ("poscar", "contcar") or name.startswith(("poscar", "contcar")):
        return "poscar"
    found = _SUFFIXES.get(Path(name).suffix)
    if found is None:
        raise ImpossibleRequest(
            f"The format of {Path(path).name} cannot be told from its name; state one of {', '.join(FORMATS)}."
        )
    return found


def read_crystals(
    path: str | os.PathLike[str],
    *,
    fmt: str | None = None,
    method: str | None = None,
    properties: Mapping[str, str] | None = None,
    structure_column: str | None = None,
) -> CrystalSet:
    """Read a file, or every file of a folder in the order of their names, as one crystal set.

    :param fmt: one of ``FORMATS``; by default from the name (``.gz`` is unpacked).
    :param method: what produced the property values, e.g. ``pbe-mp2020``; needed if there are any.
    :param properties: registered property -> its column in the file; by default columns named after properties.
    :param structure_column: the CSV column that holds the crystal.
    :raises BadInput: if a file cannot be read at all, or states another unit than the registry.
    :raises EmptySet: if there is no crystal in it, readable or not.
    :raises ImpossibleRequest: if a property, column or format is not known, or values come without a method.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    elif path.exists():
        files = [path]
    else:
        raise BadInput(f"There is no file {path.name}; check the path.")
    if len(files) == 1 and (fmt or guess_format(files[0])) == "parquet":
        return CrystalSet.read(files[0])
    rows: list[RawRow] = []
    for file in files:
        found = parse(read_text(file), fmt or guess_format(file), structure_column=structure_column)
        rows += [_named(row, file.name) for row in found] if path.is_dir() else found
    if not rows:
        raise EmptySet(f"{path.name} holds no crystals; check that it is the file you mean and is not empty.")
    return pack_rows(rows, method=method, properties=properties)


def parse(text: str, fmt: str, *, structure_column: str | None = None) -> list[RawRow]:
    """Return the rows of a text in one of ``FORMATS`` (not parquet).

    :raises ImpossibleRequest: if the format is not known.
    """
    if fmt not in READERS:
        raise ImpossibleRequest(f"There is no text format {fmt!r}; known are {', '.join(READERS)}.")
    if fmt == "csv":
        return read_csv(text, structure_column)
    return READERS[fmt](text)


def pack_rows(
    rows: Sequence[RawRow], *, method: str | None = None, properties: Mapping[str, str] | None = None
) -> CrystalSet:
    """Pack rows as read into a set with a ``material_id`` and property columns.

    A value that is not a finite number is left out, and the row's reason says so; the crystal stays usable.

    :raises ImpossibleRequest: as :func:`read_crystals`.
    """
    present = list(dict.fromkeys(name for row in rows for name in row.values))
    chosen = _chosen(present, properties)
    if chosen and method is None:
        raise ImpossibleRequest(
            f"The values of {', '.join(chosen)} need the method that produced them, e.g. method='pbe-mp2020': "
            "values of different methods are never mixed."
        )
    notes: list[list[str]] = [[] for _ in rows]
    columns: dict[pa.Field, list[Any]] = {}
    name = next((n for n in _ID_COLUMNS if any(row.values.get(n) for row in rows)), None)
    if name is not None:
        identifiers = [row.values.get(name) for row in rows]
        columns[pa.field("material_id", pa.string())] = [None if i is None else str(i) for i in identifiers]
    for prop, column in chosen.items():
        field = schema.property_field(prop, method or "")
        columns[field] = [_value(prop, row.values.get(column), notes[i]) for i, row in enumerate(rows)]
    ignored = [n for n in present if n not in chosen.values() and n != name and n not in _OWN_COLUMNS]
    packed = CrystalSet.from_structures(
        [row.structure for row in rows],
        reasons=[row.reason or "; ".join(notes[i]) or None for i, row in enumerate(rows)],
        columns=columns,
    )
    return packed.with_metadata(ignored_columns=ignored) if ignored else packed


def from_ase(atoms: Iterable[Any], *, method: str | None = None) -> CrystalSet:
    """Pack ASE atoms; values in their ``info`` named after properties become property columns."""
    return pack_rows([guarded(lambda a=a: ase_structure(a), dict(a.info)) for a in atoms], method=method)  # type: ignore[misc]


def from_pymatgen(structures: Iterable[Structure]) -> CrystalSet:
    """Pack pymatgen structures; one that a set cannot hold (disordered, not finite) becomes a failed row."""
    return pack_rows([guarded(lambda s=s: plain(s)) for s in structures])  # type: ignore[misc]


def _named(row: RawRow, name: str) -> RawRow:
    return RawRow(row.structure, row.reason, {**row.values, "material_id": row.values.get("material_id") or name})


_HEADER = re.compile(r"^\s*(?P<name>[^\[\]]+?)\s*(?:\[(?P<unit>[^\]]*)\])?\s*$")


def _chosen(present: Sequence[str], properties: Mapping[str, str] | None) -> dict[str, str]:
    """Return {property: column of the file}, units checked."""
    chosen: dict[str, str] = {}
    if properties is not None:
        for prop, column in properties.items():
            get_property(prop)
            if column not in present:
                has = ", ".join(present) or "none"
                raise ImpossibleRequest(f"The file has no column {column!r} (for {prop}); it has {has}.")
            chosen[prop] = column
    else:
        for column in present:
            found = _HEADER.match(column)
            if found and found["name"] in PROPERTIES:
                chosen.setdefault(found["name"], column)
    for prop, column in chosen.items():
        found = _HEADER.match(column)
        unit = found["unit"] if found else None
        if unit is not None and _unit(unit) != _unit(get_property(prop).unit):
            raise BadInput(
                f"The column {column!r} is in {unit or 'no unit'}, but {prop} is kept in {get_property(prop).unit}; "
                "convert the values and the header first."
            )
    return chosen


def _unit(text: str) -> str:
    return re.sub(r"[\s^*·]", "", text.replace("Å", "A").replace("²", "2").replace("³", "3").replace("µ", "u"))


def _value(prop: str, value: Any, notes: list[str]) -> Any:
    """Return a float (or flat list) of a property, or None; what is wrong with it is appended to ``notes``."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    shape = get_property(prop).shape
    try:
        if not shape:
            number = get_property(prop).number(value)
            if math.isfinite(number):
                return number
        else:
            held = json.loads(value) if isinstance(value, str) else value
            flat = _flat(held)
            if len(flat) != math.prod(shape):
                notes.append(f"{prop} has {len(flat)} numbers instead of {math.prod(shape)} and was left out")
                return None
            if all(map(math.isfinite, flat)):
                return flat
    except (TypeError, ValueError):
        notes.append(f"{prop} is not {get_property(prop).kind} ({str(value)[:30]!r}) and was left out")
        return None
    notes.append(f"{prop} is not a finite number and was left out")
    return None


def _flat(value: Any) -> list[float]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [number for item in value for number in _flat(item)]
    return [float(value)]
