"""Where a row came from, read from the graph: every set, process, seed, version and hash on the way.

The trace of a row is the same before and after it was promoted: it is about the row, and promotion adds a node.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.store import verified
from crysgen_aiida.store.address import Address, load_node
from crysgen_aiida.store.candidates import creator_of, inputs_of, outputs_of, screenings_of
from crysgen_aiida.store.language.place import clean

if TYPE_CHECKING:
    from aiida.orm import Node, ProcessNode

#: Columns of a row that are long, or repeat what the trace says elsewhere.
_NOT_SHOWN = {"row", "content_id", "parent_input", "parent_row", "lattice", "numbers", "frac_coords", "piezo_tensor"}

#: Inputs of a job that hold its settings rather than its data.
_SETTINGS = ("parameters", "spec")
_SCALARS = ("seed", "worker_api", "generator_name", "preset")

#: Which input of a process the story goes on with, when the row itself does not say.
_UPSTREAM = ("crystals", "sequences", "generator", "training_set")


def trace(text: str) -> dict[str, Any]:
    """Return the chain of one row, or of a structure promoted from it: see :meth:`Tracer.trace`."""
    return Tracer().trace(text)


class Tracer:
    """Traces rows; what several of them have in common is read from the graph once."""

    def __init__(self) -> None:
        self._processes: dict[str, dict[str, Any]] = {}
        self._inputs: dict[str, dict[str, Any]] = {}
        self._outputs: dict[str, dict[str, Any]] = {}
        self._creators: dict[str, Any] = {}

    def trace(self, text: str) -> dict[str, Any]:
        """Return the chain of a row, or of a structure promoted from one.

        :param text: an address ``<uuid>:<row>``, or the uuid or pk of a promoted structure.
        :return: ``{"address", "chain", "screens", "verified"}``. ``chain`` runs from the data set to the row; each
            entry is a set (with content hash and, where known, the row) or a process (with seed, versions, settings).
            ``screens`` holds one entry a table that judged the row, each with its process and the chain of its
            reference energies; ``verified`` what verifications found, see
            :func:`~crysgen_aiida.store.verified.verifications_of`.
        :raises ImpossibleRequest: if the address points nowhere.
        """
        address = address_of(text)
        node = load_node(address)
        return {
            "address": Address(node.uuid, address.row).full,
            "chain": self._upstream(node, address.row),
            "screens": [self._screen(process, address.row) for process in screenings_of(node)],
            "verified": verified.verifications_of(node, address.row),
        }

    def _upstream(self, node: Any, row: int | None) -> list[dict[str, Any]]:
        """Return the chain that ends at ``row`` of ``node``, oldest first."""
        entries: list[dict[str, Any]] = []
        seen: set[str] = set()
        while node is not None and node.uuid not in seen:
            seen.add(node.uuid)
            process = self._creator(node)
            entries.append(_describe_set(node, row, self._label(node, process)))
            if process is None:
                break
            entries.append(self._process(process))
            node, row = self._before(node, row, process)
        return entries[::-1]

    def _before(self, node: Any, row: int | None, process: ProcessNode) -> tuple[Any, int | None]:
        """Return the set a node came from and, if the row says so, the row there."""
        given = self._given(process)
        if row is not None and hasattr(node, "get"):
            record = node.get(row)
            if record.get("parent_input") in given:
                return given[record["parent_input"]], record["parent_row"]
        for label in _UPSTREAM:
            if label in given:
                return given[label], None
        return None, None

    def _screen(self, process: Any, row: int) -> dict[str, Any]:
        given, table = self._given(process), self._made(process)["table"]
        judged = [i for i, parent in enumerate(table.table.column("parent_row")) if parent == row]
        entry: dict[str, Any] = {
            "process": self._process(process),
            "table": _describe_set(table, judged[0] if judged else None, "table"),
            "known": {
                label.removeprefix("known__"): _describe_set(node, None, label)
                for label, node in sorted(given.items())
                if label.startswith("known__")
            },
            "reference": self._upstream(given["reference"], None) if "reference" in given else [],
        }
        entry["table"]["protocol"] = table.metadata.get("protocol")
        return entry

    def _label(self, node: Any, process: Any) -> str:
        """Return what a node is in the story: two sets of crystals of one line need names that differ."""
        if process is None:
            return "dataset" if node.node_type.startswith("data.crysgen.crystals") else "imported"
        named = {("decode", "crystals"): "decoded", ("relax", "crystals"): "relaxed"}
        verb = str(process.process_type or "").rpartition(".")[2]
        for label, made in self._made(process).items():
            if made.uuid == node.uuid:
                return named.get((verb, str(label)), str(label))
        return "set"

    def _process(self, process: Any) -> dict[str, Any]:
        if process.uuid not in self._processes:
            given, result = self._given(process), result_of(self._made(process))
            self._processes[process.uuid] = _describe_process(process, given, result)
        return dict(self._processes[process.uuid])

    def _given(self, process: Any) -> dict[str, Any]:
        if process.uuid not in self._inputs:
            self._inputs[process.uuid] = inputs_of(process)
        return self._inputs[process.uuid]

    def _made(self, process: Any) -> dict[str, Any]:
        if process.uuid not in self._outputs:
            self._outputs[process.uuid] = outputs_of(process)
        return self._outputs[process.uuid]

    def _creator(self, node: Any) -> Any:
        if node.uuid not in self._creators:
            self._creators[node.uuid] = creator_of(node)
        return self._creators[node.uuid]


def address_of(text: str) -> Address:
    """Return the address meant by an address, or by the uuid or pk of a promoted structure.

    :raises ImpossibleRequest: if it is neither.
    """
    if ":" in text:
        return Address.parse(text)
    from aiida import orm
    from aiida.common.exceptions import MultipleObjectsError, NotExistent

    try:
        node = orm.load_node(text)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise ImpossibleRequest(f"{text!r} is neither an address nor one node: {error}") from error
    found = origin(node)
    if found is None:
        raise ImpossibleRequest(
            f"Node {text} was not promoted or materialised from a row; give an address like 3f2a91c0:17."
        )
    return found


def origin(node: Node) -> Address | None:
    """Return the row a structure was promoted from, or None if it was not."""
    from aiida.common.links import LinkType

    link = node.base.links.get_incoming(link_type=LinkType.CREATE).first()
    if link is None:
        return None
    given = inputs_of(cast("ProcessNode", link.node))
    name = link.link_label.rpartition("__")[2]
    if "crystals" in given and name.startswith("r") and name[1:].isdigit():
        return Address(given["crystals"].uuid, int(name[1:]))
    if "source" in given and "row" in given:
        return Address(given["source"].uuid, int(given["row"].value))
    return None


def _describe_set(node: Any, row: int | None, label: str) -> dict[str, Any]:
    """Return what is said of a set or a generator, and of one row of it."""
    entry: dict[str, Any] = {
        "kind": "set",
        "what": label,
        "type": node.node_type.rstrip(".").rpartition("data.")[2].rpartition(".")[0] or node.node_type,
        "uuid": node.uuid,
        "label": node.label,
    }
    attributes = node.base.attributes.all
    for key in ("content_hash", "n_rows", "n_ok", "generator", "generator_version", "n_parameters", "weights_hash",
                "conditions", "seed", "val_loss"):  # fmt: skip
        if key in attributes:
            entry[key] = attributes[key]
    source = attributes.get("source")
    if source:
        entry["source"] = source
    described = attributes.get("metadata") or {}
    for key in ("name", "scheme", "method", "license", "licence", "sources"):
        if key in described:
            entry[key] = described[key]
    if row is not None and hasattr(node, "get"):
        entry["row"] = row
        entry["content"] = {k: v for k, v in node.get(row).items() if k not in _NOT_SHOWN and v is not None}
    return entry


def _describe_process(process: ProcessNode, given: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of a process: settings and seed from its inputs, versions and hashes from its result."""
    entry: dict[str, Any] = {
        "kind": "process",
        "what": str(process.process_type or "").rpartition(".")[2] or str(process.process_label),
        "uuid": process.uuid,
        "process_type": process.process_type,
        "exit_status": process.exit_status,
    }
    cached = process.base.caching.get_cache_source() if hasattr(process.base, "caching") else None
    if cached:
        entry["cached_from"] = cached
    entry.update({name: given[name].value for name in _SCALARS if name in given})
    entry.update({name: given[name].get_dict() for name in _SETTINGS if name in given and given[name].get_dict()})
    if "code" in given:
        entry["code"] = {"uuid": given["code"].uuid, "label": given["code"].full_label}
    for key in ("job_hash", "versions", "device", "threads"):
        if key in result:
            entry[key] = result[key]
    return entry


def result_of(made: dict[str, Any]) -> dict[str, Any]:
    """Return the worker's ``result.json`` from the outputs of its job, or nothing if it was not kept."""
    retrieved = made.get("retrieved")
    if retrieved is None:
        return {}
    try:
        held = json.loads(retrieved.base.repository.get_object_content("result.json"))
    except (FileNotFoundError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


# -- for people -----------------------------------------------------------------------------------------------------


def render(found: dict[str, Any]) -> str:
    """Return a trace as text: sets at the margin, processes on arrows between them."""
    lines = [f"{found['address']}", ""]
    lines += _render_chain(found["chain"])
    for screen in found["screens"]:
        lines += ["", "judged by"]
        lines += [f"  {line}" for line in _render_chain([screen["process"], screen["table"]])]
        for name, node in screen["known"].items():
            lines.append(f"    novel against {name}: {node['uuid'][:8]}, content {node.get('content_hash', '')[:12]}")
        if screen["reference"]:
            lines += ["  energies above"]
            lines += [f"    {line}" for line in _render_chain(screen["reference"])]
    lines += verified.render(found.get("verified", []))
    return "\n".join(map(clean, lines))


def _render_chain(chain: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for entry in chain:
        if entry["kind"] == "process":
            lines.append(f"  │ {entry['what']}  {entry['uuid'][:8]}  {_process_words(entry)}".rstrip())
        else:
            lines.append(f"● {entry['what']}  {entry['uuid'][:8]}  {_set_words(entry)}".rstrip())
            if "content" in entry:
                lines.append(f"    row {entry['row']}: {_content_words(entry['content'])}")
    return lines


def _process_words(entry: dict[str, Any]) -> str:
    words = [f"{name} {entry[name]}" for name in ("seed", "preset") if name in entry]
    versions = entry.get("versions", {})
    words += [f"{name} {versions[name]}" for name in ("crysgen-aiida", "torch") if name in versions]
    if entry.get("device"):
        words.append(f"{entry['device']} ×{entry.get('threads', 1)}")
    if "cached_from" in entry:
        words.append(f"from cache of {entry['cached_from'][:8]}")
    return ", ".join(words)


def _set_words(entry: dict[str, Any]) -> str:
    words = []
    if "n_rows" in entry:
        words.append(f"{entry['n_rows']} rows")
    if "n_parameters" in entry:
        words.append(f"{entry.get('generator', '')} with {entry['n_parameters'] / 1e6:.2f} M parameters".strip())
    if entry.get("scheme"):
        words.append(f"{entry.get('name', '')} ({entry['scheme']})".strip())
    digest = entry.get("weights_hash") or entry.get("content_hash")
    if digest:
        words.append(f"content {digest[:12]}")
    return ", ".join(words)


def _content_words(content: dict[str, Any]) -> str:
    words = []
    for key, value in content.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        words.append(f"{key} {text if len(text) <= 60 else text[:57] + '…'}")
    return ", ".join(words[:14]) + (" …" if len(words) > 14 else "")
