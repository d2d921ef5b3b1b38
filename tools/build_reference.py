"""Write the reference pages (properties, schemas, nodes, processes, exit codes, generators, commands) from the code.

Usage: ``python tools/build_reference.py docs/reference``; ``--check`` writes nothing and fails if a page is stale.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a Markdown table; bars inside cells are escaped."""
    head = list(header)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [str(c).replace("|", "\\|").replace("\n", " ") for c in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def properties() -> str:
    from crysgen_aiida.crystals.properties import PROPERTIES

    rows = [
        (f"`{p.name}`", p.unit, "x".join(map(str, p.shape)) or "scalar", p.better, p.definition)
        for p in PROPERTIES.values()
    ]
    return "# Properties\n\n" + table(("name", "unit", "shape", "ranked", "definition"), rows)


def schemas() -> str:
    from crysgen_aiida.crystals import schema

    text = [f"# Columns of the packed sets\n\nSchema version {schema.SCHEMA_VERSION}.\n"]
    for kind in schema.KINDS:
        rows = [(f"`{f.name}`", f.type, "no" if not f.nullable else "yes") for f in schema.required_schema(kind)]
        text.append(f"## {kind}\n\n" + table(("column", "type", "may be null"), rows))
    return "\n".join(text)


def exit_codes() -> str:
    from aiida.plugins import CalculationFactory

    codes = CalculationFactory("crysgen.sample").spec().exit_codes
    rows = sorted((c.status, f"`{label}`", c.message) for label, c in codes.items() if c.status >= 300)
    return "# Exit codes\n\n" + table(("status", "label", "meaning"), rows)


def generators() -> str:
    from crysgen_aiida.generators.contract import generator_names, get_generator

    text = ["# Generators\n"]
    for name in generator_names():
        info = get_generator(name)
        text.append(f"## {name} {info.version}\n\n{info.citation}\n")
        text.append(
            f"Conditions: {', '.join(f'`{c}`' for c in info.conditions)}. Presets: {', '.join(info.presets)}.\n"
        )
        text.append(table(("setting", "default"), _settings(info.spec())))
    return "\n".join(text)


def _settings(spec: Any, prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            rows += _settings(value, f"{prefix}{field.name}.")
        else:
            rows.append((f"`{prefix}{field.name}`", f"`{value!r}`"))
    return rows


def processes() -> str:
    from aiida.plugins import CalculationFactory, WorkflowFactory
    from aiida.plugins.entry_point import get_entry_points

    text = ["# Processes\n"]
    for group, factory in (("aiida.calculations", CalculationFactory), ("aiida.workflows", WorkflowFactory)):
        for name in sorted(e.name for e in get_entry_points(group) if e.name.startswith("crysgen.")):
            spec = factory(name).spec()
            text.append(f"## {name}\n\n{(factory(name).__doc__ or '').strip().splitlines()[0]}\n")
            for title, ports in (("input", spec.inputs), ("output", spec.outputs)):
                rows = [
                    (f"`{port.name}`", "yes" if port.required else "no", (port.help or "").strip())
                    for key, port in sorted(ports.items())
                    if key != "metadata"
                ]
                text.append(table((title, "required", "what it is"), rows))
    return "\n".join(text)


def nodes() -> str:
    from aiida.plugins import DataFactory
    from aiida.plugins.entry_point import get_entry_points

    text = ["# Node types\n"]
    for name in sorted(e.name for e in get_entry_points("aiida.data") if e.name.startswith("crysgen.")):
        cls = DataFactory(name)
        rows = [(f"`{k}`", f.description or "") for k, f in sorted(cls.AttributesModel.model_fields.items())]
        text.append(
            f"## {name}\n\n{(cls.__doc__ or '').strip().splitlines()[0]}\n\n" + table(("attribute", "meaning"), rows)
        )
    return "\n".join(text)


def commands() -> str:
    from crysgen_aiida.cli.root import crysgen

    text = ["# Commands\n\n`verdi data crysgen …` is the same tree as `crysgen …`.\n"]

    def walk(command: click.Command, path: str, parent: click.Context | None) -> None:
        context = click.Context(command, info_name=path.split()[-1], parent=parent, terminal_width=100)
        help_text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        text.append(f"## {path}\n\n```text\n{help_text}\n```\n")
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                if child is not None and not child.hidden:
                    walk(child, f"{path} {name}", context)

    walk(crysgen, "crysgen", None)
    return "\n".join(text)


PAGES: dict[str, Callable[[], str]] = {
    "properties.md": properties,
    "schemas.md": schemas,
    "exit-codes.md": exit_codes,
    "generators.md": generators,
    "processes.md": processes,
    "nodes.md": nodes,
    "commands.md": commands,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is stale")
    arguments = parser.parse_args()
    stale = []
    for name, build in PAGES.items():
        page = arguments.folder / name
        text = build().rstrip() + "\n"
        if arguments.check:
            if not page.is_file() or page.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            page.write_text(text, encoding="utf-8")
    if stale:
        print(f"Stale reference pages: {', '.join(stale)}; run `make docs`.")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
