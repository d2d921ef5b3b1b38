"""``crysgen hull``: reference energies, what they hold, and what they say of a composition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.output import emit, emit_record, format_option
from crysgen_aiida.cli.pictures import check_output, overwrite_option, write_picture
from crysgen_aiida.cli.profiles import with_profile
from crysgen_aiida.cli.site import site_options

if TYPE_CHECKING:
    from crysgen_aiida.crystals.table import ReferenceSet
    from crysgen_aiida.physics.reference_tables import EnergyTable

SCHEMES = ("self-consistent", "mp2020-compatible", "mp-legacy")
_KIND = "set of reference energies"


@click.group("hull", cls=VerdiCommandGroup)
def hull() -> None:
    """Build, list and show reference energies: what crystals are compared with for stability."""


@hull.command("build")
@click.argument("dataset_id", metavar="[DATASET]", required=False)
@click.option("--name", required=True, help="What columns that compare with it will say.")
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Table of formulas and energies, .csv, .jsonl (also .gz) or .parquet; repeatable, all on one scale.",
)
@click.option(
    "--mp",
    "systems",
    multiple=True,
    metavar="LI-FE-O",
    help="Chemical system to fetch from the Materials Project; repeatable. Needs mp-api and a key in MP_API_KEY.",
)
@click.option(
    "--scheme",
    type=click.Choice(SCHEMES),
    help="Energy scale; self-consistent for a data set, mp2020-compatible for --mp, to be said for a file.",
)
@click.option(
    "--energies",
    "kind",
    type=click.Choice(["formation", "total"]),
    default="formation",
    show_default=True,
    help="What the energies per atom of a file are.",
)
@click.option("--formula-column", help="Column of a file; by default formula, pretty_formula and the like.")
@click.option("--energy-column", help="Column of a file [eV/atom]; by default named after --energies.")
@click.option("--hull-column", help="Column of known distances to the hull [eV/atom]: test the reference with them.")
@click.option("--source", help="Where a file comes from: a DOI or an address.")
@click.option("--license", "license_", help="Licence of a file.")
@click.option("--threads", type=click.IntRange(1), help="Threads the worker may use.")
@click.option("--code", metavar="LABEL", help="Code of the worker; this machine's by default.")
@site_options
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the worker until it ends.")
@format_option
@with_profile
def build(dataset_id: str | None, name: str, files: tuple[Path, ...], systems: tuple[str, ...], scheme: str | None,
          kind: str, formula_column: str | None, energy_column: str | None, hull_column: str | None,
          source: str | None, license_: str | None, fmt: str, **how: Any) -> None:  # fmt: skip
    """Build reference energies from DATASET, from files, or from the Materials Project.

    DATASET is a set relaxed with a potential (crysgen dataset relax); the elements that it lacks are relaxed as it was.
    With another --scheme its formation energies are taken. With --hull-column the reference is tested: distances to
    the hull above 5 meV/atom are computed with each row's own entry left out and compared.
    """
    if sum(map(bool, (dataset_id, files, systems))) != 1:
        raise click.UsageError("Give one thing to build from: DATASET, --file or --mp.")
    if dataset_id:
        return _from_dataset(dataset_id, name, scheme or "self-consistent", fmt, how)
    if systems:
        if scheme not in (None, "mp2020-compatible"):
            raise click.UsageError("Entries of the Materials Project are on the scale mp2020-compatible.")
        from crysgen_aiida.physics.materials_project import entries_reference, fetch_entries

        entries, version = fetch_entries(systems)
        return _stored(entries_reference(entries, name=name, version=version), fmt)
    from crysgen_aiida.physics.reference_tables import Columns, EnergyTable, read_energies, table_reference

    if scheme is None:
        raise click.UsageError("Say with --scheme on which scale the energies of the file are.")
    columns = Columns(formula_column, energy_column, None, hull_column)
    table = EnergyTable.joined([read_energies(path, columns, kind) for path in files])
    stated = {"files": [path.name for path in files], "source": source, "license": license_}
    about = {key: value for key, value in stated.items() if value}
    made = table_reference(table, name=name, scheme=scheme, kind=kind, about=about)
    return _stored(_tested(made, table) if hull_column else made, fmt)


@hull.command("list")
@format_option
@with_profile
def list_(fmt: str) -> None:
    """List the reference energies of the profile."""
    from aiida import orm

    from crysgen_aiida.cli.nodes import summary
    from crysgen_aiida.data.packed import ReferenceEnergiesData
    from crysgen_aiida.store.candidates import creator_of

    query = orm.QueryBuilder().append(ReferenceEnergiesData, tag="set").order_by({"set": {"id": "asc"}})
    rows = []
    for node in query.all(flat=True):
        about, creator = node.metadata, creator_of(node)
        row = {**summary(node), **{key: about.get(key) for key in ("name", "scheme", "method")}, "entries": node.n_ok}
        row["passed"] = dict(about.get("assessment") or {}).get("passed")
        rows.append({**row, "made by": creator.process_label if creator is not None else None})
    emit(
        rows, fmt, empty="No reference energies yet; `crysgen hull build` makes some, `crysgen quickstart` brings some."
    )


@hull.command("show")
@click.argument("reference_id", metavar="REFERENCE")
@click.argument("formulas", metavar="[FORMULA]...", nargs=-1)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the hull of the elements of the formulas, two or three together, into this file, .svg or .png.",
)
@overwrite_option
@format_option
@with_profile
def show(reference_id: str, formulas: tuple[str, ...], plot: Path | None, overwrite: bool, fmt: str) -> None:
    """Show reference energies; with FORMULA what they say of it.

    Of the reference: scale, method, entries, elements, and whether it may judge stability, by how well it gave back
    known distances to the hull. Of a formula: energy of the hull [eV/atom], what it decomposes into (shares of the
    atoms), how many phases compete, the share of its sub-systems with an entry, and whether that is enough by rule.
    """
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.data.packed import ReferenceEnergiesData
    from crysgen_aiida.physics.reference import Reference

    if plot is not None:
        check_output(plot, overwrite)
        if not formulas:
            raise click.UsageError("Give the formulas whose elements --plot shall show, e.g. NaCl.")
    node = load(reference_id, ReferenceEnergiesData, _KIND)
    against = Reference(node.table)
    if formulas:
        rows = [point_row(against, formula) for formula in formulas]
        emit(rows if fmt == "json" else [_flat(row) for row in rows], fmt)
    else:
        heading = {"pk": node.pk, "uuid": node.uuid, "label": node.label}
        emit_record({**heading, **reference_record(node.table, against, flat=fmt != "json")}, fmt)
    if plot is not None:
        from crysgen_aiida.cli.hull_picture import hull_figure, system_to_draw

        system = system_to_draw(formulas)
        title = f"Hull of {'-'.join(system)} by {against.method}, reference {against.name}"
        write_picture(plot, hull_figure(against, system, formulas, title), title)
        click.echo(f"Drew {'-'.join(system)} into {plot}.", err=True)


def point_row(against: Any, formula: str) -> dict[str, Any]:
    """Return what a reference says of a formula.

    :raises click.ClickException: if it is no formula.
    """
    from crysgen_aiida.physics.hull import formation_energy, read_system

    if read_system(formula) is None:
        raise click.ClickException(f"{formula!r} is no formula; write one as Li2O or Ca3(PO4)2.")
    point = against.hull.at(formula)
    bound = None
    if point.energy is not None:
        bound = formation_energy(formula, point.energy, against.terminals)
    return {
        "formula": formula,
        "hull_energy": point.energy,
        "formation_energy": bound,
        "decomposition": [{"formula": reduced(f), "share": x} for f, x in point.decomposition],
        "competing": point.n_competing,
        "coverage": point.coverage,
        "complete": point.incomplete is None,
        "reason": point.incomplete,
    }


def reference_record(reference: ReferenceSet, against: Any, *, flat: bool) -> dict[str, Any]:
    """Return what there is to say of a reference."""
    import json
    from math import comb

    from crysgen_aiida.physics.assessment import wording

    about = reference.metadata
    systems = against.hull.systems
    elements = sorted({symbol for system in systems for symbol in system})
    pairs, n = sum(len(system) == 2 for system in systems), int(reference.ok.sum())
    record: dict[str, Any] = {
        "name": against.name,
        "scheme": against.scheme,
        "method": against.method,
        "energies": about.get("energy_zero", f"total energies of {against.method}"),
        **{key: about[key] for key in ("source", "license") if key in about},
        "entries": n,
        "left_out": len(reference) - n,
        "compounds": sum(count for system, count in systems.items() if len(system) > 1),
        "chemical_systems": len(systems),
        "pairs_with_compounds": f"{pairs} of {comb(len(elements), 2)}" if flat else pairs,
        "n_elements": len(elements),
        "elements": elements,
        "without_terminal": sorted(set(elements) - set(against.terminals)),
        "distances_are": wording(reference),
    }
    test = json.loads(about.get("assessment", "null"))
    return {**record, **(_flat_test(test) if flat else {"test": test})}


def reduced(formula: str) -> str:
    """Return a formula without common factors, of an element its symbol."""
    from pymatgen.core import Composition

    composition = Composition(formula)
    return str(composition.elements[0].symbol if composition.is_element else composition.reduced_formula)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    parts = [f"{part['share']:.3f} {part['formula']}" for part in row["decomposition"]]
    return {**row, "decomposition": " + ".join(parts)}


def _flat_test(test: dict[str, Any] | None) -> dict[str, Any]:
    from crysgen_aiida.screening.statistics import wilson

    if test is None:
        return {"test": "none: give --hull-column to `crysgen hull build`"}
    low, high = wilson(round(test["within"] * test["n"]), test["n"])
    said = {
        "test": "passed" if test["passed"] else "not passed",
        "test_rows": test["n"],
        "within_10_meV": f"{100 * test['within']:.1f} % (95 %: {100 * low:.1f} – {100 * high:.1f} %)",
        "mean_absolute_error": f"{1000 * test['mae']:.1f} meV/atom",
        "bias": f"{1000 * test['bias']:+.1f} meV/atom",
    }
    for which in ("complete", "incomplete"):
        part = test.get(which)
        if part and part["n"]:
            said[f"within_10_meV, {which} systems"] = f"{part['within']} of {part['n']}"
    return said


def _from_dataset(dataset_id: str, name: str, scheme: str, fmt: str, how: dict[str, Any]) -> None:
    from crysgen_aiida.cli.deriving import derive
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.data.packed import CrystalSetData

    node = load(dataset_id, CrystalSetData, "data set")
    parameters = {"name": name, "scheme": scheme}
    derive("reference", node, parameters, what="reference energies", label=name, fmt=fmt, **how)


def _tested(reference: ReferenceSet, table: EnergyTable) -> ReferenceSet:
    from crysgen_aiida.physics.assessment import assess_reference, with_assessment

    found = assess_reference(reference, table.formulas, table.energies.tolist(), table.labels.tolist(), tolerance=1e-6)
    return with_assessment(reference, found)


def _stored(reference: ReferenceSet, fmt: str) -> None:
    from crysgen_aiida.data.packed import ReferenceEnergiesData
    from crysgen_aiida.physics.reference import Reference

    node = ReferenceEnergiesData.get_or_create(reference)
    if not node.label:
        node.label = reference.metadata["name"]
    heading = {"pk": node.pk, "uuid": node.uuid, "label": node.label}
    emit_record({**heading, **reference_record(node.table, Reference(node.table), flat=fmt != "json")}, fmt)
