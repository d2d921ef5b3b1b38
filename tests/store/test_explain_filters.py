"""Gates before and filters after the relaxation in the funnel: in their order, every row counted where it stopped."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.store.explain.stages import stages_of

GATES, FILTERS = ["symmetry", "new_formula"], ["unique", "near_reference"]


def packed(columns: dict[str, Any], **metadata: Any) -> pa.Table:
    return pa.table(columns).replace_schema_metadata({k: json.dumps(v) for k, v in metadata.items()})


@settings(deadline=None, max_examples=80)
@given(st.lists(st.sampled_from(["no crystal", *GATES, "choice", "failed", *FILTERS, "passed"]), max_size=40))
def test_every_row_is_counted_where_it_stopped(ends: list[str]) -> None:
    n = len(ends)
    rows = pa.array(range(n), pa.int64())
    decoded = ["failed" if end == "no crystal" else "ok" for end in ends]
    skipped = {*GATES, "choice"}
    status = ["skipped" if e in skipped else "failed" if e in ("no crystal", "failed") else "ok" for e in ends]
    said = [None if s == "ok" else f"because of {e}" for s, e in zip(status, ends, strict=True)]
    text = pa.string()
    relaxed = packed(
        {
            "status": pa.array(status, text),
            "reason": pa.array(said, text),
            "parent_row": rows,
            "gate": pa.array([e if e in skipped else None for e in ends], text),
        },
        selection={"gates": GATES},
    )
    stopped = [e if e in FILTERS else None for e in ends]
    table = packed(
        {
            "status": pa.array(status, text),
            "reason": pa.array(said, text),
            "parent_row": rows,
            "unique": pa.array([None if s != "ok" else e != "unique" for s, e in zip(status, ends, strict=True)]),
            "unique_reason": pa.array(["twin" if e == "unique" else None for e in ends], text),
            "stopped_by": pa.array(stopped, text),
        },
        protocol={"name": "x", "filters": FILTERS},
    )
    states = {"status": pa.array(decoded, text), "parent_row": rows}
    reasons = pa.array(["no crystal" if d == "failed" else None for d in decoded], text)
    stages = stages_of(None, pa.table({**states, "reason": reasons}), relaxed, table)["stages"]
    steps = [s for s in stages if s["kind"] == "step"]
    order = ["no crystal", *GATES, "choice", "failed", *FILTERS]
    names = ["decoded", *(f"gate {g}" for g in GATES), "selected", "relaxed", *(f"filter {f}" for f in FILTERS)]
    assert [s["stage"] for s in steps] == names
    left = n
    for stage, end in zip(steps, order, strict=True):
        assert stage["denominator"] == left
        left -= ends.count(end)
        assert stage["n"] == left
        assert sum(stage["reasons"].values()) == ends.count(end)
    if ends.count("unique"):
        assert steps[5]["reasons"] == {"twin": ends.count("unique")}
    if ends.count("near_reference"):  # no column explains it: it is still said
        assert steps[6]["reasons"] == {"near_reference is not true": ends.count("near_reference")}


def test_sets_that_say_nothing_of_gates_or_filters_have_none() -> None:
    base = {"status": ["ok"], "reason": pa.nulls(1, pa.string()), "parent_row": [0]}
    relaxed = pa.table(base).replace_schema_metadata({"selection": "none"})
    table = pa.table(base).replace_schema_metadata({"protocol": json.dumps({"filters": []})})
    assert [s["stage"] for s in stages_of(None, None, relaxed, table)["stages"]] == ["selected", "relaxed"]
