"""Synchronisation killed, doubled, overtaken by deletions and imports: the index ends as if nothing had happened."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sync_graphs import (
    REMARK,
    REMARKS,
    answers_of_graph,
    answers_of_index,
    empty_profile,
    judged_table,
    make_run,
    own_profile,
    relaxed_set,
    results_table,
    sequence_set,
)

PROFILE = "crysgen-sync"

#: Loads the profile and synchronises; ends itself with SIGKILL before the n-th statement sent to the index.
SYNC = """
import os, signal, sys
from aiida.manage.configuration import load_profile
load_profile(sys.argv[1])
from sqlalchemy import event
from crysgen_aiida.store.index import batches
from crysgen_aiida.store.location import open_index
from crysgen_aiida.store.sync import sync
batches.TRANSACTION_ROWS = 40
index, deadline, count = open_index(), int(sys.argv[2]), 0
def statement(*_):
    global count
    count += 1
    if count == deadline:
        os.kill(os.getpid(), signal.SIGKILL)
event.listen(index.engine, "before_cursor_execute", statement)
sync(index)
"""


#: Statements after which synchronisations one after the other are killed; ``CRYSGEN_DEADLINES=40,90,…`` tries others.
DEADLINES = [int(n) for n in os.environ.get("CRYSGEN_DEADLINES", "25,120,170,90,60").split(",")]


@pytest.fixture(scope="module")
def profile() -> Iterator[Any]:
    with own_profile(PROFILE) as held:
        yield held


@pytest.fixture
def index(profile: Any) -> Iterator[Any]:
    """The index of an empty profile, emptied."""
    from crysgen_aiida.store.location import open_index
    from crysgen_aiida.store.sync import sync

    empty_profile()
    held = open_index(PROFILE)
    sync(held, rebuild=True)
    yield held
    held.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], str]:
    """Return the fingerprint of a new index of the profile, filled in one go."""

    def fill() -> str:
        from crysgen_aiida.store.index.database import Index
        from crysgen_aiida.store.sync import sync

        held = Index.open(f"sqlite:///{tmp_path / 'fresh.sqlite'}")
        sync(held, rebuild=True)
        try:
            return held.fingerprint()
        finally:
            held.close()

    return fill


def some_runs() -> list[Any]:
    """Store a few runs, one larger than a transaction of the killed synchronisation, and results for them."""
    runs = [
        make_run(relaxed_set(n, seed), judged_table(n, seed), decoded=relaxed_set(n, 9), sequences=sequence_set(n, 1.5))
        for seed, n in enumerate((10, 130, 25))
    ]
    row = {"property": "band_gap", "value": 2.5, "unit": "eV", "method": "pbe-mp2020", "uncertainty": 0.1}
    results_table([{"address": f"{run.relaxed.uuid}:{k}", **row} for k, run in enumerate(runs)])
    return runs


def launch(deadline: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", SYNC, PROFILE, str(deadline)])


@pytest.mark.slow
def test_a_killed_synchronisation_goes_on_and_ends_the_same(index: Any, fresh: Callable[[], str]) -> None:
    from crysgen_aiida.store.sync import sync

    some_runs()
    killed = 0
    # each goes on where the one before was killed; the large batch is interrupted between its transactions
    for deadline in (12, 35, 75, 60, 20):
        code = launch(deadline).wait(timeout=120)
        assert code in (-9, 0)
        killed += code == -9
    assert killed >= 3
    sync(index)
    assert index.incomplete() == []
    assert index.fingerprint() == fresh()


@pytest.mark.slow
def test_a_killed_synchronisation_of_what_was_there_ends_the_same(index: Any, fresh: Callable[[], str]) -> None:
    """Killed where batches with results are written anew, joined, judged again and taken out."""
    from aiida.tools import delete_nodes

    from crysgen_aiida.store.sync import sync

    text = {pa.field(REMARK, pa.string()): ["dull"] * 130}
    runs = [*some_runs(), make_run(relaxed_set(130, 8), judged_table(130, 8, extra=text))]
    given = {"property": "band_gap", "value": 9.5, "unit": "eV", "method": "pbe-x"}
    results_table([{"address": f"{runs[3].relaxed.uuid}:{row}", **given} for row in (0, 100)])
    sync(index)
    make_run(relaxed_set(9, 6), judged_table(9, 6, extra={pa.field(REMARK, pa.int32()): [1] * 9}))
    make_run(runs[1].relaxed, judged_table(130, 5))
    make_run(runs[0].relaxed.table, runs[0].table.table)
    delete_nodes([runs[2].screen.pk], dry_run=False)
    killed = 0
    for deadline in DEADLINES:
        code = launch(deadline).wait(timeout=120)
        assert code in (-9, 0)
        killed += code == -9
    assert killed >= (1 if "CRYSGEN_DEADLINES" in os.environ else 3)
    sync(index)
    assert answers_of_index(index) == answers_of_graph(index.policy())
    assert index.fingerprint() == fresh()


@pytest.mark.slow
def test_two_at_once_do_the_work_of_one(index: Any, fresh: Callable[[], str]) -> None:
    some_runs()
    both = [launch(0), launch(0)]
    assert [p.wait(timeout=120) for p in both] == [0, 0]
    assert index.fingerprint() == fresh()


def test_half_a_batch_is_neither_counted_nor_kept(index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from crysgen_aiida.store.check import check
    from crysgen_aiida.store.index import batches
    from crysgen_aiida.store.sync import sync

    make_run(relaxed_set(90, 1), judged_table(90, 1))
    monkeypatch.setattr(batches, "TRANSACTION_ROWS", 40)
    plain, calls = batches._Writer.rows, []

    def failing(self: Any, connection: Any, part: range) -> None:
        calls.append(part)
        if len(calls) == 2:
            raise KeyboardInterrupt
        plain(self, connection, part)

    monkeypatch.setattr(batches._Writer, "rows", failing)
    with pytest.raises(KeyboardInterrupt):
        sync(index)
    assert len(index.incomplete()) == 1
    assert any("not written to its end" in line for line in check(index))
    assert sync(index).rows == 90
    assert index.incomplete() == []
    assert check(index, deep=True) == []


def test_equal_screenings_are_one_batch_and_the_earliest_gives_the_addresses(index: Any) -> None:
    from aiida.tools import delete_nodes

    from crysgen_aiida.store.sync import sync

    first = make_run(relaxed_set(8, 1), judged_table(8, 1), design=True, label="first")
    twin = make_run(first.relaxed.table, first.table.table, design=True, label="twin")
    report = sync(index)
    assert (report.added, report.rows) == (2, 8)
    assert {key[0] for key in answers_of_index(index)} == {first.relaxed.uuid}
    results_table(
        [{"address": f"{twin.relaxed.uuid}:3", "property": "band_gap", "value": 9.5, "unit": "eV", "method": "scan-x"}]
    )
    sync(index)
    assert answers_of_index(index)[first.relaxed.uuid, first.table.uuid, 3]["band_gap"] == 9.5
    delete_nodes([first.screen.pk], dry_run=False)
    report = sync(index)
    assert (report.removed, report.rows) == (1, 0)
    assert {key[0] for key in answers_of_index(index)} == {twin.relaxed.uuid}
    assert answers_of_index(index) == answers_of_graph(index.policy())
    delete_nodes([twin.screen.pk], dry_run=False)
    sync(index)
    assert answers_of_index(index) == {}


def test_what_is_imported_late_counts_as_if_it_had_been_there(index: Any, tmp_path: Path, fresh: Any) -> None:
    from aiida.tools import delete_nodes
    from aiida.tools.archive import create_archive, import_archive

    from crysgen_aiida.store.sync import sync

    early = make_run(relaxed_set(8, 1), judged_table(8, 1))
    late = make_run(early.relaxed.table, early.table.table)
    results = results_table(
        [{"address": f"{early.relaxed.uuid}:2", "property": "band_gap", "value": 3.5, "unit": "eV", "method": "pbe-x"}]
    )
    archive = tmp_path / "early.aiida"
    create_archive([early.table], filename=archive, test_run=False)
    uuids = (early.relaxed.uuid, early.table.uuid)
    delete_nodes([early.relaxed.pk], dry_run=False)
    assert sync(index).results == 0, "nobody knows the set the results speak of"
    assert {key[0] for key in answers_of_index(index)} == {late.relaxed.uuid}
    import_archive(archive)
    report = sync(index)
    assert (report.rows, report.results) == (0, 1)
    assert answers_of_index(index)[(*uuids, 2)]["band_gap"] == 3.5
    assert answers_of_index(index) == answers_of_graph(index.policy())
    assert index.fingerprint() == fresh()
    delete_nodes([results.pk], dry_run=False)
    sync(index)
    assert answers_of_index(index) == answers_of_graph(index.policy())


def test_the_kind_of_a_column_does_not_depend_on_what_came_first(index: Any, fresh: Any) -> None:
    from aiida.tools import delete_nodes

    from crysgen_aiida.store.check import check
    from crysgen_aiida.store.sync import sync

    def remarked(n: int, seed: int, kind: Any) -> Any:
        extra = {pa.field(REMARK, kind): [REMARKS[kind][k % 2] for k in range(n)]}
        return make_run(relaxed_set(n, seed), judged_table(n, seed, extra=extra))

    def remarks() -> dict[Any, Any]:
        return {key[0]: held[REMARK] for key, held in answers_of_index(index).items() if REMARK in held}

    text = remarked(4, 1, pa.string())
    assert sync(index).notes == []
    assert set(remarks()) == {text.relaxed.uuid}
    verified = {"address": f"{text.relaxed.uuid}:2", "property": "band_gap", "value": 3.5, "method": "pbe-x"}
    results_table([verified])
    numbers = remarked(5, 2, pa.int32())
    report = sync(index)
    assert (report.added, report.rows, report.results) == (2, 5, 1)
    (note,) = report.notes
    assert f"{text.screen.uuid[:8]}: the column 'remark' has values of another kind" in note
    assert set(remarks()) == {numbers.relaxed.uuid}
    assert answers_of_index(index) == answers_of_graph(index.policy())
    assert check(index, deep=True) == []
    assert index.fingerprint() == fresh()
    delete_nodes([numbers.screen.pk], dry_run=False)
    sync(index)
    assert set(remarks()) == {text.relaxed.uuid}
    assert answers_of_index(index) == answers_of_graph(index.policy())
    assert index.fingerprint() == fresh()


def test_a_text_under_the_name_of_a_property_is_said_and_left_out(index: Any) -> None:
    from crysgen_aiida.store.sync import sync

    held = judged_table(4, 1).with_columns({pa.field("density", pa.string()): ["low"] * 4})
    make_run(relaxed_set(4, 1), held)
    (note,) = sync(index).notes
    assert "the column 'density' has the name of a property, but holds no numbers" in note
    assert "density" not in index.columns()


@pytest.mark.parametrize("clash", [False, True])
def test_results_are_not_lost_when_it_ends_before_they_are_placed(index: Any, fresh: Any, clash: bool) -> None:
    """A screening came, or had to be written anew, and the process ended before results were placed again."""
    from crysgen_aiida.store import sync as module

    first = make_run(relaxed_set(5, 1), judged_table(5, 1, extra={pa.field(REMARK, pa.string()): ["dull"] * 5}))
    given = {"property": "band_gap", "value": 9.5, "unit": "eV", "method": "pbe-x"}
    results_table([{"address": f"{first.relaxed.uuid}:{row}", **given} for row in (0, 2)])
    module.sync(index)
    if clash:
        make_run(relaxed_set(4, 2), judged_table(4, 2, extra={pa.field(REMARK, pa.float64()): [0.5] * 4}))
    else:
        make_run(first.relaxed, judged_table(5, 9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Sync, "_results", _ends)
        with pytest.raises(KeyboardInterrupt):
            module.sync(index)
    module.sync(index)
    assert answers_of_index(index) == answers_of_graph(index.policy())
    assert index.fingerprint() == fresh()


def _ends(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_columns_are_listed_again_after_an_end_in_the_middle(index: Any, fresh: Any) -> None:
    from aiida.tools import delete_nodes

    from crysgen_aiida.store import sync as module

    make_run(relaxed_set(4, 1), judged_table(4, 1, extra={pa.field(REMARK, pa.int32()): [1] * 4}))
    gone = make_run(relaxed_set(4, 2), judged_table(4, 2, extra={pa.field(REMARK, pa.float64()): [0.5] * 4}))
    module.sync(index)
    delete_nodes([gone.screen.pk], dry_run=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Sync, "_results", _ends)
        with pytest.raises(KeyboardInterrupt):
            module.sync(index)
    module.sync(index)
    assert index.columns()[REMARK].kind == "whole"
    assert index.fingerprint() == fresh()


def test_odd_columns_leave_out_one_screening_or_nothing(index: Any) -> None:
    from crysgen_aiida.store.sync import sync

    huge = {pa.field("digest", pa.uint64()): [2**64 - 1] * 3}
    odd = make_run(relaxed_set(3, 1), judged_table(3, 1, extra=huge))
    twice = make_run(relaxed_set(3, 2), judged_table(3, 2, extra={pa.field("converged", pa.bool_()): [True] * 3}))
    report = sync(index)
    assert [key[0] for key in answers_of_index(index)] == [twice.relaxed.uuid] * 3
    (note,) = report.notes
    assert f"{odd.screen.uuid[:8]} is not in the index: a column cannot be read" in note


def test_a_missing_file_is_a_sentence(index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiida.orm.nodes.repository import NodeRepository

    from crysgen_aiida.store.check import check
    from crysgen_aiida.store.sync import sync

    make_run(relaxed_set(3, 1), judged_table(3, 1))
    sync(index)

    def gone(*_: Any) -> None:
        raise FileNotFoundError("no such object")

    monkeypatch.setattr(NodeRepository, "get_object", gone)
    (line,) = check(index, deep=True)
    assert "is not there; restore the repository from a backup" in line


def test_a_set_screened_twice_is_addressed_by_the_newest_or_by_its_run(index: Any) -> None:
    from crysgen_aiida.store.explain.runs import find_candidate, find_run
    from crysgen_aiida.store.explain.show import show
    from crysgen_aiida.store.sync import sync

    first = make_run(relaxed_set(4, 1), judged_table(4, 1))
    second = make_run(first.relaxed, judged_table(4, 5))
    sync(index)
    address = f"{first.relaxed.uuid}:2"
    assert find_candidate(index, address).table_uuid == second.table.uuid
    older = find_run(index, first.screen.uuid)
    assert find_candidate(index, address, older.batch_ids).table_uuid == first.table.uuid
    judged = next(row for row in second.table.iter() if row["parent_row"] == 2)
    verdict = next(v for v in show(index, address)["verdicts"] if v["verdict"] == "valid_structure")
    assert (verdict["answer"], verdict["reason"]) == (judged["valid_structure"], judged["valid_structure_reason"])


def test_labels_and_callers_are_brought_up_to_date(index: Any, fresh: Any) -> None:
    from sqlalchemy import select

    from crysgen_aiida.store.index.models import Campaign
    from crysgen_aiida.store.sync import sync

    run = make_run(relaxed_set(4, 1), judged_table(4, 1), design=True, label="a plan")
    sync(index)
    run.design.label = "Robert'); DROP TABLE candidate;-- \u202e\u2028"
    sync(index)
    with index.read() as connection:
        assert connection.scalars(select(Campaign.label)).all() == [run.design.label]
    assert index.fingerprint() == fresh()


def test_a_screening_whose_sets_do_not_fit_is_said_and_left_out(index: Any) -> None:
    from crysgen_aiida.store.check import check
    from crysgen_aiida.store.sync import sync

    make_run(relaxed_set(3, 1), judged_table(5, 1))
    make_run(relaxed_set(3, 2), judged_table(2, 2, order=[1, 1]))
    good = make_run(relaxed_set(3, 3), judged_table(3, 3, order=[2, 0, 1]))
    report = sync(index)
    assert report.added == 1
    assert [key[0] for key in answers_of_index(index)] == [good.relaxed.uuid] * 3
    assert any("judges row 4, but the relaxed set has rows 0 to 2" in note for note in report.notes)
    assert any("judges a row twice" in note for note in report.notes)
    assert any("not in the index yet" in line for line in check(index))


def test_check_says_what_differs(index: Any) -> None:
    from sqlalchemy import delete, update

    from crysgen_aiida.store.check import check
    from crysgen_aiida.store.index.models import Candidate
    from crysgen_aiida.store.sync import sync

    run = make_run(relaxed_set(6, 1), judged_table(6, 1))
    sync(index)
    assert check(index, deep=True) == []
    current = index.wide()
    with index.write() as connection:
        connection.execute(update(current).where(current.c.row == 2).values(space_group=0, energy_per_atom=1.0))
        connection.execute(delete(Candidate).where(Candidate.row == 5))
    said = check(index, deep=True)
    short = run.relaxed.uuid[:8]
    assert any(f"The batch {short} has 6 rows, but the index holds candidates of 5" in line for line in said)
    assert any(f"The column space_group of the batch {short} differs" in line for line in said)
    assert any("energy_per_atom (current values)" in line for line in said)
    sync(index, rebuild=True)
    assert check(index, deep=True) == []


def test_results_are_converted_and_what_cannot_be_taken_is_said(index: Any) -> None:
    from crysgen_aiida.store.sync import sync

    run = make_run(relaxed_set(4, 1), judged_table(4, 1))
    at = f"{run.relaxed.uuid}:0"
    results_table(
        [
            {"address": at, "property": "band_gapp", "value": 1.0, "unit": "eV", "method": "pbe-x"},
            {"address": at, "property": "band_gap", "value": 1500.0, "unit": "meV", "method": "pbe-x"},
            {"address": "nonsense", "property": "band_gap", "value": 1.0, "unit": "eV", "method": "pbe-x"},
            {"address": f"{run.relaxed.uuid}:{10**20}", "property": "band_gap", "value": 1.0, "method": "pbe-x"},
            {"address": f"{run.relaxed.uuid[:8]}:1", "property": "band_gap", "value": 1.0, "method": "pbe-x"},
            {"address": at, "property": "bulk_modulus_vrh", "value": 1.0, "unit": "meV", "method": "pbe-x"},
        ]
    )
    report = sync(index)
    assert len(report.notes) == 3
    for part in ("band_gapp", "bulk_modulus_vrh in meV", "3 values of the results"):
        assert any(part in note for note in report.notes)
    assert report.results == 1
    held = answers_of_index(index)[run.relaxed.uuid, run.table.uuid, 0]
    assert (held["band_gap"], held["band_gap:method"]) == (1.5, "pbe-x")
    assert answers_of_index(index) == answers_of_graph(index.policy())


def test_matching_does_not_write_onto_other_candidates(index: Any) -> None:
    from aiida.tools import delete_nodes

    from crysgen_aiida.crystals.errors import BadInput
    from crysgen_aiida.store.match import match
    from crysgen_aiida.store.sync import sync

    first = make_run(relaxed_set(9, 1), judged_table(9, 1))
    make_run(relaxed_set(9, 2), judged_table(9, 2))
    sync(index)

    def meanwhile(done: int, total: int) -> None:
        if done < total and first.screen.is_stored:
            delete_nodes([first.screen.pk], dry_run=False)
            sync(index, rebuild=True)

    with pytest.raises(BadInput, match="changed while they were compared"):
        match(index, progress=meanwhile)
    assert match(index).left == 0
    assert any("crysgen store match" in note for note in sync(index, rebuild=True).notes)


def test_matching_finds_equal_crystals_across_batches_and_goes_on(index: Any) -> None:
    from pymatgen.core import Lattice, Structure
    from sqlalchemy import select

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.store.index.models import Candidate
    from crysgen_aiida.store.match import match
    from crysgen_aiida.store.sync import sync

    def salt(a: float, *pair: str) -> Structure:
        return Structure(Lattice([[0, a, a], [a, 0, a], [a, a, 0]]), pair, [[0, 0, 0], [0.5, 0.5, 0.5]])

    def wurtz(a: float) -> Structure:
        return Structure(Lattice.hexagonal(a, 1.6 * a), ["Na", "Cl"], [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5]])

    def run(*crystals: Structure | None) -> None:
        reasons = [None if c else "no" for c in crystals]
        n = len(crystals)
        make_run(CrystalSet.from_structures(list(crystals), reasons=reasons), judged_table(n, n))

    run(salt(2.8, "Na", "Cl"), wurtz(4.0), None)
    run(salt(2.81, "Na", "Cl"), salt(3.1, "K", "Cl"))
    sync(index)
    report = match(index, limit=1)
    assert report.left > 0
    report = match(index)
    assert report.left == 0
    run(wurtz(4.02), salt(2.83, "Cl", "Na"), salt(2.9, "Li", "Cl"), salt(3.3, "Rb", "Br"))
    sync(index)
    assert match(index).done == 7, "K Cl is not looked at again"
    with index.read() as connection:
        groups = connection.execute(select(Candidate.id, Candidate.group_id).order_by(Candidate.id)).all()
    assert [g.group_id for g in groups] == [1, 2, None, 1, 5, 2, 1, 8, 9]
    assert match(index).done == 0
