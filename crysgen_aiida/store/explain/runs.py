"""Runs and candidates found in the index by what users type: pk, uuid, label, address."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from crysgen_aiida.crystals.errors import EmptySet, ImpossibleRequest
from crysgen_aiida.store.address import Address
from crysgen_aiida.store.index.models import Batch, Candidate, Generator, Screening

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crysgen_aiida.store.index.database import Index

_UUID = re.compile(r"^[0-9a-f][0-9a-f-]{3,35}$")


@dataclass(frozen=True)
class Run:
    """What a user started, and the batches of candidates it led to.

    A run whose steps came from the cache shares its batch with the run that was copied.

    :param ranking: the rule the run was to rank by, None if it had none.
    """

    uuid: str
    pk: int | None
    label: str
    process: str
    created: str  #: of its newest screening
    batch_ids: tuple[int, ...]
    screens: tuple[str, ...]
    ranking: dict[str, Any] | None = None
    names: frozenset[str] = field(default_factory=frozenset)  #: whatever else it may be called by


@dataclass(frozen=True)
class Found:
    """A candidate of the index."""

    id: int
    batch_id: int
    row: int
    address: Address
    table_uuid: str  #: of the table that judged it


def list_runs(index: Index) -> list[Run]:
    """Return the runs that led to candidates, newest first."""
    query = (
        select(Screening.uuid, Screening.batch_id, Screening.described, Screening.created)
        .join(Batch)
        .where(Batch.complete)
        .order_by(Screening.created, Screening.uuid)
    )
    held: dict[str, list[Any]] = {}
    with index.read() as connection:
        for row in connection.execute(query):
            held.setdefault((row.described.get("campaign") or {"uuid": row.uuid})["uuid"], []).append(row)
    runs = [_run(uuid, rows) for uuid, rows in held.items()]
    return sorted(runs, key=lambda run: (run.created, run.uuid), reverse=True)


def _run(uuid: str, rows: list[Any]) -> Run:
    newest = rows[-1]
    campaign = newest.described.get("campaign") or {}
    screens = [row.described.get("screen") or {} for row in rows]
    names = {str(s["pk"]) for s in screens if s.get("pk") is not None}
    if campaign.get("pk") is not None:
        names.add(str(campaign["pk"]))
    return Run(
        uuid=uuid,
        pk=campaign.get("pk"),
        label=campaign.get("label") or "",
        process=campaign.get("process") or "",
        created=newest.created,
        batch_ids=tuple(dict.fromkeys(row.batch_id for row in rows)),
        screens=tuple(row.uuid for row in rows),
        ranking=newest.described.get("ranking"),
        names=frozenset(names),
    )


def find_run(index: Index, text: str | None = None) -> Run:
    """Return the run meant by a pk, the beginning of a uuid or a label; without any, the newest.

    :raises EmptySet: if the index holds no candidates.
    :raises ImpossibleRequest: if there is no such run, or several.
    """
    runs = list_runs(index)
    if not runs:
        raise EmptySet(
            "The index holds no candidates; `crysgen store sync` brings in what was screened, and `crysgen quickstart` "
            "or `crysgen design` make some."
        )
    if text is None:
        return runs[0]
    found = [run for run in runs if text in run.names] or [run for run in runs if run.label == text]
    if not found and _UUID.match(text.lower()):
        found = [run for run in runs if any(u.startswith(text.lower()) for u in (run.uuid, *run.screens))]
    if len(found) > 1:
        which = ", ".join(f"{run.pk or ''} {run.uuid[:8]}".strip() for run in found[:5])
        raise ImpossibleRequest(f"{text!r} means several runs ({which}); give a pk or more digits of the uuid.")
    if not found:
        raise ImpossibleRequest(
            f"The index has no run {text!r}; see `crysgen candidate list`, and run `crysgen store sync` if it has only "
            "just screened its crystals."
        )
    return found[0]


def run_of_screens(index: Index, screens: Iterable[str], uuid: str, label: str = "") -> Run:
    """Return a run made of these screenings, for a process that is not the outermost one.

    :raises EmptySet: if none of them is in the index.
    """
    wanted = set(screens)
    query = (
        select(Screening.uuid, Screening.batch_id, Screening.described, Screening.created)
        .join(Batch)
        .where(Batch.complete)
        .order_by(Screening.created, Screening.uuid)
    )
    with index.read() as connection:
        rows = [row for row in connection.execute(query) if row.uuid in wanted]
    if not rows:
        raise EmptySet(f"None of the screenings of {uuid[:8]} is in the index; run `crysgen store sync`.")
    found = _run(uuid, rows)
    return Run(
        uuid=uuid,
        pk=None,
        label=label,
        process=found.process,
        created=found.created,
        batch_ids=found.batch_ids,
        screens=found.screens,
        ranking=found.ranking,
    )


def runs_of_batch(index: Index, batch_id: int) -> list[Run]:
    """Return the runs that led to a batch, newest first: more than one if some were served from the cache."""
    return [run for run in list_runs(index) if batch_id in run.batch_ids]


def find_candidate(index: Index, text: str, among: Iterable[int] = ()) -> Found:
    """Return the candidate at an address; the uuid may be that of an equal set that came from the cache.

    :param among: batches to prefer where a set was screened more than once; else the newest screening counts.
    :raises ImpossibleRequest: if it is malformed, or means no candidate of the index, or several.
    """
    given = Address.parse(text)
    query = select(Screening.batch_id, Screening.relaxed_uuid, Batch.created, Batch.key).join(Batch)
    query = query.where(Screening.relaxed_uuid.startswith(given.uuid, autoescape=True), Batch.complete)
    with index.read() as connection:
        held = connection.execute(query.order_by(Batch.created.desc(), Batch.key.desc())).all()
        preferred = set(among)
        batches = [row.batch_id for row in sorted(held, key=lambda row: row.batch_id not in preferred)]
        if len({row.relaxed_uuid for row in held}) > 1:
            raise ImpossibleRequest(f"{given.uuid} is the beginning of several uuids; give more digits.")
        if not batches:
            raise ImpossibleRequest(
                f"The index has no candidates of a set whose uuid begins with {given.uuid}: check the address and the "
                "profile, and run `crysgen store sync`. `crysgen row show` reads any row of the graph."
            )
        wanted = (
            select(Candidate.id, Candidate.row, Batch.relaxed_uuid, Batch.table_uuid)
            .join(Batch, Batch.id == Candidate.batch_id)
            .where(Candidate.batch_id == batches[0], Candidate.row == given.row)
        )
        row = connection.execute(wanted).first()
    if row is None:
        raise ImpossibleRequest(
            f"The set {given.uuid[:8]} has no candidate in row {given.row}: rows that were not judged are none."
        )
    return Found(row.id, batches[0], row.row, Address(row.relaxed_uuid, row.row), row.table_uuid)


def summaries(index: Index, limit: int | None = None) -> list[dict[str, Any]]:
    """Return one record a run, newest first: what was asked for, by what, and how many candidates it led to."""
    batches: dict[int, Any] = {}
    columns = (Batch.id, Batch.n_rows, Batch.n_sequences, Batch.relaxed_uuid, Batch.requested, Batch.seed)
    query = select(*columns, Generator.label, Generator.uuid.label("generator")).outerjoin(Batch.generator)
    with index.read() as connection:
        batches = {row.id: row for row in connection.execute(query)}
    records = []
    for run in list_runs(index)[:limit]:
        held = [batches[i] for i in run.batch_ids]
        records.append(
            {
                "run": run.pk,
                "uuid": run.uuid,
                "label": run.label,
                "set": held[-1].relaxed_uuid[:8],
                "candidates": sum(b.n_rows for b in held),
                "requested": held[-1].requested,
                "generator": (held[-1].generator or "")[:8],
                "seed": held[-1].seed,
                "created": run.created[:16].replace("T", " "),
            }
        )
    return records
