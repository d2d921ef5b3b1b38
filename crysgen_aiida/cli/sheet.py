"""A sheet of crystals: one tile a row with its picture, symmetry and numbers; a row without crystal says why."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crysgen_aiida.cli.drawing import crystal_shapes, legend_shapes
from crysgen_aiida.cli.output import readable
from crysgen_aiida.cli.shapes import STYLES, Box, Picture, Shape, Words, moved, shortened, width_of, wrapped

#: Width of a tile, between tiles, and of the margin inside of one [px].
_TILE, _GAP, _PAD = 204.0, 12.0, 10.0
_HEAD, _CRYSTAL, _LINE = 40.0, 168.0, 15.0
_FACT, _NOTE = STYLES["fact"].size, STYLES["note"].size

#: Shorter words for properties whose names do not fit; all others are written with spaces.
_WORDS = {
    "formation_energy_per_atom": "formation",
    "energy_per_atom": "energy",
    "e_above_reference": "above ref. ≥",
    "e_above_hull": "above hull",
    "piezo_max": "piezo max",
    "bulk_modulus_vrh": "bulk modulus",
    "shear_modulus_vrh": "shear modulus",
    "is_metal_probability": "metal prob.",
    "dielectric_electronic": "ε electronic",
    "dielectric_total": "ε total",
    "volume_per_atom": "volume",
}
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


def sheet_picture(tiles: Sequence[Tile], title: str, lead: str, notes: Sequence[str] = (), across: int = 6) -> Picture:
    """Return the tiles in a grid, row by row.

    :param lead: the line under the title: what is shown, of how many.
    :param notes: lines under the grid: how the numbers were found.
    :param across: tiles side by side.
    """
    across = max(1, min(across, len(tiles)))
    width = max(across * (_TILE + _GAP) + _GAP, 420.0)
    room = width - 2 * _GAP
    deep = max((sum(2 if fact.asked is not None else 1 for fact in tile.facts) for tile in tiles), default=0)
    height = _HEAD + _CRYSTAL + _LINE * deep + 38
    top = 62.0
    shapes: list[Shape] = [
        Words(_GAP, 28, shortened(title, room, STYLES["title"].size), "title"),
        Words(_GAP, 48, shortened(lead, room, STYLES["label"].size), "label"),
    ]
    for place, tile in enumerate(tiles):
        x = _GAP + (place % across) * (_TILE + _GAP)
        y = top + (place // across) * (height + _GAP)
        shapes += moved(_tile(tile, height), x, y)
    bottom = top + -(-len(tiles) // across) * (height + _GAP) + 8
    lines = [line for note in notes for line in wrapped(note, room, _NOTE, 3)]
    shapes += [Words(_GAP, bottom + _LINE * i, line, "note") for i, line in enumerate(lines)]
    return Picture(width, bottom + _LINE * len(lines), tuple(shapes), f"{title}: {lead}")


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
    """Return what a property is called on a tile."""
    return _WORDS.get(name, name.replace("_", " "))


def _tile(tile: Tile, height: float) -> list[Shape]:
    whole = tile.crystal is not None
    shapes: list[Shape] = [Box(0, 0, _TILE, height, "tile" if whole else "void")]
    inside = _TILE - 2 * _PAD
    if tile.place:
        shapes.append(Words(_TILE - _PAD, 20, tile.place, "note", "end"))
    name = shortened(pretty_formula(tile.formula), inside - width_of(tile.place, _NOTE) - 6, STYLES["name"].size)
    shapes.append(Words(_PAD, 20, name, "name"))
    if tile.space_group is not None:
        symbol, number = tile.space_group
        shapes.append(Words(_PAD, 36, f"{pretty_group(symbol)} ({number})", "note"))
    if tile.status != "ok":
        shapes += _reason(tile, 36 if whole else 60, 1 if whole else 8)
    if tile.crystal is not None:
        drawn = crystal_shapes(**tile.crystal, size=_CRYSTAL)
        shapes += moved(drawn, (_TILE - _CRYSTAL) / 2, _HEAD - 6)
        shapes += legend_shapes(tile.crystal["numbers"], _PAD + 5, _HEAD + _CRYSTAL + 2, inside)
    y = _HEAD + _CRYSTAL + 26
    for fact in tile.facts:
        for indent, words, value, kind in _lines(fact):
            room = inside - indent - width_of(value, _FACT) - 4
            shapes.append(Words(_PAD + indent, y, shortened(words, room, _NOTE), "note"))
            shapes.append(Words(_TILE - _PAD, y, value, kind, "end"))
            y += _LINE
    shapes.append(Words(_PAD, height - 9, tile.address, "note"))
    return shapes


def _reason(tile: Tile, y: float, lines: int) -> list[Shape]:
    """Return why a row is not what it should be: in red, under the name of its status."""
    if lines == 1:
        return [Words(_TILE - _PAD, y, tile.status, "warn", "end")]
    said = wrapped(tile.reason or "no reason was kept", _TILE - 2 * _PAD, _NOTE, lines)
    head = Words(_PAD, y, tile.status, "warn")
    return [head, *(Words(_PAD, y + 4 + _LINE * n, line, "note") for n, line in enumerate(said, start=1))]


def _lines(fact: Fact) -> list[tuple[float, str, str, str]]:
    """Return the lines of a fact: indent, words, value and its kind; a wish stands under what was found."""
    unit = pretty_unit(fact.unit)
    words = f"{word_of(fact.name)} [{unit}]" if unit else word_of(fact.name)
    lines = [(0.0, words, _short(fact.found), "fact")]
    if fact.asked is not None:
        lines.append((12.0, "asked for", _short(fact.asked), "note"))
    return lines


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and math.isfinite(value) else readable(value)
