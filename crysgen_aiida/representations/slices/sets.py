"""Encoding and decoding of whole sets, resumable in parts; every row gets a result or a reason."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet, structure_of
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import PackedTable, SequenceSet
from crysgen_aiida.crystals.workers import Workers
from crysgen_aiida.representations.slices.decoder import Decoded, decode
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.graphs import encode
from crysgen_aiida.representations.slices.spec import SlicesSpec

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
    """Return the string of every crystal, row for row; rows that cannot be spelt say why.

    ``run.threads`` processes share the rows; the result is the same for any number of them.
    """
    with Workers(partial(_encoded, spec=spec), run, len(crystals)) as workers:

        def part(rows: range) -> SequenceSet:
            found = workers.map(records_of(crystals, rows, "lattice", "numbers", "frac_coords"))
            strings = [string for string, _ in found]
            return sequence_set(strings, [reason for _, reason in found], list(rows), metadata_of(spec))

        return run.map_rows("encode", len(crystals), part, part_rows=PART_ROWS)


def decode_set(sequences: SequenceSet, spec: SlicesSpec, run: Run) -> CrystalSet:
    """Return the crystal of every string, row for row; strings that are none say why.

    ``run.threads`` processes share the rows; the result is the same for any number of them.
    """
    with Workers(partial(_decoded, spec=spec), run, len(sequences)) as workers:

        def part(rows: range) -> CrystalSet:
            found = workers.map(records_of(sequences, rows, SEQUENCE))
            return CrystalSet.from_structures(
                [crystal.arrays if crystal is not None else None for crystal, _ in found],
                reasons=[reason for _, reason in found],
                parent_input="sequences", parent_rows=rows, metadata=metadata_of(spec),
            )  # fmt: skip

        return run.map_rows("decode", len(sequences), part, part_rows=PART_ROWS)


def records_of(table: PackedTable, rows: range, *columns: str) -> list[dict[str, Any]]:
    """Return what is to be translated, with the reason why it may be missing."""
    return list(table.arrow.slice(rows.start, len(rows)).select([*columns, "reason"]).to_pylist())


def _encoded(record: dict[str, Any], spec: SlicesSpec) -> tuple[str | None, str | None]:
    """Return a string, or None and the reason."""
    if record["lattice"] is None:
        return None, nothing_to_translate(record)
    try:
        return encode(structure_of(record["lattice"], record["numbers"], record["frac_coords"]), spec), None
    except SlicesError as error:
        return None, error.reason


def _decoded(record: dict[str, Any], spec: SlicesSpec) -> tuple[Decoded | None, str | None]:
    """Return a crystal, or None and the reason."""
    if record[SEQUENCE] is None:
        return None, nothing_to_translate(record)
    try:
        return decode(record[SEQUENCE], spec), None
    except SlicesError as error:
        return None, error.reason


def nothing_to_translate(record: dict[str, Any]) -> str:
    """Return the reason of a row that comes from a row without anything to translate."""
    return f"The row it comes from holds nothing to translate: {record['reason'] or 'no reason given'}"


def metadata_of(spec: SlicesSpec) -> dict[str, Any]:
    """Return what a set of strings or of decoded crystals says of its making."""
    return {"slices_mode": spec.mode, "slices_graph_method": spec.graph_method, "slices_strategy": str(spec.strategy)}
