"""Power factors against doping, as a picture: electrons and holes, along the three axes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from crysgen_aiida.cli.curves import COLOURS
from crysgen_aiida.cli.pictures import check_output, plain_style, write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from crysgen_aiida.crystals.table import PropertyTable

#: Name of the axis, and how its line is drawn: axes that symmetry makes equal lie on each other and stay visible.
_AXES: tuple[tuple[str, Any], ...] = (("x", "-"), ("y", (0, (4, 3))), ("z", (0, (1, 2))))
_CARRIERS = {"n": "electrons", "p": "holes"}


def plot_power_factor(table: PropertyTable, row: int, path: Path, *, overwrite: bool = False) -> None:
    """Draw the power factors of a row of a table of transport into a file, .svg or .png.

    :raises click.ClickException: if the row has none, or the file cannot be written.
    """
    check_output(path, overwrite)
    figure = power_factor_figure(table, row)
    write_picture(path, figure, f"Power factor over relaxation time of {table.get(row)['reduced_formula']}, by doping")


@plain_style()
def power_factor_figure(table: PropertyTable, row: int) -> Figure:
    """Return the power factor over the relaxation time [uW/cm/K^2/s] against doping, the greatest marked.

    :raises click.ClickException: if the row has none.
    """
    from matplotlib.figure import Figure

    held = _row(table, row)
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.add_subplot(
        xscale="log",
        xlabel="doping [1/cm³]",
        ylabel="power factor / relaxation time [µW/cm/K²/s]",
        title=f"{held['reduced_formula']}, {held['temperature']:g} K",
    )
    doping = np.array(held["doping"])
    for (kind, name), colour in zip(_CARRIERS.items(), COLOURS, strict=False):
        curves = np.array(held[f"power_factor_over_tau_{kind}"]).reshape(len(doping), 3)
        for (axis, line), curve in zip(_AXES, curves.T, strict=True):
            axes.plot(doping, curve, linestyle=line, color=colour, label=f"{name}, {axis}", marker=".", markersize=4)
    axes.plot(
        held["best_doping"], held["power_factor_over_tau"], marker="o", markersize=9, linestyle="none",
        markerfacecolor="none", color="0.2", label=f"greatest: {_CARRIERS[held['best_carriers']]}, {held['best_axis']}",
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.4)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def _row(table: PropertyTable, row: int) -> dict[str, Any]:
    if "power_factor_over_tau_n" not in table.columns:
        raise click.ClickException("This is no table of transport coefficients; give one made by the verb transport.")
    held = table.get(row)
    if held["status"] != "ok":
        raise click.ClickException(f"Row {row} has no transport coefficients: {held['reason']}.")
    return held
