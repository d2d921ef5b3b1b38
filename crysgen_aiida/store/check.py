"""Does the index say what the graph says? Differences as sentences; nothing is changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.store import harvest
from crysgen_aiida.store.index.batches import Screened
from crysgen_aiida.store.index.clashes import taken_names
from crysgen_aiida.store.index.models import Batch, Candidate, PropertyColumn, PropertyValue, Results, Screening
from crysgen_aiida.store.index.registry import filled_otherwise
from crysgen_aiida.store.index.wide import method_column
from crysgen_aiida.store.sync import load_rows

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import Index
    from crysgen_aiida.store.index.rows import Rows


def check(index: Index, deep: bool = False) -> list[str]:
    """Compare the index with the loaded profile.

    :param deep: compare every value as well, which reads all packed sets.
    :return: one sentence a difference; empty if there is none.
    :raises BadInput: if the index is damaged.
    """
    with index.read() as connection:
        return list(_Check(index, connection, deep).differences())


class _Check:
    def __init__(self, index: Index, connection: Connection, deep: bool) -> None:
        self.index = index
        self.connection = connection
        self.deep = deep

    def differences(self) -> Iterator[str]:
        if filled_otherwise(self.connection):
            yield "The index was filled when other properties were registered; `crysgen store sync` makes it anew."
            return
        for batch_id in self.index.incomplete(self.connection):
            yield f"Batch {batch_id} was not written to its end; `crysgen store sync` does it."
        there = harvest.screenings()
        known = {row.uuid: row for row in self.connection.execute(select(Screening))}
        yield from _missing("screening", set(there), set(known))
        results = harvest.results_tables()
        held = {r.uuid: r.content_hash for r in self.connection.execute(select(Results.uuid, Results.content_hash))}
        yield from _missing("table of results", set(results), set(held))
        for uuid in sorted(set(results) & set(held)):
            if results[uuid][1] != held[uuid]:
                yield f"The table of results {uuid[:8]} has another content than the index was filled from."
        batches = {row.id: row for row in self.connection.execute(select(Batch))}
        yield from self._counts(batches)
        for uuid, screened, _ in harvest.describe(sorted(set(there) & set(known))):
            if isinstance(screened, str):
                yield f"The screening {uuid[:8]} is in the index, but in the graph {screened}."
            else:
                yield from self._screening(screened, known[uuid], batches)

    def _counts(self, batches: Mapping[int, Any]) -> Iterator[str]:
        current = self.index.wide(self.connection)
        for what, column in (("candidates", Candidate.batch_id), ("current values", current.c.batch_id)):
            query = select(column, func.count()).group_by(column)
            counts: dict[int, int] = dict(self.connection.execute(query).tuples().all())
            for key, batch in batches.items():
                if counts.get(key, 0) != batch.n_rows:
                    yield (
                        f"The batch {batch.relaxed_uuid[:8]} has {batch.n_rows} rows, but the index holds {what} of "
                        f"{counts.get(key, 0)}; run `crysgen store sync --rebuild`."
                    )
            for key in sorted(set(counts) - set(batches)):
                yield f"The index holds {what} of a batch {key} that is not there; run `crysgen store sync --rebuild`."

    def _screening(self, screened: Screened, held: Any, batches: Mapping[int, Any]) -> Iterator[str]:
        batch = batches.get(held.batch_id)
        if batch is None or batch.key != screened.key:
            yield (
                f"The sets of screening {screened.uuid[:8]} have other contents than the index was filled from; run "
                "`crysgen store sync --rebuild`."
            )
            return
        if dict(held.described) != dict(screened.described):
            changed = sorted(k for k, v in screened.described.items() if held.described.get(k) != v)
            yield f"The screening {screened.uuid[:8]} changed ({', '.join(changed)}); run `crysgen store sync`."
        if self.deep and batch.screen_uuid == screened.uuid:
            try:
                rows, _ = load_rows(screened.described)
            except BadInput as error:
                yield f"The sets of screening {screened.uuid[:8]} cannot be read: {str(error).rstrip('.')}."
                return
            for name, wrong in self._values(batch, rows):
                yield (
                    f"The column {name} of the batch {batch.relaxed_uuid[:8]} differs from the graph in {wrong} of "
                    f"{rows.n} rows; run `crysgen store sync --rebuild`."
                )

    def _values(self, batch: Any, rows: Rows) -> Iterator[tuple[str, int]]:
        """Yield columns that differ, and in how many rows."""
        names = list(rows.candidate)
        query = select(*(getattr(Candidate, name) for name in names)).where(Candidate.batch_id == batch.id)
        yield from _differing(rows.candidate, self._columns(query.order_by(Candidate.row), names))
        current = self.index.wide(self.connection)
        plain = {**rows.fixed, **{n: p.values for n, p in rows.plain.items() if n in taken_names(batch.names)}}
        query = select(*(current.c[name] for name in plain)).where(current.c.batch_id == batch.id)
        yield from _differing(plain, self._columns(query.order_by(current.c.row), list(plain)))
        yield from self._measured(batch, rows)

    def _columns(self, query: Any, names: list[str]) -> dict[str, Sequence[Any]]:
        found = self.connection.execute(query).all()
        return dict(zip(names, zip(*found, strict=True), strict=True)) if found else dict.fromkeys(names, ())

    def _measured(self, batch: Any, rows: Rows) -> Iterator[tuple[str, int]]:
        places = self.connection.execute(select(Candidate.id, Candidate.row).where(Candidate.batch_id == batch.id))
        position = {row: k for k, row in enumerate(rows.candidate["row"])}
        at = {key: position[row] for key, row in places if row in position}
        columns = {
            (c.property, c.method): c
            for c in self.connection.execute(select(PropertyColumn).where(PropertyColumn.batch_id == batch.id))
        }
        for measured in rows.measured:
            column = columns.get((measured.name, measured.method))
            found = [math.nan] * rows.n
            if column is not None:
                values = select(PropertyValue.candidate_id, PropertyValue.value)
                for key, value in self.connection.execute(values.where(PropertyValue.column_id == column.id)):
                    if key in at:
                        found[at[key]] = value
            wrong = sum(
                a != b and not (a != a and b != b) for a, b in zip(measured.values.tolist(), found, strict=True)
            )
            if wrong:
                yield f"{measured.name} by {measured.method}", wrong
        yield from self._chosen(batch, at)

    def _chosen(self, batch: Any, at: Mapping[int, int]) -> Iterator[tuple[str, int]]:
        """Yield properties whose current values are not those the policy chooses."""
        policy, methods = self.index.policy(self.connection), self.index.methods(self.connection)
        current = self.index.wide(self.connection)
        columns = self.connection.execute(
            select(PropertyColumn).where((PropertyColumn.batch_id == batch.id) | PropertyColumn.results_id.is_not(None))
        ).all()
        for name in sorted({c.property for c in columns if c.unit == PROPERTIES[c.property].unit}):
            sources = [c for c in columns if c.property == name and c.unit == PROPERTIES[name].unit]
            best: dict[int, tuple[float, str]] = {}
            for k in reversed(policy.best_first(name, [(c.method, c.created, c.source_uuid) for c in sources])):
                values = select(PropertyValue.candidate_id, PropertyValue.value)
                held = self.connection.execute(values.where(PropertyValue.column_id == sources[k].id))
                best.update({key: (value, sources[k].method) for key, value in held if key in at})
            query = select(current.c.candidate_id, current.c[name], current.c[method_column(name)])
            wrong = 0
            for key, value, method in self.connection.execute(query.where(current.c.batch_id == batch.id)):
                shown = None if value is None else (value, methods[method])
                wrong += best.get(key) != shown
            if wrong:
                yield f"{name} (current values)", wrong


def _differing(wanted: Mapping[str, Sequence[Any]], found: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, int]]:
    for name, values in wanted.items():
        held = found[name]
        wrong = abs(len(values) - len(held)) + sum(a != b for a, b in zip(values, held, strict=False))
        if wrong:
            yield name, wrong


def _missing(what: str, there: set[str], known: set[str]) -> Iterator[str]:
    for uuids, sentence in (
        (there - known, "of the graph not in the index yet"),
        (known - there, "in the index but no longer in the graph"),
    ):
        if uuids:
            some = ", ".join(uuid[:8] for uuid in sorted(uuids)[:5]) + (", …" if len(uuids) > 5 else "")
            plural = what if len(uuids) == 1 else what.replace("table", "tables") + ("s" if "table" not in what else "")
            verb = "is" if len(uuids) == 1 else "are"
            yield f"{len(uuids)} {plural} {verb} {sentence} ({some}); run `crysgen store sync`."
