"""Arrow schemas of the packed sets: the door between the two wings.

Every packed set is one Parquet file whose columns are the base columns below, the payload columns of its kind and
any number of property columns. A property column is named after :mod:`crysgen_aiida.crystals.properties`; its unit
and its method travel as field metadata, so that one column never mixes methods.
"""

from __future__ import annotations

import pyarrow as pa

from crysgen_aiida.crystals.properties import get_property

#: Raised whenever a column is renamed, retyped or given another meaning.
SCHEMA_VERSION = 1

#: Values of the ``status`` column. Rows are never dropped: whatever is not ``ok`` has a ``reason``.
STATUS_OK = "ok"
STATUS_FAILED = "failed"
STATUS_SKIPPED = "skipped"  # deliberately not worked on, by a rule named in the reason
STATUS_TIMEOUT = "timeout"  # stopped by the clock: not reproducible, retried on resume
STATUSES = (STATUS_OK, STATUS_FAILED, STATUS_SKIPPED, STATUS_TIMEOUT)

#: Kinds of packed sets.
CRYSTALS, SEQUENCES, TABLE, REFERENCE, DECISION = "crystals", "sequences", "table", "reference", "decision"

_BASE = (
    pa.field("row", pa.int64(), nullable=False),  # position: the key of the row within its set
    pa.field("content_id", pa.string()),  # fingerprint of the payload: not a key, equal rows share it
    pa.field("status", pa.string(), nullable=False),
    pa.field("reason", pa.string()),
    pa.field("parent_input", pa.string()),  # link label of the input set this row came from
    pa.field("parent_row", pa.int64()),  # and its row there
)

_PAYLOAD: dict[str, tuple[pa.Field, ...]] = {
    CRYSTALS: (
        pa.field("lattice", pa.list_(pa.float64(), 9)),  # row-major vectors a, b, c [A]
        pa.field("numbers", pa.list_(pa.uint8())),  # atomic numbers, n
        pa.field("frac_coords", pa.list_(pa.float64())),  # fractional coordinates, flattened n x 3
        pa.field("reduced_formula", pa.string()),
        pa.field("n_atoms", pa.int32()),
    ),
    SEQUENCES: (),  # the generator's GeneratorInfo.sequence_columns name the payload
    TABLE: (),  # verdict and property columns, one row per row of the set that was judged (parent_row)
    REFERENCE: (
        pa.field("formula", pa.string(), nullable=False),  # full formula of the entry, e.g. "Al2 O3"
        pa.field("energy_per_atom", pa.float64(), metadata={"unit": "eV/atom", "property": "energy_per_atom"}),
        pa.field("source", pa.string()),
    ),
    DECISION: (
        pa.field("rank", pa.int64()),
        pa.field("score", pa.float64()),
    ),
}

KINDS = tuple(_PAYLOAD)


def required_schema(kind: str) -> pa.Schema:
    """Return the columns every set of ``kind`` must have, base columns first."""
    return pa.schema([*_BASE, *_PAYLOAD[kind]])


def property_field(name: str, method: str, *, column: str | None = None) -> pa.Field:
    """Return the Arrow field of a registered property, stamped with unit and method.

    :param method: what produced the values, e.g. ``pbe-mp-legacy`` or ``chgnet-0.3.0``.
    :param column: column name if it differs from the property's, e.g. ``target.band_gap`` for a requested value.
    :raises ImpossibleRequest: if the property is not registered.
    """
    registered = get_property(name)
    size = 1
    for n in registered.shape:
        size *= n
    dtype = pa.list_(pa.float64(), size) if registered.shape else pa.float64()
    metadata = {"property": name, "unit": registered.unit, "method": method}
    return pa.field(column or name, dtype, metadata=metadata)
