"""``crysgen candidate``: rank, look at, explain, trace and export what was designed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.asking import Asked, query_options
from crysgen_aiida.cli.indexing import snapshot, sync_option, the_run
from crysgen_aiida.cli.output import emit, emit_record, format_option, readable, to_csv, to_json
from crysgen_aiida.cli.pictures import check_output, sheet_options, write_picture
from crysgen_aiida.cli.profiles import with_profile

if TYPE_CHECKING:
    from crysgen_aiida.data.ranking import Query
    from crysgen_aiida.store.explain.runs import Run
    from crysgen_aiida.store.index.database import Index
    from crysgen_aiida.store.query import RankedSelection

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

#: Columns that ranking makes; all others are the index's.
_MADE = ("rank", "score", "front", "address")


@click.group("candidate", cls=VerdiCommandGroup)
def candidate() -> None:
    """Rank, show, explain, trace and export candidates."""


@candidate.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@sync_option
@format_option
def list_(limit: int, sync: bool, fmt: str) -> None:
    """List the runs that made candidates, newest first."""
    from crysgen_aiida.store.explain.runs import summaries

    with snapshot(sync) as index:
        rows = summaries(index, limit)
    emit(rows, fmt, empty="No candidates yet; run `crysgen quickstart` or `crysgen design`.")


@candidate.command("rank")
@click.argument("run", required=False)
@query_options
@click.option("--all-runs", is_flag=True, help="Rank the candidates of all runs together, from all rows.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows to print.")
@click.option("--columns", metavar="A,B,…", help="Columns to print.")
@click.option("--record", is_flag=True, help="Store the ranking as a decision node; without it nothing is written.")
@sync_option
@format_option
def rank(run: str | None, asked: Asked, all_runs: bool, limit: int, columns: str | None, record: bool, sync: bool,
         fmt: str) -> None:  # fmt: skip
    """Rank the candidates of RUN (pk, uuid or label of a design; the newest by default).

    Without other options the rule the run was ranked by is used; --where adds to it, and --minimize, --maximize and
    --target replace what it orders by. Ties keep the order of the rows; a candidate that lacks a value to
    order by comes last, one that lacks a value of a constraint is out.
    """
    if all_runs and (run or record):
        raise click.UsageError("--all-runs ranks everything: it takes no RUN, and a decision is about one run.")
    if record and not sync:
        raise click.UsageError("--record writes into the graph: leave out --no-sync.")
    with snapshot(sync) as index:
        meant = None if all_runs else the_run(index, run, sync)
        query = asked.query(meant)
        ranked = ranked_rows(index, query, asked.where, asked.preferred(), meant, limit, columns)
        print_ranked(ranked, fmt, columns)
        if record and meant is not None:
            from crysgen_aiida.store.record import record as store_decision

            decision = store_decision(index, meant, query, asked.where, asked.preferred())
            click.echo(f"Recorded as decision {decision.pk} ({decision.uuid[:8]}).", err=True)


@candidate.command("show")
@click.argument("address")
@click.option(
    "--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw the crystal into this file, .svg or .png."
)
@sync_option
@format_option
def show(address: str, picture: Path | None, sync: bool, fmt: str) -> None:
    """Show one candidate: every value with unit, uncertainty, method and source node, verdicts, wishes, its crystal.

    With --no-sync the index alone is read: no crystal, no reasons of single verdicts, no promoted structures.
    """
    from crysgen_aiida.store.explain.show import show as everything

    if picture is not None and not sync:
        raise click.UsageError("--picture reads the crystal from the graph: leave out --no-sync.")
    if picture is not None:
        check_output(picture, overwrite=True)
    with snapshot(sync) as index:
        found = everything(index, address, graph=sync)
    crystal = found.get("crystal")
    if fmt == "json":
        click.echo(to_json({**found, **(crystal or {})}))
    elif fmt == "csv":
        names = ["property", "value", "unit", "sigma", "method", "source", "current"]
        click.echo(to_csv(found["properties"], names), nl=False)
    else:
        _print_candidate(found)
    if picture is not None:
        _draw(crystal, picture)


@candidate.command("why")
@click.argument("address")
@query_options
@click.option("--run", metavar="RUN", help="Among the candidates of this run; by default the newest that made it.")
@click.option("--neighbours", type=click.IntRange(0), default=3, show_default=True, help="Neighbours on each side.")
@sync_option
@format_option
def why(address: str, asked: Asked, run: str | None, neighbours: int, sync: bool, fmt: str) -> None:
    """Explain a rank: which verdicts and constraints put a candidate there, and what kept its neighbours out.

    The rule is that of the run; the options change it as in `crysgen candidate rank`.
    """
    from crysgen_aiida.store.explain import why as explaining
    from crysgen_aiida.store.explain.runs import find_candidate, runs_of_batch

    with snapshot(sync) as index:
        if run is not None:
            meant = the_run(index, run, sync)
        else:
            meant = runs_of_batch(index, find_candidate(index, address).batch_id)[0]
        found = explaining.why(
            index, address, asked.query(meant), asked.where, run=meant, neighbours=neighbours,
            prefer=asked.preferred(), graph=sync,
        )  # fmt: skip
    if fmt == "json":
        click.echo(to_json(found))
    elif fmt == "csv":
        click.echo(to_csv(found["constraints"], ["constraint", "value", "met", "met_by", "reason"]), nl=False)
    else:
        click.echo(explaining.render(found))


@candidate.command("trace")
@click.argument("address")
@click.option("--format", "fmt", type=click.Choice(["table", "json", "csv", "dot"]), default="table",
              show_default=True, help="How to print: for people, for programs, or for Graphviz.")  # fmt: skip
@with_profile
def trace(address: str, fmt: str) -> None:
    """Show where a candidate came from, from the data set to its verdicts.

    ADDRESS may also be a promoted structure (pk or uuid): the chain is the same. `--format dot` is drawn by Graphviz,
    for example `crysgen candidate trace ADDRESS --format dot | dot -Tsvg > trace.svg`.
    """
    from crysgen_aiida.store import trace as tracing
    from crysgen_aiida.store.explain.graph import trace_dot

    found = tracing.trace(address)
    if fmt == "json":
        click.echo(to_json(found))
    elif fmt == "csv":
        click.echo(to_csv(found["chain"], ["what", "kind", "uuid", "content_hash", "seed", "row"]), nl=False)
    elif fmt == "dot":
        click.echo(trace_dot(found))
    else:
        click.echo(tracing.render(found))


@candidate.command("export")
@click.argument("addresses", nargs=-1)
@click.option("--run", "run", metavar="RUN", help="Export the best of this run (default: the newest).")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="How many of a run.")
@query_options
@click.option("--as", "kind", type=click.Choice(["cif", "poscar", "extxyz", "jsonl"]), default="cif", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default="crysgen-export", show_default=True)
def export(addresses: tuple[str, ...], run: str | None, top: int, asked: Asked, kind: str, output: Path) -> None:
    """Write candidates as structure files, with candidates.csv beside them.

    Give addresses, or nothing for the best of a run by the rule it was ranked by, which the options change as in
    `crysgen candidate rank`.
    """
    from crysgen_aiida.store.export import export_rows, rows_at

    if addresses and (run or asked.anything):
        raise click.UsageError("Give addresses, or --run and options that rank it, not both.")
    with snapshot() as index:
        if addresses:
            rows = rows_at(index, addresses)
        else:
            meant = the_run(index, run, True)
            ranked = ranked_rows(index, asked.query(meant), asked.where, asked.preferred(), meant, top, "*")
            rows = ranked.records()
    written = export_rows(rows, kind, output)
    click.echo(f"Wrote {len(written)} structure(s) and candidates.csv to {output}.")


@candidate.command("sheet")
@click.argument("addresses", nargs=-1)
@click.option("--run", "run", metavar="RUN", help="Draw the best of this run (default: the newest).")
@click.option("--top", type=click.IntRange(1, 400), default=24, show_default=True, help="How many of a run.")
@query_options
@sheet_options
def sheet(addresses: tuple[str, ...], run: str | None, top: int, asked: Asked, shown: tuple[str, ...], across: int,
          output: Path, overwrite: bool) -> None:  # fmt: skip
    """Draw candidates side by side: crystal, formula, space group, what was found beside what was asked for.

    Give addresses, or nothing for the best of a run by the rule it was ranked by, which the options change as in
    `crysgen candidate rank`. A row without a crystal is an empty tile with the reason.
    """
    from crysgen_aiida.cli.sheet import sheet_figure
    from crysgen_aiida.cli.sheet_tiles import addressed_tiles, candidate_columns, counted, ordered_by, ranked_tiles

    if addresses and (run or asked.anything):
        raise click.UsageError("Give addresses, or --run and options that rank it, not both.")
    check_output(output, overwrite)
    with snapshot() as index:
        if addresses:
            (tiles, notes), title, lead = addressed_tiles(index, addresses, shown), "Candidates", "chosen by address"
        else:
            meant = the_run(index, run, True)
            query = asked.query(meant)
            ordered = [wish.column for wish in query.objectives]
            columns = ",".join(candidate_columns(index, ordered, shown))
            ranked = ranked_rows(index, query, asked.where, asked.preferred(), meant, top, columns)
            tiles, notes = ranked_tiles(ranked, ordered, shown)
            title = f"Candidates of {meant.label or 'run ' + meant.uuid[:8]}"
            rule = ordered_by(query.objectives)
            lead = f"the {'best' if rule else 'first'} {len(tiles)} of {ranked.funnel[0][1]}" + (
                f" by {rule}" if rule else ""
            )
    lead += f"; {counted(tiles)}"
    write_picture(output, sheet_figure(tiles, title, lead, notes, across), f"{title}: {lead}")
    click.echo(f"Wrote {len(tiles)} candidate(s) to {output}.", err=True)


# -- ranking ----------------------------------------------------------------------------------------------------------


def ranked_rows(
    index: Index,
    query: Query,
    where: Sequence[str],
    prefer: Mapping[str, Any] | None,
    run: Run | None,
    limit: int | None,
    columns: str | None,
) -> RankedSelection:
    """Rank candidates of the index; see :func:`crysgen_aiida.store.query.rank_candidates`.

    :param run: among whose candidates, None for all there are.
    :param columns: names joined by commas, ``*`` for all, None for the usual ones that are there.
    """
    import dataclasses

    from crysgen_aiida.store.query import rank_candidates

    names = _names(columns)
    if not names:
        wishes = [objective.column for objective in query.objectives]
        names = list(dict.fromkeys([*(name for name in SHOWN if name in index.columns()), *wishes]))
    return rank_candidates(
        index,
        dataclasses.replace(query, limit=limit),
        where=list(where),
        runs=None if run is None else list(run.batch_ids),
        columns=[name for name in names if name not in _MADE],
        prefer=prefer,
    )


def print_ranked(ranked: RankedSelection, fmt: str, columns: str | None = None) -> None:
    """Print a ranking, and on stderr how many each constraint left; an empty one says which left nothing."""
    rows = ranked.records()
    usual = [name for name in SHOWN if name in _MADE or name in ranked.columns]
    names = _names(columns) or list(dict.fromkeys([*usual, *ranked.columns]))
    if fmt == "table":
        rows = [{**row, "address": short(str(row["address"]))} for row in rows]
    emit(rows, fmt, columns=names, empty=ranked.emptied or "No candidate meets all constraints.")
    if fmt != "table" and ranked.emptied:
        click.echo(ranked.emptied, err=True)
    if fmt == "table":
        click.echo("\n" + "  →  ".join(f"{what}: {left}" for what, left in ranked.funnel), err=True)
    for note in ranked.notes:
        click.echo(note, err=True)


def _names(columns: str | None) -> list[str]:
    return [name.strip() for name in (columns or "").split(",") if name.strip()]


def short(address: str) -> str:
    """Return an address as it is shown on a screen."""
    uuid, _, row = address.partition(":")
    return f"{uuid[:8]}:{row}"


# -- one candidate ----------------------------------------------------------------------------------------------------


def _print_candidate(found: Mapping[str, Any]) -> None:
    emit_record(
        {k: found.get(k) for k in ("address", "reduced_formula", "status", "reason", "n_atoms") if found.get(k)}
    )
    origin = found["origin"]
    click.echo("\nProperties")
    rows = [{**p, "current": "●" if p["current"] else ""} for p in found["properties"]]
    emit(rows, columns=["property", "value", "unit", "sigma", "method", "source", "current"], empty="None.")
    click.echo("\nVerdicts")
    emit(found["verdicts"], columns=["verdict", "answer", "reason"], empty="None.")
    if found["requested"]:
        click.echo("\nRequested (wishes, not results)")
        emit_record(found["requested"])
    click.echo("\nOther columns")
    facts = {k: f for k, f in found["facts"].items() if f["value"] != ""}
    emit_record({k: f"{readable(f['value'])} {f['unit'] or ''}".strip() for k, f in facts.items()})
    click.echo("\nOrigin")
    emit_record({k: v for k, v in origin.items() if v is not None and k != "runs"})
    emit_record({"runs": ", ".join(f"{r['pk'] or r['uuid'][:8]} {r['label']}".strip() for r in origin["runs"])})
    if found["equal"]:
        click.echo("\nThe same structure: " + ", ".join(short(address) for address in found["equal"]))
    if found.get("promoted"):
        click.echo("\nPromoted to structure " + ", ".join(f"{n['pk']} ({n['uuid'][:8]})" for n in found["promoted"]))
    if found.get("crystal"):
        from crysgen_aiida.store.candidates import of_address

        candidates, row = of_address(found["address"])
        click.echo("\n" + str(candidates.relaxed.table.structure(row)))


def _draw(crystal: Mapping[str, Any] | None, picture: Path) -> None:
    from crysgen_aiida.cli.sheet import crystal_figure

    if crystal is None:
        raise click.ClickException("There is nothing to draw: this row holds no crystal.")
    drawn = crystal_figure({name: crystal[name] for name in ("lattice", "numbers", "frac_coords")})
    write_picture(picture, drawn, "crystal structure")
    click.echo(f"Wrote {picture}.", err=True)
