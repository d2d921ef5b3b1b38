"""``crysgen store``: the candidate index, brought up to date, checked, counted, and the queries saved in it."""

from __future__ import annotations

import shlex
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.asking import Asked, query_options
from crysgen_aiida.cli.indexing import indexed, snapshot, sync_option, the_run
from crysgen_aiida.cli.output import Progress, emit, emit_record, format_option, readable, to_json


@click.group("store", cls=VerdiCommandGroup)
def store() -> None:
    """Keep the candidate index: sync, check, count, saved queries, policy of methods."""


@store.command("sync")
@click.option(
    "--rebuild", is_flag=True, help="Read everything again; until then the old index answers. Saved queries stay."
)
@format_option
def sync(rebuild: bool, fmt: str) -> None:
    """Bring the index up to date with the graph: new screenings and results in, deleted ones out.

    Safe beside running daemons and other syncs, and it may be interrupted: the next one goes on.
    """
    import dataclasses

    from crysgen_aiida.cli.indexing import synchronise
    from crysgen_aiida.cli.profiles import open_profile
    from crysgen_aiida.store.location import open_index

    index = open_index(open_profile())
    try:
        report = synchronise(index, rebuild=rebuild)
    finally:
        index.close()
    record = dataclasses.asdict(report)
    if fmt == "table":
        for note in record.pop("notes"):
            click.echo(note, err=True)
    emit_record(record, fmt)


@store.command("check")
@click.option("--deep", is_flag=True, help="Read the packed nodes and compare every value.")
@format_option
def check(deep: bool, fmt: str) -> None:
    """Compare index and graph and say what differs. Exit code 0 if nothing does, 3 otherwise."""
    from crysgen_aiida.cli.profiles import open_profile
    from crysgen_aiida.store.check import check as compare
    from crysgen_aiida.store.location import open_index

    index = open_index(open_profile(), create=False)
    try:
        differences = compare(index, deep=deep)
    finally:
        index.close()
    rows = [{"difference": sentence} for sentence in differences]
    emit(rows, fmt, columns=["difference"], empty="Index and graph agree.")
    if differences and fmt == "table":
        click.echo("\n`crysgen store sync` brings the index up to date; `--rebuild` makes it anew.", err=True)
    raise SystemExit(3 if differences else 0)


@store.command("stats")
@sync_option
@format_option
def stats(sync: bool, fmt: str) -> None:
    """Count what the index holds: runs, candidates, values by property and method, verdicts with their rates."""
    from crysgen_aiida.store.explain.stats import stats as count

    with snapshot(sync) as index:
        found = count(index)
    if fmt == "json":
        click.echo(to_json(found))
        return
    if fmt == "csv":
        emit(found["properties"], fmt)
        return
    emit_record({**found["counts"], **{f"candidates {k}": n for k, n in found["status"].items()}})
    click.echo("\nValues")
    emit(found["properties"], empty="None.")
    click.echo("\nVerdicts")
    rows = []
    for verdict in found["verdicts"]:
        interval = verdict.pop("wilson95")
        share = verdict.pop("share")
        verdict["share"] = "" if share is None else f"{100 * share:.1f} %"
        verdict["95 %"] = "" if interval is None else f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f} %"
        rows.append(verdict)
    emit(rows, columns=["verdict", "yes", "judged", "share", "95 %", "unknown"], empty="None.")
    click.echo("\nGenerators")
    emit(found["generators"], empty="None.")


@store.command("funnel")
@click.argument("run", required=False)
@sync_option
@format_option
def funnel(run: str | None, sync: bool, fmt: str) -> None:
    """Show what became of RUN (the newest by default): counts and reasons at every stage, from sampled to promoted.

    A step counts what went on, out of the step before; a verdict is asked of every relaxed crystal on its own. With
    --no-sync the funnel ends with the verdicts, because ranking and promotion are read from the graph.
    """
    from crysgen_aiida.store.explain.funnel import of_run, rows_of

    with snapshot(sync) as index:
        found = of_run(index, the_run(index, run, sync), graph=sync)
    if fmt == "table":
        emit(rows_of(found["stages"]))
    elif fmt == "json":
        click.echo(to_json(found))
    else:
        columns = ["stage", "kind", "n", "of", "denominator", "share", "wilson95", "unknown", "reasons"]
        emit(found["stages"], fmt, columns=columns)


@store.command("policy")
@click.option("--prefer", multiple=True, metavar="PROPERTY=METHOD,…", help="Methods that win for a property, best "
              "first; without methods the rule of classes holds again. May be repeated.")  # fmt: skip
@click.option("--reset", is_flag=True, help="Forget all preferences.")
@sync_option
@format_option
def policy(prefer: tuple[str, ...], reset: bool, sync: bool, fmt: str) -> None:
    """Show or change which value counts where a property has several.

    By default density functional theory wins over potentials, potentials over surrogates, and within a class the
    newest. `--prefer` on a ranking overrides it for one question.
    """
    from crysgen_aiida.store.explain.methods import change_policy, standing

    with indexed(sync) as index:
        if prefer or reset:
            change_policy(index, prefer, reset=reset)
        rows = standing(index)
    emit(rows, fmt, empty="The index holds no property with a method yet.")


@store.command("match")
@click.option("--limit", type=click.IntRange(1), help="Stop after about this many candidates.")
@format_option
def match(limit: int | None, fmt: str) -> None:
    """Find candidates of different runs that are the same structure.

    May be interrupted: the next call goes on where it stopped. Prints its rate; only formulas with new candidates are
    compared again.
    """
    import dataclasses

    from crysgen_aiida.store.match import match as find

    line = Progress("match")
    with indexed() as index:
        try:
            report = find(index, limit=limit, progress=lambda done, total: line.update(f"{done} of {total}"))
        finally:
            line.done()
    emit_record(dataclasses.asdict(report), fmt)


@store.group("query", cls=VerdiCommandGroup)
def query() -> None:
    """Save, list, run and delete queries."""


@query.command("save")
@click.argument("name")
@query_options
@click.option("--overwrite", is_flag=True, help="Replace a query of that name.")
@sync_option
def save(name: str, asked: Asked, overwrite: bool, sync: bool) -> None:
    """Save a question under NAME: filters, what to order by, whose values count. It is checked before it is saved."""
    from crysgen_aiida.store.query import rank_candidates, save_query

    rule, prefer = asked.over(None), asked.preferred()
    with indexed(sync) as index:
        rank_candidates(index, rule, where=asked.where, columns=[], prefer=prefer)
        save_query(index, name, rule, where=asked.where, prefer=prefer, overwrite=overwrite)
    click.echo(f"Saved; run it with `crysgen store query run {shlex.quote(name)}`.")


@query.command("list")
@sync_option
@format_option
def list_(sync: bool, fmt: str) -> None:
    """List saved queries."""
    from crysgen_aiida.store.query import list_queries

    with snapshot(sync) as index:
        rows = [_described(name, held) for name, held in list_queries(index).items()]
    emit(rows, fmt, empty="No query is saved; `crysgen store query save NAME --where …` saves one.")


@query.command("run")
@click.argument("name")
@click.option("--run", metavar="RUN", help="Among the candidates of this run; by default of all.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows to print.")
@click.option("--columns", metavar="A,B,…", help="Columns to print.")
@sync_option
@format_option
def run_query(name: str, run: str | None, limit: int, columns: str | None, sync: bool, fmt: str) -> None:
    """Run a saved query on the index as it is now."""
    from crysgen_aiida.cli.candidate import print_ranked, ranked_rows
    from crysgen_aiida.store.query import load_query

    with snapshot(sync) as index:
        saved = load_query(index, name)
        meant = None if run is None else the_run(index, run, sync)
        ranked = ranked_rows(index, saved.query, saved.where, dict(saved.prefer), meant, limit, columns)
    print_ranked(ranked, fmt, columns)


@query.command("delete")
@click.argument("name")
def delete(name: str) -> None:
    """Delete a saved query."""
    from crysgen_aiida.store.query import delete_query

    with indexed(sync=False) as index:
        delete_query(index, name)
    click.echo(f"Deleted the query {name}.")


def _described(name: str, held: Any) -> dict[str, Any]:
    wishes = [f"{o.column} {o.direction if o.target is None else f'near {readable(o.target)}'}" for o in
              held.query.objectives]  # fmt: skip
    return {"name": name, "where": " and ".join(held.where), "ordered by": ", ".join(wishes), "prefer": held.prefer}
