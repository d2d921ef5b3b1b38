"""Encoding and decoding of whole sets, resumable in parts; every row gets a result or a reason."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import PackedTable, SequenceSet
from crysgen_aiida.representations.slices.decoder import decode
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.graphs import encode
from crysgen_aiida.representations.slices.spec import SlicesSpec

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Rows of one part. It is fixed: part boundaries must not depend on the machine.
PART_ROWS = 256

#: Payload column of a set of strings.
SEQUENCE = "sequence"


def sequence_id(string: str) -> str:
    """Return the fingerprint of a string (16 hex digits)."""
    return hashlib.sha256(string.encode()).hexdigest()[:16]


def sequence_set(
    strings: list[str | None], reasons: list[str | None], parent_rows: list[int], metadata: dict[str, Any]
) -> SequenceSet:
    """Pack strings encoded from the rows of ``crystals``; a missing string needs a reason."""
    status = [schema.STATUS_OK if s is not None else schema.STATUS_FAILED for s in strings]
    table = pa.table(
        {
            SEQUENCE: pa.array(strings, type=pa.string()),
            "content_id": pa.array([sequence_id(s) if s is not None else None for s in strings], type=pa.string()),
            "status": pa.array(status, type=pa.string()),
            "reason": pa.array(reasons, type=pa.string()),
            "parent_input": pa.array(["crystals"] * len(strings), type=pa.string()),
            "parent_row": pa.array(parent_rows, type=pa.int64()),
        }
    )
    return SequenceSet(table, metadata)


def encode_set(crystals: CrystalSet, spec: SlicesSpec, run: Run) -> SequenceSet:
    """Return the string of every crystal, row for row; rows that cannot be spelt say why."""

    def part(rows: range) -> SequenceSet:
        run.check_time()
        strings: list[str | None] = []
        reasons: list[str | None] = []
        for row in rows:
            why = _unusable(crystals, row, "lattice")
            string = None
            if why is None:
                try:
                    string = encode(crystals.structure(row), spec)
                except SlicesError as error:
                    why = error.reason
            strings.append(string)
            reasons.append(why)
        return sequence_set(strings, reasons, list(rows), _metadata(spec))

    return run.map_rows("encode", len(crystals), part, part_rows=PART_ROWS)


def decode_set(sequences: SequenceSet, spec: SlicesSpec, run: Run) -> CrystalSet:
    """Return the crystal of every string, row for row; strings that are none say why."""

    def part(rows: range) -> CrystalSet:
        run.check_time()
        structures: list[Structure | None] = []
        reasons: list[str | None] = []
        for row in rows:
            why = _unusable(sequences, row, SEQUENCE)
            structure = None
            if why is None:
                try:
                    structure = decode(sequences.get(row)[SEQUENCE], spec).structure()
                except SlicesError as error:
                    why = error.reason
            structures.append(structure)
            reasons.append(why)
        return CrystalSet.from_structures(
            structures, reasons=reasons, parent_input="sequences", parent_rows=rows, metadata=_metadata(spec)
        )

    return run.map_rows("decode", len(sequences), part, part_rows=PART_ROWS)


def _unusable(table: PackedTable, row: int, column: str) -> str | None:
    record = table.get(row)
    if record.get(column) is not None:
        return None
    return f"The row it comes from holds nothing to translate: {record['reason'] or 'no reason given'}"


def _metadata(spec: SlicesSpec) -> dict[str, Any]:
    return {"slices_mode": spec.mode, "slices_graph_method": spec.graph_method, "slices_strategy": str(spec.strategy)}
