"""``crysgen candidate``: rank, look at, trace and export what was designed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.output import emit, emit_record, format_option, to_csv, to_json
from crysgen_aiida.cli.profiles import with_profile

if TYPE_CHECKING:
    import pandas as pd

#: Columns of a ranked table, if they are there; ``--columns`` chooses others.
SHOWN = (
    "rank",
    "address",
    "reduced_formula",
    "space_group",
    "score",
    "e_above_reference",
    "formation_energy_per_atom",
    "band_gap",
    "n_atoms",
)


@click.group("candidate", cls=VerdiCommandGroup)
def candidate() -> None:
    """Rank, show, trace and export candidates."""


@candidate.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@format_option
@with_profile
def list_(limit: int, fmt: str) -> None:
    """List the screenings that made candidates, newest first."""
    from crysgen_aiida.store.candidates import candidate_sets

    rows = [
        {
            "run": found.run.pk,
            "label": found.run.label,
            "set": found.relaxed.uuid[:8],
            "candidates": found.table.n_rows,
            "requested": found.requested(),
            "created": found.table.ctime.strftime("%Y-%m-%d %H:%M"),
        }
        for found in candidate_sets(limit)
    ]
    emit(rows, fmt, empty="No candidates yet; run `crysgen quickstart` or `crysgen design`.")


@candidate.command("rank")
@click.argument("run", required=False)
@click.option("--where", multiple=True, metavar="COLUMN>=VALUE", help="Constraint; may be repeated.")
@click.option("--minimize", multiple=True, metavar="COLUMN", help="Column to have low; may be repeated.")
@click.option("--maximize", multiple=True, metavar="COLUMN", help="Column to have high; may be repeated.")
@click.option("--target", multiple=True, metavar="COLUMN=VALUE", help="Column to have near a value; may be repeated.")
@click.option("--method", default="weighted", show_default=True, help="weighted, pareto or lexicographic.")
@click.option("--all", "from_scratch", is_flag=True, help="Start from all rows, not from the run's own ranking rule.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows to print.")
@click.option("--columns", metavar="A,B,…", help="Columns to print.")
@click.option("--record", is_flag=True, help="Store the ranking as a decision node; without it nothing is written.")
@format_option
@with_profile
def rank(run: str | None, where: tuple[str, ...], minimize: tuple[str, ...], maximize: tuple[str, ...],
         target: tuple[str, ...], method: str, from_scratch: bool, limit: int, columns: str | None, record: bool,
         fmt: str) -> None:  # fmt: skip
    """Rank the candidates of RUN (pk or uuid of a design; the newest by default).

    Without other options the rule the run was ranked by is used; --where adds to it, and --minimize, --maximize and
    --target replace what it orders by. Ties keep the order of the rows; a candidate that lacks a value to
    order by comes last, one that lacks a value of a constraint is out.
    """
    from crysgen_aiida.cli.settings import flat
    from crysgen_aiida.store import ranking
    from crysgen_aiida.store.candidates import records

    found = _candidates(run)
    base = None if from_scratch else ranking.query_of(found) or ranking.DEFAULT
    query = ranking.build_query(where, minimize, maximize, flat(target), method=method, limit=None, base=base)
    ordered, result = ranking.rank(found.frame, _unlimited(query))
    names = _columns(ordered, columns)
    rows = records(ordered.head(limit)[names])
    if fmt == "table":
        for row in rows:
            if "address" in row:
                row["address"] = _short(row["address"])
    emit(rows, fmt, columns=names, empty="No candidate meets all constraints.")
    if fmt == "table":
        click.echo("\n" + "  →  ".join(f"{what}: {left}" for what, left in result.funnel), err=True)
    if record:
        click.echo(_record(found, query), err=True)


@candidate.command("show")
@click.argument("address")
@format_option
@with_profile
def show(address: str, fmt: str) -> None:
    """Show one candidate: its crystal, properties, verdicts, what was requested, and its promoted structures."""
    from crysgen_aiida.store.address import Address
    from crysgen_aiida.store.candidates import of_address, promoted, records

    found, row = of_address(address)
    frame = found.frame
    match = frame[frame["row"] == row]
    values = (records(match) or [{"address": f"{found.relaxed.uuid}:{row}"}])[0]
    crystal = found.relaxed.get(row)
    record: dict[str, Any] = {k: v for k, v in values.items() if not k.startswith("target.")}
    for name in [k for k in values if k.startswith("target.")]:
        record[f"requested {name.removeprefix('target.')}"] = values[name]
    if crystal["lattice"] is not None:
        record.update({k: crystal[k] for k in ("lattice", "numbers", "frac_coords")})
    record["promoted"] = [n.uuid for n in promoted(Address(found.relaxed.uuid, row))]
    if fmt == "table":
        record = {k: v for k, v in record.items() if v is not None and k not in ("numbers", "frac_coords")}
    emit_record(record, fmt)
    if fmt == "table" and crystal["lattice"] is not None:
        click.echo("\n" + str(found.relaxed.table.structure(row)))


@candidate.command("trace")
@click.argument("address")
@format_option
@with_profile
def trace(address: str, fmt: str) -> None:
    """Show where a candidate came from, from the data set to its verdicts.

    ADDRESS may also be a promoted structure (pk or uuid): the chain is the same.
    """
    from crysgen_aiida.store import trace as tracing

    found = tracing.trace(address)
    if fmt == "json":
        click.echo(to_json(found))
    elif fmt == "csv":
        click.echo(to_csv(found["chain"], ["what", "kind", "uuid", "content_hash", "seed", "row"]), nl=False)
    else:
        click.echo(tracing.render(found))


@candidate.command("export")
@click.argument("addresses", nargs=-1)
@click.option("--run", "run", metavar="RUN", help="Export the best of this run (default: the newest).")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="How many of a run.")
@click.option("--as", "kind", type=click.Choice(["cif", "poscar", "extxyz", "jsonl"]), default="cif", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default="crysgen-export", show_default=True)
@with_profile
def export(addresses: tuple[str, ...], run: str | None, top: int, kind: str, output: Path) -> None:
    """Write candidates as structure files, with candidates.csv beside them.

    Give addresses, or nothing for the best of a run by the rule it was ranked by.
    """
    from crysgen_aiida.store.export import export_candidates

    if addresses and run:
        raise click.UsageError("Give addresses or --run, not both.")
    written = export_candidates(list(addresses), None if addresses else _candidates(run), top, kind, output)
    click.echo(f"Wrote {len(written)} structure(s) and candidates.csv to {output}.")


def _candidates(run: str | None) -> Any:
    from aiida import orm
    from aiida.common.exceptions import MultipleObjectsError, NotExistent

    from crysgen_aiida.store import candidates

    if run is None:
        return candidates.newest()
    try:
        node = orm.load_node(run)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise click.ClickException(f"There is no process {run!r}: {error}; see `crysgen run list`.") from None
    if not isinstance(node, orm.ProcessNode):
        raise click.ClickException(f"Node {run} is a {type(node).__name__}, not a run; see `crysgen run list`.")
    return candidates.of_process(node)


def _columns(frame: pd.DataFrame, chosen: str | None) -> list[str]:
    if not chosen:
        return [name for name in SHOWN if name in frame.columns]
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    unknown = [name for name in names if name not in frame.columns]
    if unknown:
        raise click.ClickException(f"There is no column {', '.join(unknown)}; there are {', '.join(frame.columns)}.")
    return names


def _unlimited(query: Any) -> Any:
    import dataclasses

    return dataclasses.replace(query, limit=None)


def _short(address: str) -> str:
    uuid, _, row = address.partition(":")
    return f"{uuid[:8]}:{row}"


def _record(found: Any, query: Any) -> str:
    from aiida import orm

    from crysgen_aiida.calculations.functions import record_ranking

    decision = record_ranking(found.relaxed, found.table, orm.Dict(query.to_dict()))
    return f"Recorded as decision {decision.pk} ({decision.uuid[:8]})."
