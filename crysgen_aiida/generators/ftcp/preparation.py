"""From crystals to a training set: what the matrices are made of, labels and a split; every row is kept or says why."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import EmptySet, ImpossibleRequest
from crysgen_aiida.crystals.run import Run, keyed_rng
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.ftcp.labels import check_columns, fit_labels
from crysgen_aiida.generators.ftcp.spec import DataSpec, FtcpGeneratorSpec
from crysgen_aiida.generators.row_filter import discredited_rows
from crysgen_aiida.generators.split import split_formulas
from crysgen_aiida.representations.ftcp.compact import Compact, compact_of

_HULL = "e_above_hull"


def prepare(crystals: CrystalSet, spec: FtcpGeneratorSpec, *, seed: int, run: Run) -> SequenceSet:
    """Return the training set, one row a crystal.

    :raises EmptySet: if there is no crystal, or none to learn from.
    :raises ImpossibleRequest: if a label lacks or is constant.
    """
    if not len(crystals):
        raise EmptySet("There is no crystal to prepare a training set from: the input set has no rows.")
    check_columns(crystals, spec.data.labels, "data set")
    crystals = _without_discredited(crystals, spec.data)
    left_out = _left_out(crystals, spec.data)

    def part(rows: range) -> SequenceSet:
        run.check_time()
        return _encoded(crystals.slice(rows), rows, left_out[rows.start : rows.stop], spec)

    result = run.map_rows("prepare", len(crystals), part, part_rows=spec.data.part_rows)
    if not result.ok.any():
        reasons = [r for r in result.column("reason") if r]
        raise EmptySet(f"None of the {len(crystals)} crystals can be learned from; the first reason is: {reasons[0]}")
    result = _with_split(result, spec.data, seed)
    fit_labels(result, training_rows(result), spec.data)  # refuses labels that cannot be learned
    return result


def training_rows(training_set: SequenceSet, split: str = "train") -> npt.NDArray[np.int64]:
    """Return the usable rows of one side of the split."""
    named = np.array([name == split for name in training_set.column("split")], dtype=bool)
    return np.flatnonzero(training_set.ok & named)


def _without_discredited(crystals: CrystalSet, spec: DataSpec) -> CrystalSet:
    """Return the set without the labels that flags discredit."""
    columns = {}
    for name, rows in discredited_rows(crystals, spec.distrust).items():
        if name in spec.labels:
            values = crystals.values(name)
            values[list(rows)] = np.nan
            columns[crystals.arrow.schema.field(name)] = values
    return crystals.with_columns(columns) if columns else crystals


def _left_out(crystals: CrystalSet, spec: DataSpec) -> list[str | None]:
    """Return for each row the first rule of ``spec`` that leaves it out, None if there is none."""
    found = spec.keep.reasons(crystals)
    lacking = {name: ~np.isfinite(crystals.values(name)) for name in spec.targets}
    far = np.zeros(len(crystals), dtype=bool)
    if spec.max_e_above_hull is not None:
        if _HULL not in crystals.columns:
            raise ImpossibleRequest(
                f"data.max_e_above_hull is {spec.max_e_above_hull:g}, but the data set has no column {_HULL}; set it "
                "to null, or give a set with distances to the hull."
            )
        far = ~(crystals.values(_HULL) <= spec.max_e_above_hull)
    numbers = crystals.column("numbers")
    for row in np.flatnonzero(crystals.ok).tolist():
        if found[row] is None:
            found[row] = (
                next((f"It has no label {name}." for name, missing in lacking.items() if missing[row]), None)
                or _too_few(len(set(numbers[row])), spec.min_elements)
                or (f"It is not known to be within {spec.max_e_above_hull} eV/atom of the hull." if far[row] else None)
            )
    return found


def _too_few(n: int, least: int) -> str | None:
    return f"It has {n} elements, fewer than data.min_elements ({least})." if n < least else None


def _encoded(crystals: CrystalSet, rows: range, left_out: Sequence[str | None], spec: FtcpGeneratorSpec) -> SequenceSet:
    compact, reasons = compact_of(crystals, spec.representation)
    status: list[str] = []
    why: list[str | None] = []
    held = zip(crystals.column("status"), crystals.column("reason"), left_out, reasons, strict=True)
    for given, given_reason, rule, reason in held:
        if given != schema.STATUS_OK:
            status.append(given)
            why.append(given_reason)
        elif rule is not None:
            status.append(schema.STATUS_SKIPPED)
            why.append(rule)
        else:
            status.append(schema.STATUS_OK if reason is None else schema.STATUS_SKIPPED)
            why.append(reason)
    ok = np.array([s == schema.STATUS_OK for s in status], dtype=bool)
    columns = {name: pc.if_else(pa.array(ok), array, None) for name, array in compact.to_columns().items()}
    n = len(crystals)
    table = pa.table(
        {
            **columns,
            "reduced_formula": crystals.arrow["reduced_formula"],
            "n_atoms": crystals.arrow["n_atoms"],
            "split": pa.nulls(n, pa.string()),
            "status": pa.array(status, type=pa.string()),
            "reason": pa.array(why, type=pa.string()),
            "content_id": pa.array(compact_ids(compact, ok), type=pa.string()),
            "parent_input": pa.array(["crystals"] * n, type=pa.string()),
            "parent_row": pa.array(rows, type=pa.int64()),
        }
    )
    for name in spec.data.labels:
        table = table.append_column(crystals.arrow.schema.field(name), crystals.arrow[name])
    return SequenceSet(table, {"ftcp_mode": spec.mode})


def compact_ids(compact: Compact, there: npt.NDArray[np.bool_]) -> list[str | None]:
    """Return the content id of each row: equal rows share it; None where there is nothing."""
    arrays = (compact.numbers, compact.lattices + 0.0, compact.coords + 0.0, compact.occupancy + 0.0)
    return [
        hashlib.sha256(b"".join(array[row].tobytes() for array in arrays)).hexdigest()[:16] if there[row] else None
        for row in range(len(compact))
    ]


def _with_split(training_set: SequenceSet, spec: DataSpec, seed: int) -> SequenceSet:
    usable = np.flatnonzero(training_set.ok)
    sides = np.full(len(training_set), None, dtype=object)
    if spec.split == "formula":
        formulas = training_set.column("reduced_formula")
        side = split_formulas((formulas[row] for row in usable), spec.val_fraction, seed)
        sides[usable] = [side[formulas[row]] for row in usable]
    else:
        shuffled = keyed_rng(seed, "split", 0).permutation(usable)
        n_val = min(round(spec.val_fraction * len(usable)), len(usable) - 1)
        sides[shuffled[:n_val]], sides[shuffled[n_val:]] = "val", "train"
    return training_set.with_columns({pa.field("split", pa.string()): pa.array(sides.tolist(), type=pa.string())})
