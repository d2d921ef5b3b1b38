"""Pictures: any text is text, equal bytes whatever settings a user has, whole files only."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.cli.pictures import check_output, plain_style, write_picture

SVG = "{http://www.w3.org/2000/svg}"


@plain_style()
def picture(text: str = "a") -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, text)
    figure.add_subplot(xticks=[], yticks=[]).plot([1, 2], [2, 1], "o-")
    return figure


def written(figure: Any, ending: str = ".svg", title: str = "t") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"picture{ending}"
        write_picture(path, figure, title)
        return path.read_bytes()


@settings(deadline=None, max_examples=40)
@given(text=st.text(min_size=1, max_size=40).filter(str.strip))
def test_any_text_makes_xml_that_says_it(text: str) -> None:
    root = ET.fromstring(written(picture(text), title=text))
    (title,) = root.iter(f"{SVG}title")
    *_, words = root.iter(f"{SVG}text")
    for element in (words, title):
        assert not list(element)
        assert len(element.text or "") == len(text)
        assert all(c in (o, "�") for c, o in zip(element.text or "", text, strict=True))


def test_markup_and_formulas_stay_text() -> None:
    text = "</text><script>alert('$\\frac{')</script>&\x1b"
    root = ET.fromstring(written(picture(text), title=text))
    assert [e.text for e in root.iter(f"{SVG}text")][-1] == text.replace("\x1b", "�")
    assert not list(root.iter(f"{SVG}script"))


@pytest.mark.parametrize("ending", [".svg", ".png", ".PNG"])
def test_equal_pictures_are_equal_bytes_whatever_settings_a_user_has(ending: str) -> None:
    import matplotlib

    plain = written(picture(), ending)
    own = {"figure.facecolor": "red", "font.family": "serif", "savefig.dpi": 30, "svg.fonttype": "path"}
    with matplotlib.rc_context(own):
        assert written(picture(), ending) == plain
        assert matplotlib.rcParams["savefig.dpi"] == 30
    assert written(picture("b"), ending) != plain
    assert plain.startswith(b"<?xml" if ending == ".svg" else b"\x89PNG")
    assert not any(
        word in plain for word in (b"<dc:date>", b"<dc:creator>", b"Software", matplotlib.__version__.encode())
    )


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
            write_picture(path, picture(), "t")
    assert path.read_text() == "old"
    write_picture(path, picture(), "t")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["old.png"]
