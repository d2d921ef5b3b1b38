"""Pictures of hulls: formation energy against composition of two elements, a triangle of three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from crysgen_aiida.cli.curves import COLOURS
from crysgen_aiida.cli.pictures import plain_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from crysgen_aiida.physics.reference import Reference

#: Above the hull by less than this is on it [eV/atom]: the tolerance of the solver.
_ON_HULL = 1e-6
#: Corners of the triangle.
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])


@dataclass(frozen=True)
class Points:
    """Compositions of a system: names, shares of the atoms (n, elements), formation energy and distance [eV/atom]."""

    names: list[str]
    shares: np.ndarray
    energies: np.ndarray
    above: np.ndarray

    @property
    def on_hull(self) -> np.ndarray:
        """Which of them are on the hull, (n,)."""
        return self.above < _ON_HULL


def system_to_draw(formulas: Sequence[str]) -> tuple[str, ...]:
    """Return the elements of formulas together.

    :raises click.ClickException: if they are not two or three.
    """
    from crysgen_aiida.physics.hull import system_of

    system = tuple(sorted({symbol for formula in formulas for symbol in system_of(formula)}))
    if len(system) not in (2, 3):
        raise click.ClickException(
            f"A hull of {len(system)} elements ({'-'.join(system)}) cannot be drawn in a plane; give formulas of two "
            "or three elements together."
        )
    return system


def points_of(against: Reference, system: tuple[str, ...], more: Sequence[str] = ()) -> Points:
    """Return the compositions of a reference in a system.

    :raises click.ClickException: if an element has no entry.
    """
    from crysgen_aiida.cli.hull import reduced
    from crysgen_aiida.physics.hull import formation_energy

    missing = [symbol for symbol in system if symbol not in against.terminals]
    if missing:
        raise click.ClickException(f"The reference {against.name!r} has no entry for {', '.join(missing)}.")
    names, shares, energies, above = [], [], [], []
    for formula, parts, energy in against.hull.compositions(system):
        level = against.hull.at(formula).energy
        assert level is not None
        names.append(reduced(formula))
        shares.append([parts.get(symbol, 0.0) for symbol in system])
        energies.append(formation_energy(formula, energy, against.terminals))
        above.append(energy - level)
    return Points(names, np.array(shares), np.array(energies, dtype=float), np.array(above))


@plain_style()
def hull_figure(against: Reference, system: tuple[str, ...], marked: Sequence[str], title: str) -> Figure:
    """Return the hull of two or three elements; ``marked`` formulas get a cross where the hull has them.

    :raises click.ClickException: if an element has no entry.
    """
    from matplotlib.figure import Figure

    points = points_of(against, system)
    wide = len(system) == 3
    figure = Figure(figsize=(7.5, 6.4 if wide else 4.8), layout="constrained")
    axes = figure.add_subplot(title=title)
    axes.title.set_fontsize(10)
    (_triangle if wide else _line)(figure, axes, points, system)
    _mark(axes, against, system, marked)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _line(_: Figure, axes: Axes, points: Points, system: tuple[str, ...]) -> None:
    on, x = points.on_hull, points.shares[:, 1]
    order = np.argsort(x[on])
    axes.plot(x[on][order], points.energies[on][order], "o-", color=COLOURS[0], label="on the hull")
    axes.plot(x[~on], points.energies[~on], "o", color=COLOURS[1], mfc="none", label="above it")
    for k in np.flatnonzero(on):
        axes.annotate(points.names[k], (x[k], points.energies[k]), (0, -12), textcoords="offset points", ha="center",
                      fontsize=8)  # fmt: skip
    axes.margins(y=0.12)
    axes.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_xlabel(f"atomic share of {system[1]} in {system[0]}-{system[1]}")
    axes.set_ylabel("formation energy [eV/atom]")


def _triangle(figure: Figure, axes: Axes, points: Points, system: tuple[str, ...]) -> None:
    place, on = points.shares @ _CORNERS, points.on_hull
    for a, b in tie_lines(points):
        axes.plot(*place[[a, b]].T, "-", color=COLOURS[0], linewidth=0.8, zorder=1)
    axes.plot(*place[on].T, "o", color=COLOURS[0], label="on the hull", zorder=3)
    if (~on).any():
        x, y = place[~on].T
        drawn = axes.scatter(x, y, 18, 1000 * points.above[~on], cmap="viridis_r", vmin=0, label="above it", zorder=2)
        figure.colorbar(drawn, ax=axes, shrink=0.7, label="above the hull [meV/atom]")
    for k in np.flatnonzero(on):
        axes.annotate(points.names[k], place[k], (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.margins(0.08)


def tie_lines(points: Points) -> list[tuple[int, int]]:
    """Return the edges of the lower hull of three elements, pairs of places in ``points``."""
    from scipy.spatial import ConvexHull

    kept = np.flatnonzero(points.on_hull)
    place = points.shares[kept] @ _CORNERS
    # where no compound is on the hull everything lies in a plane: a roof makes it solid
    roof = [[*_CORNERS.mean(axis=0), 1.0 + float(np.abs(points.energies).max())]]
    solid = ConvexHull(np.concatenate([np.column_stack([place, points.energies[kept]]), roof]))
    lower = solid.simplices[solid.equations[:, 2] < -1e-9]  # faces that look down; walls and roof do not
    edges = {tuple(sorted((int(face[i]), int(face[j])))) for face in lower for i, j in ((0, 1), (0, 2), (1, 2))}
    return sorted((int(kept[a]), int(kept[b])) for a, b in edges)


def _mark(axes: Axes, against: Reference, system: tuple[str, ...], marked: Sequence[str]) -> None:
    from crysgen_aiida.physics.hull import formation_energy, fractions

    label: Any = "asked for"
    for formula in marked:
        level = against.hull.at(formula).energy
        if level is None:
            continue
        parts = dict(fractions(formula))
        shares = np.array([parts.get(symbol, 0.0) for symbol in system])
        bound = formation_energy(formula, level, against.terminals)
        x, y = shares @ _CORNERS if len(system) == 3 else np.array([shares[1], bound], dtype=float)
        axes.plot([x], [y], "x", color=COLOURS[6], markersize=9, label=label, zorder=4)
        label = None
