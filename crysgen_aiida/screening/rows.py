"""The verdicts that need one row only: structure, composition, symmetry, band gap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import NotInstalled
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.piezo import piezo_gate
from crysgen_aiida.physics.surrogates import METHOD, Cell, Gap, predict_gaps
from crysgen_aiida.screening.composition import chemistry_flags, valid_composition
from crysgen_aiida.screening.protocols import Protocol
from crysgen_aiida.screening.validity import judge_structure

_GEOMETRY = "geometry"


def judged_record(
    crystals: CrystalSet, unrelaxed: CrystalSet | None, row: int, rules: Protocol
) -> tuple[CrystalSet, int] | None:
    """Return the set and the row of the geometry that the protocol judges, None if there is no crystal."""
    record = crystals.get(row)
    if record["status"] != schema.STATUS_OK or record["lattice"] is None:
        return None
    if rules.judged == "relaxed" or unrelaxed is None:
        return crystals, row
    parent = record["parent_row"]
    if parent is None or not 0 <= parent < len(unrelaxed) or unrelaxed.get(parent)["lattice"] is None:
        return None
    return unrelaxed, int(parent)


def judge_part(crystals: CrystalSet, unrelaxed: CrystalSet | None, rows: range, rules: Protocol) -> PropertyTable:
    """Judge some rows; a row without a crystal keeps its status and reason, its verdicts are null."""
    records = [crystals.get(row) for row in rows]
    cells = [_cell(record) for record in records]
    gaps = _gaps(cells)
    judged: list[dict[str, Any]] = []
    for row, record, cell, gap in zip(rows, records, cells, gaps, strict=True):
        values: dict[str, Any] = {
            "status": record["status"],
            "reason": record["reason"],
            "content_id": record["content_id"],
        }
        if cell is not None:
            values.update(_judge(crystals, unrelaxed, row, record["reduced_formula"], cell, gap, rules))
        judged.append(values)
    return _table(rows, judged, rules)


def _cell(record: dict[str, Any]) -> Cell | None:
    if record["status"] != schema.STATUS_OK or record["lattice"] is None:
        return None
    frac = np.array(record["frac_coords"], dtype=float).reshape(-1, 3)
    return np.array(record["lattice"], dtype=float).reshape(3, 3), np.array(record["numbers"], dtype=np.int64), frac


def _gaps(cells: list[Cell | None]) -> list[Gap]:
    sound = [k for k, cell in enumerate(cells) if cell is not None and _sound(cell)]
    found = [Gap(None, None, "there is no crystal to judge")] * len(cells)
    try:
        gaps = predict_gaps([c for c in (cells[k] for k in sound) if c is not None])
    except NotInstalled as error:  # the surrogate needs a newer Python than this program does
        gaps = [Gap(None, None, str(error))] * len(sound)
    for k, gap in zip(sound, gaps, strict=True):
        found[k] = gap
    return found


def _sound(cell: Cell) -> bool:
    lattice, _, frac = cell
    finite = bool(np.isfinite(lattice).all() and np.isfinite(frac).all())
    return finite and abs(float(np.linalg.det(lattice))) > 1e-3


def _judge(
    crystals: CrystalSet,
    unrelaxed: CrystalSet | None,
    row: int,
    formula: str,
    cell: Cell,
    gap: Gap,
    rules: Protocol,
) -> dict[str, Any]:
    lattice, numbers, frac = cell
    shown = judge_structure(lattice, numbers, frac, rules.structure)
    held = judged_record(crystals, unrelaxed, row, rules)
    geometry_valid, geometry_reason = shown.valid, shown.reason
    if held is None:
        geometry_valid, geometry_reason = None, "the unrelaxed crystal is not there"
    elif held[0] is not crystals:
        other = _cell(held[0].get(held[1]))
        judged = shown if other is None else judge_structure(*other, rules.structure)
        geometry_valid, geometry_reason = judged.valid, judged.reason
    composition, why = valid_composition(formula, rules.composition)
    gate = piezo_gate(lattice, frac, numbers, gap.band_gap, symprecs=rules.symprecs, min_gap=rules.min_gap)
    return {
        "valid_structure": geometry_valid,
        "valid_structure_reason": geometry_reason,
        "valid_composition": composition,
        "valid_composition_reason": why,
        "chemistry": chemistry_flags(formula),
        "dimensionality": _dimensionality(crystals, row),
        "min_distance": shown.min_distance,
        "volume_per_atom": None if shown.volume is None else shown.volume / len(numbers),
        "density": shown.density,
        "space_group": gate.space_group,
        "space_group_loose": gate.space_group_loose,
        "band_gap": gap.band_gap,
        "is_metal_probability": gap.metal_probability,
        "band_gap_reason": gap.reason,
        **_semiconductor(gap, rules),
        "piezo_allowed": gate.allowed,
        "piezo_active": gate.active,
        "piezo_reason": gate.reason,
        "rmsd_to_relaxed": _rmsd(crystals, unrelaxed, row),
    }


def _semiconductor(gap: Gap, rules: Protocol) -> dict[str, Any]:
    if gap.band_gap is None:
        return {"semiconductor": None, "semiconductor_reason": gap.reason}
    if rules.min_gap < gap.band_gap <= rules.max_gap:
        return {"semiconductor": True, "semiconductor_reason": None}
    side = f"not above {rules.min_gap:g}" if gap.band_gap <= rules.min_gap else f"above {rules.max_gap:g}"
    why = "it is predicted a metal" if gap.band_gap == 0 else f"the gap of {gap.band_gap:.2f} eV is {side} eV"
    return {"semiconductor": False, "semiconductor_reason": f"{why} ({METHOD})"}


def _rmsd(crystals: CrystalSet, unrelaxed: CrystalSet | None, row: int) -> float | None:
    """Return how far the atoms moved [A], by the matcher without rescaling; 0.5 (V/n)^(1/3) without a match."""
    from crysgen_aiida.crystals.matching import moved

    parent = crystals.get(row)["parent_row"]
    if unrelaxed is None or parent is None or not 0 <= parent < len(unrelaxed):
        return None
    if unrelaxed.get(parent)["lattice"] is None:
        return None
    try:
        return moved(unrelaxed.structure(parent), crystals.structure(row))[0]
    except (ValueError, ArithmeticError):
        return None


def _dimensionality(crystals: CrystalSet, row: int) -> int | None:
    """Return in how many directions the bonds go on: 3 for a framework, 2 for layers, 0 for molecules."""
    from crysgen_aiida.representations.slices import SlicesError, dimensionality, net_of

    try:
        return dimensionality(net_of(crystals.structure(row)))
    except (SlicesError, ValueError):
        return None


def _table(rows: range, judged: list[dict[str, Any]], rules: Protocol) -> PropertyTable:
    text, flag, whole = pa.string(), pa.bool_(), pa.int16()
    tight, loose = ({"symprec": f"{symprec:g}"} for symprec in rules.symprecs)
    fields: list[pa.Field] = [
        pa.field("valid_structure", flag),
        pa.field("valid_structure_reason", text),
        pa.field("valid_composition", flag),
        pa.field("valid_composition_reason", text),
        pa.field("chemistry", text),
        pa.field("dimensionality", pa.int8(), metadata={"graph": "econnn"}),
        schema.property_field("min_distance", _GEOMETRY),
        schema.property_field("volume_per_atom", _GEOMETRY),
        schema.property_field("density", _GEOMETRY),
        pa.field("space_group", whole, metadata=tight),
        pa.field("space_group_loose", whole, metadata=loose),
        schema.property_field("band_gap", METHOD),
        schema.property_field("is_metal_probability", METHOD),
        pa.field("band_gap_reason", text),
        pa.field("semiconductor", flag),
        pa.field("semiconductor_reason", text),
        pa.field("piezo_allowed", flag),
        pa.field("piezo_active", flag, metadata={"min_gap": f"{rules.min_gap:g} eV"}),
        pa.field("piezo_reason", text),
        pa.field("rmsd_to_relaxed", pa.float64(), metadata={"unit": "A"}),
    ]
    base = pa.table(
        {
            "content_id": pa.array([v["content_id"] for v in judged], type=text),
            "status": pa.array([v["status"] for v in judged], type=text),
            "reason": pa.array([v["reason"] for v in judged], type=text),
            "parent_input": pa.array(["crystals"] * len(judged), type=text),
            "parent_row": pa.array(rows, type=pa.int64()),
        }
    )
    return PropertyTable(base).with_columns({f: [v.get(f.name) for v in judged] for f in fields})
