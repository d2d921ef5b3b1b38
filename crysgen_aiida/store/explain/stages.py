"""The stages of one screening counted from its packed sets, for the funnel of its run."""

from __future__ import annotations

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
    "reasons"}``; the stages are sampled, grammatical, decoded, selected, relaxed and then each verdict.

    :param sequences: what was sampled, if known.
    :param decoded: the crystals as decoded, if known.
    """
    stages: list[dict[str, Any]] = []
    if sequences is not None:
        n = len(sequences)
        stages.append(step("sampled", n, None, None))
        stages.append(step("grammatical", _count(_ok(sequences)), "sampled", n, _failed(sequences)))
    if decoded is not None:
        # a row that was not grammatical is a row here too: it is counted where it failed
        tried, n = _tried(decoded, sequences), stages[-1]["n"] if stages else len(decoded)
        label = stages[-1]["stage"] if stages else "given"
        stages.append(step("decoded", _count(_ok(decoded)), label, n, _failed(decoded, tried)))
    tried = _tried(relaxed, decoded)
    skipped = where_text(relaxed["status"], "skipped")
    before, n = (stages[-1]["stage"], stages[-1]["n"]) if stages else ("given", _count(tried))
    selected = tried & ~skipped
    stages.append(step("selected", _count(selected), before, n, _reasons(relaxed, tried & skipped)))
    ok = _ok(relaxed)
    n_ok = _count(ok)
    stages.append(step("relaxed", n_ok, "selected", _count(selected), _reasons(relaxed, selected & ~ok)))
    return {"stages": [*stages, *_verdicts(relaxed, table, ok, n_ok)]}


def _verdicts(relaxed: pa.Table, table: pa.Table, ok: Any, n_ok: int) -> list[dict[str, Any]]:
    parents = _whole(table["parent_row"])
    known = (parents >= 0) & (parents < len(relaxed))
    judged = np.zeros(len(table), dtype=bool)
    judged[known] = ok[parents[known]]
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
