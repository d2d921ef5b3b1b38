"""Which candidates are the same crystal, across batches.

A screening finds duplicates within its batch; this finds them between batches and writes ``Candidate.group_id``: the
key of the first candidate of the group, which is itself for one that stands alone. Crystals are read from the packed
sets and compared by :mod:`crysgen_aiida.crystals.matching`, formula by formula. A formula that is done is written at
once, so that an interrupted run goes on; only formulas with new candidates are looked at again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.orm import aliased

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.matching import MatchSpec, group_duplicates
from crysgen_aiida.store import harvest
from crysgen_aiida.store.index.bulk import SOME
from crysgen_aiida.store.index.models import Batch, Candidate

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crysgen_aiida.store.index.database import Index

#: Called with (candidates done, candidates to do).
Progress = Callable[[int, int], None]

#: Candidates whose crystals are held at once.
HELD = 5000


@dataclass
class MatchReport:
    """What a matching did.

    :param done: candidates that have a group now and had none, those compared again included.
    :param left: candidates still without one.
    :param compared: pairs given to the matcher.
    :param groups: groups of two candidates or more among those done.
    :param rate: candidates a second.
    """

    done: int = 0
    left: int = 0
    compared: int = 0
    groups: int = 0
    seconds: float = 0.0
    rate: float = 0.0


@dataclass(frozen=True)
class _Member:
    key: int
    batch_id: int
    row: int
    grouped: bool


def match(
    index: Index, *, limit: int | None = None, progress: Progress | None = None, spec: MatchSpec | None = None
) -> MatchReport:
    """Group the candidates of the loaded profile; go on where an earlier run stopped.

    :param limit: stop after about so many candidates.
    :param spec: tolerances of the matcher; one index should be matched with one set of them.
    :raises BadInput: if the index or a set cannot be read, or the candidates are no longer those that were compared.
    """
    started = time.perf_counter()
    report = MatchReport()
    with index.read() as connection:
        todo = _formulas(index, connection)
        relaxed = dict(connection.execute(select(Batch.id, Batch.relaxed_uuid)).tuples().all())
        batches = dict(connection.execute(select(Batch.id, Batch.key)).tuples().all())
    total = sum(map(len, todo.values()))
    for some in _portions(todo):
        if limit is not None and report.done >= limit:
            break
        structures = _read(relaxed, [m for name in some for m in todo[name] if len(todo[name]) > 1])
        for name in some:
            members = todo[name]
            groups = _group(members, structures, spec, report)
            with index.write() as connection:
                _require_unchanged(connection, members, batches)
                _store(connection, groups)
            report.done += len(members)
            report.groups += sum(len(held) > 1 for held in groups.values())
            if progress is not None:
                progress(report.done, total)
            if limit is not None and report.done >= limit:
                break
    with index.write() as connection:
        _follow_duplicates(connection)
    report.left = total - report.done
    report.seconds = time.perf_counter() - started
    report.rate = report.done / report.seconds if report.seconds else 0.0
    return report


def _formulas(index: Index, connection: Connection) -> dict[str, list[_Member]]:
    """Return the candidates of every formula that has one without a group, in the order of age."""
    current = index.wide(connection)
    query = (
        select(current.c.reduced_formula, Candidate.id, Candidate.batch_id, Candidate.row, Candidate.group_id)
        .join_from(Candidate, current, current.c.candidate_id == Candidate.id)
        .join(Batch, Batch.id == Candidate.batch_id)
        .where(Batch.complete, Candidate.duplicate_of.is_(None))
        .where(current.c.status == "ok", current.c.reduced_formula.is_not(None))
        .order_by(current.c.reduced_formula, Batch.created, Batch.key, Candidate.row)
    )
    found: dict[str, list[_Member]] = {}
    for formula, key, batch_id, row, group in connection.execute(query):
        found.setdefault(formula, []).append(_Member(key, batch_id, row, group is not None))
    return {name: held for name, held in found.items() if not all(m.grouped for m in held)}


def _portions(todo: Mapping[str, Sequence[_Member]]) -> Iterator[list[str]]:
    """Yield formulas, some at a time, so that few crystals are held at once."""
    some: list[str] = []
    held = 0
    for name, members in todo.items():
        if some and held + len(members) > HELD:
            yield some
            some, held = [], 0
        some.append(name)
        held += len(members)
    if some:
        yield some


def _read(relaxed: Mapping[int, str], members: Sequence[_Member]) -> dict[int, Structure | None]:
    """Return the crystals of these candidates by key; each set is read once."""
    by_batch: dict[int, list[_Member]] = {}
    for member in members:
        by_batch.setdefault(member.batch_id, []).append(member)
    found: dict[int, Structure | None] = {}
    for batch_id, held in by_batch.items():
        uuid = relaxed[batch_id]
        file = harvest.load_files([uuid])[uuid]
        crystals = CrystalSet(harvest.read_columns(uuid, file, lambda schema: list(schema.names)))
        structures = crystals.take([m.row for m in held]).structures()
        found.update({m.key: structure for m, structure in zip(held, structures, strict=True)})
    return found


def _group(
    members: Sequence[_Member], structures: Mapping[int, Structure | None], spec: MatchSpec | None, report: MatchReport
) -> dict[int, list[int]]:
    """Return the groups of one formula: key of the first member to the keys of all."""
    if len(members) == 1:
        return {members[0].key: [members[0].key]}
    matched = group_duplicates([structures[m.key] for m in members], spec)
    report.compared += matched.compared
    found: dict[int, list[int]] = {}
    for position, first in enumerate(matched.first):
        at = members[position if first is None else first].key
        found.setdefault(at, []).append(members[position].key)
    return found


def _require_unchanged(connection: Connection, members: Sequence[_Member], batches: Mapping[int, str]) -> None:
    """Make sure that keys still mean the candidates that were compared: a rebuild may have come between."""
    mine = {m.batch_id for m in members}
    held = connection.execute(select(Batch.id, Batch.key).where(Batch.id.in_(mine))).tuples().all()
    same = dict(held) == {key: batches[key] for key in mine}
    for start in range(0, len(members), SOME):
        some = {m.key: (m.batch_id, m.row) for m in members[start : start + SOME]}
        rows = connection.execute(
            select(Candidate.id, Candidate.batch_id, Candidate.row).where(Candidate.id.in_(list(some)))
        )
        same = same and {key: (batch_id, row) for key, batch_id, row in rows} == some
    if not same:
        raise BadInput(
            "The candidates changed while they were compared; run `crysgen store match` again, it goes on from there."
        )


def _store(connection: Connection, groups: Mapping[int, Sequence[int]]) -> None:
    rows: list[dict[str, Any]] = [{"key": key, "first": first} for first, keys in groups.items() for key in keys]
    statement = update(Candidate).where(Candidate.id == bindparam("key")).values(group_id=bindparam("first"))
    connection.execute(statement, rows)


def _follow_duplicates(connection: Connection) -> None:
    """Put duplicates that a screening found into the group of the candidate they equal."""
    first = aliased(Candidate)
    group = (
        select(first.group_id)
        .where(first.batch_id == Candidate.batch_id, first.row == Candidate.duplicate_of)
        .scalar_subquery()
    )
    connection.execute(
        update(Candidate)
        .where(Candidate.duplicate_of.is_not(None))
        .values(group_id=group)
        .execution_options(synchronize_session=False)
    )
