"""What candidates are ordered by, and how sure it is: the uncertainty stated, or how far two potentials disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, select

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.store.index.models import PropertyColumn, PropertyValue
from crysgen_aiida.store.index.policy import POTENTIAL, classify
from crysgen_aiida.store.language.nodes import SigmaOf
from crysgen_aiida.store.reading import Reading, Rows, Wanted, written

if TYPE_CHECKING:
    from crysgen_aiida.data.ordering import Objective


def wished(reading: Reading, objectives: Sequence[Objective]) -> list[Wanted]:
    """Return the columns that objectives read: values, and stated uncertainties where these count.

    :raises ImpossibleRequest: if a column is not there or holds no numbers.
    """
    found: dict[str, Wanted] = {}
    for objective in objectives:
        wanted = reading.column(objective.column)
        if wanted.resolved.kind in ("text", "method"):
            raise ImpossibleRequest(f"Nothing can be ranked by {objective.column}: it holds no numbers.")
        found[wanted.name] = wanted
    stated = [_stated(reading, o.column) for o in objectives if o.confidence]
    return [*found.values(), *{s.name: s for s in stated if s and s.name not in found}.values()]


def uncertainties(
    reading: Reading, objectives: Sequence[Objective], rows: Rows, condition: ColumnElement[bool]
) -> dict[str, np.ndarray]:
    """Return the uncertainties of the objectives for which they count, (n,) each, NaN where not known.

    :param rows: with the columns of :func:`wished`.
    :param condition: what these candidates, and perhaps others, satisfy.
    """
    found: dict[str, np.ndarray] = {}
    for name in (o.column for o in objectives if o.confidence):
        stated = _stated(reading, name)
        known = np.full(len(rows.candidate_id), np.nan) if stated is None else rows.columns[stated.name]
        if stated is not None and np.isnan(known).any():
            known = np.where(np.isnan(known), disagreement(reading, name, rows.candidate_id, condition), known)
        found[name] = known
    return found


def _stated(reading: Reading, name: str) -> Wanted | None:
    """Return the column of stated uncertainties of a property, None for a column that is none."""
    info = reading.names.infos.get(name)
    if info is None or not info.is_property:
        return None
    operand = SigmaOf(name)
    return Wanted(written(operand), reading.names.resolve(operand))


def disagreement(reading: Reading, name: str, ids: np.ndarray, condition: ColumnElement[bool]) -> np.ndarray:
    """Return the standard deviation (n,) between the values of a property by different interatomic potentials.

    Of each potential the newest value counts. The deviation of a sample, divided by one less than its size: of two
    values their difference divided by the square root of 2. NaN where fewer than two potentials give a value.

    :param ids: (n,) candidates.
    :param condition: what these candidates, and perhaps others, satisfy.
    """
    sigma = np.full(len(ids), np.nan)
    column, value = PropertyColumn.__table__.c, PropertyValue.__table__.c
    asked = select(column.id, column.method, column.created, column.source_uuid)
    asked = asked.where(column.property == name, column.unit == reading.names.infos[name].unit)
    held = [c for c in reading.connection.execute(asked).all() if classify(c.method) == POTENTIAL]
    if len({c.method for c in held}) < 2 or not len(ids):
        return sigma
    oldest_first = sorted(held, key=lambda c: (c.created, c.source_uuid))
    age = {c.id: n for n, c in enumerate(oldest_first)}
    methods = {m: n for n, m in enumerate(sorted({c.method for c in held}))}
    method = {c.id: methods[c.method] for c in held}
    kept = select(reading.wide.c.candidate_id).where(condition)
    rows: list[Any] = []
    for some in _chunks(sorted(age)):
        found = select(value.candidate_id, value.column_id, value.value)
        found = found.where(value.column_id.in_(some), value.candidate_id.in_(kept))
        rows += reading.connection.execute(found).fetchall()
    if not rows:
        return sigma
    whose, which, values = (np.array(c) for c in zip(*rows, strict=True))
    of_method = np.array([method[int(c)] for c in which])
    order = np.lexsort((np.array([age[int(c)] for c in which]), of_method, whose))
    whose, of_method, values = whose[order], of_method[order], values[order].astype(float)
    # the last of each candidate and method is the newest
    newest = np.append((whose[1:] != whose[:-1]) | (of_method[1:] != of_method[:-1]), True)
    whose, values = whose[newest], values[newest]
    starts = np.flatnonzero(np.append(True, whose[1:] != whose[:-1]))
    count = np.diff(np.append(starts, len(whose)))
    mean = np.add.reduceat(values, starts) / count
    squares = np.add.reduceat((values - np.repeat(mean, count)) ** 2, starts)
    spread = np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)
    known = whose[starts]
    at = np.searchsorted(known, ids)
    inside = np.minimum(at, len(known) - 1)
    return np.where(known[inside] == ids, spread[inside], np.nan)


def _chunks(ids: list[int], size: int = 10_000) -> list[list[int]]:
    return [ids[k : k + size] for k in range(0, len(ids), size)]
