"""From what the stages left to one table of results, addressed to the rows the candidates are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.types as pat
from aiida import orm
from aiida.engine import calcfunction

from crysgen_aiida.calculations.bands import electron_bands
from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.electron_bands import bands_table
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.matching import rms_distance
from crysgen_aiida.crystals.symmetry import primitive, symmetry
from crysgen_aiida.crystals.table import PackedTable, PropertyTable
from crysgen_aiida.data.packed import CrystalSetData, PropertyTableData
from crysgen_aiida.data.structures import structure_node, to_pymatgen
from crysgen_aiida.workchains.verify.gates import NOT_COMPUTED
from crysgen_aiida.workchains.verify.plan import AT_REST

#: Tolerance at which the space group of a result's crystal is stated [A].
SYMPREC = 0.01

_TEXT, _NUMBER = pa.string(), pa.float64()
_COLUMNS = {
    "address": _TEXT,
    "property": _TEXT,
    "value": _NUMBER,
    "unit": _TEXT,
    "method": _TEXT,
    "uncertainty": _NUMBER,
    "stage": _TEXT,
    "engine": _TEXT,
    "source": _TEXT,
    "computed_on": _TEXT,
    "rms_distance": _NUMBER,
    "space_group": pa.int32(),
    "verdict": _TEXT,
}


@calcfunction
def candidate_structure(crystals: CrystalSetData, row: orm.Int, symprec: orm.Float) -> orm.StructureData:
    """Return the crystal of a row as a structure: its primitive cell, symmetrised within ``symprec`` [A]."""
    structure = crystals.table.structure(row.value)
    node = structure_node(primitive(structure, symprec.value, idealize=True))
    node.label = str(crystals.get(row.value)["reduced_formula"])
    node.description = f"row {row.value} of {crystals.uuid}"
    return node


@calcfunction
def bands_to_transport(structure: orm.StructureData, bands: orm.BandsData, results: orm.Dict) -> PropertyTableData:
    """Return the electron bands of an engine's stage as the table that transport is computed from.

    :param bands: on a mesh.
    :param results: of the stage, whose facts give ``number_of_electrons`` and, of a metal, ``fermi_energy`` [eV].
    """
    held = results.get_dict()
    return PropertyTableData(bands_table([electron_bands(structure, bands, held["facts"])], held["method"]))


@calcfunction
def collect_results(crystals: CrystalSetData, about: orm.Dict, **nodes: orm.Data) -> PropertyTableData:
    """Return every value the stages computed and every verdict, as rows that name their candidate.

    A row has a ``property`` with ``value``, ``unit``, ``method`` and, with a second opinion, ``uncertainty``; or it
    has a ``verdict`` of a stage with the reason. Both name the node they come from (``source``), the crystal that was
    computed (``computed_on``: a structure, or set and row), how far its atoms are from the candidate's
    (``rms_distance``, in units of (V/n)^(1/3); absent where they do not match) and its space group.

    :param crystals: the set whose rows the candidates are.
    :param about: ``made``: what each node is (label, stage, engine, second, rows, geometry); ``verdicts``; the plan
        and the gates, for the record.
    :param nodes: tables, results and crystals by the labels that ``about`` uses.
    """
    told = about.get_dict()
    geometries = _Geometries(crystals, nodes)
    rows: list[dict[str, Any]] = []
    for made in told["made"]:
        rows += _values(made, nodes, geometries)
    rows = _with_second_opinions(rows)
    for verdict in told["verdicts"]:
        rows.append({**verdict, "row": int(verdict["row"])})
    for row in rows:
        row["address"] = f"{crystals.uuid}:{row['row']}"
    parents = [row["row"] for row in rows]
    columns: dict[str, pa.Array] = {
        name: pa.array([row.get(name) for row in rows], type=kind) for name, kind in _COLUMNS.items()
    }
    failed = [row.get("verdict") == NOT_COMPUTED for row in rows]
    columns["status"] = pa.array([schema.STATUS_FAILED if bad else schema.STATUS_OK for bad in failed], type=_TEXT)
    columns["reason"] = pa.array([row.get("reason") or None for row in rows], type=_TEXT)
    columns["parent_input"] = pa.array(["crystals"] * len(rows), type=_TEXT)
    columns["parent_row"] = pa.array(parents, type=pa.int64())
    table = PropertyTable(pa.table(columns))
    return PropertyTableData(table.with_metadata(plan=told["plan"], gates=told["gates"]))


class _Geometries:
    """The crystals that were computed, compared with those of the candidates, each once."""

    def __init__(self, crystals: CrystalSetData, nodes: Mapping[str, orm.Data]) -> None:
        self.crystals, self.nodes = crystals, nodes
        self.held: dict[tuple[str, int], dict[str, Any]] = {}

    def describe(self, label: str, position: int, row: int) -> dict[str, Any]:
        """Return ``computed_on``, ``rms_distance`` and ``space_group``.

        :param label: of the structure, or of the set and then at ``position`` in it.
        :param row: of the candidate.
        """
        key = (label, row)
        if key not in self.held:
            node = self.nodes[label]
            if isinstance(node, CrystalSetData):
                where, record = f"{node.uuid}:{position}", node.get(position)
                computed = node.table.structure(position) if record["lattice"] is not None else None
            else:
                where, computed = node.uuid, to_pymatgen(node)  # type: ignore[arg-type]
            found: dict[str, Any] = {"computed_on": where}
            if computed is not None:
                found["rms_distance"] = rms_distance(self.crystals.table.structure(row), computed)
                try:
                    found["space_group"] = symmetry(computed, SYMPREC).number
                except BadInput:
                    found["space_group"] = None
            self.held[key] = found
        return self.held[key]


def _values(
    made: Mapping[str, Any], nodes: Mapping[str, orm.Data], geometries: _Geometries
) -> Iterator[dict[str, Any]]:
    node = nodes[made["label"]]
    shared = {"stage": made["stage"], "engine": made["engine"], "source": node.uuid, "second": made["second"]}
    for position, row in enumerate(made["rows"]):
        place = geometries.describe(made["geometry"], position, row)
        values = (
            _results_values(node) if isinstance(node, orm.Dict) else _table_values(node.table, position)  # type: ignore[attr-defined]
        )
        for name, value, unit, method in values:
            yield {**shared, **place, "row": row, "property": name, "value": value, "unit": unit, "method": method}


def _table_values(table: PackedTable, position: int) -> Iterator[tuple[str, float, str, str]]:
    """Return the registered scalar properties of a row of a set or table."""
    record = table.get(position)
    for field in table.arrow.schema:
        held = field.metadata or {}
        if b"property" in held and b"method" in held and pat.is_floating(field.type) and record[field.name] is not None:
            told = [held[key].decode() for key in (b"property", b"unit", b"method")]
            yield told[0], float(record[field.name]), told[1], told[2]


def _results_values(node: orm.Dict) -> Iterator[tuple[str, float, str, str]]:
    """Return the values of an engine's stage."""
    from crysgen_aiida.crystals.properties import get_property

    results = node.get_dict()
    for name, value in results["values"].items():
        yield name, float(value), get_property(name).unit, results["method"]


def _with_second_opinions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first opinions; of derivatives, how far the second is from one is its uncertainty.

    Energies of two potentials are on two scales, and forces left over say nothing of each other.
    """
    second = {(r["row"], r["stage"], r["property"]): r["value"] for r in rows if r["second"]}
    first = [r for r in rows if not r["second"]]
    for row in (r for r in first if r["stage"] in AT_REST):
        other = second.get((row["row"], row["stage"], row["property"]))
        if other is not None:
            row["uncertainty"] = abs(row["value"] - other)
    return first
