"""The funnel of a run: how many rows were left after every stage, and why the others were not.

A *step* counts what went on; its denominator is the step before it. A *verdict* is asked of every relaxed crystal on
its own: its denominator is the number of relaxed crystals, those it could not tell included. Every share has its 95 %
interval of Wilson.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from crysgen_aiida.store.explain.reasons import count_reasons, merge_reasons, reason_column

if TYPE_CHECKING:
    import pyarrow as pa

    from crysgen_aiida.store.explain.runs import Run
    from crysgen_aiida.store.index.database import Index

STEP, VERDICT = "step", "verdict"


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
        stages.append(_step("sampled", n, None, None))
        stages.append(_step("grammatical", _count(_ok(sequences)), "sampled", n, _failed(sequences)))
    if decoded is not None:
        # a row that was not grammatical is a row here too: it is counted where it failed
        tried, n = _tried(decoded, sequences), stages[-1]["n"] if stages else len(decoded)
        label = stages[-1]["stage"] if stages else "given"
        stages.append(_step("decoded", _count(_ok(decoded)), label, n, _failed(decoded, tried)))
    tried = _tried(relaxed, decoded)
    skipped = _equals(relaxed["status"], "skipped")
    before, n = (stages[-1]["stage"], stages[-1]["n"]) if stages else ("given", _count(tried))
    selected = tried & ~skipped
    stages.append(_step("selected", _count(selected), before, n, _reasons(relaxed, tried & skipped)))
    ok = _ok(relaxed)
    n_ok = _count(ok)
    stages.append(_step("relaxed", n_ok, "selected", _count(selected), _reasons(relaxed, selected & ~ok)))
    return {"stages": [*stages, *_verdicts(relaxed, table, ok, n_ok)]}


def add_up(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the funnel of several screenings together, stage by stage in the order they first appear."""
    total: dict[str, dict[str, Any]] = {}
    for stage in (stage for part in parts for stage in part["stages"]):
        held = total.setdefault(stage["stage"], {**stage, "n": 0, "denominator": None, "unknown": 0, "reasons": {}})
        held["n"] += stage["n"]
        held["unknown"] += stage["unknown"]
        if stage["denominator"] is not None:
            held["denominator"] = (held["denominator"] or 0) + stage["denominator"]
        held["reasons"] = merge_reasons([held["reasons"], stage["reasons"]])
    return {"stages": list(total.values())}


def with_rates(funnel: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the stages with ``share`` and ``wilson95``, which follow from the counts."""
    from crysgen_aiida.screening.statistics import wilson

    found = []
    for stage in funnel["stages"]:
        trials = stage["denominator"]
        share = stage["n"] / trials if trials else None
        found.append({**stage, "share": share, "wilson95": list(wilson(stage["n"], trials)) if trials else None})
    return found


def decided(decision: Any, promoted: int) -> list[dict[str, Any]]:
    """Return the stages after screening: the constraints of a recorded ranking one by one, ranked, promoted.

    :param decision: a node that holds a ranking, or None if there is none.
    :param promoted: structures made from it.
    """
    if decision is None:
        return []
    steps = [(str(name), int(n)) for name, n in decision.metadata.get("funnel", [])]
    stages = []
    for (before, n), (name, left) in pairwise(steps):
        stages.append(_step(f"met {name}", left, "candidates" if before == "all" else f"met {before}", n))
    last, n = (f"met {steps[-1][0]}" if len(steps) > 1 else "candidates", steps[-1][1]) if steps else ("candidates", 0)
    stages.append(_step("ranked", decision.n_rows, last, n))
    return [*stages, _step("promoted", promoted, "ranked", decision.n_rows)]


def of_run(index: Index, run: Run, *, graph: bool = True) -> dict[str, Any]:
    """Return the whole funnel of a run: ``{"run", "label", "stages": [...]}`` with rates.

    :param run: several screenings of one run are added up.
    :param graph: read the recorded ranking and what was promoted from the graph of the loaded profile as well.
    """
    from sqlalchemy import select

    from crysgen_aiida.store.index.models import Batch

    with index.read() as connection:
        query = select(Batch.funnel).where(Batch.id.in_(run.batch_ids)).order_by(Batch.created, Batch.key)
        parts = list(connection.scalars(query))
    stages = add_up(parts)["stages"]
    if graph:
        stages += add_up([{"stages": _after(uuid)} for uuid in run.screens])["stages"]
    return {"run": run.uuid, "label": run.label, "stages": with_rates({"stages": stages})}


def _after(screen: str) -> list[dict[str, Any]]:
    from aiida import orm

    from crysgen_aiida.store.candidates import decisions_of, of_screen

    node: Any = orm.load_node(uuid=screen)
    return decided(*decisions_of(of_screen(node)))


def rows_of(stages: list[dict[str, Any]], most: int = 3) -> list[dict[str, Any]]:
    """Return the stages as lines of a table for people: share with its interval, the ``most`` frequent reasons."""
    lines = []
    for stage in stages:
        interval = stage["wilson95"]
        reasons = [f"{n}× {reason}" for reason, n in list(stage["reasons"].items())[:most]]
        more = len(stage["reasons"]) - len(reasons)
        lines.append(
            {
                "stage": stage["stage"],
                "n": stage["n"],
                "of": "" if stage["denominator"] is None else f"{stage['denominator']} {stage['of']}",
                "share": "" if stage["share"] is None else f"{100 * stage['share']:.1f} %",
                "95 %": "" if interval is None else f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f} %",
                "unknown": stage["unknown"] or "",
                "why not": "; ".join(reasons) + (f"; {more} more" if more else ""),
            }
        )
    return lines


# -- counting ---------------------------------------------------------------------------------------------------------


def _step(stage: str, n: int, of: str | None, denominator: int | None, reasons: Any = None) -> dict[str, Any]:
    return {
        "stage": stage,
        "kind": STEP,
        "n": n,
        "of": of,
        "denominator": denominator,
        "unknown": 0,
        "reasons": dict(reasons or {}),
    }


def _verdicts(relaxed: pa.Table, table: pa.Table, ok: Any, n_ok: int) -> list[dict[str, Any]]:
    import numpy as np
    import pyarrow as pa

    parents = _whole(table["parent_row"])
    known = (parents >= 0) & (parents < len(relaxed))
    judged = np.zeros(len(table), dtype=bool)
    judged[known] = ok[parents[known]]
    stages = []
    for held, among in ((relaxed, ok), (table, judged)):
        for field in held.schema:
            if not pa.types.is_boolean(field.type) or (held is relaxed and field.name in table.column_names):
                continue
            answers = held[field.name].to_numpy(zero_copy_only=False)
            yes = _flags(answers, True) & among
            unknown = among & ~_flags(answers, True) & ~_flags(answers, False)
            why = reason_column(field.name, held.column_names)
            reasons = _reasons(held, among & ~yes, why) if why else {}
            stage = _step(field.name, _count(yes), "relaxed", n_ok, reasons)
            stages.append({**stage, "kind": VERDICT, "unknown": _count(unknown)})
    return stages


def _ok(held: pa.Table) -> Any:
    return _equals(held["status"], "ok")


def _count(rows: Any) -> int:
    return int(rows.sum())


def _flags(answers: Any, value: bool) -> Any:
    """Return where a column of yes, no and nothing has ``value``: without nulls it is a plain boolean array."""
    import numpy as np

    return np.asarray(answers == value, dtype=bool)


def _tried(held: pa.Table, parents: pa.Table | None) -> Any:
    """Return the rows whose parent was fine: only these could go on."""
    import numpy as np

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
    import pyarrow as pa

    return count_reasons(held[column].filter(pa.array(rows)))


def _equals(column: pa.ChunkedArray, value: str) -> Any:
    import numpy as np
    import pyarrow.compute as pc

    return np.asarray(pc.equal(column, value), dtype=bool)


def _whole(column: pa.ChunkedArray) -> Any:
    """Return a column of row numbers with -1 for a missing one."""
    import numpy as np
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(column, -1), dtype=np.int64)
