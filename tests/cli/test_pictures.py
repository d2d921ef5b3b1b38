"""Pictures: every text escaped, equal bytes for equal shapes, the same shapes as SVG and as PNG, whole files only."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.cli.pictures import SCALE, check_output, png, write_picture
from crysgen_aiida.cli.shapes import (
    STYLES,
    Box,
    Curve,
    Disc,
    Line,
    Picture,
    Shape,
    Words,
    moved,
    shortened,
    svg,
    svg_file,
    width_of,
    wrapped,
)

SVG = "{http://www.w3.org/2000/svg}"

ALL: tuple[Shape, ...] = (
    Line(1, 2, 30, 4, "edge"),
    Disc(20, 20, 8, "atom", "#ff0000", "Fe & <b>"),
    Box(40, 5, 20, 30, "void"),
    Curve(((0, 0), (10, 30), (60, 38)), "thin", "#0072b2"),
    Words(50, 30, "a", "label", "middle", turn=-90),
)


def picture(*shapes: Shape, label: str = "") -> Picture:
    return Picture(64, 40, shapes, label)


def pixels(content: bytes, folder: Path) -> np.ndarray:
    from matplotlib.image import imread

    path = folder / "seen.png"
    path.write_bytes(content)
    return np.asarray(imread(path))


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=40))
def test_any_text_makes_xml_that_says_it(text: str) -> None:
    root = ET.fromstring(svg_file(picture(Words(1, 1, text, "title"), Disc(1, 1, 1, "atom", "#fff", text), label=text)))
    (words,) = root.iter(f"{SVG}text")
    assert not list(words)
    assert all(c in text or c == "�" for c in words.text or "")
    assert len(words.text or "") == len(text)


def test_equal_pictures_are_equal_bytes_and_moving_moves_everything() -> None:
    assert svg_file(picture(*ALL)) == svg_file(picture(*ALL))
    assert png(picture(*ALL)) == png(picture(*ALL))
    assert png(picture(*ALL)) != png(picture(*moved(ALL, 1, 0)))
    assert svg(moved(moved(ALL, 3, -2), -3, 2)) == svg(ALL)


def test_a_png_shows_the_shapes_where_they_are(tmp_path: Path) -> None:
    seen = pixels(png(picture(Disc(20, 10, 6, "mark", "#ff0000"))), tmp_path)
    assert seen.shape[:2] == (40 * SCALE, 64 * SCALE)
    assert seen[10 * SCALE, 20 * SCALE, :3].tolist() == [1, 0, 0]
    assert seen[30 * SCALE, 20 * SCALE, :3].tolist() == [1, 1, 1]


def test_a_png_takes_text_as_it_is(tmp_path: Path) -> None:
    import matplotlib

    plain = png(picture(Words(2, 20, r"$\frac{", "label")))  # no formula, and no error of one that is malformed
    assert (pixels(plain, tmp_path)[..., 0] < 0.5).any()
    with matplotlib.rc_context({"figure.facecolor": "red", "font.family": "serif", "savefig.dpi": 30}):
        assert png(picture(Words(2, 20, r"$\frac{", "label"))) == plain


def test_every_kind_of_shape_that_is_drawn_has_a_style() -> None:
    assert {shape.kind for shape in ALL} <= set(STYLES)
    sheet = ET.fromstring(svg_file(picture(*ALL))).find(f"{SVG}style")
    assert sheet is not None
    assert all(f".{kind}{{" in (sheet.text or "") for kind in STYLES)


@given(text=st.text(max_size=80), width=st.floats(20, 300), tail=st.booleans())
def test_text_is_cut_to_its_room(text: str, width: float, tail: bool) -> None:
    cut = shortened(text, width, 10, tail=tail)
    assert cut == text or (cut[0 if tail else -1] == "…" and width_of(cut, 10) <= width)
    assert len(wrapped(text, width, 10, 3)) <= 3


@pytest.mark.parametrize("name", ["curve.pdf", "curve", "svg", "curve.svg.gz"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(click.ClickException, match=r"does not end in \.svg or \.png"):
        check_output(tmp_path / name, overwrite=True)


def test_what_exists_is_replaced_only_if_asked_and_only_by_a_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.png"
    path.write_text("old")
    with pytest.raises(click.ClickException, match="--overwrite"):
        check_output(path, overwrite=False)
    check_output(path, overwrite=True)
    with pytest.raises(click.ClickException, match="no folder"):
        check_output(tmp_path / "none" / "a.svg", overwrite=False)
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("stopped")))
        with pytest.raises(OSError, match="stopped"):
            write_picture(path, picture(*ALL))
    assert path.read_text() == "old"
    write_picture(path, picture(*ALL))
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["old.png"]
