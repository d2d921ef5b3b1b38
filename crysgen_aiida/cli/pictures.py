"""Pictures as files, drawn by matplotlib: SVG with text as text, or PNG. Equal pictures give equal bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What a picture's name may end in.
ENDINGS = (".svg", ".png")

#: What differs from matplotlib's defaults: names in text are no formulas, and ids in SVG no random numbers.
_STYLE = {
    "text.parse_math": False,
    "font.sans-serif": ["DejaVu Sans", "Arial"],
    "svg.fonttype": "none",
    "svg.hashsalt": "crysgen",
    "savefig.dpi": 144,
}

_Function = Callable[..., Any]


def overwrite_option(function: _Function) -> _Function:
    """Add ``--overwrite`` to a command that writes a picture."""
    return click.option("--overwrite", is_flag=True, help="Replace a picture that exists.")(function)


def sheet_options(function: _Function) -> _Function:
    """Add what all sheets have: ``--show`` (handed over as ``shown``), ``--across``, ``--output``, ``--overwrite``."""
    for option in (
        overwrite_option,
        click.option(
            "--output",
            type=click.Path(path_type=Path, dir_okay=False),
            required=True,
            help="Draw into this file, .svg or .png.",
        ),
        click.option("--across", type=click.IntRange(1, 20), default=6, show_default=True, help="Tiles side by side."),
        click.option(
            "--show",
            "shown",
            multiple=True,
            metavar="PROPERTY",
            help="Property to write under each crystal, repeatable; by default what was asked for and a few more.",
        ),
    ):
        function = option(function)
    return function


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


@contextmanager
def plain_style() -> Iterator[None]:
    """Draw as matplotlib does by default, whatever settings a user has; also a decorator of functions that draw."""
    from matplotlib import style

    with style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter the font lacks is drawn as an empty box
        yield


@plain_style()
def write_picture(path: Path, figure: Figure, title: str) -> None:
    """Write a figure in the format its name says, whole or not at all; texts lose what XML may not hold.

    :param title: what is seen, for those who cannot see it.
    :raises DiskFull: if there is no room.
    """
    from matplotlib.text import Text

    from crysgen_aiida.cli.output import readable
    from crysgen_aiida.crystals.files import atomic_path

    for text in figure.findobj(Text):
        text.set_text(readable(text.get_text()))
    kind = path.suffix.lower().removeprefix(".")
    unsaid = {"svg": ("Date", "Creator"), "png": ("Software",)}[kind]  # clock and versions
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, metadata={"Title": readable(title), **dict.fromkeys(unsaid)})
