"""Why a candidate has the rank it has: its constraints, what it is ordered by, and what kept its neighbours out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crysgen_aiida.store.explain.case import Case
from crysgen_aiida.store.explain.runs import Run, find_candidate, runs_of_batch
from crysgen_aiida.store.explain.show import properties_of
from crysgen_aiida.store.index.policy import CLASSES, WORDS, classify
from crysgen_aiida.store.language.place import clean
from crysgen_aiida.store.reading import reading

if TYPE_CHECKING:
    from crysgen_aiida.data.ranking import Query
    from crysgen_aiida.store.index.database import Index
    from crysgen_aiida.store.index.policy import Policy

#: Neighbours shown on each side.
NEIGHBOURS = 3


def why(
    index: Index,
    text: str,
    query: Query | Mapping[str, Any] | None = None,
    where: Sequence[str] = (),
    *,
    run: Run | None = None,
    neighbours: int = NEIGHBOURS,
    prefer: Mapping[str, str] | None = None,
    graph: bool = True,
) -> dict[str, Any]:
    """Explain the rank of a candidate among those of its run.

    :param text: its address.
    :param query: the rule; by default that of the run.
    :param where: further constraints in the filter language.
    :param run: among which candidates; by default the newest run that led to this one.
    :param graph: read reasons of single verdicts from the graph of the loaded profile.
    :return: ``rank`` (None if a constraint keeps it out) of ``of`` candidates; ``constraints`` and ``objectives`` with
        its values; ``values``, properties that several methods know, with the value that counts and why; ``above`` and
        ``below``, the ranked neighbours, with what decides between them and this one; ``kept_out``, candidates that
        would stand before it but for a constraint, the nearest first, with that constraint; ``kept_out_by``, how many
        each constraint keeps out before it.
    :raises ImpossibleRequest: if there is no such candidate, or the rule names what is not there.
    """
    with index.read():
        found = find_candidate(index, text, run.batch_ids if run is not None else ())
        among = run or next(iter(runs_of_batch(index, found.batch_id)))
        rule = _rule(query, among)
        with reading(index, list(among.batch_ids), prefer) as held:
            case = Case(index, held, found, rule, tuple(where), among, prefer)
            record = _told(case, neighbours)
        if graph:
            _add_reasons(index, record, among)
    return record


def _told(case: Case, neighbours: int) -> dict[str, Any]:
    place, n = case.place, len(case.ranked)
    after = case.would_be() if place is None else place + 1
    return {
        "address": case.found.address.full,
        "reduced_formula": case.wide["reduced_formula"],
        "run": {"pk": case.run.pk, "uuid": case.run.uuid, "label": case.run.label},
        "rule": {**case.rule.to_dict(), "where": list(case.where)},
        "rank": None if place is None else place + 1,
        "of": n,
        "candidates": case.n,
        "score": None if place is None else float(case.ranked.scores[place]),
        "front": None if place is None else int(case.ranked.fronts[place]),
        "would_rank": None if place is not None else case.would_be() + 1,
        "constraints": case.constraints(),
        "objectives": case.objectives(),
        "values": _chosen(case),
        "above": case.neighbours(range(0 if place is None else max(0, place - neighbours), place or 0)),
        "below": case.neighbours(range(after, max(after, min(n, after + neighbours)))),
        **case.kept_out(neighbours),
    }


def _chosen(case: Case) -> list[dict[str, Any]]:
    """Return the properties of which several methods gave a value: which counts, instead of which, and why."""
    held: dict[str, list[dict[str, Any]]] = {}
    for one in properties_of(case.index, case.found, case.wide):
        held.setdefault(one["property"], []).append(one)
    policy = case.index.policy()
    found = []
    for name, values in held.items():
        current = next((v for v in values if v["current"]), None)
        others = [v for v in values if current is not None and v["method"] != current["method"]]
        if current is None or not others:
            continue
        told = {k: current[k] for k in ("property", "value", "unit", "method", "source")}
        instead = [{"value": v["value"], "method": v["method"], "source": v["source"]} for v in others]
        found.append({**told, "instead_of": instead, "because": _because(policy, name, current, others)})
    return found


def _because(policy: Policy, name: str, current: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    listed = policy.prefer.get(name, ())
    if current["method"] in listed:
        return f"the policy prefers {current['method']}"
    mine, theirs = classify(current["method"]), sorted({classify(v["method"]) for v in others}, key=CLASSES.index)
    if mine not in theirs:
        return f"{WORDS[mine]} stands before {' and '.join(WORDS[c] for c in theirs)}"
    return f"it is the newest value by {WORDS[mine]}"


def _rule(query: Query | Mapping[str, Any] | None, run: Run) -> Query:
    from crysgen_aiida.data.ranking import Query as Rule
    from crysgen_aiida.store.ranking import DEFAULT

    if isinstance(query, Rule):
        held = query
    else:
        given: Mapping[str, Any] | None = query if query is not None else run.ranking
        held = Rule.from_dict(DEFAULT if given is None else given)
    return dataclasses.replace(held, limit=None)


def _add_reasons(index: Index, record: dict[str, Any], run: Run) -> None:
    """Write beside each constraint that fails the reason the graph holds, if there is one."""
    from crysgen_aiida.store.explain.reasons import why_not
    from crysgen_aiida.store.explain.show import RowReader

    reader = RowReader()
    mine = [c for c in record["constraints"] if not c["met"]]
    for address, failed in [(record["address"], mine)] + [(k["address"], k["fails"]) for k in record["kept_out"]]:
        if not failed:
            continue
        crystal, judged = reader.rows(find_candidate(index, address, run.batch_ids))
        for one in failed:
            said = [why_not(name, judged) for name in one["columns"]]
            one["reason"] = next(filter(None, said), None) or (
                crystal["reason"] if "status" in one["columns"] else None
            )


def render(found: Mapping[str, Any]) -> str:
    """Return an explanation as text."""
    name = f"{found['reduced_formula']} ({_short(found['address'])})"
    run = f"run {found['run']['pk'] or found['run']['uuid'][:8]}"
    if found["rank"] is not None:
        front = f", front {found['front']}" if found["rule"]["method"] == "pareto" else ""
        head = f"{name} has rank {found['rank']} of {found['of']} in {run}, score {found['score']:.4g}{front}."
    else:
        head = f"{name} is not ranked in {run}: a constraint keeps it out. It would have rank {found['would_rank']}."
    lines = [head, "", f"Constraints ({found['candidates']} candidates)" if found["constraints"] else "No constraints"]
    for one in found["constraints"]:
        held = [f"{k} = {_word(v)}" for k, v in one["value"].items()]
        told = "; ".join([", ".join(held), f"{one['met_by']} meet it"] if held else [f"{one['met_by']} meet it"])
        line = f"  {'meets' if one['met'] else 'FAILS'}  {one['constraint']}   ({told})"
        lines.append(line + (f": {one['reason']}" if one.get("reason") else ""))
    lines += ["", f"Ordered by ({found['rule']['method']})"] if found["objectives"] else ["", "Ordered by row only"]
    for wish in found["objectives"]:
        unit = f" {wish['unit']}" if wish["unit"] and wish["value"] is not None else ""
        lacking = "no value" if wish["value"] is None else "its uncertainty is not known"
        place = f"place {wish['place']}" if wish["place"] is not None else f"{lacking}, so it comes last"
        lines.append(
            f"  {wish['objective']} {wish['wanted']}, weight {wish['weight']:g}: {_word(wish['value'])}{unit}, "
            f"desirability {_word(wish['desirability'])}, {place}"
        )
    for title, side in (("Just above", "above"), ("Just below" if found["rank"] else "It would stand before", "below")):
        if found[side]:
            lines += ["", title]
            lines += [f"  {n['rank']:>4}  {_who(n)}: {n['decides']}" for n in found[side]]
    if found.get("values"):
        lines += ["", "Values that count, where several methods gave one"]
    for one in found.get("values", ()):
        instead = ", ".join(f"{_word(v['value'])} ({v['method']})" for v in one["instead_of"])
        unit = "" if one["unit"] == "1" else f" {one['unit']}"
        lines.append(
            f"  {one['property']}: {_word(one['value'])}{unit} ({one['method']}, from {one['source'][:8]}) instead of "
            f"{instead}: {one['because']}"
        )
    if found["kept_out_total"]:
        by = ", ".join(f"{words}: {n}" for words, n in found["kept_out_by"].items())
        lines += ["", f"{found['kept_out_total']} would stand before it but are kept out ({by}); the nearest:"]
        for one in found["kept_out"]:
            why_not = "; ".join(
                f["constraint"] + (f" ({f['reason']})" if f.get("reason") else "") for f in one["fails"]
            )
            lines.append(f"        {_who(one)}: fails {why_not}")
    return "\n".join(map(clean, lines))


def _who(one: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {_word(value)}" for name, value in one["values"].items())
    return f"{one['reduced_formula']} {_short(one['address'])}" + (f" ({values})" if values else "")


def _short(address: str) -> str:
    uuid, _, row = address.partition(":")
    return f"{uuid[:8]}:{row}"


def _word(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
