"""The few shapes our pictures are made of, and their text as SVG. Every text is escaped, nothing depends on a clock.

Coordinates are pixels from the upper left corner. What a shape looks like follows from its ``kind``: a page may style
kinds as it likes (the report does, for dark screens), a file of its own carries :data:`STYLES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TypeAlias

#: Ink of titles, of what is beside them, and of lines that only guide the eye. Dark enough on white to be read.
INK, SOFT, FAINT = "#1c2430", "#566070", "#dfe3ea"


@dataclass(frozen=True)
class Style:
    """How a kind of shape looks; ``size`` is that of its letters [px]."""

    stroke: str = ""
    width: float = 0.0
    fill: str = ""
    opacity: float = 1.0
    dash: tuple[float, float] | None = None
    size: float = 0.0
    bold: bool = False


STYLES = {
    "edge": Style(stroke="#9aa3b2", width=1.0),
    "bond": Style(stroke="#8a8f99", width=3.0),
    "atom": Style(stroke="#39404d", width=0.8),
    "shine": Style(fill="#ffffff", opacity=0.35),
    "tick": Style(fill=SOFT, size=10.0),
    "paper": Style(fill="#ffffff"),
    "tile": Style(stroke=FAINT, width=1.0, fill="#ffffff"),
    "void": Style(stroke="#b9c0cc", width=1.0, fill="#f5f7fa", dash=(4.0, 4.0)),
    "axis": Style(stroke="#9aa3b2", width=1.0),
    "grid": Style(stroke=FAINT, width=1.0),
    "curve": Style(width=2.2),
    "thin": Style(width=1.4, dash=(5.0, 3.5)),
    "mark": Style(stroke="#ffffff", width=1.5),
    "title": Style(fill=INK, size=16.0, bold=True),
    "name": Style(fill=INK, size=13.0, bold=True),
    "label": Style(fill=INK, size=12.0),
    "fact": Style(fill=INK, size=10.5),
    "note": Style(fill=SOFT, size=10.5),
    "warn": Style(fill="#a3341f", size=10.5),
}


@dataclass(frozen=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str


@dataclass(frozen=True)
class Disc:
    """A filled circle; ``title`` is what a browser says of it."""

    x: float
    y: float
    r: float
    kind: str
    fill: str = ""
    title: str = ""


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True)
class Curve:
    """Points joined by straight lines."""

    points: tuple[tuple[float, float], ...]
    kind: str
    stroke: str


@dataclass(frozen=True)
class Words:
    """One line of text on its base line; ``anchor`` is start, middle or end, ``turn`` is in degrees, clockwise."""

    x: float
    y: float
    text: str
    kind: str
    anchor: str = "start"
    turn: float = 0.0


Shape: TypeAlias = Line | Disc | Box | Curve | Words


@dataclass(frozen=True)
class Picture:
    """Shapes in the order in which they cover each other; ``label`` says what is seen to those who cannot see it."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    label: str


def moved(shapes: Iterable[Shape], dx: float, dy: float) -> list[Shape]:
    """Return the shapes, shifted."""
    found: list[Shape] = []
    for shape in shapes:
        if isinstance(shape, Line):
            found.append(Line(shape.x1 + dx, shape.y1 + dy, shape.x2 + dx, shape.y2 + dy, shape.kind))
        elif isinstance(shape, Curve):
            found.append(replace(shape, points=tuple((x + dx, y + dy) for x, y in shape.points)))
        else:
            found.append(replace(shape, x=shape.x + dx, y=shape.y + dy))
    return found


def svg(shapes: Iterable[Shape]) -> str:
    """Return the shapes as SVG elements, each with its kind as class."""
    return "".join(_element(shape) for shape in shapes)


def svg_file(picture: Picture) -> str:
    """Return a picture as the text of an SVG file, on white paper, with its style sheet."""
    width, height, label = picture.width, picture.height, escape(printable(picture.label))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">'
    )
    paper = Box(0, 0, width, height, "paper")
    return f"{head}<style>{style_sheet()}</style>{svg([paper, *picture.shapes])}</svg>\n"


def style_sheet() -> str:
    """Return :data:`STYLES` as CSS."""
    return "".join(f".{kind}{{{_css(style)}}}" for kind, style in STYLES.items())


def printable(text: str) -> str:
    """Return text without what neither a terminal nor XML may hold (control characters, half of a pair)."""
    from crysgen_aiida.cli.output import readable

    return readable(text)


def width_of(text: str, size: float) -> float:
    """Return about how wide a text is [px] in a wide sans-serif font; most are narrower.

    :param size: of its letters [px].
    """
    return 0.58 * size * len(text)


def shortened(text: str, width: float, size: float, *, tail: bool = False) -> str:
    """Return a text cut, with an ellipsis, to what fits into a width [px].

    :param tail: keep its end rather than its beginning, as is right for paths.
    """
    fits = max(1, int(width / width_of("x", size)))
    if len(text) <= fits:
        return text
    return "…" + text[len(text) - fits + 1 :].lstrip() if tail else text[: fits - 1].rstrip() + "…"


def wrapped(text: str, width: float, size: float, lines: int) -> list[str]:
    """Return a text broken into at most so many lines; the last one ends in an ellipsis if not all fits."""
    import textwrap

    fits = max(4, int(width / width_of("x", size)))
    return textwrap.wrap(printable(text), fits, max_lines=lines, placeholder=" …")


def _css(style: Style) -> str:
    said = []
    if style.size:
        said.append(f"font:{'bold ' if style.bold else ''}{style.size:g}px Helvetica,Arial,sans-serif")
    said.append(f"fill:{style.fill}" if style.fill else "")
    if style.stroke:
        said.append(f"stroke:{style.stroke}")
    if style.width:
        said.append(f"stroke-width:{style.width:g};stroke-linecap:round;stroke-linejoin:round")
    if style.dash:
        said.append("stroke-dasharray:" + ",".join(f"{length:g}" for length in style.dash))
    if style.opacity != 1.0:
        said.append(f"opacity:{style.opacity:g}")
    return ";".join(filter(None, said))


def _element(shape: Shape) -> str:
    if isinstance(shape, Line):
        return (
            f'<line x1="{shape.x1:.1f}" y1="{shape.y1:.1f}" x2="{shape.x2:.1f}" y2="{shape.y2:.1f}" '
            f'class="{shape.kind}"/>'
        )
    if isinstance(shape, Disc):
        fill = f'fill="{shape.fill}" ' if shape.fill else ""
        opened = f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.r:.1f}" {fill}class="{shape.kind}"'
        return f"{opened}><title>{escape(printable(shape.title))}</title></circle>" if shape.title else f"{opened}/>"
    if isinstance(shape, Box):
        return (
            f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}" '
            f'class="{shape.kind}"/>'
        )
    if isinstance(shape, Curve):
        return f'<polyline points="{_points(shape.points)}" fill="none" stroke="{shape.stroke}" class="{shape.kind}"/>'
    anchor = f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else ""
    turn = f' transform="rotate({shape.turn:g} {shape.x:.1f} {shape.y:.1f})"' if shape.turn else ""
    text = escape(printable(shape.text))
    return f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" class="{shape.kind}"{anchor}{turn}>{text}</text>'


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
