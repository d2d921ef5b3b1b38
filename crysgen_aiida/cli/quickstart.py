"""``crysgen quickstart``: from nothing to ranked candidates with their origin, in minutes on a laptop."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crysgen_aiida.cli import profiles
from crysgen_aiida.cli.output import emit

if TYPE_CHECKING:
    from crysgen_aiida.cli.starter import Starter
    from crysgen_aiida.store.candidates import CandidateSet

RECIPE = "mattergpt-piezo"

#: Extra of the design that a quickstart made: what it was asked, so that it is made once.
EXTRA = "crysgen_quickstart"

#: Most threads a job takes by default; beyond this the potential gains little on small crystals.
MAX_THREADS = 8

TABLE = (
    "rank",
    "address",
    "formula",
    "space group",
    "E above ref.",
    "rivals",
    "coverage",
    "E formation",
    "gap (surrogate)",
    "atoms",
)


@dataclass(frozen=True)
class Request:
    """What a quickstart asks for."""

    n: int
    top: int
    relax: int
    time_box: float
    seed: int
    threads: int


@click.command("quickstart")
@click.option("--n", type=click.IntRange(1), default=256, show_default=True, help="Strings to sample.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Candidates to promote.")
@click.option("--relax", type=click.IntRange(1), default=96, show_default=True, help="Crystals to choose and relax.")
@click.option("--time-box", type=click.FloatRange(1), default=150.0, show_default=True, help="Seconds of relaxation.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Threads; by default the cores of this machine, at most 8.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default="crysgen-quickstart",
              show_default=True)  # fmt: skip
@click.option("--archive", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="Starter archive to use instead of the one that is installed.")  # fmt: skip
@click.option("--stop-daemon", is_flag=True, help="Stop the daemon at the end if this command started it.")
def quickstart(n: int, top: int, relax: int, time_box: float, seed: int, threads: int | None, output: Path,
               archive: Path | None, stop_daemon: bool) -> None:  # fmt: skip
    """Design piezoelectric semiconductors from scratch: profile, daemon, starter generator, candidates, report.

    Works in the profile `crysgen` (or the one named with -p), made if it is missing; your default profile stays as it
    is. Run again, it finds what it made and changes nothing.
    """
    from crysgen_aiida.cli import processes
    from crysgen_aiida.cli.following import require_ok
    from crysgen_aiida.cli.indexing import sync_afterwards

    began = time.monotonic()
    request = Request(n, top, relax, time_box, seed, threads or min(os.cpu_count() or 1, MAX_THREADS))
    profile, made_profile = _profile()
    starter = _starter(archive)
    process, found = find_or_none(starter, request), True
    daemon_was = processes.inspect(profile).circus is not None
    if process is None or not process.is_terminated:
        _say("daemon", processes.start_daemon(profile))
        if process is None:
            process, found = submit(starter, request), False
        _follow(process)
    require_ok([process])
    sync_afterwards()
    changed = _results(process, starter, request, output)
    if stop_daemon and not daemon_was:
        _say("daemon", processes.stop_daemon(profile))
    if found and not (changed or made_profile or starter.imported):
        click.echo(f"\nEverything was there already (run {process.pk}); nothing was changed.")
    else:
        click.echo(f"\nDone in {time.monotonic() - began:.0f} s. Look at {output / 'report.html'}, then try:")
        click.echo("  crysgen candidate rank --where 'band_gap>=1.5'")
        click.echo("  crysgen candidate why ADDRESS")
        click.echo("  crysgen candidate trace ADDRESS")


def _profile() -> tuple[str, bool]:
    from crysgen_aiida.cli.setup import ensure_all

    asked = profiles.explicit_profile() or os.environ.get("AIIDA_PROFILE") or profiles.OWN_PROFILE
    default = profiles.get_config().default_profile_name
    ready = ensure_all(asked)
    note = f"; your default profile is still {default}" if default and default != asked else ""
    _say("profile", (f"{asked}: made {', '.join(ready.made)}" if ready.made else f"{asked}: ready") + note)
    return asked, bool(ready.made)


def _starter(archive: Path | None) -> Starter:
    import json

    from crysgen_aiida.cli.starter import import_starter

    uuids = json.loads(archive.with_suffix(".json").read_text()) if archive else None
    starter = import_starter(archive, uuids)
    how = "imported" if starter.imported else "there already"
    _say(
        "starter",
        f"{how}: {starter.dataset.n_rows} crystals, reference of {starter.reference.n_rows} entries, "
        f"{starter.generator.generator} with {starter.generator.n_parameters / 1e6:.1f} M parameters",
    )
    return starter


def _key(starter: Starter, request: Request) -> str:
    from crysgen_aiida.crystals.hashing import json_hash

    nodes = [starter.dataset.uuid, starter.reference.uuid, starter.generator.uuid]
    return json_hash([RECIPE, nodes, request.n, request.top, request.relax, request.time_box, request.seed])


def find_or_none(starter: Starter, request: Request) -> Any:
    """Return the design a quickstart with this request made or is making, or None."""
    from aiida import orm

    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={f"extras.{EXTRA}": _key(starter, request)}, tag="run")
    for process in query.order_by({"run": {"id": "desc"}}).all(flat=True):
        if not process.is_terminated or process.is_finished_ok:
            return process
    return None


def submit(starter: Starter, request: Request) -> Any:
    """Submit the design."""
    from crysgen_aiida.cli.design import build, tell_support
    from crysgen_aiida.cli.submit import checked

    builder = build(
        starter.generator,
        starter.reference,
        recipe=RECIPE,
        conditions={},
        known_sets={"starter": starter.dataset},
        n=request.n,
        n_promote=request.top,
        seed=request.seed,
        threads=request.threads,
        overrides={
            "relax": {
                "parameters": {
                    "time_box_seconds": request.time_box,
                    # one crystal a formula: a first look should show variety
                    "selection": {"n": request.relax, "max_per_formula": 1},
                }
            }
        },
    )
    builder.metadata.label = "quickstart"
    tell_support(starter.generator, builder.conditions.get_dict())
    process = checked(builder)
    process.base.extras.set(EXTRA, _key(starter, request))
    _say("design", f"run {process.pk}: {request.n} strings asked for")
    return process


def _follow(process: Any) -> None:
    """Wait, saying each stage as it begins; after half a minute of silence in a pipe, say that work goes on."""
    from crysgen_aiida.cli.following import follow

    seen: set[int] = set()

    def stages() -> None:
        for node in sorted(process.called, key=lambda n: n.pk or 0):
            if node.pk not in seen and node.is_terminated:
                seen.add(node.pk)
                _say("design", _stage_line(node))

    follow([process], "         ", on_tick=stages, tell=lambda text: click.echo(f"          … {text}", err=True))
    stages()


def _stage_line(node: Any) -> str:
    from crysgen_aiida.store.candidates import outputs_of

    label = str(node.process_label or "step").replace("BaseWorkChain", "").replace("_", " ").lower()
    made = {name: made for name, made in outputs_of(node).items() if hasattr(made, "n_ok")}
    return f"{label}: " + ", ".join(f"{v.n_ok} of {v.n_rows} {k}" for k, v in made.items()) if made else label


# -- results -----------------------------------------------------------------------------------------------------------


def _results(process: Any, starter: Starter, request: Request, output: Path) -> bool:
    """Print ranked table, trace of the first and throughputs; write the folder; return whether a file changed."""
    from crysgen_aiida.cli.report import write_report
    from crysgen_aiida.store import candidates, export, trace

    found = candidates.of_process(process)
    best = export.best(found, request.top)
    click.echo()
    emit([_shown(record) for record in best], columns=TABLE)
    click.echo(_wording(found))
    first = best[0]["address"]
    click.echo("\nWhere the first one comes from (crysgen candidate trace):\n")
    click.echo(trace.render(trace.trace(first)))
    click.echo("\nThroughput")
    emit(throughputs(process))
    before = _stamp(output)
    export.export_best(found, request.top, "cif", output)
    write_report(output / "report.html", process, found, best, starter)
    changed = _stamp(output) != before
    click.echo(f"\n{'Wrote' if changed else 'Unchanged:'} {output}: {len(best)} CIFs, candidates.csv, report.html")
    return changed


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    uuid, _, row = str(record["address"]).partition(":")
    return {
        "rank": record["rank"],
        "address": f"{uuid[:8]}:{row}",
        "formula": record["reduced_formula"],
        "space group": record.get("space_group_loose") or record.get("space_group"),
        "E above ref.": record.get("e_above_reference"),
        "rivals": record.get("n_competing_phases"),
        "coverage": record.get("reference_coverage"),
        "E formation": record.get("formation_energy_per_atom"),
        "gap (surrogate)": record.get("band_gap"),
        "atoms": record["n_atoms"],
    }


def _wording(found: CandidateSet) -> str:
    asked = ", ".join(f"{name} = {value}" for name, value in found.requested().items())
    name = found.table.metadata.get("reference", "the reference")
    return (
        f"Energies in eV/atom, gap in eV. E above ref. is measured from {name}: a lower bound on the energy above\n"
        "the hull, because a phase the reference does not hold can only raise it. Rivals are the compounds it holds\n"
        "in that chemical system, coverage the share of the subsystems it has entries in: with few it says little.\n"
        f"Requested: {asked}. A request is no property: nothing here computes piezoelectric coefficients."
    )


def throughputs(process: Any) -> list[dict[str, Any]]:
    """Return how many rows each stage of a design worked on, in how long, from the workers' own results."""
    from crysgen_aiida.store.candidates import outputs_of
    from crysgen_aiida.store.trace import result_of

    rows = []
    jobs = [n for n in process.called_descendants if hasattr(n, "get_remote_workdir")]
    for job in sorted(jobs, key=lambda n: n.pk or 0):
        result = result_of(outputs_of(job))
        if not result:
            continue
        done = sum(v for k, v in result.get("counts", {}).items() if k in ("ok", "failed", "timeout"))
        seconds = result.get("timings", {}).get("total")
        rows.append(
            {
                "stage": result.get("verb"),
                "rows": done,
                "seconds": seconds,
                "per second": done / seconds if seconds else None,
                "threads": result.get("threads"),
                "device": result.get("device"),
            }
        )
    return rows


def _stamp(folder: Path) -> dict[str, str]:
    import hashlib

    if not folder.is_dir():
        return {}
    files = sorted(p for p in folder.iterdir() if p.is_file())
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _say(what: str, text: str) -> None:
    click.echo(f"{what:<9} {text}")
