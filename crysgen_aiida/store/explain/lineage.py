"""What was made from a node: of a generator everything it wrote, of a data set everything that learned from it.

Read off the graph, level by level, with a handful of queries whatever the number of rows. A set that only served as a
yardstick (known crystals, reference energies) is a *use*: it is told, but what was measured is not its offspring.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crysgen_aiida.crystals.errors import ImpossibleRequest

if TYPE_CHECKING:
    from aiida.orm import Node

#: Node types that are steps of a line.
_OURS = ({"node_type": {"like": "data.crysgen.%"}}, {"node_type": {"like": "data.core.structure.%"}})

#: Uuids in one query.
_CHUNK = 400

#: The input a product is told under, of processes that are given several sets of one line.
_MAIN = {"screen": "crystals", "record_ranking": "table", "rank_tables": "table", "promote": "decision"}


@dataclass(frozen=True)
class Step:
    """One node that came out of a process which was given another."""

    depth: int
    uuid: str
    what: str
    label: str
    rows: int | None
    ok: int | None
    content_hash: str | None
    verb: str
    process: str
    source: str  #: uuid of the node it was made from
    link: str  #: label of the link by which that went in
    use: bool  #: whether that was a yardstick only
    seed: int | None

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "depth": self.depth,
            "what": self.what,
            "uuid": self.uuid,
            "label": self.label,
            "rows": self.rows,
            "ok": self.ok,
            "by": self.verb,
            "seed": self.seed,
            "as": self.link,
            "process": self.process,
            "from": self.source,
        }


def lineage(node: Node, seed: int | None = None) -> dict[str, Any]:
    """Return everything that was made from a node.

    :param seed: of a generator, only what was sampled with this seed.
    :return: ``{"uuid", "label", "totals", "made", "used"}``: ``made`` in the order of a tree (each step after what it
        was made from), ``used`` where the node or its offspring served as a yardstick. Totals count equal sets
        (cached repetitions, imported copies) once.
    :raises ImpossibleRequest: if nothing was sampled with that seed; the message lists the seeds there are.
    """
    steps = list(_descend(node.uuid))
    if seed is not None:
        steps = _of_seed(steps, node.uuid, seed)
    made = [s for s in steps if not s.use]
    return {
        "uuid": node.uuid,
        "label": node.label,
        "totals": _totals(made),
        "made": [s.record() for s in _as_tree(made, node.uuid)],
        "used": [s.record() for s in steps if s.use],
    }


def rows_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a lineage as lines of a table for people, indented by depth."""
    lines = []
    for record in [*found["made"], *found["used"]]:
        use = record in found["used"]
        what = "used as " + record["as"].replace("__", " ") if use else "· " * (record["depth"] - 1) + record["what"]
        n = record["rows"]
        lines.append(
            {
                "what": what,
                "uuid": record["uuid"],
                "label": record["label"],
                "rows": n,
                "ok": record["ok"],
                "by": record["by"],
                "seed": record["seed"],
                "process": record["process"],
            }
        )
    return lines


# -- the walk ---------------------------------------------------------------------------------------------------------


def _descend(root: str) -> Iterator[Step]:
    """Walk from a node to all that was made from it, nearest first.

    A node is told once, or once for each of several inputs of one kind.
    """
    seen: dict[str, str] = {root: ""}
    frontier, depth = [root], 0
    while frontier:
        depth += 1
        following: list[str] = []
        for step in _made_from(frontier, depth):
            if not step.use and step.uuid not in seen:
                seen[step.uuid] = _kind(step.link)
                following.append(step.uuid)
            if step.use or seen[step.uuid] == _kind(step.link):
                yield step
        frontier = following


def _kind(link: str) -> str:
    """Return a link label without the number that tells inputs of one kind apart: ``table_2`` is a ``table``."""
    return re.sub(r"_[0-9]+$", "", link)


def _made_from(uuids: Sequence[str], depth: int) -> list[Step]:
    from aiida import orm

    found: list[Step] = []
    for start in range(0, len(uuids), _CHUNK):
        some = list(uuids[start : start + _CHUNK])
        query = orm.QueryBuilder()
        query.append(orm.Data, filters={"uuid": {"in": some}}, tag="from", project="uuid")
        query.append(
            orm.CalculationNode,
            with_incoming="from",
            tag="call",
            project=["uuid", "process_type", "attributes.process_label"],
            edge_project="label",
        )
        query.append(
            orm.Data,
            with_incoming="call",
            filters={"or": list(_OURS)},
            tag="made",
            project=["uuid", "node_type", "label", "attributes.n_rows", "attributes.n_ok", "attributes.content_hash"],
            edge_project="label",
        )
        query.order_by([{"call": {"id": "asc"}}, {"made": {"id": "asc"}}])
        rows = query.all()
        seeds = _seeds({row[1] for row in rows})
        # projections come vertex by vertex, then edge by edge
        for source, call, process, name, uuid, node_type, label, n, ok, digest, link, output in rows:
            verb = str(process or "").rpartition(".")[2] if process and "crysgen." in process else str(name)
            use = _is_use(verb, str(link))
            if not use and _kind(str(link)) != _MAIN.get(verb, _kind(str(link))):
                continue
            found.append(
                Step(
                    depth=depth,
                    uuid=uuid,
                    what=_what(verb, str(output), str(node_type)),
                    label=label,
                    rows=n,
                    ok=ok,
                    content_hash=digest,
                    verb=verb,
                    process=call,
                    source=source,
                    link=str(link),
                    use=use,
                    seed=seeds.get(call),
                )
            )
    return found


def _seeds(processes: set[str]) -> dict[str, int]:
    from aiida import orm

    found: dict[str, int] = {}
    held = sorted(processes)
    for start in range(0, len(held), _CHUNK):
        query, some = orm.QueryBuilder(), held[start : start + _CHUNK]
        query.append(orm.CalcJobNode, filters={"uuid": {"in": some}}, tag="call", project="uuid")
        query.append(orm.Int, with_outgoing="call", edge_filters={"label": "seed"}, project="attributes.value")
        found.update({uuid: int(value) for uuid, value in query.all()})
    return found


def _what(verb: str, output: str, node_type: str) -> str:
    """Return what a made node is called: two sets of crystals of one line need names that differ."""
    if node_type.startswith("data.core.structure"):
        return "structure"
    named = {
        ("decode", "crystals"): "decoded",
        ("relax", "crystals"): "relaxed",
        ("screen", "table"): "candidates",
        ("phonon", "table"): "phonons",
        ("elastic", "table"): "elastic constants",
        ("kappa", "table"): "thermal conductivity",
        ("predict", "table"): "predictions",
        ("transport", "table"): "transport",
    }
    return named.get((verb, output), "decision" if "decision" in node_type else output)


def _is_use(verb: str, link: str) -> bool:
    return verb in ("relax", "screen") and (
        link == "reference" or link.startswith(("known__", "known_formulas__", "fingerprints__"))
    )


def _of_seed(steps: list[Step], root: str, seed: int) -> list[Step]:
    sampled = [s for s in steps if s.verb == "sample" and s.source == root]
    kept = {s.uuid for s in sampled if s.seed == seed}
    if not kept:
        there = ", ".join(str(n) for n in sorted({s.seed for s in sampled if s.seed is not None})) or "none"
        raise ImpossibleRequest(f"This generator sampled nothing with seed {seed}; it was used with seed {there}.")
    found = []
    for step in steps:  # nearest first: what a step was made from was decided before it
        if step.uuid in kept or step.source in kept:
            found.append(step)
            if not step.use:
                kept.add(step.uuid)
    return found


def _as_tree(steps: list[Step], root: str) -> list[Step]:
    """Return the steps so that each follows what it was made from."""
    below: dict[str, list[Step]] = {}
    for step in steps:
        below.setdefault(step.source, []).append(step)
    ordered: list[Step] = []
    waiting = list(reversed(below.pop(root, [])))
    while waiting:
        step = waiting.pop()
        ordered.append(step)
        # what a node led to is told once, where it is met first
        waiting += reversed(below.pop(step.uuid, []))
    return ordered


def _totals(steps: list[Step]) -> dict[str, int]:
    """Return how many rows of each kind of set, and how many generators, decisions and structures there are."""
    counted: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    for step in steps:
        key = (step.what, step.content_hash or step.uuid)
        if key not in seen:
            seen.add(key)
            single = step.rows is None or step.what == "decision"
            counted[step.what] = counted.get(step.what, 0) + (1 if single else int(step.rows or 0))
    return counted
