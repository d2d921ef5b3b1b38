"""From crystals to a training set: strings, labels and a split that keeps every formula on one side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet, structure_of
from crysgen_aiida.crystals.errors import EmptySet
from crysgen_aiida.crystals.run import Run, keyed_rng
from crysgen_aiida.crystals.symmetry import crystal_system
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.crystals.workers import Workers
from crysgen_aiida.generators.mattergpt.conditions import CATEGORIES, CONSTRAINTS
from crysgen_aiida.generators.mattergpt.data import respell
from crysgen_aiida.generators.mattergpt.spec import MatterGPTSpec
from crysgen_aiida.generators.row_filter import discredited_rows
from crysgen_aiida.generators.split import split_formulas
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.nets import to_string

if TYPE_CHECKING:
    from crysgen_aiida.representations.slices.nets import Net

#: Columns of a training set besides the base columns and the labels.
_SCHEMA = {
    "sequence": pa.string(),
    "n_tokens": pa.int32(),
    "n_atoms": pa.int32(),
    "reduced_formula": pa.string(),
    "space_group": pa.int32(),
    "crystal_system": pa.string(),
    "copy": pa.int32(),  # 0 is the plain spelling, the others are augmented
    "split": pa.string(),
}


def sequence_id(sequence: str) -> str:
    """Return the content id of a string: equal strings share it."""
    return hashlib.sha256(sequence.encode()).hexdigest()[:16]


def prepare(crystals: CrystalSet, spec: MatterGPTSpec, *, seed: int, run: Run) -> SequenceSet:
    """Spell every crystal, several times if the spec says so; crystals that cannot be spelt keep a row with a reason.

    :raises EmptySet: if there is no crystal, or none that can be spelt.
    """
    if not len(crystals):
        raise EmptySet("There is no crystal to prepare a training set from: the input set has no rows.")
    left_out = spec.data.keep.reasons(crystals)
    ok = crystals.ok & np.array([why is None for why in left_out], dtype=bool)
    formulas = crystals.column("reduced_formula")
    split = split_formulas((f for f, usable in zip(formulas, ok, strict=True) if usable), spec.data.val_fraction, seed)
    labels = [
        name
        for name in spec.data.conditions
        if name in crystals.columns and name not in CATEGORIES and name not in CONSTRAINTS
    ]

    discredited = discredited_rows(crystals, spec.data.distrust)

    with Workers(partial(_spell_crystal, spec=spec, seed=seed), run, len(crystals)) as workers:

        def part(rows: range) -> SequenceSet:
            spelled = workers.map(_crystal_records(crystals, rows, split, left_out))
            return _pack([record for records in spelled for record in records], crystals, labels, discredited)

        result = run.map_rows("prepare", len(crystals), part, part_rows=spec.data.part_rows)
    if not result.ok.any():
        reasons = [r for r in result.column("reason") if r]
        raise EmptySet(
            f"None of the {len(crystals)} crystals can be spelt; the first reason is: {reasons[0]} "
            "Start from three-dimensional crystals with up to "
            f"{spec.slices.max_atoms} atoms and no element beyond radon."
        )
    return result


def _crystal_records(
    crystals: CrystalSet, rows: range, split: Mapping[str, str], left_out: Sequence[str | None]
) -> list[dict[str, Any]]:
    """Return what spelling needs to know of each row."""
    columns = ["lattice", "numbers", "frac_coords", "reduced_formula", "status", "reason"]
    records = crystals.arrow.slice(rows.start, len(rows)).select(columns).to_pylist()
    return [
        {**record, "row": row, "split": split.get(record["reduced_formula"]), "left_out": left_out[row]}
        for row, record in zip(rows, records, strict=True)
    ]


def _spell_crystal(record: Mapping[str, Any], spec: MatterGPTSpec, seed: int) -> list[dict[str, Any]]:
    from crysgen_aiida.representations.slices.graphs import encode_net

    row = record["row"]
    base: dict[str, Any] = {"parent_row": row, "reduced_formula": record["reduced_formula"], "copy": 0}
    if record["status"] != schema.STATUS_OK:
        return [{**base, "status": record["status"], "reason": record["reason"]}]
    if record["left_out"] is not None:
        return [{**base, "status": schema.STATUS_SKIPPED, "reason": record["left_out"]}]
    try:
        net = encode_net(structure_of(record["lattice"], record["numbers"], record["frac_coords"]), spec.slices)
    except SlicesError as error:
        return [{**base, "status": schema.STATUS_FAILED, "reason": error.reason}]
    spelled: dict[str, None] = {}
    rng = keyed_rng(seed, "augment", row)
    for copy in range(spec.data.augmentation):
        how = "none" if copy == 0 else "atoms+axes"
        spelled[to_string(respell(net, spec.data.order, how, rng), prefix=spec.slices.prefix)] = None
    base["split"] = record["split"]
    return [_record(base, net, copy, string, spec) for copy, string in enumerate(spelled)]


def _record(base: Mapping[str, Any], net: Net, copy: int, string: str, spec: MatterGPTSpec) -> dict[str, Any]:
    n_tokens = string.count(" ") + 1
    group = net.space_group
    fits = n_tokens < spec.model.block_size  # one position is for the end token
    return {
        **base,
        "sequence": string,
        "n_tokens": n_tokens,
        "n_atoms": net.n_atoms,
        "space_group": group,
        "crystal_system": crystal_system(group) if group else None,
        "copy": copy,
        "status": schema.STATUS_OK if fits else schema.STATUS_SKIPPED,
        "reason": None if fits else f"The string is longer than model.block_size ({spec.model.block_size}) allows.",
        "content_id": sequence_id(string),
    }


def _pack(
    records: list[dict[str, Any]], crystals: CrystalSet, labels: list[str], discredited: Mapping[str, set[int]]
) -> SequenceSet:
    fields = {
        **_SCHEMA, "status": pa.string(), "reason": pa.string(), "content_id": pa.string(), "parent_row": pa.int64()
    }  # fmt: skip
    table = pa.table({k: pa.array([r.get(k) for r in records], type=t) for k, t in fields.items()})
    table = table.append_column("parent_input", pa.array(["crystals"] * len(records), type=pa.string()))
    parents = table["parent_row"]
    for name in labels:
        values = crystals.arrow[name].take(parents)
        bad = pa.array([row in discredited.get(name, ()) for row in parents.to_pylist()], type=pa.bool_())
        values = pc.if_else(bad, pa.scalar(None, type=values.type), values)
        table = table.append_column(crystals.arrow.schema.field(name), values)
    return SequenceSet(table)
