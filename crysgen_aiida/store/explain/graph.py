"""A trace as a picture: Graphviz DOT text, for ``dot -Tsvg`` and its like. Nothing here runs Graphviz."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STYLE = {
    "set": 'shape=box style="rounded,filled" fillcolor="#e8eefb"',
    "process": 'shape=box style=filled fillcolor="#f3f1ea"',
    "row": 'shape=note style=filled fillcolor="#fdf3d7"',
}


def trace_dot(found: Mapping[str, Any]) -> str:
    """Return a trace (:func:`crysgen_aiida.store.trace.trace`) as a directed graph, oldest at the top.

    Rows hang on the sets that hold them; verdicts and reference energies are on the side that judged.
    """
    graph = _Graph()
    last = graph.chain(found["chain"])
    for screen in found["screens"]:
        process, table = graph.node(screen["process"]), graph.node(screen["table"])
        if last is not None:
            graph.edge(last, process, "crystals")
        graph.edge(process, table, "")
        reference = graph.chain(screen["reference"])
        if reference is not None:
            graph.edge(reference, process, "reference")
        for name, known in sorted(screen["known"].items()):
            graph.edge(graph.node(known), process, f"known: {name}")
    return graph.text(f"trace of {found['address']}")


class _Graph:
    def __init__(self) -> None:
        self._nodes: dict[str, str] = {}
        self._edges: dict[tuple[str, str, str], None] = {}

    def chain(self, entries: list[dict[str, Any]]) -> str | None:
        """Add a chain, each entry made from the one before; return the id of its last."""
        last: str | None = None
        for entry in entries:
            here = self.node(entry)
            if last is not None:
                self.edge(last, here, "")
            last = here
        return last

    def node(self, entry: Mapping[str, Any]) -> str:
        """Add a set or a process, and the row that is meant; return its id."""
        name = f"n{entry['uuid']}"
        if name not in self._nodes:
            lines = [f"{entry['what']}  {entry['uuid'][:8]}", *_facts(entry)]
            self._nodes[name] = f"{_quoted(name)} [{_STYLE[entry['kind']]} label={_quoted(*lines)}]"
        if "row" in entry:
            row = f"{name}_{entry['row']}"
            words = [f"row {entry['row']}"]
            words += [f"{k}: {_short(v)}" for k, v in list(entry.get("content", {}).items())[:6]]
            self._nodes.setdefault(row, f"{_quoted(row)} [{_STYLE['row']} label={_quoted(*words)}]")
            self.edge(name, row, "", "style=dotted arrowhead=none")
        return name

    def edge(self, start: str, end: str, label: str, style: str = "") -> None:
        """Add an edge, once."""
        written = " ".join(filter(None, [f"label={_quoted(label)}" if label else "", style]))
        self._edges[(start, end, written)] = None

    def text(self, title: str) -> str:
        """Return the whole graph."""
        edges = [f"{_quoted(a)} -> {_quoted(b)}{f' [{style}]' if style else ''}" for a, b, style in self._edges]
        lines = [
            f"digraph {_quoted(title)} {{",
            '  node [fontname="Helvetica" fontsize=10]; edge [fontname="Helvetica" fontsize=9];',
            *(f"  {line};" for line in [*self._nodes.values(), *edges]),
            "}",
        ]
        return "\n".join(lines)


def _facts(entry: Mapping[str, Any]) -> list[str]:
    """Return what is worth a line in a picture: label, size, seed, versions, hash."""
    facts = [str(entry["label"])] if entry.get("label") else []
    if "n_rows" in entry:
        facts.append(f"{entry['n_rows']} rows")
    if entry.get("seed") is not None:
        facts.append(f"seed {entry['seed']}")
    digest = entry.get("weights_hash") or entry.get("content_hash")
    if digest:
        facts.append(f"content {digest[:12]}")
    version = entry.get("versions", {}).get("crysgen-aiida")
    return [*facts, f"crysgen-aiida {version}"] if version else facts


def _short(value: Any, most: int = 48) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def _quoted(*lines: str) -> str:
    """Return a DOT string of these lines; whatever users wrote into labels stays text."""
    plain = ["".join(c if c.isprintable() else " " for c in line) for line in lines]
    return '"' + r"\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in plain) + '"'
