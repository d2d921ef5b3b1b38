"""The stages of one screening counted from its packed sets, for the funnel of its run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.store.arrays import flags_of, integers_of, mask_of, where_text
from crysgen_aiida.store.explain.funnel import VERDICT, step
from crysgen_aiida.store.explain.reasons import count_reasons, reason_column


def stages_of(
    sequences: pa.Table | None, decoded: pa.Table | None, relaxed: pa.Table, table: pa.Table
) -> dict[str, Any]:
    """Return the counts and reasons of one screening: ``{"stages": [...]}``, JSON values only.

    A pure function of the packed sets, of which it needs ``status``, ``reason``, ``parent_row`` and the yes/no columns
    with the texts that explain them. Each stage is ``{"stage", "kind", "n", "of", "denominator", "unknown",
    "reasons"}``; the stages are sampled, accepted, decoded, the gates of the selection one by one, selected,
    relaxed, the filters of the protocol one by one, and then each verdict. Gates and filters are steps in the order
    that the sets' metadata state: the denominator of each is what the one before it left.

    :param sequences: what was sampled, if known.
    :param decoded: the crystals as decoded, if known.
    """
    stages: list[dict[str, Any]] = []
    if sequences is not None:
        n = len(sequences)
        stages.append(step("sampled", n, None, None))
        stages.append(step("accepted", _count(_ok(sequences)), "sampled", n, _failed(sequences)))
    if decoded is not None:
        # a row that was not accepted is a row here too: it is counted where it failed
        tried, n = _tried(decoded, sequences), stages[-1]["n"] if stages else len(decoded)
        label = stages[-1]["stage"] if stages else "given"
        stages.append(step("decoded", _count(_ok(decoded)), label, n, _failed(decoded, tried)))
    tried = _tried(relaxed, decoded)
    before = (stages[-1]["stage"], stages[-1]["n"]) if stages else ("given", _count(tried))
    steps, selected = _gates(relaxed, tried, before)
    stages += steps
    ok = _ok(relaxed)
    stages.append(step("relaxed", _count(ok), "selected", _count(selected), _reasons(relaxed, selected & ~ok)))
    return {"stages": [*stages, *_filters(relaxed, table, ok), *_verdicts(relaxed, table, ok)]}


def _gates(relaxed: pa.Table, tried: Any, before: tuple[str, int]) -> tuple[list[dict[str, Any]], Any]:
    """Return a step for each gate of the selection and one for the choice among what passed; and the rows left."""
    skipped = where_text(relaxed["status"], "skipped")
    gates: Sequence[str] = ()
    if "gate" in relaxed.column_names:
        selection = _told(relaxed, "selection")
        gates = selection.get("gates", ()) if isinstance(selection, dict) else ()
    stages, left = [], tried
    for gate in gates:
        stopped = tried & skipped & where_text(relaxed["gate"], gate)
        left = left & ~stopped
        stages.append(step(f"gate {gate}", _count(left), *before, _reasons(relaxed, stopped)))
        before = f"gate {gate}", _count(left)
    selected = left & ~skipped
    stages.append(step("selected", _count(selected), *before, _reasons(relaxed, left & skipped)))
    return stages, selected


def _filters(relaxed: pa.Table, table: pa.Table, ok: Any) -> list[dict[str, Any]]:
    """Return a step for each filter of the protocol, in its order: a row counts where it is stopped first."""
    protocol = _told(table, "protocol")
    filters = protocol.get("filters", ()) if isinstance(protocol, dict) else ()
    if not filters or "stopped_by" not in table.column_names:
        return []
    left = _judged(relaxed, table, ok)
    stages, before = [], ("relaxed", _count(left))
    for name in filters:
        stopped = left & where_text(table["stopped_by"], name)
        left = left & ~stopped
        stages.append(step(f"filter {name}", _count(left), *before, _why(table, name, stopped)))
        before = f"filter {name}", _count(left)
    return stages


def _why(table: pa.Table, verdict: str, rows: Any) -> dict[str, int]:
    """Return the reasons why rows of the table do not have a verdict; those without a text are counted too."""
    why = reason_column(verdict, table.column_names)
    reasons = _reasons(table, rows, why) if why else {}
    silent = _count(rows) - sum(reasons.values())
    return {**reasons, f"{verdict} is not true": silent} if silent else reasons


def _told(held: pa.Table, name: str) -> Any:
    """Return what a set says of how it was made, None if it does not."""
    text = (held.schema.metadata or {}).get(name.encode())
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None


def _judged(relaxed: pa.Table, table: pa.Table, ok: Any) -> Any:
    """Return the rows of the table that judge a relaxed crystal."""
    parents = _whole(table["parent_row"])
    known = (parents >= 0) & (parents < len(relaxed))
    judged = np.zeros(len(table), dtype=bool)
    judged[known] = ok[parents[known]]
    return judged


def _verdicts(relaxed: pa.Table, table: pa.Table, ok: Any) -> list[dict[str, Any]]:
    judged, n_ok = _judged(relaxed, table, ok), _count(ok)
    stages = []
    for held, among in ((relaxed, ok), (table, judged)):
        for field in held.schema:
            if not pa.types.is_boolean(field.type) or (held is relaxed and field.name in table.column_names):
                continue
            answers = held[field.name]
            yes = flags_of(answers) & among
            unknown = among & flags_of(answers.is_null())
            why = reason_column(field.name, held.column_names)
            reasons = _reasons(held, among & ~yes, why) if why else {}
            stage = step(field.name, _count(yes), "relaxed", n_ok, reasons)
            stages.append({**stage, "kind": VERDICT, "unknown": _count(unknown)})
    return stages


def _ok(held: pa.Table) -> Any:
    return where_text(held["status"], "ok")


def _count(rows: Any) -> int:
    return int(rows.sum())


def _tried(held: pa.Table, parents: pa.Table | None) -> Any:
    """Return the rows whose parent was fine: only these could go on."""
    if parents is None:
        return np.ones(len(held), dtype=bool)
    rows = _whole(held["parent_row"])
    known = (rows >= 0) & (rows < len(parents))
    tried = np.zeros(len(held), dtype=bool)
    tried[known] = _ok(parents)[rows[known]]
    return tried


def _failed(held: pa.Table, among: Any = None) -> dict[str, int]:
    return _reasons(held, ~_ok(held) if among is None else among & ~_ok(held))


def _reasons(held: pa.Table, rows: Any, column: str = "reason") -> dict[str, int]:
    return count_reasons(held[column].filter(mask_of(rows)))


def _whole(column: pa.ChunkedArray) -> Any:
    """Return a column of row numbers with -1 for a missing one."""
    return integers_of(column, missing=-1)
