"""What verifications found of a row, each value with the calculations that led to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crysgen_aiida.store.candidates import VERIFY

if TYPE_CHECKING:
    from aiida.orm import Node, ProcessNode


def verifications_of(node: Node, row: int) -> list[dict[str, Any]]:
    """Return what verifications found of a row, oldest first.

    :return: one entry a verification: ``pk``, ``uuid`` and ``results`` (the table) of it, ``verdicts`` in their order,
        and ``sources``: one entry a node that values came from, with ``stage``, ``engine``, ``method``, ``values`` by
        property, ``computed_on`` and ``jobs``, the calculations among its ancestors that the verification ran.
    """
    from aiida import orm

    from crysgen_aiida.data.packed import PropertyTableData

    query = orm.QueryBuilder().append(orm.Data, filters={"uuid": node.uuid}, tag="set")
    query.append(orm.WorkChainNode, filters={"process_type": VERIFY}, with_incoming="set", tag="process", project="*")
    query.append(PropertyTableData, with_incoming="process", edge_filters={"label": "results"}, project="*")
    query.order_by({"process": {"id": "asc"}})
    address = f"{node.uuid}:{row}"
    found = []
    for process, table in query.all():
        rows = [record for record in table.iter() if record["address"] == address]
        if rows:
            found.append(_verification(process, table, rows))
    return found


def _verification(process: ProcessNode, table: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    from aiida import orm

    ran = {n.uuid: n for n in process.called_descendants if isinstance(n, orm.CalcJobNode)}
    sources: dict[str, dict[str, Any]] = {}
    for one in (record for record in rows if record["property"] is not None):
        entry = sources.get(one["source"])
        if entry is None:
            shared = {name: one[name] for name in ("source", "stage", "engine", "method", "computed_on")}
            entry = sources[one["source"]] = {**shared, "values": {}, "jobs": _jobs(one["source"], ran)}
        entry["values"][one["property"]] = one["value"]
    verdicts = [
        {name: record[name] for name in ("stage", "engine", "verdict", "reason")}
        for record in rows
        if record["property"] is None
    ]
    return {
        "pk": process.pk,
        "uuid": process.uuid,
        "results": table.uuid,
        "verdicts": verdicts,
        "sources": list(sources.values()),
    }


def _jobs(source: str, ran: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the calculations a node descends from, among those that ran, oldest first."""
    from aiida import orm

    query = orm.QueryBuilder().append(orm.Node, filters={"uuid": source}, tag="source")
    query.append(orm.CalcJobNode, with_descendants="source", project="uuid")
    jobs = sorted((ran[uuid] for uuid in set(query.all(flat=True)) if uuid in ran), key=lambda n: n.pk or 0)
    return [
        {
            "pk": job.pk,
            "uuid": job.uuid,
            "what": job.process_label,
            "code": job.inputs["code"].full_label if "code" in job.inputs else None,
            "exit_status": job.exit_status,
        }
        for job in jobs
    ]


def render(found: list[dict[str, Any]]) -> list[str]:
    """Return what verifications found as lines."""
    lines = []
    for one in found:
        lines += ["", f"verified by process {one['pk']} ({one['uuid'][:8]})"]
        for source in one["sources"]:
            for job in source["jobs"]:
                lines.append(f"    │ {job['what']} {job['pk']} ({job['uuid'][:8]}), code {job['code']}")
            values = ", ".join(f"{name} {value:.4g}" for name, value in source["values"].items())
            lines.append(f"  ● {source['stage']} ({source['method']})  {source['source'][:8]}  {values}")
        for verdict in one["verdicts"]:
            if verdict["verdict"] != "passed":
                lines.append(f"  ✗ {verdict['stage']} ({verdict['engine']}): {verdict['reason']}")
    return lines
