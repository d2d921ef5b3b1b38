"""Tables of results about candidates (a verification): placed, and taken out again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlalchemy import Connection, delete, insert, select, update

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.store.arrays import floats_of
from crysgen_aiida.store.index.bulk import SOME, insert_columns, next_key, require_columns
from crysgen_aiida.store.index.current import placed_candidates, repaint
from crysgen_aiida.store.index.models import (
    Batch,
    Candidate,
    PropertyColumn,
    PropertyValue,
    Results,
    Screening,
    WideColumn,
)
from crysgen_aiida.store.language.place import printable
from crysgen_aiida.store.language.units import DifferentQuantity, UnknownUnit, convert

if TYPE_CHECKING:
    from crysgen_aiida.store.index.policy import Policy

#: Columns that make a table one of results.
REQUIRED = ("address", "property", "value", "unit", "method")

#: Digits of a row number; more are none that a table could have.
LONGEST_ROW = 9

Key = tuple[str, str, str]  # property, unit, method
Place = tuple[str, int]  # uuid of a relaxed set, row


@dataclass
class ResultRows:
    """What a table of results says: values by property, unit and method, at addresses."""

    n: int
    values: dict[Key, dict[Place, tuple[float, float | None]]] = field(default_factory=dict)
    refused: int = 0
    unknown: set[str] = field(default_factory=set)  #: properties that are not registered
    nowhere: int = 0  #: rows whose address is none
    misfits: set[str] = field(default_factory=set)  #: units that are none of the property

    @property
    def addressed(self) -> list[str]:
        """Return the uuids of the sets it speaks of."""
        return sorted({uuid for held in self.values.values() for uuid, _ in held})

    def complaints(self, uuid: str, placed: int) -> list[str]:
        """Return sentences about what could not be taken of the table, of whose values ``placed`` found a candidate."""
        said = []
        if self.unknown:
            names = ", ".join(printable(name, 60) for name in sorted(self.unknown))
            said.append(f"The results {uuid[:8]} name properties that are not registered and are left out: {names}.")
        if self.misfits:
            names = ", ".join(printable(name, 60) for name in sorted(self.misfits))
            said.append(f"The results {uuid[:8]} have values in units that do not fit and are left out: {names}.")
        lost = self.nowhere + sum(map(len, self.values.values())) - placed
        if lost:
            said.append(
                f"{lost} values of the results {uuid[:8]} are of no candidate of the index; an address is the whole "
                "uuid of the relaxed set, a colon, and the row."
            )
        return said


def is_results(columns: Sequence[str]) -> bool:
    """Whether a table with these columns is one of results."""
    return set(REQUIRED) <= set(columns)


def read_results(table: pa.Table) -> ResultRows:
    """Read a table of results, its values converted into the registered units.

    Of several values at one place by one method the last counts.

    :raises BadInput: if a column has another type than it must.
    """
    try:
        values = floats_of(table["value"]).tolist()
        n = table.num_rows
        sigmas = floats_of(table["uncertainty"]).tolist() if "uncertainty" in table.column_names else [None] * n
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadInput(f"value and uncertainty must be numbers ({error})") from None
    texts = [[None if v is None else str(v) for v in table[name].to_pylist()] for name in REQUIRED if name != "value"]
    found = ResultRows(n)
    for address, name, unit, method, value, sigma in zip(*texts, values, sigmas, strict=True):
        if name is None:
            continue  # a verdict, which holds no value
        uuid, _, row = (address or "").strip().lower().rpartition(":")
        known = name in PROPERTIES and not PROPERTIES[name].shape
        if not known:
            found.unknown.add(name)
        somewhere = row.isdecimal() and len(row) <= LONGEST_ROW
        found.nowhere += not somewhere
        if not known or not isfinite(value) or not somewhere or not method:
            found.refused += 1
            continue
        wanted, held = PROPERTIES[name].unit, None if sigma is None or not isfinite(sigma) else sigma
        try:
            value = convert(value, unit or wanted, wanted)
            held = None if held is None else convert(held, unit or wanted, wanted)
        except (UnknownUnit, DifferentQuantity):
            found.misfits.add(f"{name} in {unit}")
            found.refused += 1
            continue
        found.values.setdefault((name, wanted, method), {})[uuid, int(row)] = (value, held)
    return found


def add_results(
    connection: Connection, policy: Policy, uuid: str, created: str, content_hash: str, rows: ResultRows
) -> int:
    """Write a table of results; return how many of its values found their candidate."""
    results_id = next_key(connection, Results.id)
    connection.execute(
        insert(Results).values(
            id=results_id,
            uuid=uuid,
            content_hash=content_hash,
            created=created,
            n_rows=rows.n,
            n_placed=0,
            n_refused=rows.refused,
            addressed=rows.addressed,
        )
    )
    found = _find(connection, {place for held in rows.values.values() for place in held})
    wanted = {
        name: WideColumn(name=name, kind="number", unit=PROPERTIES[name].unit, is_property=True)
        for name, unit, _ in rows.values
        if unit == PROPERTIES[name].unit
    }
    require_columns(connection, wanted)
    placed = 0
    for (name, unit, method), held in sorted(rows.values.items()):
        column_id = next_key(connection, PropertyColumn.id)
        connection.execute(
            insert(PropertyColumn).values(
                id=column_id,
                results_id=results_id,
                property=name,
                unit=unit,
                method=method,
                source="results",
                source_uuid=uuid,
                created=created,
            )
        )
        at = {key: value for place, value in held.items() for key in found.get(place, ())}
        placed += sum(place in found for place in held)
        keys = sorted(at)
        columns: dict[str, list[Any]] = {
            "column_id": [column_id] * len(keys),
            "candidate_id": keys,
            "value": [at[k][0] for k in keys],
            "sigma": [at[k][1] for k in keys],
        }
        insert_columns(connection, PropertyValue.__table__, columns)  # type: ignore[arg-type]
    connection.execute(update(Results).where(Results.id == results_id).values(n_placed=placed))
    repaint(connection, policy, placed_candidates(connection, results_id))
    return placed


def remove_results(connection: Connection, policy: Policy, uuid: str) -> None:
    """Take a table of results out; what was current before it is so again."""
    results_id = connection.scalar(select(Results.id).where(Results.uuid == uuid))
    if results_id is None:
        return
    touched = placed_candidates(connection, results_id)
    own = select(PropertyColumn.id).where(PropertyColumn.results_id == results_id)
    connection.execute(delete(PropertyValue).where(PropertyValue.column_id.in_(own)))
    connection.execute(delete(PropertyColumn).where(PropertyColumn.results_id == results_id))
    connection.execute(delete(Results).where(Results.id == results_id))
    repaint(connection, policy, touched)


def _find(connection: Connection, places: set[Place]) -> Mapping[Place, list[int]]:
    """Return the candidates at each place: those of every complete batch one of whose screenings used the set."""
    by_uuid: dict[str, list[int]] = {}
    for uuid, row in places:
        by_uuid.setdefault(uuid, []).append(row)
    found: dict[Place, list[int]] = {}
    for uuid, rows in sorted(by_uuid.items()):
        batches = connection.scalars(
            select(Screening.batch_id)
            .where(Screening.relaxed_uuid == uuid)
            .join(Batch)
            .where(Batch.complete)
            .distinct()
        ).all()
        for batch_id in batches:
            for start in range(0, len(rows), SOME):
                some = rows[start : start + SOME]
                held = connection.execute(
                    select(Candidate.row, Candidate.id).where(Candidate.batch_id == batch_id, Candidate.row.in_(some))
                )
                for row, key in held:
                    found.setdefault((uuid, row), []).append(key)
    return found
