"""Reading the wide table: conditions in, arrays out, all from one state of the index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, String, and_, case, cast, func, select, true

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.store.index.models import Batch
from crysgen_aiida.store.index.wide import FIXED
from crysgen_aiida.store.language.columns import FLAG, METHOD, NUMBER, WHOLE, Columns, Resolved
from crysgen_aiida.store.language.compiler import Compiler
from crysgen_aiida.store.language.nodes import Column as Named
from crysgen_aiida.store.language.nodes import Expression, MethodOf, Operand, SigmaOf
from crysgen_aiida.store.language.parser import parse_operand

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import Index

Prefer = Mapping[str, str | Sequence[str]]

#: Keys in one statement when rows are read by key; databases take some ten thousand values.
CHUNK = 5000

#: More rows than this are read by scanning once more rather than by key.
BY_KEY = 20_000

#: Conditions that are counted one upon the other in a single scan: each takes all those before it along.
FEW = 10

#: Rows fetched at once.
MANY = 20_000

#: All columns of the index.
ALL = "*"


@dataclass(frozen=True)
class Rows:
    """Rows of the wide table.

    :param place: (n,) numbers that order the rows by the age of their batch and their row: the same after a rebuild.
    """

    candidate_id: np.ndarray
    batch_id: np.ndarray
    row: np.ndarray
    place: np.ndarray
    columns: dict[str, np.ndarray]


@dataclass(frozen=True)
class Wanted:
    """A column to be read: the name it was asked for by, and what it is."""

    name: str
    resolved: Resolved


class Reading:
    """One reading of an index, over some of its batches.

    :param runs: keys of the batches, None for all. Batches that are being written just now are left out.
    :raises ImpossibleRequest: if a batch is not in the index.
    """

    def __init__(
        self, index: Index, connection: Connection, runs: Sequence[int] | None = None, prefer: Prefer | None = None
    ) -> None:
        self.index, self.connection = index, connection
        self.names = Columns(index, prefer, connection)
        self.compiler = Compiler(self.names)
        self.wide = self.names.wide
        columns = (Batch.id, Batch.relaxed_uuid, Batch.created, Batch.key, Batch.complete, Batch.n_rows)
        batches = connection.execute(select(*columns))
        held = sorted(batches.all(), key=lambda b: (b.created, b.key))
        strangers = sorted(set(runs or ()) - {b.id for b in held})
        if strangers:
            raise ImpossibleRequest(f"The index has no batches {strangers}; run `crysgen store sync`.")
        wanted = {b.id for b in held if b.complete and (runs is None or b.id in set(runs))}
        self.relaxed: dict[int, str] = {b.id: b.relaxed_uuid for b in held}
        self.n = sum(b.n_rows for b in held if b.id in wanted)  #: candidates of the batches read
        self._age = np.zeros(max(self.relaxed, default=0) + 1, dtype=np.int64)
        self._age[[b.id for b in held]] = np.arange(len(held))
        self.among: ColumnElement[bool] | None = None
        if len(wanted) < len(held):
            self.among = self.wide.c.batch_id.in_(sorted(wanted))

    def condition(self, expressions: Sequence[Expression]) -> ColumnElement[bool]:
        """Return the condition that all expressions hold, for candidates of the batches read."""
        return self._among(*(self.compiler.condition(e) for e in expressions))

    def column(self, name: str) -> Wanted:
        """Return what a name stands for: a column of the index, or one written like ``sigma(band_gap)``.

        :raises BadInput: if it is no name.
        :raises ImpossibleRequest: if there is no such column.
        """
        operand: Operand = Named(name) if name in self.names.infos else parse_operand(name)
        return Wanted(name, self.names.resolve(operand))

    def listed(self, columns: Sequence[str] | None, used: Sequence[str] = ()) -> list[Wanted]:
        """Return the columns to be read.

        :param columns: names; ``*`` for all; None for those every candidate has, and those used.
        """
        fixed = [name for name, _ in FIXED]
        names: list[str] = []
        for name in [*fixed, *used] if columns is None else columns:
            names += list(self.names.infos) if name == ALL else [name]
        return [self.column(name) for name in dict.fromkeys(names)]

    def rows(self, condition: ColumnElement[bool], wanted: Sequence[Wanted]) -> Rows:
        """Return the rows that satisfy a condition, in no order."""
        return self._rows(self._select(wanted).where(condition), wanted)

    def rows_of(self, ids: np.ndarray, condition: ColumnElement[bool], wanted: Sequence[Wanted]) -> Rows:
        """Return the rows of some candidates, which satisfy a condition, in the order of ``ids``."""
        if len(ids) > BY_KEY:
            found = self.rows(condition, wanted)
        else:
            parts = [
                self.rows(self.wide.c.candidate_id.in_(ids[k : k + CHUNK].tolist()), wanted)
                for k in range(0, max(len(ids), 1), CHUNK)
            ]
            found = _joined(parts)
        by_key = np.argsort(found.candidate_id)
        return taken(found, by_key[np.searchsorted(found.candidate_id, ids, sorter=by_key)])

    def sifted(self, expressions: Sequence[Expression], wanted: Sequence[Wanted]) -> tuple[list[int], Rows]:
        """Return how many candidates there are and are left after each expression, and the rows left last."""
        condition = self.condition(expressions)
        if not expressions:
            rows = self.rows(condition, wanted)
            return [len(rows.candidate_id)], rows
        counts, ids = self.sift(expressions)
        if len(ids) > BY_KEY:
            return counts, self.rows(condition, wanted)
        return counts, self.rows_of(ids, condition, wanted)

    def sift(self, expressions: Sequence[Expression]) -> tuple[list[int], np.ndarray]:
        """Return how many candidates there are and are left after each expression, and the keys of those left last.

        One scan answers it all: of the candidates that satisfy the first expression, it counts those that satisfy the
        further ones and strings together the keys of those that satisfy every one.

        :param expressions: at least one.
        """
        key, conditions = self.wide.c.candidate_id, [self.compiler.condition(e) for e in expressions]
        first, further = conditions[0], conditions[1:]
        if len(further) > FEW:
            return self._sift_many(conditions)
        cases = [func.count(case((and_(*further[: k + 1]), 1))) for k in range(len(further) - 1)]
        text = cast(key, String)
        keys = func.aggregate_strings(case((and_(*further), text)) if further else text, ",")
        *counts, told = self.scan(self._among(first), func.count(), *cases, keys)
        ids = np.array(told.split(",") if told else [], dtype=np.int64)
        return [int(n) for n in (self.n, *(counts if further else ()), len(ids))], ids

    def _sift_many(self, conditions: Sequence[ColumnElement[bool]]) -> tuple[list[int], np.ndarray]:
        """Do the same with each condition written once: how many there are for each that is the first not met."""
        failing = case(*((cond.is_not(true()), k) for k, cond in enumerate(conditions)), else_=len(conditions))
        first = select(failing.label("k")).where(self._among()).subquery()
        found = self.connection.execute(select(first.c.k, func.count()).group_by(first.c.k)).tuples().all()
        lost = np.bincount([k for k, _ in found], [n for _, n in found], len(conditions) + 1).astype(int)
        left = self.n - np.concatenate([[0], np.cumsum(lost[:-1])])
        keys = self.connection.scalars(select(self.wide.c.candidate_id).where(self._among(*conditions))).all()
        return left.tolist(), np.array(keys, dtype=np.int64)

    def scan(self, condition: ColumnElement[bool], *aggregates: ColumnElement[Any]) -> tuple[Any, ...]:
        """Return aggregates over the rows that satisfy a condition."""
        return tuple(self.connection.execute(select(*aggregates).select_from(self.wide).where(condition)).one())

    def _among(self, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        return and_(true(), *conditions) if self.among is None else and_(self.among, *conditions)

    def _select(self, wanted: Sequence[Wanted]) -> Select[Any]:
        key = (self.wide.c.candidate_id, self.wide.c.batch_id, self.wide.c.row)
        return select(*key, *(w.resolved.value.label(f"c{n}") for n, w in enumerate(wanted)))

    def _rows(self, statement: Select[Any], wanted: Sequence[Wanted]) -> Rows:
        # as arrays a few rows at a time: a million rows as Python objects are half a gigabyte
        result = self.connection.execute(statement)
        parts: list[Rows] = []
        while len(fetched := result.fetchmany(MANY)) or not parts:
            columns: list[Sequence[Any]] = list(zip(*fetched, strict=True)) or [()] * (3 + len(wanted))
            ids, batches, rows = (np.array(column, dtype=np.int64) for column in columns[:3])
            place = (self._age[batches] << 32) + rows
            values = {w.name: self._array(w.resolved, c) for w, c in zip(wanted, columns[3:], strict=True)}
            parts.append(Rows(ids, batches, rows, place, values))
        return _joined(parts)

    def _array(self, column: Resolved, values: Sequence[Any]) -> np.ndarray:
        if column.kind == NUMBER:
            return np.array(values, dtype=np.float64)
        if column.kind == WHOLE:
            return np.array(values, dtype=np.float64 if None in values else np.int64)
        if column.kind == METHOD:
            values = [None if v is None else self.names.methods[v] for v in values]
        elif column.kind == FLAG:
            values = [None if v is None else bool(v) for v in values]
        made = np.empty(len(values), dtype=object)
        made[:] = values
        return made


def taken(rows: Rows, at: np.ndarray) -> Rows:
    """Return the rows at some positions."""
    columns = {name: values[at] for name, values in rows.columns.items()}
    return Rows(rows.candidate_id[at], rows.batch_id[at], rows.row[at], rows.place[at], columns)


def _joined(parts: Sequence[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    columns = {name: np.concatenate([p.columns[name] for p in parts]) for name in parts[0].columns}
    return Rows(
        np.concatenate([p.candidate_id for p in parts]),
        np.concatenate([p.batch_id for p in parts]),
        np.concatenate([p.row for p in parts]),
        np.concatenate([p.place for p in parts]),
        columns,
    )


@contextmanager
def reading(index: Index, runs: Sequence[int] | None = None, prefer: Prefer | None = None) -> Iterator[Reading]:
    """Yield a reading of one state of the index."""
    with index.read() as connection:
        yield Reading(index, connection, runs, prefer)


def written(operand: Operand) -> str:
    """Return a column as one writes it."""
    if isinstance(operand, MethodOf):
        return f"method({operand.name})"
    name = operand.name if operand.method is None else f"{operand.name}['{operand.method}']"
    return f"sigma({name})" if isinstance(operand, SigmaOf) else name
