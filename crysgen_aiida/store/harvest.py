"""What the graph says that the index has to know: asked in bulk, a few queries for many screenings.

Only links, attributes and our own packed files are read; never a plug-in's outputs.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from aiida import orm
from aiida.manage import get_manager

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.data.generator import GeneratorData
from crysgen_aiida.data.packed import (
    CrystalSetData,
    DecisionData,
    PackedData,
    PropertyTableData,
    ReferenceEnergiesData,
    SequenceSetData,
    check_schema_version,
)
from crysgen_aiida.store.candidates import DESIGN, SCREEN, screenings_of_verifications
from crysgen_aiida.store.index.batches import Screened
from crysgen_aiida.store.index.results import is_results

#: Nodes asked about in one query: SQLite takes 32,766 parameters at most.
SOME = 500

#: Link label of a screening's sets to what the index calls them.
SETS = {"crystals": "relaxed", "unrelaxed": "decoded", "sequences": "sequences", "reference": "reference"}

#: Our own nodes: packed sets and generators. What they have in common is no node type that could be asked for.
KINDS = (CrystalSetData, SequenceSetData, PropertyTableData, ReferenceEnergiesData, DecisionData, GeneratorData)

_CALLS = {"type": {"in": ["call_calc", "call_work"]}}
_ATTRIBUTES = ("content_hash", "n_rows", "n_ok")


def state() -> dict[str, Any]:
    """Return what changes whenever the graph does: number of nodes, newest node, newest change."""
    newest = orm.QueryBuilder().append(orm.Node, project="id", tag="n").order_by({"n": {"id": "desc"}}).first(flat=True)
    changed = orm.QueryBuilder().append(orm.Node, project="mtime", tag="n").order_by({"n": {"mtime": "desc"}})
    last = changed.first(flat=True)
    return {
        "nodes": orm.QueryBuilder().append(orm.Node).count(),
        "newest": newest,
        "changed": None if last is None else stamp(last),
    }


def screenings() -> dict[str, str]:
    """Return the finished screenings that made candidates: uuid to time of creation."""
    again = screenings_of_verifications()
    query = orm.QueryBuilder().append(
        orm.CalcJobNode,
        filters={"process_type": SCREEN, "attributes.exit_status": 0, "attributes.process_state": "finished"},
        project=["uuid", "ctime"],
    )
    return {uuid: stamp(created) for uuid, created in query.iterall(batch_size=1000) if uuid not in again}


def results_tables() -> dict[str, tuple[str, str]]:
    """Return the tables of results: uuid to time of creation and content hash."""
    query = orm.QueryBuilder().append(
        PropertyTableData, project=["uuid", "ctime", "attributes.content_hash", "attributes.columns"]
    )
    return {
        uuid: (stamp(created), content_hash)
        for uuid, created, content_hash, columns in query.iterall(batch_size=1000)
        if is_results(columns or ())
    }


def stamp(when: datetime) -> str:
    """Return a time as text that sorts: ISO 8601 in UTC, to the microsecond."""
    return when.astimezone(timezone.utc).isoformat(timespec="microseconds")


def created(uuids: Iterable[str]) -> dict[str, str]:
    """Return when nodes were created, by uuid."""
    query = orm.QueryBuilder().append(orm.Data, filters={"uuid": {"in": sorted(set(uuids))}}, project=["uuid", "ctime"])
    return {uuid: stamp(when) for uuid, when in query.all()}


# -- screenings -------------------------------------------------------------------------------------------------------


def describe(uuids: Sequence[str]) -> Iterator[tuple[str, Screened | str, dict[str, Any]]]:
    """Yield uuid, what the index has to know (or why it cannot), and the counts of the sets, for each screening."""
    for start in range(0, len(uuids), SOME):
        yield from _describe_some(list(uuids[start : start + SOME]))


def _describe_some(uuids: list[str]) -> Iterator[tuple[str, Screened | str, dict[str, Any]]]:
    query = orm.QueryBuilder().append(
        orm.CalcJobNode, filters={"uuid": {"in": uuids}}, project=["uuid", "id", "ctime", "label", "process_type"]
    )
    jobs = {row[0]: row for row in query.all()}
    sets = _sets_of(uuids)
    campaigns = _campaigns({row[1]: row for row in jobs.values()})
    sampled = _sampled({held["sequences"]["uuid"] for held in sets.values() if "sequences" in held})
    for uuid in uuids:
        held = sets.get(uuid, {})
        lacking = [name for name in ("relaxed", "table") if name not in held]
        if uuid not in jobs or lacking:
            yield uuid, f"it lacks its {' and '.join(lacking) or 'node'}", {}
            continue
        sampling = sampled.get(held.get("sequences", {}).get("uuid", ""), {})
        about = _table_facts(held["table"]["metadata"])
        described = {
            **campaigns[jobs[uuid][1]],
            "screen": {"uuid": uuid, "pk": jobs[uuid][1]},
            "sets": {name: entry["uuid"] for name, entry in sorted(held.items())},
            "created": {name: held[name]["created"] for name in ("relaxed", "table")},
            "seed": sampling.get("seed"),
            "generator": sampling.get("generator"),
            **about,
        }
        counts = {
            "n_sequences": held["sequences"]["n_rows"] if "sequences" in held else None,
            "n_decoded": held["decoded"]["n_ok"] if "decoded" in held else None,
        }
        yield uuid, Screened(uuid, stamp(jobs[uuid][2]), _key(held), described), counts


def _key(held: Mapping[str, Mapping[str, Any]]) -> str:
    names = ("relaxed", "table", "decoded", "sequences", "reference")
    text = "\n".join(f"{name} {held[name]['content_hash'] if name in held else '-'}" for name in names)
    return hashlib.sha256(text.encode()).hexdigest()


def _sets_of(uuids: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the sets of each screening by the index's name for them."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    wanted = ["uuid", "ctime", *(f"attributes.{name}" for name in _ATTRIBUTES)]

    def note(uuid: str, name: str, row: Sequence[Any], metadata: Any = None) -> None:
        entry = {"uuid": row[0], "created": stamp(row[1]), **dict(zip(_ATTRIBUTES, row[2:], strict=True))}
        found.setdefault(uuid, {})[name] = {**entry, "metadata": metadata}

    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={"uuid": {"in": uuids}}, project="uuid", tag="job")
    labels = {"label": {"in": list(SETS)}}
    query.append(orm.Data, with_outgoing="job", project=wanted, edge_filters=labels, edge_project="label")
    for uuid, *row, label in query.all():
        note(uuid, SETS[label], row)
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={"uuid": {"in": uuids}}, project="uuid", tag="job")
    query.append(
        PropertyTableData,
        with_incoming="job",
        project=[*wanted, "attributes.metadata.protocol.name", "attributes.metadata.reference"],
        edge_filters={"label": "table"},
    )
    for uuid, *row, protocol, reference in query.all():
        note(uuid, "table", row, {"protocol": protocol, "reference": reference})
    return found


def _table_facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    reference = metadata.get("reference")
    return {"protocol": metadata.get("protocol"), "reference_name": None if reference == "none" else reference}


def _campaigns(jobs: Mapping[int, Sequence[Any]]) -> dict[int, dict[str, Any]]:
    """Return campaign and ranking of each job by its pk: the outermost caller, or the job itself."""
    tops: dict[int, tuple[Any, ...]] = {pk: (pk, row[0], row[4], row[3], row[2]) for pk, row in jobs.items()}
    designs: dict[int, int] = {}
    below = {pk: {pk} for pk in jobs}  # process to the jobs below it
    while below:
        callers = _callers(sorted(below))
        above: dict[int, set[int]] = {}
        for child, caller in callers.items():
            for job in below[child]:
                tops[job] = caller
                if caller[2] == DESIGN:
                    designs.setdefault(job, caller[0])
            above.setdefault(caller[0], set()).update(below[child])
        below = above
    rankings = _rankings(set(designs.values()))
    return {
        job: {
            "campaign": {"uuid": uuid, "pk": pk, "label": label, "process": process or "", "created": stamp(created)},
            "ranking": rankings.get(designs[job]) if job in designs else None,
        }
        for job, (pk, uuid, process, label, created) in tops.items()
    }


def _callers(pks: list[int]) -> dict[int, tuple[Any, ...]]:
    found: dict[int, tuple[Any, ...]] = {}
    for some in _chunks(pks):
        query = orm.QueryBuilder().append(
            orm.WorkflowNode, project=["id", "uuid", "process_type", "label", "ctime"], tag="caller"
        )
        query.append(
            orm.ProcessNode, with_incoming="caller", filters={"id": {"in": some}}, edge_filters=_CALLS, project="id"
        )
        found.update({child: tuple(caller) for *caller, child in query.all()})
    return found


def _rankings(designs: set[int]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for some in _chunks(sorted(designs)):
        query = orm.QueryBuilder().append(orm.WorkflowNode, filters={"id": {"in": some}}, project="id", tag="design")
        query.append(orm.Dict, with_outgoing="design", edge_filters={"label": "ranking"}, project="attributes")
        for pk, ranking in query.all():
            found[pk] = {k: v for k, v in ranking.items() if k not in ("proposer", "note")}
    return found


def _sampled(sequences: set[str]) -> dict[str, dict[str, Any]]:
    """Return seed and generator of the sampling of each set of sequences, by its uuid."""
    found: dict[str, dict[str, Any]] = {}
    for some in _chunks(sorted(sequences)):
        for label, given, project in (
            ("seed", orm.Int, ["attributes.value"]),
            ("generator", GeneratorData, _GENERATOR),
        ):
            query = orm.QueryBuilder().append(orm.Data, filters={"uuid": {"in": some}}, project="uuid", tag="set")
            query.append(orm.CalcJobNode, with_outgoing="set", tag="job")
            query.append(given, with_outgoing="job", edge_filters={"label": label}, project=project)
            for uuid, *values in query.all():
                found.setdefault(uuid, {})[label] = values[0] if label == "seed" else _generator(values)
    return found


# -- sets and generators ----------------------------------------------------------------------------------------------

_GENERATOR = ["uuid", "label"] + [
    f"attributes.{name}"
    for name in ("generator", "generator_version", "weights_hash", "seed", "n_parameters", "val_loss", "conditions")
]


def _generator(values: Sequence[Any]) -> dict[str, Any]:
    names = ("uuid", "label", "name", "version", "weights_hash", "seed", "n_parameters", "val_loss", "conditions")
    return dict(zip(names, values, strict=True))


def generators() -> dict[str, dict[str, Any]]:
    """Return all trained generators by uuid."""
    query = orm.QueryBuilder().append(GeneratorData, project=_GENERATOR)
    return {values[0]: _generator(values) for values in query.iterall(batch_size=500)}


def datasets() -> dict[str, dict[str, Any]]:
    """Return the crystal sets that no process made, by uuid."""
    made = orm.QueryBuilder().append(orm.CalculationNode, tag="job")
    made.append(CrystalSetData, with_incoming="job", project="id")
    by_jobs = set(made.all(flat=True))
    names = ("content_hash", "n_rows", "n_ok", "metadata")
    query = orm.QueryBuilder().append(
        CrystalSetData, project=["id", "uuid", "label", *(f"attributes.{name}" for name in names)]
    )
    return {
        uuid: {"uuid": uuid, "label": label, **dict(zip((*names[:3], "described"), rest, strict=True))}
        for pk, uuid, label, *rest in query.iterall(batch_size=500)
        if pk not in by_jobs
    }


def makers() -> dict[str, str]:
    """Return the calculations that made sets or generators: uuid to the verb."""
    query = orm.QueryBuilder().append(
        orm.CalculationNode, project=["uuid", "process_type", "attributes.function_name"], tag="job"
    )
    query.append(KINDS, with_incoming="job").distinct()
    return {
        uuid: function or str(process_type or "").rpartition(".")[2]
        for uuid, process_type, function in query.iterall(batch_size=1000)
    }


def edges(verbs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the steps between sets that these calculations are."""
    for some in _chunks(sorted(verbs)):
        given: dict[str, dict[str, str]] = {}
        made: dict[str, set[str]] = {}
        job: dict[str, Any] = {"filters": {"uuid": {"in": some}}, "project": "uuid", "tag": "job"}
        query = orm.QueryBuilder().append(orm.CalculationNode, **job)
        query.append(KINDS, with_outgoing="job", project="uuid", edge_project="label")
        for uuid, one, label in query.all():
            # a set given twice is one step: the first label names it
            known = given.setdefault(uuid, {})
            known[one] = min(label, known.get(one, label))
        query = orm.QueryBuilder().append(orm.CalculationNode, **job)
        for uuid, one in query.append(KINDS, with_incoming="job", project="uuid").all():
            made.setdefault(uuid, set()).add(one)
        query = orm.QueryBuilder().append(orm.CalculationNode, **job)
        query.append(orm.Int, with_outgoing="job", edge_filters={"label": "seed"}, project="attributes.value")
        seeds = dict(query.all())
        for uuid in some:
            for source, label in sorted(given.get(uuid, {}).items()):
                for target in sorted(made.get(uuid, ())):
                    yield {
                        "from_uuid": source,
                        "process_uuid": uuid,
                        "made_uuid": target,
                        "verb": verbs[uuid],
                        "label": label,
                        "seed": seeds.get(uuid),
                    }


def load_files(uuids: Iterable[str]) -> dict[str, pq.ParquetFile]:
    """Return the files of packed nodes by uuid, asked for together: each question to the repository costs 20 ms.

    :raises BadInput: if a node or its file is not there, or cannot be read.
    """
    wanted = sorted(set(uuids))
    query = orm.QueryBuilder().append(orm.Data, filters={"uuid": {"in": wanted}})
    nodes = {node.uuid: node for node in query.all(flat=True) if isinstance(node, PackedData)}
    repository = get_manager().get_profile_storage().get_repository()
    contents: dict[str, bytes] = {}
    try:
        keys = {uuid: node.base.repository.get_object(node.FILENAME).key for uuid, node in nodes.items()}
        for name, stream in repository.iter_object_streams([k for k in set(keys.values()) if k is not None]):
            contents[name] = stream.read()
    except FileNotFoundError as error:
        short = ", ".join(uuid[:8] for uuid in wanted)
        raise BadInput(f"a file of the sets {short} is not there; restore the repository from a backup") from error
    found: dict[str, pq.ParquetFile] = {}
    for uuid in wanted:
        key = keys.get(uuid)
        if key is None or key not in contents:
            raise BadInput(f"the set {uuid[:8]} or its file is not there; restore the repository from a backup")
        node = nodes[uuid]
        check_schema_version(node.schema_version, f"{type(node).__name__}<{node.pk}>")
        try:
            found[uuid] = pq.ParquetFile(io.BytesIO(contents[key]))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise _damaged(uuid, error) from error
    return found


def read_columns(uuid: str, file: pq.ParquetFile, wanted: Callable[[pa.Schema], list[str]]) -> pa.Table:
    """Read some columns of the file of a packed node.

    :param wanted: function of the Arrow schema that returns their names.
    :raises BadInput: if the file cannot be read.
    """
    try:
        return file.read(columns=wanted(file.schema_arrow))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _damaged(uuid, error) from error


def _damaged(uuid: str, error: Exception) -> BadInput:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return BadInput(f"the file of the set {uuid[:8]} cannot be read ({why}); restore the repository from a backup")


def _chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    held = list(values)
    for start in range(0, len(held), SOME):
        yield held[start : start + SOME]
