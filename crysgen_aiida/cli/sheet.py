"""A sheet of crystals: one tile a row with its picture, symmetry and numbers; a row without crystal says why."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from crysgen_aiida.cli.drawing import Ball, look, projected
from crysgen_aiida.cli.output import readable
from crysgen_aiida.cli.pictures import plain_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Width of a tile, between tiles, of the margin inside of one, of what is above all, of a crystal, of a line [pt].
_TILE, _GAP, _PAD, _TOP, _CRYSTAL, _LINE = 204.0, 12.0, 10.0, 62.0, 168.0, 15.0

#: How text looks: names, what was found, what is beside it, and why there is nothing.
_NAME: Any = {"fontsize": 12, "fontweight": "bold"}
_FACT: Any = {"fontsize": 10}
_NOTE: Any = {"fontsize": 10, "color": "0.4"}
_WARN: Any = {"fontsize": 10, "color": "#a3341f"}

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class Fact:
    """A number of a tile: what was found, and what was asked for if anything was."""

    name: str
    unit: str
    found: Any = None
    asked: Any = None


@dataclass(frozen=True)
class Tile:
    """What is shown of one row.

    :param address: short address, by which it can be traced.
    :param place: its rank or row, in words.
    :param crystal: its ``lattice``, ``numbers`` and ``frac_coords``; None if the row holds none.
    :param status: of the row; any other than ``ok`` is shown with the reason.
    :param space_group: international symbol, None if unknown.
    """

    address: str
    place: str
    formula: str = ""
    crystal: Mapping[str, Any] | None = None
    status: str = "ok"
    reason: str = ""
    space_group: tuple[str, int] | None = None
    facts: tuple[Fact, ...] = field(default=())


@plain_style()
def sheet_figure(tiles: Sequence[Tile], title: str, lead: str, notes: Sequence[str] = (), across: int = 6) -> Figure:
    """Return the tiles in a grid, row by row; inside of each a unit is a point, from its upper left corner.

    :param lead: the line under the title: what is shown, of how many.
    :param notes: lines under the grid: how the numbers were found.
    :param across: tiles side by side.
    """
    from matplotlib.figure import Figure

    across = max(2, min(across, len(tiles)))  # two, so that the title has room
    down = -(-len(tiles) // across)
    room = int(across * _TILE / 6)
    lines = [line for note in notes for line in textwrap.wrap(note, room, max_lines=3, placeholder=" …")]
    deep = max(sum(1 if fact.asked is None else 2 for fact in tile.facts) for tile in tiles)
    tall = _CRYSTAL + _LINE * deep + 78
    width, bottom = across * (_TILE + _GAP) + _GAP, _LINE * len(lines) + 2 * _GAP
    height = _TOP + down * (tall + _GAP) - _GAP + bottom
    figure = Figure(figsize=(width / 72, height / 72))
    grid = figure.subplots(down, across, squeeze=False, subplot_kw={"visible": False}, gridspec_kw={
        "left": _GAP / width, "right": 1 - _GAP / width, "top": 1 - _TOP / height, "bottom": bottom / height,
        "wspace": _GAP / _TILE, "hspace": _GAP / tall,
    })  # fmt: skip
    for axes, tile in zip(grid.flat, tiles, strict=False):
        axes.set(visible=True, xlim=(0, _TILE), ylim=(tall, 0), xticks=[], yticks=[])
        _draw_tile(axes, tile, tall)
    figure.text(_GAP / width, 1 - 28 / height, _cut(title, room // 2), fontsize=16, fontweight="bold")
    figure.text(_GAP / width, 1 - 48 / height, _cut(lead, room), fontsize=11)
    for n, line in enumerate(lines):
        figure.text(_GAP / width, (bottom - _LINE * n - 18) / height, line, **_NOTE)
    return figure


@plain_style()
def crystal_figure(crystal: Mapping[str, Any]) -> Figure:
    """Return a crystal as a picture of its own.

    :param crystal: its ``lattice``, ``numbers`` and ``frac_coords``.
    """
    from matplotlib.figure import Figure

    size = 340.0
    figure = Figure(figsize=(size / 72, size / 72))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, size), ylim=(size, 0))
    axes.axis("off")
    _draw_crystal(axes, crystal, 10, 0, size - 20)
    return figure


def pretty_formula(formula: str) -> str:
    """Return a formula with its numbers as subscripts."""
    return re.sub(r"(?<=[A-Za-z)\]])\d+", lambda found: found.group().translate(_SUBSCRIPT), formula)


def pretty_group(symbol: str) -> str:
    """Return an international symbol with its screw axes as subscripts: ``P6_3mc`` becomes ``P6₃mc``."""
    return re.sub(r"_(\d)", lambda found: found.group(1).translate(_SUBSCRIPT), symbol)


def pretty_unit(unit: str) -> str:
    """Return a unit as it is printed: ``C/m^2`` becomes ``C/m²``; the unit of a pure number is nothing."""
    named = re.sub(r"\bA\b", "Å", unit).replace("uV", "µV").replace("uW", "µW")
    return "" if unit == "1" else re.sub(r"\^(-?\d+)", lambda found: found.group(1).translate(_SUPERSCRIPT), named)


def word_of(name: str) -> str:
    """Return what a property is called on a tile; that it is one per atom says its unit."""
    return name.removesuffix("_per_atom").replace("_", " ")


def _draw_tile(axes: Axes, tile: Tile, tall: float) -> None:
    right = _TILE - _PAD
    axes.text(_PAD, 20, _cut(pretty_formula(tile.formula), 26 - len(tile.place)), **_NAME)
    axes.text(right, 20, _cut(tile.place, 20), ha="right", **_NOTE)
    if tile.space_group is not None:
        symbol, number = tile.space_group
        axes.text(_PAD, 36, f"{pretty_group(symbol)} ({number})", **_NOTE)
    if tile.status != "ok":
        axes.text(right, 36, tile.status, ha="right", **_WARN)
    if tile.crystal is not None:
        axes.spines[:].set_color("0.88")
        _draw_crystal(axes, tile.crystal, (_TILE - _CRYSTAL) / 2, 38, _CRYSTAL)
    else:
        axes.set_facecolor("0.97")
        axes.spines[:].set(color="0.7", linestyle=(0, (4, 4)))
        said = textwrap.wrap(tile.reason or "no reason was kept", 31, max_lines=8, placeholder=" …")
        for n, line in enumerate(said):
            axes.text(_PAD, 64 + _LINE * n, line, **_NOTE)
    y = _CRYSTAL + 66
    for fact in tile.facts:
        unit = pretty_unit(fact.unit)
        rows = [(_PAD, f"{word_of(fact.name)} [{unit}]" if unit else word_of(fact.name), fact.found, _FACT)]
        if fact.asked is not None:
            rows.append((_PAD + 12, "asked for", fact.asked, _NOTE))
        for x, words, value, style in rows:
            axes.text(x, y, _cut(words, 28), **_NOTE)
            axes.text(right, y, _short(value), ha="right", **style)
            y += _LINE
    axes.text(_PAD, tall - 9, _cut(tile.address, 30), **_NOTE)


def _draw_crystal(axes: Axes, crystal: Mapping[str, Any], left: float, top: float, size: float) -> None:
    """Draw a crystal into a square of axes whose units are points, and its elements under it."""
    from matplotlib.collections import LineCollection
    from matplotlib.transforms import Affine2D

    here = Affine2D().translate(left, top) + axes.transData
    atom: Any = {"marker": "o", "ls": "none", "markeredgecolor": "0.25", "markeredgewidth": 0.8, "transform": here}
    parts = projected(**crystal, size=size)
    for order, (_, group) in enumerate(groupby(parts, lambda p: p[2:] if isinstance(p, Ball) else p.kind), start=3):
        alike: list[Any] = list(group)  # neighbours in depth that look the same are drawn at once
        if isinstance(first := alike[0], Ball):
            places = [ball[:2] for ball in alike]
            axes.plot(*zip(*places, strict=True), color=first.colour, markersize=2 * first.r, zorder=order, **atom)
        else:
            width, grey = (3.0, "0.55") if first.kind == "bond" else (1.0, "0.65")
            ends = [(stick[:2], stick[2:4]) for stick in alike]
            lines = LineCollection(ends, colors=grey, linewidths=width, transform=here, zorder=order)
            axes.add_collection(lines, autolim=False)
    kinds = dict.fromkeys(map(int, crystal["numbers"]))
    for n, z in enumerate(kinds):
        symbol, colour, _ = look(z)
        x, y = n * min(34.0, size / len(kinds)), size + 4
        axes.plot(x, y, color=colour, markersize=9, **atom)
        axes.text(x + 8, y + 3.5, symbol, fontsize=9, transform=here)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 1, 0)] + "…"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and math.isfinite(value) else _cut(readable(value), 20)
