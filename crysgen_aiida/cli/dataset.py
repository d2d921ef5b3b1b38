"""``crysgen dataset``: sets of crystals to learn from and to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.deriving import derive, elastic, kappa, phonons, relax
from crysgen_aiida.cli.labels import JOINED, columns_of, join
from crysgen_aiida.cli.output import emit, emit_record, format_option
from crysgen_aiida.cli.pictures import check_output, sheet_options, write_picture
from crysgen_aiida.cli.profiles import with_profile
from crysgen_aiida.cli.site import site_options


@click.group("dataset", cls=VerdiCommandGroup)
def dataset() -> None:
    """Import, list, show and export data sets."""


@dataset.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--label", default="", help="Name to call it by later; by default the file's name.")
@click.option("--file-format", help="cif, poscar, extxyz, jsonl, json, csv or parquet; by default from the name.")
@click.option("--method", help="What produced the property values, e.g. pbe-mp2020; needed if there are any.")
@click.option(
    "--property", "properties", multiple=True, metavar="NAME=COLUMN", help="Property to take from a column; repeatable."
)
@click.option("--structure-column", help="Column of a CSV file that holds the crystal.")
@click.option("--source", help="Where the data come from: a DOI or an address.")
@click.option("--license", "license_", help="Licence of the data.")
@format_option
@with_profile
def import_(path: Path, label: str, file_format: str | None, method: str | None, properties: tuple[str, ...],
            structure_column: str | None, source: str | None, license_: str | None, fmt: str) -> None:  # fmt: skip
    """Import a file, or every file of a folder, as one data set.

    Each crystal becomes a row; one that cannot be read is a row with the reason. The same content is stored once.
    """
    from crysgen_aiida.crystals.errors import EmptySet
    from crysgen_aiida.crystals.formats import read_crystals
    from crysgen_aiida.data.packed import CrystalSetData

    chosen = columns_of(properties) or None
    crystals = read_crystals(path, fmt=file_format, method=method, properties=chosen, structure_column=structure_column)
    if not crystals.ok.any():
        raise EmptySet(
            f"None of the {len(crystals)} rows of {path.name} could be read; the first reason is: "
            f"{crystals.column('reason')[0]}"
        )
    stated = {k: v for k, v in {"source": source, "license": license_}.items() if v}
    if stated:
        crystals = crystals.with_metadata(**stated)
    count = _count(CrystalSetData)
    node = CrystalSetData.get_or_create(crystals)
    new = _count(CrystalSetData) > count
    if label or not node.label:
        node.label = label or path.name
    failed = len(crystals) - int(crystals.ok.sum())
    emit_record(
        {
            "pk": node.pk,
            "uuid": node.uuid,
            "label": node.label,
            "new": new,
            "rows": node.n_rows,
            "failed": failed,
            "content_hash": node.content_hash,
        },
        fmt,
    )
    if fmt == "table":
        if not new:
            click.echo("The profile had this content already; nothing was stored twice.", err=True)
        for reason, n in _reasons(crystals)[:5]:
            click.echo(f"  {n} row(s): {reason}", err=True)
        ignored = node.metadata.get("ignored_columns")
        if ignored:
            click.echo(f"  columns not taken over: {', '.join(ignored)} (use --property NAME=COLUMN)", err=True)


@dataset.command("list")
@click.option("--all", "everything", is_flag=True, help="Also the sets that runs made.")
@format_option
@with_profile
def list_(everything: bool, fmt: str) -> None:
    """List the data sets: those that were imported, or joined of what was, not made by a run."""
    from aiida import orm

    from crysgen_aiida.cli.nodes import summary
    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.store.candidates import creator_of

    query = orm.QueryBuilder().append(CrystalSetData, tag="set").order_by({"set": {"id": "asc"}})
    rows = []
    for node in query.all(flat=True):
        creator = creator_of(node)
        if creator is not None and creator.process_label != JOINED and not everything:
            continue
        row = {**summary(node), "rows": node.n_rows, "ok": node.n_ok, "properties": sorted(node.column_stats)}
        if everything:
            row["made by"] = creator.process_label if creator is not None else None
        rows.append(row)
    emit(rows, fmt, empty="No data set yet; run `crysgen dataset import FILE`.")


@dataset.command("show")
@click.argument("dataset_id", metavar="DATASET")
@format_option
@with_profile
def show(dataset_id: str, fmt: str) -> None:
    """Show a data set: size, properties with unit, range and method, what failed and why."""
    node = _load(dataset_id)
    table = node.table
    record = {
        "pk": node.pk,
        "uuid": node.uuid,
        "label": node.label,
        "rows": node.n_rows,
        "ok": node.n_ok,
        "content_hash": node.content_hash,
        "schema_version": node.schema_version,
    }
    record.update({k: v for k, v in node.metadata.items() if k != "ignored_columns"})
    properties = []
    for name, stats in node.column_stats.items():
        field = table.arrow.schema.field(name).metadata or {}
        properties.append(
            {
                "property": name,
                "unit": field.get(b"unit", b"").decode(),
                "method": field.get(b"method", b"").decode(),
                "n": stats["n_valid"],
                "min": stats.get("min"),
                "max": stats.get("max"),
            }
        )
    reasons = [{"rows": n, "reason": reason} for reason, n in _reasons(table)]
    if fmt == "json":
        emit_record({**record, "properties": properties, "failures": reasons}, fmt)
        return
    if fmt == "csv":
        emit(properties, fmt)
        return
    emit_record(record)
    click.echo()
    emit(properties, empty="No property columns.")
    if reasons:
        click.echo()
        emit(reasons)


@dataset.command("fingerprint")
@click.argument("dataset_id", metavar="DATASET")
@click.option("--labelled", multiple=True, metavar="PROPERTY", help="Only rows with this label; repeatable.")
@click.option("--threads", type=click.IntRange(1), help="Processes the worker may use.")
@site_options
@click.option("--code", metavar="LABEL", help="Code of the worker; this machine's by default.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it until it ends.")
@format_option
@with_profile
def fingerprint(dataset_id: str, labelled: tuple[str, ...], threads: int | None, site: dict[str, Any],
                code: str | None, wait: bool, fmt: str) -> None:  # fmt: skip
    """Make site fingerprints of a data set, so that designs can be asked to be unlike its crystals.

    Takes about 0.15 s a crystal and core, can be resumed, and is kept as a table. Needs matminer where the worker runs.
    """
    node = _load(dataset_id)
    parameters = {"labelled": list(labelled)} if labelled else None
    how: dict[str, Any] = {"threads": threads, "site": site, "code": code, "wait": wait, "fmt": fmt}
    derive("fingerprint", node, parameters, what="fingerprints", **how)


@dataset.command("predict")
@click.argument("dataset_id", metavar="DATASET")
@click.option("--threads", type=click.IntRange(1), help="Threads the worker may use.")
@site_options
@click.option("--code", metavar="LABEL", help="Code of the worker; this machine's by default.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it until it ends.")
@format_option
@with_profile
def predict(dataset_id: str, threads: int | None, site: dict[str, Any], code: str | None, wait: bool,
            fmt: str) -> None:  # fmt: skip
    """Predict gap, metallicity and elastic moduli of a data set by surrogates, each with its uncertainty.

    The uncertainty is the published error, which says nothing of crystals unlike those the surrogates were trained on.
    """
    how: dict[str, Any] = {"threads": threads, "site": site, "code": code, "wait": wait, "fmt": fmt}
    derive("predict", _load(dataset_id), None, what="predictions", **how)


for _command in (join, relax, phonons, elastic, kappa):
    dataset.add_command(_command)


@dataset.command("usage")
@click.argument("dataset_id", metavar="DATASET")
@format_option
@with_profile
def usage(dataset_id: str, fmt: str) -> None:
    """Show what came of a data set: training sets, generators, references, runs that were compared with it."""
    from crysgen_aiida.cli.generator import print_lineage
    from crysgen_aiida.store.explain.lineage import lineage

    print_lineage(lineage(_load(dataset_id)), fmt, "Nothing has used this data set yet.")


@dataset.command("export")
@click.argument("dataset_id", metavar="DATASET")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--file-format", help="cif, poscar, extxyz, jsonl, json (OPTIMADE), csv or parquet.")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@with_profile
def export(dataset_id: str, path: Path, file_format: str | None, overwrite: bool) -> None:
    """Write a data set to a file, in the format its name says."""
    from crysgen_aiida.crystals.writers import write_crystals

    node = _load(dataset_id)
    if path.exists() and not overwrite:
        raise click.ClickException(f"{path} exists already; choose another name or add --overwrite.")
    left_out = write_crystals(node.table, path, fmt=file_format)
    click.echo(f"Wrote {node.n_rows - len(left_out)} of {node.n_rows} rows to {path}.")
    if left_out:
        said = f"{len(left_out)} row(s) hold no crystal; csv, jsonl and parquet keep them with their reason."
        click.echo(said, err=True)


@dataset.command("sheet")
@click.argument("dataset_id", metavar="DATASET")
@click.option("--n", "n", type=click.IntRange(1, 400), default=24, show_default=True, help="Draw so many rows.")
@click.option("--rows", metavar="0-5,9", help="Draw these rows instead of the first.")
@sheet_options
@with_profile
def sheet(dataset_id: str, n: int, rows: str | None, shown: tuple[str, ...], across: int, output: Path,
          overwrite: bool) -> None:  # fmt: skip
    """Draw crystals of a set side by side: formula, space group, properties, and what was asked for if anything was.

    A row without a crystal is an empty tile with the reason, so that a sheet of what a generator made shows it as it
    is. `crysgen dataset list --all` lists the sets that runs made.
    """
    from crysgen_aiida.cli.sheet import sheet_figure
    from crysgen_aiida.cli.sheet_tiles import counted, dataset_tiles, parse_rows

    check_output(output, overwrite)
    node = _load(dataset_id)
    chosen = parse_rows(rows, node.n_rows) if rows else list(range(min(n, node.n_rows)))
    tiles, notes = dataset_tiles(node, chosen, shown)
    title = node.label or f"Set {node.uuid[:8]}"
    which = f"{len(tiles)} chosen" if rows else f"the first {len(tiles)}"
    lead = f"{which} of {node.n_rows} rows; {counted(tiles)}"
    write_picture(output, sheet_figure(tiles, title, lead, notes, across), f"{title}: {lead}")
    click.echo(f"Wrote {len(tiles)} row(s) to {output}.", err=True)


def _load(text: str) -> Any:
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.data.packed import CrystalSetData

    return load(text, CrystalSetData, "data set")


def _count(kind: Any) -> int:
    from aiida import orm

    return int(orm.QueryBuilder().append(kind).count())


def _reasons(crystals: Any) -> list[tuple[str, int]]:
    from collections import Counter

    status = crystals.column("status")
    reasons = crystals.column("reason")
    counted = Counter(r for s, r in zip(status, reasons, strict=True) if s != "ok")
    return counted.most_common()
