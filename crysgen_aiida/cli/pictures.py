"""Pictures as files: SVG as text, PNG by matplotlib's own rasteriser. Equal pictures give equal bytes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from crysgen_aiida.cli.shapes import STYLES, Box, Curve, Disc, Line, Picture, Shape, printable, svg_file

#: What a picture's name may end in.
ENDINGS = (".svg", ".png")

#: Pixels of a PNG for each pixel of the picture: sharp in print and on dense screens.
SCALE = 2


def overwrite_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--overwrite`` to a command that writes a picture."""
    return click.option("--overwrite", is_flag=True, help="Replace a picture that exists.")(function)


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--output``, which must be given, and ``--overwrite``."""
    return click.option(
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        required=True,
        help="Draw into this file, .svg or .png.",
    )(overwrite_option(function))


def show_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--show``, handed to the command as ``shown``, and ``--across`` to a command that draws a sheet."""
    function = click.option(
        "--across", type=click.IntRange(1, 20), default=6, show_default=True, help="Tiles side by side."
    )(function)
    return click.option(
        "--show",
        "shown",
        multiple=True,
        metavar="PROPERTY",
        help="Property to write under each crystal, repeatable; by default what was asked for and a few more.",
    )(function)


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    :raises click.ClickException: if its name has another ending, it exists already, or there is no such folder.
    """
    if path.suffix.lower() not in ENDINGS:
        raise click.ClickException(f"{path} does not end in {' or '.join(ENDINGS)}, the kinds of picture there are.")
    if not path.parent.is_dir():
        raise click.ClickException(f"There is no folder {path.parent} to write {path.name} into; make it first.")
    if path.exists() and not overwrite:
        raise click.ClickException(f"{path} exists already; choose another name or add --overwrite.")


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture in the format its name says, whole or not at all.

    :raises DiskFull: if there is no room.
    """
    from crysgen_aiida.crystals.files import atomic_path, write_text

    if path.suffix.lower() == ".png":
        content = png(picture)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    else:
        write_text(path, svg_file(picture))


def png(picture: Picture) -> bytes:
    """Return a picture as the bytes of a PNG file, :data:`SCALE` pixels for each of its own."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    with matplotlib.rc_context(defaults), warnings.catch_warnings():  # nobody's own settings change the picture
        warnings.filterwarnings("ignore", message="Glyph")  # a letter the font lacks is drawn as an empty box
        figure = Figure(figsize=(picture.width / 72, picture.height / 72), dpi=72)  # so a point is a pixel
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(0, picture.width), ylim=(picture.height, 0))
        axes.axis("off")
        for order, shape in enumerate((Box(0, 0, picture.width, picture.height, "paper"), *picture.shapes)):
            axes.add_artist(_artist(shape, order))
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_figure(
            buffer, format="png", dpi=72 * SCALE, metadata={"Software": None, "Title": printable(picture.label)}
        )
    return buffer.getvalue()


def _artist(shape: Shape, order: int) -> Any:
    """Return the matplotlib artist of a shape; the coordinates of the axes are pixels, line widths too."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle, Rectangle
    from matplotlib.text import Text

    style = STYLES[shape.kind]
    # matplotlib counts dashes in widths of the line
    dash: Any = (0, tuple(length / style.width for length in style.dash)) if style.dash else "-"
    if isinstance(shape, (Line, Curve)):
        points = shape.points if isinstance(shape, Curve) else ((shape.x1, shape.y1), (shape.x2, shape.y2))
        return Line2D(
            *zip(*points, strict=True), color=shape.stroke if isinstance(shape, Curve) else style.stroke,
            linewidth=style.width, linestyle=dash, solid_capstyle="round", solid_joinstyle="round", zorder=order,
        )  # fmt: skip
    if isinstance(shape, (Disc, Box)):
        look = {
            "facecolor": (shape.fill if isinstance(shape, Disc) else "") or style.fill or "none",
            "edgecolor": style.stroke or "none",
            "linewidth": style.width,
            "linestyle": dash,
            "alpha": style.opacity,
            "zorder": order,
        }
        if isinstance(shape, Disc):
            return Circle((shape.x, shape.y), shape.r, **look)
        return Rectangle((shape.x, shape.y), shape.width, shape.height, **look)
    anchors = {"start": "left", "middle": "center", "end": "right"}
    return Text(
        shape.x, shape.y, printable(shape.text), color=style.fill, fontsize=style.size,
        fontweight="bold" if style.bold else "normal", fontfamily="DejaVu Sans", rotation=-shape.turn,
        rotation_mode="anchor", ha=anchors[shape.anchor], va="baseline", parse_math=False, zorder=order,
    )  # fmt: skip
