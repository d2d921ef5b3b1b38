"""Pictures without a plotting library: crystals and histograms as inline SVG, every text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any, NamedTuple

import numpy as np

#: Colours of the marks in a chart: what was designed, and what it is compared with.
DESIGNED, COMPARED = "#3b6fd4", "#b9c0cc"


class Stick(NamedTuple):
    """A straight line of a drawn crystal [px]; ``kind`` is ``edge`` of the cell or ``bond``."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str


class Ball(NamedTuple):
    """An atom of a drawn crystal: a circle [px] with colour and symbol of its element."""

    x: float
    y: float
    r: float
    colour: str
    symbol: str


def projected(
    lattice: Sequence[float], numbers: Sequence[int], frac_coords: Sequence[float], size: float
) -> list[Stick | Ball]:
    """Return a crystal seen a little from above, back to front: cell edges, bonds, atoms, those on faces repeated.

    :param lattice: nine numbers, row-major [A].
    :param frac_coords: fractional coordinates, flattened n x 3.
    :param size: of the square that it is seen in [px]; y points downwards from its upper left corner.
    """
    cell = np.asarray(lattice, dtype=float).reshape(3, 3)
    frac = np.mod(np.asarray(frac_coords, dtype=float).reshape(-1, 3) + 1e-6, 1.0) - 1e-6
    points, elements = _with_faces(frac, [int(z) for z in numbers])
    view = _view(cell)
    atoms = points @ cell @ view.T
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    box = corners @ cell @ view.T
    everything = np.vstack([atoms, box])
    low, high = everything[:, :2].min(axis=0), everything[:, :2].max(axis=0)
    scale = (size - 44) / max(float((high - low).max()), 1e-6)
    middle = (low + high) / 2

    def place(point: np.ndarray) -> tuple[float, float]:
        return (
            size / 2 + (point[0] - middle[0]) * scale,
            size / 2 - (point[1] - middle[1]) * scale,
        )

    parts: list[tuple[float, Stick | Ball]] = []
    for a in range(8):
        for b in range(a + 1, 8):
            if np.abs(corners[a] - corners[b]).sum() == 1:
                depth = float(box[a, 2] + box[b, 2]) / 2
                parts.append((depth - 100.0, Stick(*place(box[a]), *place(box[b]), "edge")))
    for a, b in _bonds(points @ cell, elements):
        depth = float(min(atoms[a, 2], atoms[b, 2])) - 0.01  # its ends hide under the atoms
        parts.append((depth, Stick(*place(atoms[a]), *place(atoms[b]), "bond")))
    for index, z in enumerate(elements):
        symbol, colour, radius = look(z)
        ball = Ball(*place(atoms[index]), max(4.0, 0.42 * radius * scale), colour, symbol)
        parts.append((float(atoms[index, 2]), ball))
    return [part for _, part in sorted(parts, key=lambda p: p[0])]


def crystal_svg(lattice: Sequence[float], numbers: Sequence[int], frac_coords: Sequence[float], size: int = 220) -> str:
    """Return a crystal as inline SVG, for a page whose style sheet says how it looks; see :func:`projected`."""
    body = "".join(map(_element, projected(lattice, numbers, frac_coords, size)))
    legend = _legend([int(z) for z in numbers], size)
    return f'<svg viewBox="0 0 {size} {size}" role="img" aria-label="crystal structure">{body}{legend}</svg>'


def histogram_svg(series: Mapping[str, np.ndarray], label: str, note: str = "", *, discrete: bool = False) -> str:
    """Return overlaid histograms, each as the share of its own set, so that sets of different size compare.

    :param series: name to values (NaN ignored), first what is compared with, last what was designed.
    :param note: a second, smaller line under the label.
    :param discrete: whether values are whole numbers, each with its own bar.
    """
    width, height, bins = 340, 200, 24
    clean = {name: np.asarray(v, dtype=float)[np.isfinite(np.asarray(v, dtype=float))] for name, v in series.items()}
    clean = {name: values for name, values in clean.items() if len(values)}
    if not clean:
        return ""
    joined = np.concatenate(list(clean.values()))
    low, high = np.quantile(joined, [0.005, 0.995])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    if discrete:
        low, high = np.floor(low) - 0.5, np.ceil(high) + 0.5
        bins = round(high - low)
    edges = np.linspace(low, high, bins + 1)
    left, bottom, top = 8, 48, 10
    inner_w, inner_h = width - 2 * left, height - bottom - top
    shares = {name: np.histogram(np.clip(v, low, high), edges)[0] / len(v) for name, v in clean.items()}
    peak = max(float(s.max()) for s in shares.values()) or 1.0
    bars = []
    for name, colour in zip(shares, _colours(len(shares)), strict=True):
        for i, share in enumerate(shares[name]):
            if share <= 0:
                continue
            h = inner_h * float(share) / peak
            x = left + inner_w * i / bins
            bars.append(
                f'<rect x="{x + 0.5:.1f}" y="{top + inner_h - h:.1f}" width="{inner_w / bins - 1:.1f}" height="{h:.1f}"'
                f' fill="{colour}" opacity="0.8"><title>{escape(name)}: {100 * share:.1f} %</title></rect>'
            )
    base = top + inner_h
    ticks = "".join(
        f'<text x="{left + inner_w * t:.0f}" y="{base + 14:.0f}" class="tick" text-anchor="{anchor}">'
        f"{_tick(low, high, t, discrete)}</text>"
        for t, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    )
    axis = f'<line x1="{left}" y1="{base}" x2="{width - left}" y2="{base}" class="axis"/>'
    title = f'<text x="{width / 2:.0f}" y="{height - 18}" class="label" text-anchor="middle">{escape(label)}</text>'
    title += f'<text x="{width / 2:.0f}" y="{height - 4}" class="tick" text-anchor="middle">{escape(note)}</text>'
    inside = "".join(bars) + axis + ticks + title
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{inside}</svg>'


def funnel_svg(steps: Sequence[tuple[str, int]], width: int = 720) -> str:
    """Return bars that shrink from step to step, each with its count and its share of the first."""
    first = max((count for _, count in steps), default=0) or 1
    row, left = 34, 210
    lines = []
    for i, (name, count) in enumerate(steps):
        y = i * row
        length = (width - left - 120) * count / first
        lines.append(
            f'<text x="{left - 12}" y="{y + 21}" class="label" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{left}" y="{y + 5}" width="{max(length, 1.5):.1f}" height="{row - 10}" rx="4" fill="{DESIGNED}"'
            f' opacity="{1.0 - 0.5 * i / max(len(steps), 1):.2f}"/>'
            f'<text x="{left + length + 10:.1f}" y="{y + 21}" class="count">{count}'
            f'<tspan class="tick">  {100 * count / first:.0f} %</tspan></text>'
        )
    height = row * max(len(steps), 1)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="funnel">{"".join(lines)}</svg>'


def _tick(low: float, high: float, at: float, discrete: bool) -> str:
    if not discrete:
        return f"{low + (high - low) * at:.3g}"
    return "" if at == 0.5 else f"{low + 0.5 if at == 0.0 else high - 0.5:.0f}"


def _colours(n: int) -> list[str]:
    return [COMPARED] * (n - 1) + [DESIGNED] if n else []


def _with_faces(frac: np.ndarray, kinds: list[int]) -> tuple[np.ndarray, list[int]]:
    """Repeat atoms that lie on faces, edges and corners of the cell, as one is used to see them."""
    points, elements = [], []
    for position, z in zip(frac, kinds, strict=True):
        shifts = [(0.0, 1.0) if abs(x) < 1e-3 else (0.0,) for x in position]
        for i in shifts[0]:
            for j in shifts[1]:
                for k in shifts[2]:
                    points.append(position + np.array([i, j, k]))
                    elements.append(z)
    return np.array(points), elements


def _view(cell: np.ndarray) -> np.ndarray:
    """Return the rotation to a view along -y, turned and tilted a little; the longest axis upwards."""
    up = cell[int(np.argmax(np.linalg.norm(cell, axis=1)))]
    z = up / np.linalg.norm(up)
    helper = np.eye(3)[int(np.argmin(np.abs(z)))]
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    frame = np.array([x, z, np.cross(x, z)])
    turn, tilt = np.radians(24.0), np.radians(14.0)
    about_up = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    forward = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    turned: np.ndarray = forward @ about_up @ frame
    return turned


def _bonds(cart: np.ndarray, elements: list[int]) -> list[tuple[int, int]]:
    """Return pairs closer than 1.2 times the sum of their radii; none in crowded cells, where they hide the atoms."""
    if len(cart) > 120:
        return []
    radii = np.array([look(z)[2] for z in elements])
    distance = np.linalg.norm(cart[:, None] - cart[None], axis=2)
    close = (distance < 1.2 * (radii[:, None] + radii[None])) & (distance > 0.3)
    return [(int(a), int(b)) for a, b in zip(*np.nonzero(np.triu(close)), strict=True)]


def _element(part: Stick | Ball) -> str:
    if isinstance(part, Stick):
        x1, y1, x2, y2, kind = part
        return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'
    x, y, r, colour, symbol = part
    title = f"<title>{escape(symbol)}</title>"
    disc = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{colour}" class="atom">{title}</circle>'
    return disc + f'<circle cx="{x - r / 3:.1f}" cy="{y - r / 3:.1f}" r="{r / 3:.1f}" class="shine"/>'


def _legend(kinds: list[int], size: int) -> str:
    parts = []
    for i, z in enumerate(dict.fromkeys(kinds)):
        symbol, colour, _ = look(z)
        x = 10 + 34 * i
        parts.append(
            f'<circle cx="{x}" cy="{size - 9}" r="5" fill="{colour}" class="atom"/>'
            f'<text x="{x + 8}" y="{size - 5}" class="tick">{escape(symbol)}</text>'
        )
    return "".join(parts)


@lru_cache(maxsize=128)
def look(z: int) -> tuple[str, str, float]:
    """Return symbol, colour and covalent radius [A] of an element."""
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors

    red, green, blue = (int(255 * c) for c in jmol_colors[z]) if z < len(jmol_colors) else (200, 200, 200)
    radius = float(covalent_radii[z])
    return chemical_symbols[z], f"#{red:02x}{green:02x}{blue:02x}", radius if radius > 0.25 else 0.7


def table_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return an HTML table; every cell is escaped."""
    from crysgen_aiida.cli.output import readable

    if not rows:
        return ""
    names = list(rows[0])
    head = "".join(f"<th>{escape(str(name))}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(readable(row.get(name)))}</td>" for name in names) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
