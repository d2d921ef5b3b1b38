"""The current value of a property where a candidate has several: painted by the policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select

from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.store.index.bulk import SOME, number_methods, paint, read_listed, store_setting
from crysgen_aiida.store.index.models import Candidate, PropertyColumn, PropertyValue
from crysgen_aiida.store.index.wide import wide_table

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import Index
    from crysgen_aiida.store.index.policy import Policy


def set_policy(index: Index, policy: Policy) -> int:
    """Make this the policy of the index; return how many values were looked at again."""
    with index.lock(), index.write() as connection:
        store_setting(connection, "policy", policy.to_dict())
        columns = PropertyColumn
        twice = connection.execute(
            select(columns.batch_id, columns.property)
            .where(columns.batch_id.is_not(None))
            .group_by(columns.batch_id, columns.property)
            .having(func.count() > 1)
        ).all()
        rivals: dict[str, set[int]] = {}
        for batch_id, name in twice:
            rivals.setdefault(name, set()).update(_candidates_of(connection, int(batch_id or 0)))
        for name, held in placed_candidates(connection).items():
            rivals.setdefault(name, set()).update(held)
        return repaint(connection, policy, rivals)


def repaint_batch(connection: Connection, policy: Policy, batch_id: int) -> None:
    """Look again at the properties of which a batch has several columns, or somebody else has values."""
    mine = set(_candidates_of(connection, batch_id))
    counts = connection.execute(
        select(PropertyColumn.property, func.count()).where(PropertyColumn.batch_id == batch_id).group_by("property")
    )
    rivals = {name: set(mine) for name, n in counts if n > 1}
    for name, held in placed_candidates(connection).items():
        rivals.setdefault(name, set()).update(held & mine)
    repaint(connection, policy, rivals)


def placed_candidates(connection: Connection, results_id: int | None = None) -> dict[str, set[int]]:
    """Return the candidates that have values from results tables, or from one of them, by property."""
    query = select(PropertyColumn.id, PropertyColumn.property).where(PropertyColumn.results_id.is_not(None))
    if results_id is not None:
        query = query.where(PropertyColumn.results_id == results_id)
    found: dict[str, set[int]] = {}
    for column_id, name in connection.execute(query).all():
        ids = connection.scalars(select(PropertyValue.candidate_id).where(PropertyValue.column_id == column_id))
        found.setdefault(name, set()).update(ids)
    return found


def repaint(connection: Connection, policy: Policy, rivals: Mapping[str, Iterable[int]]) -> int:
    """Write the current values of these candidates anew, by property; return how many."""
    current = wide_table(read_listed(connection))
    total = 0
    for name, candidates in sorted(rivals.items()):
        if name not in current.c:
            continue
        for batch_id, ids in _by_batch(connection, sorted(candidates)).items():
            total += len(ids)
            paint(connection, current, name, _worst_first(connection, policy, name, batch_id), ids)
    return total


def _worst_first(connection: Connection, policy: Policy, name: str, batch_id: int) -> list[tuple[int, int]]:
    """Return column and number of the method of all sources of a property that candidates of a batch can have."""
    columns = PropertyColumn
    rows = connection.execute(
        select(columns.id, columns.method, columns.created, columns.source_uuid)
        .where(columns.property == name, columns.unit == PROPERTIES[name].unit)
        .where((columns.batch_id == batch_id) | columns.results_id.is_not(None))
    ).all()
    numbers = number_methods(connection, [r.method for r in rows])
    order = policy.best_first(name, [(r.method, r.created, r.source_uuid) for r in rows])
    return [(rows[k].id, numbers[rows[k].method]) for k in reversed(order)]


def _candidates_of(connection: Connection, batch_id: int) -> list[int]:
    return list(connection.scalars(select(Candidate.id).where(Candidate.batch_id == batch_id)))


def _by_batch(connection: Connection, candidates: list[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for start in range(0, len(candidates), SOME):
        some = candidates[start : start + SOME]
        rows = connection.execute(select(Candidate.batch_id, Candidate.id).where(Candidate.id.in_(some)))
        for batch_id, key in rows:
            found.setdefault(batch_id, []).append(key)
    return found
