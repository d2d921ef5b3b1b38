"""Decisions recorded from the index, over several screenings and with results, are what was shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sync_graphs import (
    REMARK,
    empty_profile,
    judged_table,
    make_run,
    own_profile,
    relaxed_set,
    results_table,
    sequence_set,
)

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.data.ranking import Query

RULE = Query.from_dict({"objectives": {"band_gap": "higher"}, "constraints": [["status", "==", "ok"]]})


@pytest.fixture(scope="module")
def profile() -> Iterator[Any]:
    with own_profile("crysgen-record") as held:
        yield held


@pytest.fixture
def made(profile: Any, tmp_path: Path) -> Iterator[tuple[Any, Any, list[Any]]]:
    """An index, a run of two screenings, and these; results speak of both, and another run has columns of its own."""
    from crysgen_aiida.store.explain.runs import run_of_screens
    from crysgen_aiida.store.index.database import Index
    from crysgen_aiida.store.sync import sync

    empty_profile()
    remarks = [{pa.field(REMARK, kind): values * 6} for kind, values in ((pa.string(), ["dull"]), (pa.int32(), [3]))]
    runs = [
        make_run(
            relaxed_set(6, seed, failed=[4]), judged_table(6, seed, extra=remarks[seed]), sequences=sequence_set(6, 1.5)
        )
        for seed in (0, 1)
    ]
    other = make_run(relaxed_set(5, 7), judged_table(5, 7, extra={pa.field("proven", pa.bool_()): [True] * 5}))
    given = {"property": "band_gap", "unit": "eV"}
    results_table([{"address": f"{r.relaxed.uuid}:2", "value": 7.5, "method": "pbe-x", **given} for r in runs])
    results_table([{"address": f"{other.relaxed.uuid}:1", "value": 1.5, "method": "mace-mp", **given}])
    index = Index.open(f"sqlite:///{tmp_path / 'index.sqlite'}")
    sync(index)
    yield index, run_of_screens(index, [r.screen.uuid for r in runs], runs[0].screen.uuid, "both"), runs
    index.close()


@pytest.mark.parametrize(
    "where",
    [(), ("band_gap > 1",), ("method(band_gap) = 'pbe-x' or n_atoms < 3",), (f"{REMARK} = 3 or proven",)],
    ids=["all", "plain", "methods", "columns of others"],
)
def test_a_decision_over_two_screenings(made: tuple[Any, Any, list[Any]], where: tuple[str, ...]) -> None:
    from crysgen_aiida.store.candidates import creator_of, inputs_of
    from crysgen_aiida.store.explain.funnel import of_run
    from crysgen_aiida.store.query import rank_candidates
    from crysgen_aiida.store.record import record

    index, run, runs = made
    shown = rank_candidates(index, RULE, where=where, runs=run.batch_ids)
    decision = record(index, run, RULE, where)
    uuids = {"crystals": runs[0].relaxed.uuid, "crystals_2": runs[1].relaxed.uuid}
    columns = {name: decision.table.column(name) for name in ("parent_input", "parent_row", "score", "band_gap")}
    addresses = zip(columns["parent_input"], columns["parent_row"], strict=True)
    assert [f"{uuids[label]}:{row}" for label, row in addresses] == shown.address.tolist()
    assert len(shown) > 1
    assert columns["score"] == shown.scores.tolist()
    assert columns["band_gap"] == [r["band_gap"] for r in shown.records()]
    given = inputs_of(creator_of(decision))
    assert set(given) == {"rule", "results", *uuids, "table", "table_2", "sequences", "sequences_2"}
    ranked = next(stage for stage in of_run(index, run)["stages"] if stage["stage"] == "ranked")
    assert ranked["n"] == len(shown), "the decision is counted once, though it is about two screenings"


def test_a_row_is_promoted_only_from_the_set_it_was_ranked_in(made: tuple[Any, Any, list[Any]]) -> None:
    from aiida import orm

    from crysgen_aiida.calculations.functions import promote
    from crysgen_aiida.crystals.table import ReferenceSet
    from crysgen_aiida.data.packed import ReferenceEnergiesData
    from crysgen_aiida.store.record import record

    index, run, runs = made
    decision = record(index, run, RULE, ("method(band_gap) = 'pbe-x' and n_atoms < 9",))
    rows = zip(decision.table.column("parent_input"), decision.table.column("parent_row"), strict=True)
    assert sorted(rows) == [("crystals", 2), ("crystals_2", 2)]
    only = record(index, run, RULE, (f"{REMARK} = 3 and n_atoms < 9",))
    assert set(only.table.column("parent_input")) == {"crystals_2"}
    reference = ReferenceEnergiesData(
        ReferenceSet(pa.table({"formula": ["Na"], "energy_per_atom": [0.0], "source": ["made up"]}))
    ).store()
    given = {"reference": reference, "decision": only, "rows": orm.List([2])}
    made_of = promote(runs[1].relaxed, runs[1].table, **given)
    assert set(made_of["structures"]) == {"r2"}
    with pytest.raises(BadInput, match="not in the decision"):
        promote(runs[0].relaxed, runs[0].table, **given)


def test_the_lineage_of_a_decision_over_two_screenings_names_both(made: tuple[Any, Any, list[Any]]) -> None:
    from aiida import orm

    from crysgen_aiida.calculations.functions import promote
    from crysgen_aiida.crystals.table import ReferenceSet
    from crysgen_aiida.data.packed import ReferenceEnergiesData
    from crysgen_aiida.store.explain.lineage import lineage
    from crysgen_aiida.store.explain.runs import run_of_screens
    from crysgen_aiida.store.record import record
    from crysgen_aiida.store.sync import sync

    index, _, (first, _) = made
    again = make_run(first.relaxed, judged_table(6, 9))
    sync(index)
    decision = record(index, run_of_screens(index, [first.screen.uuid, again.screen.uuid], first.screen.uuid), RULE)
    held = {"formula": ["Na"], "energy_per_atom": [0.0], "source": ["made up"]}
    reference = ReferenceEnergiesData(ReferenceSet(pa.table(held))).store()
    rows = sorted(set(decision.table.column("parent_row")))[:2]
    promote(first.relaxed, first.table, reference=reference, decision=decision, rows=orm.List(rows))
    found = lineage(first.relaxed)
    named = sorted((step["what"], step["from"]) for step in found["made"])
    both = [("decision", first.table.uuid), ("decision", again.table.uuid)]
    assert [step for step in named if step[0] == "decision"] == sorted(both)
    assert [step for step in named if step[0] == "structure"] == [("structure", decision.uuid)] * 2
    assert found["totals"]["decision"] == 1
    told = {first.relaxed.uuid}
    for step in found["made"]:
        assert step["from"] in told, "each stands below what it was made from"
        told.add(step["uuid"])


def test_a_ranking_of_nothing_is_a_decision_too(made: tuple[Any, Any, list[Any]]) -> None:
    from crysgen_aiida.store.record import record

    index, run, _ = made
    decision = record(index, run, RULE, ("band_gap > 1000",))
    assert decision.n_rows == 0
    assert decision.metadata["funnel"][-1][1] == 0


def test_a_cached_decision_is_about_these_nodes(profile: Any, tmp_path: Path) -> None:
    """Equal contents of another age are another question: the newest of two potentials counts."""
    from aiida import orm
    from aiida.manage.caching import enable_caching

    from crysgen_aiida.crystals.table import ReferenceSet
    from crysgen_aiida.data.packed import CrystalSetData, ReferenceEnergiesData
    from crysgen_aiida.store.explain.runs import find_run
    from crysgen_aiida.store.index.database import Index
    from crysgen_aiida.store.query import rank_candidates
    from crysgen_aiida.store.record import record
    from crysgen_aiida.store.sync import sync

    empty_profile()

    def reference(energy: float) -> Any:
        held = {"formula": ["Na"], "energy_per_atom": [energy], "source": ["made up"]}
        return ReferenceEnergiesData(ReferenceSet(pa.table(held))).store()

    def screened(crystals: Any, energy: float) -> Any:
        return make_run(crystals, judged_table(4, 1, method="chgnet-0.3.0"), reference=reference(energy))

    twins = [CrystalSetData(relaxed_set(4, 1)).store() for _ in range(2)]
    older = screened(twins[0], 0.0)
    given = {"property": "band_gap", "value": 7.5, "unit": "eV", "method": "mace-mp-0"}
    results_table([{"address": f"{crystals.uuid}:{row}", **given} for crystals in twins for row in (0, 3)])
    newer = screened(twins[1], 1.0)
    index = Index.open(f"sqlite:///{tmp_path / 'index.sqlite'}")
    sync(index)
    gaps = []
    with enable_caching():
        for run in (older, newer, older):
            meant = find_run(index, run.screen.uuid)
            shown = rank_candidates(index, RULE, runs=meant.batch_ids)
            decision = record(index, meant, RULE)
            assert decision.table.column("band_gap") == [r["band_gap"] for r in shown.records()]
            gaps.append(decision.table.column("band_gap"))
    index.close()
    assert gaps[0] == gaps[2] != gaps[1]
    calls = orm.QueryBuilder().append(orm.CalcFunctionNode).all(flat=True)
    assert [call.base.caching.is_created_from_cache for call in sorted(calls, key=lambda c: c.pk)] == [
        *(False, False),
        True,
    ], "the same question about the same nodes is served from the cache"
