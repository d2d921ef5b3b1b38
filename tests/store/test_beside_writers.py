"""What a reader sees while the index is written: the state before or the state after, never one in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
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
    watched,
)

from crysgen_aiida.crystals.properties import PROPERTIES, Property
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.store.index.database import Index
from crysgen_aiida.store.sync import sync


@pytest.fixture(scope="module")
def profile() -> Iterator[Any]:
    with own_profile("crysgen-beside") as held:
        yield held


@pytest.fixture
def opened(profile: Any, tmp_path: Path) -> Iterator[Callable[[str], Index]]:
    """Open indices of the profile, which is emptied, by the names of their files."""
    empty_profile()
    held: list[Index] = []

    def open_index(name: str = "index") -> Index:
        held.append(Index.open(f"sqlite:///{tmp_path / name}.sqlite"))
        return held[-1]

    yield open_index
    for index in held:
        index.close()


def fingerprint_of_a_fresh_one(opened: Callable[[str], Index]) -> str:
    held = opened("fresh")
    sync(held, rebuild=True)
    return held.fingerprint()


def remarked(seed: int, kind: Any, values: list[Any]) -> Any:
    n = len(values)
    return make_run(relaxed_set(n, seed), judged_table(n, seed, extra={pa.field(REMARK, kind): values}))


def test_columns_that_clash_change_at_once_and_no_candidate_is_away(opened: Callable[..., Index]) -> None:
    from aiida.tools import delete_nodes

    index, reader = opened(), opened()
    texts = [remarked(seed, pa.string(), ["dull", "shiny", None, "dull"]) for seed in (1, 2)]
    given = {"property": "band_gap", "value": 9.5, "unit": "eV", "method": "pbe-x"}
    results_table([{"address": f"{run.relaxed.uuid}:1", **given} for run in texts])
    sync(index)
    ids = {key for key, _ in _candidates(index)}
    for change in ("numbers come", "numbers go"):
        before = answers_of_index(index)
        if change == "numbers come":
            numbers = remarked(3, pa.float64(), [0.5, 1.5, None])
        else:
            delete_nodes([numbers.screen.pk], dry_run=False)
        seen = watched(index, reader, answers_of_index)
        sync(index)
        after = answers_of_index(index)
        assert after == answers_of_graph(index.policy())
        old = [{key: held for key, held in state.items() if key in before and key in after} for state in seen]
        wanted = [
            {key: held for key, held in state.items() if key in before and key in after} for state in (before, after)
        ]
        assert old[0] == wanted[0] != wanted[1]
        assert all(state in wanted for state in old)
    assert {key for key, _ in _candidates(index)} == ids, "those that were there are not written anew"
    assert index.fingerprint() == fingerprint_of_a_fresh_one(opened)


def test_a_rebuild_is_seen_when_it_is_done(opened: Callable[..., Index]) -> None:
    index, reader = opened(), opened()
    for seed in (1, 2, 3):
        make_run(relaxed_set(6, seed), judged_table(6, seed))
    sync(index)
    before = index.fingerprint()
    seen = watched(index, reader, lambda held: held.fingerprint())
    report = sync(index, rebuild=True)
    assert report.rows == 18
    assert seen == [before]
    assert index.fingerprint() == before


def test_a_rebuild_that_does_not_end_changes_nothing(
    opened: Callable[..., Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    from crysgen_aiida.store import sync as module

    index = opened()
    for seed in (1, 2):
        make_run(relaxed_set(6, seed), judged_table(6, seed))
    sync(index)
    before = index.fingerprint()
    monkeypatch.setattr(module._Sync, "_results", _ends)
    with pytest.raises(KeyboardInterrupt):
        sync(index, rebuild=True)
    assert index.fingerprint() == before


def _ends(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_question_of_several_steps_is_about_one_state(opened: Callable[..., Index]) -> None:
    from aiida.tools import delete_nodes

    from crysgen_aiida.store.explain.runs import find_run
    from crysgen_aiida.store.query import rank_candidates

    index, writer = opened(), opened()
    first = make_run(relaxed_set(3, 1), judged_table(3, 1))
    second = make_run(relaxed_set(5, 2), judged_table(5, 2))
    sync(index)
    with index.read():
        run = find_run(index, second.screen.uuid)
        delete_nodes([first.screen.pk], dry_run=False)
        make_run(relaxed_set(7, 3), judged_table(7, 3))
        sync(writer, rebuild=True)
        found = rank_candidates(index, {"objectives": {"band_gap": "higher"}}, runs=run.batch_ids)
    assert {text.partition(":")[0] for text in found.address} == {second.relaxed.uuid}
    assert len(found) == 5
    assert find_run(index, second.screen.uuid).batch_ids != run.batch_ids, "or there was nothing to confuse"


def _candidates(index: Index) -> list[tuple[int, int]]:
    from sqlalchemy import select

    from crysgen_aiida.store.index.models import Batch, Candidate

    query = select(Candidate.id, Candidate.row).join(Batch, Batch.id == Candidate.batch_id)
    with index.read() as connection:
        return list(connection.execute(query).tuples().all())


# -- registered properties that are not those the index was filled with ---------------------------------------------


def test_a_plain_column_may_become_a_property(opened: Callable[..., Index], monkeypatch: pytest.MonkeyPatch) -> None:
    from crysgen_aiida.store.check import check

    index = opened()
    plain = {pa.field("toughness", pa.float64()): [1.0, 2.0, None]}
    old = make_run(relaxed_set(3, 1), judged_table(3, 1, extra=plain))
    results_table(
        [{"address": f"{old.relaxed.uuid}:0", "property": "toughness", "value": 7.0, "unit": "MPa", "method": "pbe-x"}]
    )
    sync(index)
    assert not index.columns()["toughness"].is_property
    monkeypatch.setitem(PROPERTIES, "toughness", Property("toughness", "MPa", "Made up."))
    measured = {property_field("toughness", "mace-mp-0"): [3.0, None, 4.0]}
    make_run(relaxed_set(3, 2), judged_table(3, 2, extra=measured))
    assert any("other properties were registered" in line for line in check(index, deep=True))
    report = sync(index)
    assert any("other properties were registered" in note for note in report.notes)
    assert index.columns()["toughness"].is_property
    held = answers_of_index(index)
    assert [held[old.relaxed.uuid, old.table.uuid, row]["toughness"] for row in (0, 1)] == [7.0, 2.0]
    assert index.fingerprint() == fingerprint_of_a_fresh_one(opened)
    assert check(index, deep=True) == []
    assert sync(index).notes == []
    monkeypatch.delitem(PROPERTIES, "toughness")
    assert any("other properties were registered" in line for line in check(index, deep=True))
    sync(index)
    assert not index.columns()["toughness"].is_property
    assert check(index, deep=True) == []
