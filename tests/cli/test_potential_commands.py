"""``crysgen potential``: what there is, and an exit code when a potential is not what it says."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from click.testing import CliRunner

from crysgen_aiida.cli.root import crysgen
from crysgen_aiida.physics import potential_tests, potentials


def said(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(crysgen, ["potential", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def test_the_list_says_what_is_here_and_what_it_may_be_used_for() -> None:
    rows = {row["name"]: row for row in json.loads(said("list", "--format", "json"))}
    assert list(rows) == list(potentials.potentials())
    assert rows["chgnet"]["installed"] is True
    assert rows["chgnet"]["stable"] == "72 of 104"
    assert rows["chgnet"]["elements"] == 89
    assert rows["orb-direct"]["conservative"] is False
    for row in rows.values():
        assert row["installed"] == (row["missing"] is None)
        assert row["licence"]
        assert row["citation"]
        assert "self-consistent" in row["schemes"]
    table = list(csv.DictReader(io.StringIO(said("list", "--format", "csv"))))
    assert [row["name"] for row in table] == list(rows)
    assert "dynamically stable" in said("list")


def test_a_potential_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(potential_tests, "TIMED_ATOMS", 5)
    found = json.loads(said("test", "chgnet", "--format", "json"))
    assert found["passed"] is True
    assert found["method"] == "chgnet-0.3.0"
    assert found["atoms_per_second"] > 1
    assert len(found["crystals"]) == 5
    assert "may not be used for a claim" in found["control"]


@pytest.mark.parametrize(("conservative", "code", "sentence"), [(True, 1, "FAILED"), (False, 0, "as registered")])
def test_forces_that_are_no_derivatives_end_with_a_code(
    monkeypatch: pytest.MonkeyPatch, conservative: bool, code: int, sentence: str
) -> None:
    from dataclasses import replace

    loaded = potentials.load_potential("chgnet")
    evaluate = loaded.compute.evaluate

    def wrong(batch: Any) -> Any:
        found = evaluate(batch)
        return replace(found, forces=1.2 * found.forces)

    crystals = {"Si": potential_tests.built_in()["Si"]}
    monkeypatch.setattr(loaded.compute, "evaluate", wrong)
    monkeypatch.setattr(potential_tests, "built_in", lambda: crystals)
    monkeypatch.setattr(potential_tests, "TIMED_ATOMS", 5)
    held = replace(loaded, info=replace(loaded.info, conservative=conservative))
    monkeypatch.setattr(potentials, "load_potential", lambda *_: held)
    assert sentence in said("test", "chgnet", code=code)


def test_unknown_and_missing_potentials_are_sentences() -> None:
    assert "Did you mean 'chgnet'?" in said("test", "chgnt", code=1)
    if potentials.POTENTIALS["mace"].missing():
        assert "pip install 'mace-torch" in said("test", "mace", code=1)
