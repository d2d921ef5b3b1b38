"""``crysgen engine``: which engines there are, what each lacks here, and how to set one up on this machine."""

from __future__ import annotations

from pathlib import Path

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.output import emit, format_option
from crysgen_aiida.cli.profiles import with_profile

#: Label of a family made without a name of its own.
FAMILY = "crysgen"


@click.group("engine", cls=VerdiCommandGroup)
def engine() -> None:
    """List, check and set up engines, which compute what a crystal is verified with."""


@engine.command("list")
@format_option
@with_profile
def list_(fmt: str) -> None:
    """List engines with their stages, what they give, and whether they are ready here."""
    from crysgen_aiida.engines.contract import engine_names, get_engine
    from crysgen_aiida.engines.local import COMPUTER, code_label, find_code

    rows = []
    for name in engine_names():
        info = get_engine(name)
        labels = [f"{code_label(program)}@{COMPUTER}" for program in info.executables.values()]
        found = [label for label in labels if find_code(label) is not None]
        row = {
            "engine": name,
            "stages": list(info.stages),
            "installed": info.installed,
            "codes": f"{len(found)} of {len(labels)}",
            "gives": sorted({given for stage in info.stages.values() for given in stage.gives}),
            "licence": info.licence,
            "citation": info.citation,
        }
        if fmt == "table":
            del row["gives"], row["citation"]
        rows.append(row)
    emit(rows, fmt, empty="No engine is registered: reinstall crysgen-aiida.")
    if fmt == "table" and rows:
        click.echo("\nWhat each gives and how to cite it: `crysgen engine list --format json`.")


@engine.command("doctor")
@click.argument("name", metavar="[NAME]", required=False)
@format_option
@with_profile
def doctor(name: str | None, fmt: str) -> None:
    """Check packages, codes, executables and pseudopotentials of NAME, or of every engine.

    Exit code 1 if something an engine needs is missing.
    """
    from crysgen_aiida.cli.doctor import FAIL, NOTE, OK, WARN
    from crysgen_aiida.cli.engine_checks import examine
    from crysgen_aiida.engines.contract import engine_names, get_engine

    infos = [get_engine(n) for n in ([name] if name else engine_names())]
    findings = [(info.name, finding) for info in infos for finding in examine(info)]
    marks = {OK: "✓", WARN: "!", FAIL: "✗", NOTE: "·"}
    rows = [
        {
            "engine": engine_name,
            "check": f.check,
            "status": marks[f.status] if fmt == "table" else f.status,
            "detail": f.detail,
            "fix": f.fix,
        }
        for engine_name, f in findings
    ]
    emit(rows, fmt, empty="No engine is registered: reinstall crysgen-aiida.")
    raise SystemExit(1 if any(f.status == FAIL for _, f in findings) else 0)


@engine.command("setup")
@click.argument("name", metavar="NAME")
@click.option(
    "--pseudos",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of UPF files, one an element, to make a family of.",
)
@click.option("--label", default=FAMILY, show_default=True, help="Label of the family.")
@click.option("--cutoffs", metavar="TABLE", help="Table of cutoffs; that of PseudoDojo 0.4 by default.")
@with_profile
def setup(name: str, pseudos: Path | None, label: str, cutoffs: str | None) -> None:
    """Make codes for the executables of NAME on this machine, and a family of pseudopotentials if a folder is given.

    What is there already is kept. Codes on other computers are made with `verdi code create` and named in a site.
    """
    from crysgen_aiida.crystals.errors import ImpossibleRequest, NotInstalled
    from crysgen_aiida.engines.contract import get_engine
    from crysgen_aiida.engines.local import ensure_codes
    from crysgen_aiida.engines.pseudos import DEFAULT_TABLE, install_family

    info = get_engine(name)
    if not info.installed:
        raise NotInstalled(f"The engine {name} needs {', '.join(info.modules)}; run `{info.install}`.")
    if pseudos is not None:
        if info.pseudopotentials != "upf":
            raise ImpossibleRequest(f"The engine {name} takes no UPF files; leave --pseudos out.")
        family, made = install_family(pseudos, label, table=cutoffs or DEFAULT_TABLE)
        click.echo(f"{'made' if made else 'kept'}    family {family.label}, {family.count()} elements")
    made_codes, kept = ensure_codes(info)
    for code in made_codes:
        click.echo(f"made    code {code}")
    for code in kept:
        click.echo(f"kept    code {code}")
    click.echo(f"Next: `crysgen engine doctor {name}`.")
