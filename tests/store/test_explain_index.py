"""Explanations read off the index, compared with the packed nodes they come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sync_graphs import Run, judged_table, make_run, relaxed_set, results_table, sequence_set

from crysgen_aiida.crystals.errors import EmptySet, ImpossibleRequest
from crysgen_aiida.data.ranking import Query, candidate_frame, rank_frame
from crysgen_aiida.store.explain.methods import change_policy, standing
from crysgen_aiida.store.explain.runs import find_candidate, find_run, list_runs, run_of_screens, summaries
from crysgen_aiida.store.explain.show import show
from crysgen_aiida.store.explain.stats import stats
from crysgen_aiida.store.explain.why import render, why
from crysgen_aiida.store.index.database import Index

ROWS = 24
RULE = {
    "constraints": [["status", "==", "ok"], ["valid_structure", "==", True]],
    "objectives": {"e_above_reference": "lower"},
}


@pytest.fixture(scope="module")
def runs(aiida_profile: Any) -> dict[str, Run]:
    """Three runs: one within a design, its copy as the cache would make it, and one of another label."""
    relaxed, table = relaxed_set(ROWS, 71, failed=(3, 7)), judged_table(ROWS, 71)
    sequences, decoded = sequence_set(ROWS, 2.5), relaxed_set(ROWS, 72, failed=(5,))
    sets = {"decoded": decoded, "sequences": sequences, "design": True}
    proven = {pa.field("proven", pa.bool_()): [True] * 9}
    return {
        "first": make_run(relaxed, table, label="explained", **sets),
        "copy": make_run(relaxed, table, label="explained again", **sets),
        "other": make_run(relaxed_set(9, 73), judged_table(9, 73, extra=proven), label="explained elsewhere"),
    }


@pytest.fixture(scope="module")
def index(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index of the whole test profile."""
    from crysgen_aiida.store.sync import sync

    held = Index.open(f"sqlite:///{tmp_path_factory.mktemp('index') / 'explain.sqlite'}")
    sync(held)
    yield held
    held.close()


def _frame(run: Run) -> Any:
    return candidate_frame(run.relaxed.table, run.table.table)


# -- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_pk_uuid_and_label(index: Index, runs: dict[str, Run]) -> None:
    for name, run in runs.items():
        started = run.design or run.screen
        for text in (
            str(started.pk),
            started.uuid,
            started.uuid[:12],
            started.label,
            str(run.screen.pk),
            run.screen.uuid,
        ):
            assert find_run(index, text).uuid == started.uuid, (name, text)
    assert find_run(index, "explained").ranking == {"constraints": [["status", "==", "ok"]]}
    assert find_run(index, "explained elsewhere").ranking is None
    newest = list_runs(index)[0]
    assert find_run(index) == newest


def test_a_run_that_was_copied_shares_its_candidates(index: Index, runs: dict[str, Run]) -> None:
    first, copy = find_run(index, "explained"), find_run(index, "explained again")
    assert first.batch_ids == copy.batch_ids
    assert first.uuid != copy.uuid
    one = find_candidate(index, f"{runs['first'].relaxed.uuid}:4")
    other = find_candidate(index, f"{runs['copy'].relaxed.uuid[:13]}:4")
    assert one == other
    assert one.address.uuid == runs["first"].relaxed.uuid
    listed = {record["label"]: record for record in summaries(index)}
    assert listed["explained"]["candidates"] == listed["explained again"]["candidates"] == ROWS
    assert listed["explained"]["requested"] == {"band_gap": 2.5}


def test_what_is_not_there_is_refused_with_the_remedy(index: Index, runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(ImpossibleRequest, match="crysgen candidate list"):
        find_run(index, "no such run")
    with pytest.raises(ImpossibleRequest, match="store sync"):
        find_candidate(index, "00000000-dead-beef:1")
    with pytest.raises(ImpossibleRequest, match="row 9999"):
        find_candidate(index, f"{runs['first'].relaxed.uuid}:9999")
    with pytest.raises(ImpossibleRequest, match="is not an address"):
        find_candidate(index, "%:1")
    with pytest.raises(EmptySet, match="store sync"):
        run_of_screens(index, ["unknown"], "12345678-0000")
    empty = Index.open(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    with pytest.raises(EmptySet, match="crysgen design"):
        find_run(empty)
    assert stats(empty)["counts"]["candidates"] == 0
    empty.close()


def test_hostile_labels_are_text_like_any_other(aiida_profile: Any, tmp_path: Path) -> None:
    from crysgen_aiida.store.sync import sync

    labels = ["'; DROP TABLE candidate; --", '" OR 1=1', "%", "_", "\x1b[2J", "{0.__class__}", "a\nb", "5" * 300]
    made = [make_run(relaxed_set(2, 90 + k), judged_table(2, 90 + k), label=t[:255]) for k, t in enumerate(labels)]
    index = Index.open(f"sqlite:///{tmp_path / 'hostile.sqlite'}")
    sync(index)
    for run, text in zip(made, labels, strict=True):
        assert find_run(index, text[:255]).uuid == run.screen.uuid
        assert show(index, f"{run.relaxed.uuid}:1", graph=False)["origin"]["runs"][0]["label"] == text[:255]
    for text in ("%:1", "________:1", "' OR 1=1:1"):
        with pytest.raises(ImpossibleRequest, match="is not an address"):
            find_candidate(index, text)
    assert stats(index)["counts"]["candidates"] >= 2 * len(labels)
    index.close()


# -- one candidate ----------------------------------------------------------------------------------------------------


def test_show_gives_every_value_with_its_origin(index: Index, runs: dict[str, Run]) -> None:
    run = runs["first"]
    crystals, judged = list(run.relaxed.iter()), {r["parent_row"]: r for r in run.table.iter()}
    for row in range(ROWS):
        found = show(index, f"{run.relaxed.uuid}:{row}")
        crystal, verdicts = crystals[row], judged[row]
        assert (found["status"], found["reduced_formula"]) == (crystal["status"], crystal["reduced_formula"])
        assert found["reason"] == crystal["reason"]
        assert found["requested"] == {"band_gap": 2.5}
        values = {p["property"]: p for p in found["properties"]}
        for name, source, node in (
            ("band_gap", verdicts, run.table), ("e_above_reference", verdicts, run.table),
            ("energy_per_atom", crystal, run.relaxed),
        ):  # fmt: skip
            if source[name] is None:
                assert name not in values
            else:
                assert (values[name]["value"], values[name]["source"]) == (source[name], node.uuid)
                assert values[name]["current"]
                assert values[name]["unit"] in ("eV", "eV/atom")
        answers = {v["verdict"]: (v["answer"], v["reason"]) for v in found["verdicts"]}
        if crystal["status"] == "ok":
            assert answers["valid_structure"] == (verdicts["valid_structure"], verdicts["valid_structure_reason"])
        assert set(answers) == {"valid_structure", "converged"}
        assert found["origin"]["relaxed_uuid"] == run.relaxed.uuid
        assert found["origin"]["decoded_row"] == crystal["parent_row"]
        assert [r["label"] for r in found["origin"]["runs"]] == ["explained again", "explained"]
        assert (found["crystal"] is None) == (crystal["lattice"] is None)
    other = show(index, f"{runs['other'].relaxed.uuid}:0")
    assert (other["requested"], {v["verdict"] for v in other["verdicts"]}) == ({}, {*answers, "proven"})
    without = show(index, f"{run.relaxed.uuid}:0", graph=False)
    assert "crystal" not in without
    assert without["properties"] == show(index, f"{run.relaxed.uuid}:0")["properties"]


def test_a_value_of_a_verification_is_shown_beside_the_first_and_counts(runs: dict[str, Run], tmp_path: Path) -> None:
    from crysgen_aiida.store.sync import sync

    address = f"{runs['other'].relaxed.uuid}:2"
    given = {"address": address, "property": "band_gap", "unit": "eV"}
    table = results_table(
        [
            {**given, "value": 3.25, "uncertainty": 0.1, "method": "pbe-mp2020"},
            {**given, "value": 4.5, "method": "mace-mp"},
        ]
    )
    index = Index.open(f"sqlite:///{tmp_path / 'results.sqlite'}")
    sync(index)
    values = {p["method"]: p for p in show(index, address)["properties"] if p["property"] == "band_gap"}
    assert (values["pbe-mp2020"]["value"], values["pbe-mp2020"]["sigma"]) == (3.25, 0.1)
    assert values["pbe-mp2020"]["source"] == table.uuid
    assert [m for m, p in values.items() if p["current"]] == ["pbe-mp2020"]
    change_policy(index, ["band_gap=mace-mp"])
    values = {p["method"]: p for p in show(index, address)["properties"] if p["property"] == "band_gap"}
    assert [m for m, p in values.items() if p["current"]] == ["mace-mp"]
    order = [r["method"] for r in standing(index) if r["property"] == "band_gap"]
    assert order[:2] == ["mace-mp", "pbe-mp2020"]
    change_policy(index, ["band_gap="])
    assert index.policy().prefer == {}
    for text, words in (("bandgap=x", "Did you mean band_gap"), ("band_gap=mace-mpp", "Did you mean mace-mp"),
                        ("band_gap", "write PROPERTY=METHOD")):  # fmt: skip
        with pytest.raises(ImpossibleRequest, match=words):
            change_policy(index, [text])
    index.close()


# -- why --------------------------------------------------------------------------------------------------------------


def test_why_agrees_with_ranking_by_hand(index: Index, runs: dict[str, Run]) -> None:
    run = runs["first"]
    frame = _frame(run).set_index("row", drop=False)
    ranked = rank_frame(frame.reset_index(drop=True), Query.from_dict(RULE)).rows
    wanted = frame["e_above_reference"]
    order = sorted(frame["row"], key=lambda r: (wanted[r] != wanted[r], wanted[r] if wanted[r] == wanted[r] else 0, r))
    for row in range(ROWS):
        found = why(index, f"{run.relaxed.uuid}:{row}", RULE, ["band_gap > 0 eV"], neighbours=2)
        kept = [r for r in ranked if frame["band_gap"][r] > 0]
        meets = {c["constraint"]: c["met"] for c in found["constraints"]}
        assert meets == {
            "status == ok": frame["status"][row] == "ok",
            "valid_structure == True": frame["valid_structure"][row] is True or frame["valid_structure"][row] == True,  # noqa: E712
            "band_gap > 0 eV": bool(frame["band_gap"][row] > 0),
        }
        before = order[: order.index(row)]
        out = [r for r in before if r not in kept]
        assert found["kept_out_total"] == len(out)
        assert [int(k["address"].rpartition(":")[2]) for k in found["kept_out"]] == out[::-1][:2]
        assert all(k["fails"] for k in found["kept_out"])
        assert (found["of"], found["candidates"]) == (len(kept), ROWS)
        if row in kept:
            place = kept.index(row)
            assert found["rank"] == place + 1
            neighbours = [int(n["address"].rpartition(":")[2]) for n in (*found["above"], *found["below"])]
            assert neighbours == kept[max(0, place - 2) : place] + kept[place + 1 : place + 3]
        else:
            assert found["rank"] is None
            assert found["would_rank"] == 1 + sum(r in before for r in kept)
        assert f":{row})" in render(found).splitlines()[0]


def test_why_tells_the_reason_the_graph_holds_and_does_without(index: Index, runs: dict[str, Run]) -> None:
    run = runs["first"]
    judged = {r["parent_row"]: r for r in run.table.iter()}
    row = next(r for r in range(ROWS) if judged[r]["valid_structure"] is False and r not in (3, 7))
    failed = next(c for c in why(index, f"{run.relaxed.uuid}:{row}", RULE)["constraints"] if not c["met"])
    assert failed["reason"] == judged[row]["valid_structure_reason"]
    status = why(index, f"{run.relaxed.uuid}:3", RULE)["constraints"][0]
    assert status["reason"] == "it did not converge in 20 steps"
    without = why(index, f"{run.relaxed.uuid}:{row}", RULE, graph=False)
    assert all("reason" not in c for c in without["constraints"])


@pytest.mark.parametrize("method", ["weighted", "pareto", "lexicographic"])
def test_why_knows_every_way_of_ranking(index: Index, runs: dict[str, Run], method: str) -> None:
    rule = {
        "constraints": [["status", "==", "ok"]],
        "objectives": {"band_gap": {"direction": "target", "target": 2.0}, "e_above_reference": "lower"},
        "method": method,
        "diversity": {"formula": 2},
    }
    run, places = runs["first"], []
    for row in range(ROWS):
        found = why(index, f"{run.relaxed.uuid}:{row}", rule, graph=row < 2)
        places.append(found["rank"])
        assert (found["rank"] is None) == (found["would_rank"] is not None)
        for neighbour in (*found["above"], *found["below"]):
            assert neighbour["decides"]
        assert all(k["fails"] for k in found["kept_out"])
        assert render(found)
    ranked = sorted(p for p in places if p is not None)
    assert ranked == list(range(1, len(ranked) + 1))
    assert len(ranked) <= 8


# -- counts -----------------------------------------------------------------------------------------------------------


def test_statistics_count_what_is_there(index: Index, runs: dict[str, Run]) -> None:
    from sqlalchemy import func, select

    from crysgen_aiida.store.index.models import Candidate, Verdict

    found = stats(index)
    with index.read() as connection:
        n = connection.scalar(select(func.count()).select_from(Candidate))
        yes = connection.scalar(select(func.sum(Verdict.n_true)).where(Verdict.name == "valid_structure"))
    assert found["counts"]["candidates"] == n == sum(found["status"].values())
    assert next(v for v in found["verdicts"] if v["verdict"] == "valid_structure")["yes"] == yes
    gaps = [p for p in found["properties"] if p["property"] == "band_gap"]
    mine = [g for run in ("first", "other") for g in runs[run].table.table.column("band_gap") if g is not None]
    assert sum(p["values"] for p in gaps) >= len(mine)
    assert min(p["min"] for p in gaps) <= min(mine)
