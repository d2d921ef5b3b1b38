"""Bring the index to where the graph is: what is new goes in, what is gone goes out.

The unit is a finished screening, or a table of results; what to do is the difference of two sets of uuids. Every
step is one transaction, so a synchronisation that was killed goes on where it stopped. One at a time runs: another one
waits, then finds nothing left to do. The storage of the profile is only read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlalchemy import Connection, delete, insert, select, update

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.store import harvest
from crysgen_aiida.store.explain.stages import stages_of
from crysgen_aiida.store.index.batches import (
    Screened,
    add_batch,
    describe_again,
    join_batch,
    remove_batch,
    remove_screening,
)
from crysgen_aiida.store.index.bulk import insert_columns, next_key, store_setting, undisturbed
from crysgen_aiida.store.index.clashes import find_clashes, refused, settle
from crysgen_aiida.store.index.engine import tell_planner
from crysgen_aiida.store.index.listing import list_again
from crysgen_aiida.store.index.models import (
    Batch,
    Campaign,
    Candidate,
    Dataset,
    Generator,
    LineageEdge,
    Results,
    Screening,
)
from crysgen_aiida.store.index.registry import filled_otherwise, note_registered
from crysgen_aiida.store.index.results import REQUIRED, add_results, read_results, remove_results
from crysgen_aiida.store.index.rows import Rows, read_rows, scalar_columns

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import Index

#: What the setting ``graph`` says while a synchronisation writes: one that was killed leaves it behind.
UNFINISHED = {"unfinished": True}

#: Called with (screenings done, screenings to do).
Progress = Callable[[int, int], None]


@dataclass
class SyncReport:
    """What a synchronisation did.

    :param added: screenings and tables of results that are new in the index.
    :param removed: those that are no longer in the graph.
    :param rows: candidates written.
    :param results: values of results tables placed.
    :param notes: what could not be taken, in sentences.
    """

    added: int = 0
    removed: int = 0
    rows: int = 0
    results: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether the index is another one now."""
        return bool(self.added or self.removed)


def sync(index: Index, *, progress: Progress | None = None, rebuild: bool = False) -> SyncReport:
    """Synchronise the index with the loaded profile.

    :param progress: told after every screening.
    :param rebuild: empty the index and read everything again, in one transaction; saved queries and the policy stay.
    :raises BadInput: if the index cannot be written, or another synchronisation does not end.
    """
    started = time.perf_counter()

    def fill() -> SyncReport:
        report = SyncReport()
        _Sync(index, report, progress).run()
        return report

    with index.lock():
        said = [] if rebuild else _grounds_to_rebuild(index)
        if rebuild or said:
            said += _lost_by_rebuilding(index)
            report = index.refill(fill)
        else:
            report = fill()
    report.notes = [*index.notes, *said, *report.notes]
    report.seconds = time.perf_counter() - started
    return report


def _grounds_to_rebuild(index: Index) -> list[str]:
    with index.read() as connection:
        if not filled_otherwise(connection):
            return []
    return ["The candidate index was filled when other properties were registered: it is made anew."]


def _lost_by_rebuilding(index: Index) -> list[str]:
    try:
        with index.read() as connection:
            matched = connection.scalar(select(Candidate.id).where(Candidate.group_id.is_not(None)).limit(1))
    except BadInput:  # a damaged index is what a rebuild is for
        return []
    return [] if matched is None else ["Which candidates are the same crystal is forgotten: run `crysgen store match`."]


def load_rows(described: Mapping[str, Any]) -> tuple[Rows, dict[str, Any]]:
    """Read the sets of a screening; return its rows and the counts of its stages.

    :raises BadInput: if a set cannot be read, or does not fit the others.
    """
    sets = described["sets"]
    columns = {
        "relaxed": scalar_columns,
        "table": scalar_columns,
        "decoded": _stage_columns,
        "sequences": _wish_columns,
    }
    files = harvest.load_files(sets[name] for name in columns if name in sets)
    held: dict[str, Any] = {
        name: harvest.read_columns(sets[name], files[sets[name]], wanted) if name in sets else None
        for name, wanted in columns.items()
    }
    try:
        rows = read_rows(held["relaxed"], held["table"], held["decoded"], held["sequences"])
        return rows, stages_of(held["sequences"], held["decoded"], held["relaxed"], held["table"])
    except pa.ArrowException as error:
        raise BadInput(f"a column cannot be read ({str(error).splitlines()[0]})") from error


def _stage_columns(schema: Any) -> list[str]:
    return [name for name in ("status", "reason", "parent_row") if name in schema.names]


def _wish_columns(schema: Any) -> list[str]:
    return _stage_columns(schema) + [name for name in schema.names if name.startswith("target.")]


class _Sync:
    def __init__(self, index: Index, report: SyncReport, progress: Progress | None) -> None:
        self.index = index
        self.report = report
        self.progress = progress
        self.moved: set[str] = set()  #: relaxed sets whose screenings came or went
        self.without: Mapping[tuple[str, str], str] = {}  #: columns that batches did without before

    def run(self) -> None:
        state = harvest.state()
        self._wipe_incomplete()
        there = harvest.screenings()
        with self.index.read() as connection:
            known = set(connection.scalars(select(Screening.uuid)))
            seen = self.index.setting("graph", connection)
            self.without = refused(connection)
        begun = seen != state or known != set(there)
        if begun:
            with self.index.write() as connection:
                store_setting(connection, "graph", UNFINISHED)
                note_registered(connection)
        self._remove(sorted(known - set(there)))
        self._add(sorted(set(there) - known, key=lambda uuid: (there[uuid], uuid)))
        self._settle()
        interrupted = seen == UNFINISHED
        self._results(harvest.results_tables(), all_again=interrupted)
        if self.report.changed or seen != state:
            self._refresh(sorted(set(there) & known))
        if begun:
            with self.index.write() as connection:
                if self.report.changed or interrupted:
                    list_again(connection)
                    tell_planner(connection)
                store_setting(connection, "graph", state)

    def _wipe_incomplete(self) -> None:
        """Remove what a killed synchronisation left half written: nobody else writes batches while we hold the lock."""
        for batch_id in self.index.incomplete():
            with self.index.write() as connection:
                remove_batch(connection, batch_id)

    # -- screenings -----------------------------------------------------------------------------------------------

    def _remove(self, uuids: list[str]) -> None:
        for uuid in uuids:
            with self.index.write() as connection:
                relaxed = connection.scalar(select(Screening.relaxed_uuid).where(Screening.uuid == uuid))
                remove_screening(connection, self.index.policy(connection), uuid)
            self.moved.add(str(relaxed))
            self.report.removed += 1

    def _add(self, uuids: list[str]) -> None:
        for done, (uuid, screened, counts) in enumerate(harvest.describe(uuids), start=1):
            if isinstance(screened, str):
                self._left_out(uuid, screened)
            else:
                try:
                    self._add_one(screened, counts)
                except (BadInput, FileNotFoundError) as error:
                    if _of_database(error):
                        raise
                    self._left_out(uuid, str(error))
            if self.progress is not None:
                self.progress(done, len(uuids))

    def _add_one(self, screened: Screened, counts: dict[str, Any]) -> None:
        with self.index.read() as connection:
            batch_id = connection.scalar(select(Batch.id).where(Batch.key == screened.key))
        if batch_id is not None:
            with self.index.write() as connection:
                join_batch(connection, self.index.policy(connection), batch_id, screened)
        else:
            with undisturbed():
                rows, funnel = load_rows(screened.described)
                add_batch(self.index, screened, rows, {**counts, "funnel": funnel})
            self.report.rows += rows.n
            self.report.notes += [f"Screening {screened.uuid[:8]}: {why}; it is left out." for why in rows.left_out]
        self.moved.add(screened.relaxed_uuid)
        self.report.added += 1

    def _left_out(self, uuid: str, why: str) -> None:
        self.report.notes.append(f"The screening {uuid[:8]} is not in the index: {why.rstrip('.')}.")

    def _settle(self) -> None:
        """Give every column to the best kind of values there is, and say who does without it from now on."""
        with self.index.read() as connection:
            clashes = find_clashes(connection)
            query = select(Batch.id, Screening.described).join(Screening, Screening.uuid == Batch.screen_uuid)
            held = connection.execute(query.where(Batch.id.in_(clashes.fill))).tuples().all()
        if clashes:
            rows: dict[int, Rows] = {}
            for batch_id, described in held:
                try:
                    rows[batch_id] = load_rows(described)[0].only(clashes.fill[batch_id])
                except (BadInput, FileNotFoundError) as error:
                    names = ", ".join(clashes.fill[batch_id])
                    about = f"The screening {described['screen']['uuid'][:8]}"
                    self.report.notes.append(f"{about} goes without {names}: {str(error).rstrip('.')}.")
            with self.index.write() as connection:
                settle(connection, clashes, rows)
        with self.index.read() as connection:
            now = refused(connection)
        self.report.notes += [
            f"Screening {uuid[:8]}: the column {name!r} has values of another kind than in other sets; it is left out."
            for (key, name), uuid in sorted(now.items())
            if (key, name) not in self.without
        ]

    # -- results --------------------------------------------------------------------------------------------------

    def _results(self, there: Mapping[str, tuple[str, str]], all_again: bool) -> None:
        with self.index.read() as connection:
            known = {uuid: set(uuids) for uuid, uuids in connection.execute(select(Results.uuid, Results.addressed))}
        for uuid in sorted(set(known) - set(there)):
            with self.index.write() as connection:
                remove_results(connection, self.index.policy(connection), uuid)
            self.report.removed += 1
        again = {uuid for uuid, uuids in known.items() if uuid in there and (all_again or uuids & self.moved)}
        for uuid in sorted(again | (set(there) - set(known)), key=lambda uuid: (there[uuid], uuid)):
            try:
                rows = read_results(harvest.read_columns(uuid, harvest.load_files([uuid])[uuid], result_columns))
            except (BadInput, FileNotFoundError) as error:
                self.report.notes.append(f"The results {uuid[:8]} are not in the index: {str(error).rstrip('.')}.")
                continue
            with self.index.write() as connection:
                policy = self.index.policy(connection)
                remove_results(connection, policy, uuid)
                placed = add_results(connection, policy, uuid, *there[uuid], rows)
            self.report.results += placed
            if uuid not in known:
                self.report.added += 1
                self.report.notes += rows.complaints(uuid, placed)

    # -- what can change without a screening coming or going ----------------------------------------------------------

    def _refresh(self, known: list[str]) -> None:
        """Look again at labels, callers, generators, data sets and the steps between sets."""
        with self.index.read() as connection:
            rows = connection.execute(select(Screening.uuid, Screening.described)).all()
        held: dict[str, Any] = {row.uuid: row.described for row in rows}
        for uuid, screened, _ in harvest.describe(known):
            if isinstance(screened, Screened) and held.get(uuid) != screened.described:
                with self.index.write() as connection:
                    describe_again(connection, self.index.policy(connection), uuid, screened.described)
        with self.index.write() as connection:
            _replace(connection, Generator, harvest.generators())
            _replace(connection, Dataset, harvest.datasets())
            used = connection.scalars(select(Screening.described)).all()
            _replace(connection, Campaign, {d["campaign"]["uuid"]: _without_pk(d["campaign"]) for d in used})
            self._steps(connection)

    def _steps(self, connection: Connection) -> None:
        makers = harvest.makers()
        known = set(connection.scalars(select(LineageEdge.process_uuid).distinct()))
        for uuid in sorted(known - set(makers)):
            connection.execute(delete(LineageEdge).where(LineageEdge.process_uuid == uuid))
        new = list(harvest.edges({uuid: verb for uuid, verb in makers.items() if uuid not in known}))
        if new:
            columns = {name: [edge[name] for edge in new] for name in new[0]}
            insert_columns(connection, LineageEdge.__table__, columns)  # type: ignore[arg-type]


def result_columns(schema: Any) -> list[str]:
    """Return the columns of a table of results that are read."""
    return [name for name in (*REQUIRED, "uncertainty") if name in schema.names]


def _of_database(error: Exception) -> bool:
    from sqlalchemy.exc import DatabaseError

    return isinstance(error.__cause__, DatabaseError)


def _without_pk(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k != "pk"}


def _replace(connection: Connection, model: Any, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Make the rows of a model those wanted, by uuid; rows that stay keep their keys."""
    table = model.__table__
    held = {row.uuid: dict(row._mapping) for row in connection.execute(select(table))}
    for uuid in sorted(set(held) - set(wanted)):
        connection.execute(delete(table).where(table.c.uuid == uuid))
    key = next_key(connection, table.c.id)
    for uuid, values in sorted(wanted.items()):
        if uuid not in held:
            connection.execute(insert(table).values(id=key, **values))
            key += 1
        elif any(held[uuid][name] != value for name, value in values.items()):
            connection.execute(update(table).where(table.c.uuid == uuid).values(**values))
