"""``crysgen verify``: compute what is claimed of candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from crysgen_aiida.cli.indexing import snapshot, sync_afterwards, the_run
from crysgen_aiida.cli.output import emit, format_option
from crysgen_aiida.cli.profiles import with_profile

if TYPE_CHECKING:
    from crysgen_aiida.workchains.verify.plan import Step

#: What is verified if nothing is said: what a potential can say of every crystal.
DEFAULT_STAGES = "relax,hull,phonon,elastic"


@click.command("verify")
@click.argument("addresses", nargs=-1)
@click.option("--run", "run", metavar="RUN", help="Verify the best of this run instead of addresses.")
@click.option("--best", type=click.IntRange(1), default=5, show_default=True, help="How many of a run.")
@click.option("--where", multiple=True, metavar="FILTER", help="Of a run, only those that meet this; repeatable.")
@click.option("--recipe", metavar="NAME", help="Stages, engines and gates of a recipe, e.g. mattergpt-piezo.")
@click.option("--stages", metavar="A,B,…", help=f"Stages by name.  [default: {DEFAULT_STAGES}]")
@click.option("--engine", "engines", multiple=True, metavar="[STAGE=]ENGINE",
              help="Who computes a stage, e.g. relax=qe; without a stage, all that engine can.")  # fmt: skip
@click.option("--potential", help="Potential of the stages that a potential computes.")
@click.option("--second", metavar="POTENTIAL", help="Second opinion on phonons and elastic constants.")
@click.option("--protocol", default="balanced", show_default=True, help="Effort: fast, balanced or stringent.")
@click.option("--gate", "gates", multiple=True, metavar="NAME=VALUE", help="When a candidate goes no further.")
@click.option("--set", "settings", multiple=True, metavar="STAGE.KEY=VALUE", help="Setting of a stage; repeatable.")
@click.option("--reference", "reference_id", metavar="NODE", help="For the stage hull; that of the run by default.")
@click.option("--site", "site_name", metavar="NAME", help="Codes and resources: a name or a file; this machine's.")
@click.option("--concurrent", type=click.IntRange(1), default=2, show_default=True,
              help="Candidates that an engine computes at the same time.")  # fmt: skip
@click.option("--symprec", type=click.FloatRange(0, 1, min_open=True), default=0.05, show_default=True,
              help="Tolerance of the symmetry imposed before an engine other than a potential [A].")  # fmt: skip
@click.option("--label", default="", help="Name to call the verification by.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it until it ends.")
@format_option
@with_profile
def verify(addresses: tuple[str, ...], run: str | None, best: int, where: tuple[str, ...], recipe: str | None,
           stages: str | None, engines: tuple[str, ...], potential: str | None, second: str | None, protocol: str,
           gates: tuple[str, ...], settings: tuple[str, ...], reference_id: str | None, site_name: str | None,
           concurrent: int, symprec: float, label: str, wait: bool, fmt: str) -> None:  # fmt: skip
    """Verify candidates: relax, hull, bands, dfpt, phonon, elastic, kappa, transport, cheap stages first.

    A candidate that does not pass a gate goes no further, and the reason is kept. The values return to the candidates:
    rank again, and a value of density functional theory stands before that of a potential.
    """
    from aiida import orm

    from crysgen_aiida.cli.following import follow, require_ok
    from crysgen_aiida.cli.submit import checked

    if addresses and (run or where):
        raise click.UsageError("Give addresses, or --run with --best and --where, not both.")
    places = _places(addresses) if addresses else _best(run, best, where)
    plan, limits = _plan(recipe, stages, engines, potential, second, protocol, gates, settings)
    processes = []
    for crystals, rows in places:
        builder = _builder(crystals, rows, plan, limits, reference_id, site_name, concurrent)
        builder.symprec = orm.Float(symprec)
        builder.metadata.label = label or recipe or "verify"
        processes.append(checked(builder))
    for process in processes:
        click.echo(f"Submitted verification {process.pk}; follow it with `crysgen run status {process.pk}`.", err=True)
    if not wait:
        return emit([{"pk": p.pk, "uuid": p.uuid, "candidates": len(p.inputs.rows.get_list())} for p in processes], fmt)
    follow(processes, "verify", tell=lambda text: click.echo(f"  {text}", err=True))
    sync_afterwards()
    emit([row for p in processes if "results" in p.outputs for row in outcome(p.outputs.results)], fmt)
    require_ok(processes)
    click.echo("See `crysgen result show ADDRESS` for the values.", err=True)
    return None


def outcome(results: Any) -> list[dict[str, Any]]:
    """Return one row a candidate of a results table: how far it came, and what stopped it."""
    found: dict[str, dict[str, Any]] = {}
    for row in results.iter():
        uuid, _, number = row["address"].partition(":")
        one = found.setdefault(
            row["address"],
            {"candidate": f"{uuid[:8]}:{number}", "passed": [], "stopped": "", "reason": "", "values": 0},
        )
        if row["property"] is not None:
            one["values"] += 1
        elif row["verdict"] == "passed":
            one["passed"].append(f"{row['stage']} ({row['engine']})")
        else:
            one["stopped"], one["reason"] = f"{row['stage']} ({row['engine']})", row["reason"]
    return [{**one, "passed": ", ".join(one["passed"])} for one in found.values()]


# -- which candidates -------------------------------------------------------------------------------------------------


def _places(addresses: Sequence[str]) -> list[tuple[Any, list[int]]]:
    """Return the sets the addresses are in, each with the rows meant."""
    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.store.address import resolve

    held: dict[str, tuple[Any, list[int]]] = {}
    for text in addresses:
        node, row = resolve(text)
        if not isinstance(node, CrystalSetData):
            raise click.ClickException(f"{text} is a row of a {type(node).__name__}; candidates are rows of crystals.")
        rows = held.setdefault(node.uuid, (node, []))[1]
        if row not in rows:
            rows.append(row)
    return list(held.values())


def _best(run: str | None, best: int, where: Sequence[str]) -> list[tuple[Any, list[int]]]:
    from crysgen_aiida.cli.candidate import ranked_rows
    from crysgen_aiida.data.ranking import Query
    from crysgen_aiida.store.ranking import DEFAULT

    with snapshot() as index:
        meant = the_run(index, run, True)
        query = Query.from_dict(meant.ranking or DEFAULT)
        ranked = ranked_rows(index, query, where, None, meant, best, None)
    found = [str(row["address"]) for row in ranked.records()]
    if not found:
        raise click.ClickException(ranked.emptied or "No candidate of this run meets its constraints.")
    return _places(found)


# -- what is done -----------------------------------------------------------------------------------------------------


def _plan(
    recipe: str | None,
    stages: str | None,
    engines: Sequence[str],
    potential: str | None,
    second: str | None,
    protocol: str,
    gates: Sequence[str],
    settings: Sequence[str],
) -> tuple[list[Step], dict[str, Any]]:
    from crysgen_aiida.cli.settings import flat, nested
    from crysgen_aiida.physics.judges import DEFAULT_JUDGE
    from crysgen_aiida.workchains.protocols import load_recipe
    from crysgen_aiida.workchains.verify.plan import make_gates, make_plan

    held: Mapping[str, Any] = load_recipe(recipe).get("verify", {}) if recipe else {}
    if recipe and not held:
        raise click.ClickException(f"The recipe {recipe} does not say how to verify; give --stages.")
    asked = stages.split(",") if stages else held.get("stages") or DEFAULT_STAGES.split(",")
    names = [name.strip() for name in asked if name.strip()]
    chosen = _engines(engines, names, held.get("engines", {}))
    told = nested(settings)
    wrong = [key for key, value in told.items() if not isinstance(value, Mapping)]
    if wrong:
        raise click.ClickException(f"Settings are of a stage: write STAGE.KEY=VALUE, not {wrong[0]}=….")
    plan = make_plan(
        names,
        chosen,
        potential=potential or held.get("potential") or DEFAULT_JUDGE,
        second=second or held.get("second"),
        protocol=protocol,
        settings=told,
    )
    return plan, make_gates({**held.get("gates", {}), **flat(gates)})


def _engines(texts: Sequence[str], stages: Sequence[str], held: Mapping[str, str]) -> dict[str, str]:
    from crysgen_aiida.engines.contract import get_engine

    chosen = {stage: engine for stage, engine in held.items() if stage in stages}
    for text in texts:
        stage, equals, name = text.rpartition("=")
        if equals:
            chosen[stage.strip()] = name.strip()
        else:
            chosen.update({s: name.strip() for s in stages if s in get_engine(name.strip()).stages})
    return chosen


def _builder(crystals: Any, rows: list[int], plan: Sequence[Step], gates: Mapping[str, Any], reference: str | None,
             site_name: str | None, concurrent: int) -> Any:  # fmt: skip
    from aiida import orm

    from crysgen_aiida.engines.site import load_site
    from crysgen_aiida.workchains.verify.chain import VerifyWorkChain

    site = load_site(site_name)
    builder: Any = VerifyWorkChain.get_builder()
    builder.crystals, builder.rows = crystals, orm.List(rows)
    builder.plan, builder.gates = orm.List([step.to_dict() for step in plan]), orm.Dict(dict(gates))
    builder.max_concurrent = orm.Int(concurrent)
    codes: dict[str, dict[str, Any]] = {}
    options: dict[str, dict[str, Any]] = {}
    families: dict[str, Any] = {}
    for step in plan:
        options.setdefault(step.engine, {})[step.stage] = site.options(step.engine, step.stage)
        codes.setdefault(step.engine, {}).update(site.codes(step.engine, step.stage))
        family = site.pseudo_family(step.engine)
        if family:
            families[step.engine] = orm.Str(family)
    builder.codes = codes
    if families:
        builder.pseudo_families = families
    builder.options = options
    if any(step.stage == "hull" for step in plan):
        builder.reference = _reference(crystals, reference)
    return builder


def _reference(crystals: Any, text: str | None) -> Any:
    """Return the reference energies: those named, else those the candidates were judged against."""
    from aiida import orm

    from crysgen_aiida.cli.design import find_reference
    from crysgen_aiida.data.packed import CrystalSetData, ReferenceEnergiesData

    if text is None:
        query = orm.QueryBuilder().append(CrystalSetData, filters={"uuid": crystals.uuid}, tag="set")
        query.append(orm.CalcJobNode, with_incoming="set", tag="job")
        query.append(ReferenceEnergiesData, with_outgoing="job", project="*")
        found = query.first(flat=True)
        if found is not None:
            return found
    return find_reference(text)
