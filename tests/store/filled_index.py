"""An index filled by hand, for tests of what reads it: candidates in, the tables of the index out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from crysgen_aiida.data.elements import NUMBERS, elements_of
from crysgen_aiida.store.index.bulk import insert_columns, number_methods, require_columns
from crysgen_aiida.store.index.database import Index
from crysgen_aiida.store.index.models import Batch, Candidate, PropertyColumn, PropertyValue, WideColumn
from crysgen_aiida.store.index.wide import element_mask, method_column, sigma_column


@dataclass
class Value:
    """A value of a property by a method; later ``created`` wins among equal methods."""

    value: float
    sigma: float | None = None
    created: str = "2026-01-01"


@dataclass
class Made:
    """A candidate: fixed and other columns, and values by property and method."""

    formula: str | None = "NaCl"
    columns: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[tuple[str, str], Value] = field(default_factory=dict)
    status: str = "ok"
    n_atoms: int | None = 2
    duplicate_of: int | None = None
    group: int | None = None


#: Columns of the tests: properties with units, other numbers, flags, text.
LISTED = (
    WideColumn(name="band_gap", kind="number", unit="eV", is_property=True),
    WideColumn(name="energy", kind="number", unit="eV/atom", is_property=True),
    WideColumn(name="piezo_max", kind="number", unit="C/m^2", is_property=True),
    WideColumn(name="target.band_gap", kind="number", unit="eV", is_property=False),
    WideColumn(name="coverage", kind="number", unit=None, is_property=False),
    WideColumn(name="n_sites", kind="whole", unit=None, is_property=False),
    WideColumn(name="valid", kind="flag", unit=None, is_property=False),
    WideColumn(name="novel_against.starter", kind="flag", unit=None, is_property=False),
    WideColumn(name="label", kind="text", unit=None, is_property=False),
)


def new_index(folder: Path, listed: Sequence[WideColumn] = LISTED) -> Index:
    """Return an empty index with columns."""
    index = Index.open(f"sqlite:///{folder / 'index.sqlite'}")
    with index.write() as connection:
        require_columns(connection, {c.name: c for c in listed})
    return index


def add(index: Index, *candidates: Made, created: str = "2026-01-01", complete: bool = True) -> int:
    """Add a batch of candidates and return its key."""
    with index.write() as connection:
        columns, table = index.columns(connection), index.wide(connection)
        policy = index.policy(connection)
        batch = _batch(connection, len(candidates), created, complete)
        ids = [batch * 100_000 + row for row in range(len(candidates))]
        people = [
            {"id": key, "batch_id": batch, "row": row, "duplicate_of": c.duplicate_of, "group_id": c.group}
            for row, (key, c) in enumerate(zip(ids, candidates, strict=True))
        ]
        if people:
            connection.execute(insert(Candidate), people)
        numbers = number_methods(connection, sorted({m for c in candidates for _, m in c.values}))
        sources = sorted({(p, m, v.created) for c in candidates for (p, m), v in c.values.items()})
        for n, (name, method, age) in enumerate(sources):
            key = batch * 1000 + n
            of = {"id": key, "batch_id": batch, "property": name, "unit": columns[name].unit, "method": method}
            connection.execute(
                insert(PropertyColumn).values(source="table", source_uuid=f"{key:036d}", created=age, **of)
            )
            held = [(i, c.values.get((name, method))) for i, c in zip(ids, candidates, strict=True)]
            rows = [
                {"column_id": key, "candidate_id": i, "value": v.value, "sigma": v.sigma}
                for i, v in held
                if v is not None and v.created == age
            ]
            connection.execute(insert(PropertyValue), rows)
        wide: dict[str, list[Any]] = {name: [] for name in table.c.keys()}  # noqa: SIM118  # not a dictionary
        for row, (key, c) in enumerate(zip(ids, candidates, strict=True)):
            low, high = (None, None) if c.formula is None else element_mask(NUMBERS[e] for e in elements_of(c.formula))
            known = {
                "candidate_id": key, "batch_id": batch, "row": row, "status": c.status, "reduced_formula": c.formula,
                "n_atoms": c.n_atoms, "n_elements": None if c.formula is None else len(elements_of(c.formula)),
                "elements_low": low, "elements_high": high, **c.columns,
            }  # fmt: skip
            for name in {p for p, _ in c.values}:
                methods = [m for p, m in c.values if p == name]
                best = methods[policy.best_first(name, [(m, c.values[name, m].created, m) for m in methods])[0]]
                value = c.values[name, best]
                known |= {name: value.value, method_column(name): numbers[best], sigma_column(name): value.sigma}
            for name, values in wide.items():
                values.append(known.get(name))
        insert_columns(connection, table, wide)
    return batch


def _batch(connection: Any, n: int, created: str, complete: bool) -> int:
    from sqlalchemy import func, select

    key = int(connection.scalar(select(func.max(Batch.id))) or 0) + 1
    values = {
        "id": key, "key": f"{key:064d}", "screen_uuid": f"5{key:035d}", "relaxed_uuid": f"{key:08d}-{'a' * 27}",
        "table_uuid": f"7{key:035d}", "requested": {}, "n_rows": n, "funnel": {}, "names": {}, "created": created,
        "complete": complete,
    }  # fmt: skip
    connection.execute(insert(Batch).values(**values))
    return key


def clear(index: Index, keep: int = 0) -> None:
    """Remove all batches but the first few."""
    from sqlalchemy import delete

    with index.write() as connection:
        wide = index.wide(connection)
        connection.execute(delete(wide).where(wide.c.batch_id > keep))
        columns = delete(PropertyColumn).where(PropertyColumn.batch_id > keep)
        connection.execute(delete(PropertyValue).where(PropertyValue.column_id >= 1000 * (keep + 1)))
        connection.execute(columns)
        connection.execute(delete(Candidate).where(Candidate.batch_id > keep))
        connection.execute(delete(Batch).where(Batch.id > keep))
