"""The funnel of a run: how many rows were left after every stage, and why the others were not.

A *step* counts what went on; its denominator is the step before it. A *verdict* is asked of every relaxed crystal on
its own: its denominator is the number of relaxed crystals, those it could not tell included. Every share has its 95 %
interval of Wilson.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from crysgen_aiida.store.explain.reasons import merge_reasons

if TYPE_CHECKING:
    from crysgen_aiida.store.explain.runs import Run
    from crysgen_aiida.store.index.database import Index

STEP, VERDICT = "step", "verdict"


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
        stages.append(step(f"met {name}", left, "candidates" if before == "all" else f"met {before}", n))
    last, n = (f"met {steps[-1][0]}" if len(steps) > 1 else "candidates", steps[-1][1]) if steps else ("candidates", 0)
    stages.append(step("ranked", decision.n_rows, last, n))
    return [*stages, step("promoted", promoted, "ranked", decision.n_rows)]


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
        stages += add_up([{"stages": decided(*found)} for found in _decisions(run.screens)])["stages"]
    return {"run": run.uuid, "label": run.label, "stages": with_rates({"stages": stages})}


def _decisions(screens: Iterable[str]) -> list[tuple[Any, int]]:
    """Return the rankings recorded about these screenings, each once, and how many structures were made from them."""
    from aiida import orm

    from crysgen_aiida.store.candidates import decisions_of, of_screen

    found: dict[str, tuple[Any, int]] = {}
    for screen in screens:
        node: Any = orm.load_node(uuid=screen)
        decision, promoted = decisions_of(of_screen(node))
        if decision is not None:
            found[decision.uuid] = (decision, promoted)
    return list(found.values())


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


def step(stage: str, n: int, of: str | None, denominator: int | None, reasons: Any = None) -> dict[str, Any]:
    """Return a stage that counts what went on."""
    return {
        "stage": stage,
        "kind": STEP,
        "n": n,
        "of": of,
        "denominator": denominator,
        "unknown": 0,
        "reasons": dict(reasons or {}),
    }
