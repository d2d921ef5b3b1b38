"""Output formats and settings: what is printed for programs can be read back whole."""

from __future__ import annotations

import csv
import io
import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from crysgen_aiida.cli.output import emit, readable, to_csv, to_json
from crysgen_aiida.cli.settings import flat, nested
from crysgen_aiida.crystals.errors import ImpossibleRequest

_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
_NUMBERS = st.one_of(st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False))
_CELLS = st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXT)


@given(st.lists(st.fixed_dictionaries({"a": _CELLS, "b, c": _CELLS}), max_size=6))
def test_json_and_csv_lose_nothing(rows: list[dict]) -> None:
    assert json.loads(to_json(rows)) == rows
    read = list(csv.DictReader(io.StringIO(to_csv(rows, ["a", "b, c"]))))
    assert len(read) == len(rows)
    for row, line in zip(rows, read, strict=True):
        for key, value in row.items():
            if isinstance(value, float):
                assert float(line[key]) == value
            else:
                assert line[key] == ("" if value is None else str(value))


def test_what_json_cannot_hold_becomes_null_or_text() -> None:
    import numpy as np

    held = json.loads(to_json({"nan": float("nan"), "n": np.int64(3), "v": np.array([1.0, np.inf]), "s": {2}}))
    assert held == {"nan": None, "n": 3, "v": [1.0, None], "s": [2]}


def test_a_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    emit([{"id": "d37fbde7-5074-42c4-9829-e522e8da2b47", "gap": 1.23456789, "ok": True, "none": None}])
    said = capsys.readouterr().out
    assert "d37fbde7 " in said
    assert "5074" not in said
    assert "1.235" in said
    assert "yes" in said
    assert "–" in said
    emit([], empty="Nothing here.")
    assert capsys.readouterr().out == "Nothing here.\n"
    emit([], "json")
    assert json.loads(capsys.readouterr().out) == []


def test_readable_values_are_short() -> None:
    assert readable({"a": 1.0, "b": [True, None]}) == "a 1, b yes, –"


def test_settings_nest_and_keep_their_types() -> None:
    assert nested(["training.epochs=2", "model.width=64", "training.augment=none", 'data.conditions=["band_gap"]']) == {
        "training": {"epochs": 2, "augment": "none"},
        "model": {"width": 64},
        "data": {"conditions": ["band_gap"]},
    }
    assert flat(["piezo_max=7.5", "crystal_system=cubic"]) == {"piezo_max": 7.5, "crystal_system": "cubic"}


@pytest.mark.parametrize("settings", [["a"], ["=1"], ["a..b=1"], ["a=1", "a.b=2"], ["a.b=1", "a=2"]])
def test_malformed_settings_are_refused(settings: list[str]) -> None:
    with pytest.raises(ImpossibleRequest):
        nested(settings)


def test_a_condition_given_twice_is_refused() -> None:
    with pytest.raises(ImpossibleRequest, match="twice"):
        flat(["a=1", "a=2"])


@pytest.mark.parametrize("command", ["dataset list", "generator list", "run list", "candidate list"])
@pytest.mark.parametrize("fmt", ["table", "json", "csv"])
def test_every_list_speaks_every_format(command: str, fmt: str, aiida_profile) -> None:
    from crysgen_aiida.cli.root import crysgen

    done = CliRunner().invoke(crysgen, ["-p", aiida_profile.name, *command.split(), "--format", fmt])
    assert done.exit_code == 0, done.output
    if fmt == "json":
        assert isinstance(json.loads(done.stdout), list)


def test_a_hostile_label_reaches_no_terminal_but_programs_get_it_whole(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"label": "\x1b[2Jwiped\r\nnext"}]
    emit(rows)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert len(said.splitlines()) == 3
    emit(rows, "json")
    assert json.loads(capsys.readouterr().out) == rows
