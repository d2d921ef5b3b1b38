"""Sheets of crystals: every row has its tile, and a tile says what it shows, what is missing and where it is from."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.cli.drawing import Ball, Stick, projected
from crysgen_aiida.cli.root import crysgen
from crysgen_aiida.cli.sheet import Fact, Tile, pretty_formula, pretty_group, pretty_unit, sheet_figure
from crysgen_aiida.cli.sheet_tiles import WISHES, parse_rows
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def invoke(aiida_profile: Any) -> Any:
    def run(*arguments: object, code: int = 0) -> Result:
        done = CliRunner().invoke(crysgen, ["-p", aiida_profile.name, "dataset", "sheet", *map(str, arguments)])
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        return done

    return run


@pytest.fixture
def mixed(aiida_profile: Any) -> Any:
    """Two salts and a row that failed for a reason with signs of its own."""
    from pymatgen.core import Lattice, Structure

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.schema import property_field
    from crysgen_aiida.data.packed import CrystalSetData

    cubic = Structure(Lattice.cubic(4.1), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    fluorite = Structure.from_spacegroup(225, Lattice.cubic(5.5), ["Ca", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    crystals = CrystalSet.from_structures(
        [cubic, None, fluorite],
        reasons=[None, "bond <3> & 'more' than \"four\"", None],
        columns={property_field("band_gap", "made-up & <sure>"): [8.0, None, 11.875]},
    )
    node = CrystalSetData.get_or_create(crystals)
    node.label = "<mixed> & salts"
    return node


def texts(path: Path) -> list[str]:
    root = ET.fromstring(path.read_text(encoding="utf-8"))
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_a_sheet_shows_crystals_failures_and_where_they_are_from(invoke: Any, mixed: Any, tmp_path: Path) -> None:
    path = tmp_path / "sheet.svg"
    invoke(mixed.pk, "--output", path)
    said = texts(path)
    assert {"<mixed> & salts", "the first 3 of 3 rows; 2 of 3 hold a crystal"} <= set(said)
    assert {"CsCl", "CaF₂", "Pm-3m (221)", "Fm-3m (225)", "band gap [eV]", "8", "11.9"} <= set(said)
    assert {f"{mixed.uuid[:8]}:{row}" for row in range(3)} <= set(said)
    assert "bond <3> & 'more' than \"four\"" in " ".join(said)
    assert said.count("failed") == 1
    assert any("band gap by made-up & <sure>" in line for line in said)
    assert WISHES not in said  # nobody asked for anything
    again = tmp_path / "again.svg"
    invoke(mixed.pk, "--output", again)
    assert again.read_bytes() == path.read_bytes()


def test_chosen_rows_come_in_the_order_asked_for(invoke: Any, mixed: Any, tmp_path: Path) -> None:
    path = tmp_path / "sheet.svg"
    invoke(mixed.pk, "--rows", "2,0", "--output", path, "--across", 1)
    said = texts(path)
    assert said.index("CaF₂") < said.index("CsCl")
    assert "failed" not in said
    invoke(mixed.pk, "--n", 1, "--output", path, "--overwrite")
    assert "the first 1 of 3 rows; all hold a crystal" in texts(path)


def test_a_sheet_is_drawn_as_png_too(invoke: Any, mixed: Any, tmp_path: Path) -> None:
    from matplotlib.image import imread

    path = tmp_path / "sheet.PNG"
    invoke(mixed.pk, "--output", path)
    colours = {tuple(round(float(c), 2) for c in pixel) for pixel in imread(path)[::2, ::2, :3].reshape(-1, 3)}
    assert {(1.0, 1.0, 1.0), (0.0, 0.0, 0.0)} <= colours  # paper and ink
    assert len(colours) > 100


def test_questions_without_an_answer_are_met_with_a_sentence(invoke: Any, mixed: Any, tmp_path: Path) -> None:
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.data.packed import CrystalSetData

    path = tmp_path / "sheet.svg"
    empty = CrystalSetData(CrystalSet.from_structures([])).store()
    assert "has no rows, so there is nothing to draw" in invoke(empty.pk, "--output", path, code=1).output
    assert "rows 0 to 2" in invoke(mixed.pk, "--rows", "1-3", "--output", path, code=1).output
    assert "no property piezo_max; it has band_gap" in invoke(
        mixed.pk, "--show", "piezo_max", "--output", path, code=1
    ).output.replace("\n", " ")
    assert "does not end in .svg or .png" in invoke(mixed.pk, "--output", tmp_path / "a.jpg", code=1).output
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.integers(0, 99), min_size=1, max_size=20))
def test_rows_are_read_as_they_are_written(rows: list[int]) -> None:
    assert parse_rows(", ".join(map(str, rows)), 100) == list(dict.fromkeys(rows))
    low, high = min(rows), max(rows)
    assert parse_rows(f"{low}-{high}", 100) == list(range(low, high + 1))


@pytest.mark.parametrize("text", ["", "a", "1,", "-3", "1-", "1-2-3", "٣-x", "2.5"])
def test_what_names_no_rows_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="names no rows"):
        parse_rows(text, 10)


@pytest.mark.parametrize("text", ["10", "5-10", "5-4", "0-99999999999999999999"])
def test_rows_that_are_not_there_are_refused(text: str) -> None:
    with pytest.raises(ImpossibleRequest, match="rows 0 to 9"):
        parse_rows(text, 10)


def test_formulas_groups_and_units_are_written_as_in_print() -> None:
    assert pretty_formula("Ca3(PO4)2") == "Ca₃(PO₄)₂"
    assert pretty_formula("H2") == "H₂"
    assert pretty_group("P6_3/mmc") == "P6₃/mmc"
    assert [pretty_unit(u) for u in ("C/m^2", "A^3/atom", "eV/A", "1", "uW/cm/K^2", "eV/atom")] == [
        "C/m²", "Å³/atom", "eV/Å", "", "µW/cm/K²", "eV/atom",
    ]  # fmt: skip


def test_a_wish_stands_under_what_was_found_and_a_missing_value_is_a_dash() -> None:
    crystal = {"lattice": [3, 0, 0, 0, 3, 0, 0, 0, 3], "numbers": [26], "frac_coords": [0, 0, 0]}
    facts = (Fact("piezo_max", "C/m^2", None, 7.5), Fact("band_gap", "eV", 1.23456))
    figure = sheet_figure([Tile("3f2a91c0:17", "rank 1", "Fe", crystal, facts=facts)], "t", "l", ["n"])
    said = [text.get_text() for text in figure.axes[0].texts]
    start = said.index("piezo max [C/m²]")
    assert said[start : start + 6] == ["piezo max [C/m²]", "–", "asked for", "7.5", "band gap [eV]", "1.23"]
    assert said[-1] == "3f2a91c0:17"
    assert [text.get_text() for text in figure.texts] == ["t", "l", "n"]


def test_a_tile_shows_every_atom_and_bond_and_one_without_crystal_is_dashed() -> None:
    crystal = {"lattice": [4, 0, 0, 0, 4, 0, 0, 0, 4], "numbers": [55, 17], "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5]}
    parts = projected(**crystal, size=168)
    whole, void = sheet_figure([Tile("a:0", "", "CsCl", crystal), Tile("a:1", "", status="failed")], "t", "l").axes
    atoms = [line for line in whole.get_lines() if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in atoms) == 8 + 1 + 2  # corners, centre, key
    drawn = {(round(x, 3), round(y, 3)) for line in atoms for x, y in zip(*line.get_data(), strict=True)}
    assert {(round(p.x, 3), round(p.y, 3)) for p in parts if isinstance(p, Ball)} <= drawn
    sticks = [part for part in parts if isinstance(part, Stick)]
    assert [stick.kind for stick in sticks].count("edge") == 12
    assert sum(len(lines.get_segments()) for lines in whole.collections) == len(sticks) > 12
    assert [axes.spines["left"].get_linestyle() == "solid" for axes in (whole, void)] == [True, False]
    assert (len(void.get_lines()), len(void.collections)) == (0, 0)
    assert [text.get_text() for text in void.texts] == ["", "", "failed", "no reason was kept", "a:1"]


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.tuples(st.booleans(), st.text(max_size=60), st.integers(0, 4)), min_size=1, max_size=30),
    st.integers(1, 20),
)
def test_tiles_lie_inside_the_sheet_and_nowhere_on_each_other(rows: list[tuple[bool, str, int]], across: int) -> None:
    crystal = {"lattice": [3, 0, 0, 1, 3, 0, 0, 0, 9], "numbers": [1, 118], "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5]}
    tiles = [
        Tile(text, text, text, crystal if whole else None, "ok" if whole else "failed", text, None,
             tuple(Fact(text, "eV", 1.0, 2.0) for _ in range(n)))
        for whole, text, n in rows
    ]  # fmt: skip
    figure = sheet_figure(tiles, "title", "lead", ["a note"], across)
    seen = [axes for axes in figure.axes if axes.get_visible()]
    boxes = [axes.get_position() for axes in seen]
    assert len(boxes) == len(rows)
    for i, (box, axes) in enumerate(zip(boxes, seen, strict=True)):
        assert 0 < box.x0 < box.x1 < 1
        assert 0 < box.y0 < box.y1 < 1
        assert all(
            box.x0 > other.x1 or other.x0 > box.x1 or box.y0 > other.y1 or other.y0 > box.y1 for other in boxes[:i]
        )
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        assert all(
            left < x < right and high < y < low
            for x, y in (text.get_position() for text in axes.texts if text.get_transform() == axes.transData)
        )
