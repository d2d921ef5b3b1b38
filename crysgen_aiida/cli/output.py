"""One way to print rows: ``--format table|json|csv``."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

FORMATS = ("table", "json", "csv")

_UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")


def format_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--format table|json|csv``, handed to the command as ``fmt``."""
    return click.option(
        "--format",
        "fmt",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="How to print: for people, or for programs.",
    )(function)


def emit(
    rows: Iterable[Mapping[str, Any]],
    fmt: str = "table",
    *,
    columns: Sequence[str] | None = None,
    empty: str = "Nothing to show.",
) -> None:
    """Print rows. In a table numbers are rounded for reading; JSON and CSV carry them whole.

    :param columns: which to print and in which order; by default the keys of the rows, in order of appearance.
    :param empty: sentence printed instead of a table without rows.
    """
    held = list(rows)
    names = list(columns) if columns else list(dict.fromkeys(key for row in held for key in row))
    if fmt == "json":
        click.echo(to_json([{name: row.get(name) for name in names} for row in held]))
    elif fmt == "csv":
        click.echo(to_csv(held, names), nl=False)
    elif not held:
        click.echo(empty)
    else:
        from tabulate import tabulate

        cells = [[_cell(row.get(name)) for name in names] for row in held]
        aligned = _align(held, names)
        click.echo(tabulate(cells, headers=names, tablefmt="simple", disable_numparse=True, colalign=aligned))


def emit_record(record: Mapping[str, Any], fmt: str = "table") -> None:
    """Print one thing: a two-column table, one JSON object, or one CSV row."""
    if fmt == "json":
        click.echo(to_json(dict(record)))
    elif fmt == "csv":
        click.echo(to_csv([record], list(record)), nl=False)
    else:
        width = max((len(key) for key in record), default=0)
        for key, value in record.items():
            click.echo(f"{key:<{width}}  {readable(value)}")


def to_json(value: Any) -> str:
    """Return JSON text; NaN becomes null, numpy scalars become numbers, other objects their text."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return CSV text with a header; nested values become JSON, missing ones are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_cell(plain(row.get(name))) for name in columns])
    return buffer.getvalue()


def plain(value: Any) -> Any:
    """Return ``value`` made of JSON types only."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (str, int, bool)) or value is None:
        return value
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    return str(value)


def readable(value: Any) -> str:
    """Return a cell for people: four significant digits, yes and no, – for what is missing.

    What no terminal should get (escape sequences, line breaks in a label) is shown as �.
    """
    value = plain(value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(readable(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {readable(v)}" for k, v in value.items())
    text = str(value)
    if not text.isprintable():
        text = "".join("�" if unicodedata.category(c).startswith("C") else c for c in text)
    return text


class Progress:
    """A line that is redrawn on a terminal, and nothing at all in a pipe."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.live = sys.stderr.isatty()

    def update(self, text: str) -> None:
        """Redraw the line."""
        if self.live:
            click.echo(f"\r\x1b[K{self.label} {text}", nl=False, err=True)

    def done(self) -> None:
        """Wipe the line."""
        if self.live:
            click.echo("\r\x1b[K", nl=False, err=True)


def _csv_cell(value: Any) -> Any:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def _cell(value: Any) -> str:
    """Return a cell of a table: as :func:`readable`, uuids cut to the digits that name them on a screen."""
    text = readable(value)
    return text[:8] if _UUID.match(text) else text


def _align(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    def numeric(name: str) -> bool:
        values = [plain(row.get(name)) for row in rows]
        given = [v for v in values if v is not None]
        return bool(given) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in given)

    return ["right" if numeric(name) else "left" for name in names]
