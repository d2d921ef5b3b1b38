"""The funnel of the piezoelectrics paper, run for a generator and for element substitution beside it.

Every arm is a design of its own, run by a daemon in a profile of its own: N strings, the gates and filters of a recipe,
a stated budget of relaxations, the same for all arms. The counts are those of ``crysgen store funnel``.

    python benchmarks/piezo_funnel.py                        200 strings an arm, 24 relaxations: minutes
    python benchmarks/piezo_funnel.py --full                 5,000 strings an arm, 500 relaxations
    python benchmarks/piezo_funnel.py --generator FOLDER     judge another checkpoint than the starter's

Stop it and repeat the command with the same ``--home``: finished arms are found again, others go on. Read the arms
afterwards with ``AIIDA_PATH=HOME crysgen -p piezo-funnel store funnel PK``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

PROFILE = "piezo-funnel"
RECIPES = ("mattergpt-piezo", "mattergpt-piezo-paper")
#: Extra of an arm's process: what was asked, so that the same arm is found again and another is not.
ARM = "crysgen_arm"
#: Counts stated in the paper: strings, reconstructed, new compositions, candidates.
PAPER = (5000, 4100, 1538, 28)
SHOWN = ("rank", "address", "reduced_formula", "space_group_loose", "e_above_reference", "formation_energy_per_atom",
         "band_gap", "dissimilarity", "n_competing_phases")  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="5,000 strings and 500 relaxations an arm")
    parser.add_argument("--n", type=int, help="strings an arm")
    parser.add_argument("--relax", type=int, help="relaxations an arm, at most")
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="both by default")
    parser.add_argument("--archive", type=Path, help="starter archive to use instead of the installed one")
    parser.add_argument("--generator", type=Path, help="folder of a checkpoint; the archive's generator by default")
    parser.add_argument("--no-baseline", action="store_true", help="leave out element substitution")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="threads of a job; arms run one after the other")
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "crysgen-piezo-funnel")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    asked = parser.parse_args()
    asked.n = asked.n or (5000 if asked.full else 200)
    asked.relax = asked.relax or (500 if asked.full else 24)
    asked.recipe = asked.recipe or list(RECIPES)
    return asked


def main() -> None:
    asked = arguments()
    home = asked.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    os.environ["AIIDA_PATH"] = str(home)
    os.environ.pop("AIIDA_PROFILE", None)
    from crysgen_aiida.cli.processes import start_daemon, stop_daemon
    from crysgen_aiida.cli.setup import ensure_all

    ensure_all(PROFILE)
    print(start_daemon(PROFILE, 1))
    try:
        report = run(asked)
    finally:
        print(stop_daemon(PROFILE))
    text = "\n".join(markdown(report))
    print(text)
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if asked.markdown:
        asked.markdown.write_text(text, encoding="utf-8")


# -- the arms ----------------------------------------------------------------------------------------------------------


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Run every arm and return its funnel, its candidates and what was used."""
    from crysgen_aiida.cli.starter import import_starter
    from crysgen_aiida.data.generator import GeneratorData

    uuids = json.loads(asked.archive.with_suffix(".json").read_text()) if asked.archive else None
    starter = import_starter(asked.archive, uuids)
    generator = GeneratorData.get_or_create(asked.generator) if asked.generator else starter.generator
    arms = []
    for recipe in asked.recipe:
        sources = [generator, *([] if asked.no_baseline else [baseline(starter.dataset, recipe, asked.threads)])]
        for source in sources:
            process = design(source, starter, recipe, asked)
            arms.append(judged(process, source, recipe))
    return {
        "n": asked.n,
        "relaxations_at_most": asked.relax,
        "seed": asked.seed,
        "generator": {"uuid": generator.uuid, "parameters": generator.n_parameters, "val_loss": generator.val_loss},
        "reference": {"name": starter.reference.metadata.get("name"), "entries": starter.reference.n_rows},
        "known": {
            "crystals": starter.dataset.n_rows,
            "formulas besides": starter.near_hull.n_rows if starter.near_hull is not None else 0,
        },
        "support": supported(starter.generator if asked.generator else generator, asked.recipe[0]),
        "paper": dict(zip(("strings", "reconstructed", "new compositions", "candidates"), PAPER, strict=True)),
        "arms": arms,
    }


def baseline(dataset: Any, recipe: str, threads: int) -> Any:
    """Return the table of prototypes a recipe's rows give, made once."""
    from crysgen_aiida.cli.setup import default_code
    from crysgen_aiida.workchains.train_generator import TrainGeneratorWorkChain

    builder = TrainGeneratorWorkChain.get_builder_from_protocol(
        default_code(), dataset, generator="substitution", recipe=recipe, options={"threads": threads}
    )
    builder.metadata.label = f"prototypes for {recipe}"
    return finished(builder, ["substitution", recipe, dataset.uuid]).outputs["generator"]


def design(generator: Any, starter: Any, recipe: str, asked: argparse.Namespace) -> Any:
    """Return the finished design of one arm."""
    from crysgen_aiida.cli.design import build, tell_support

    builder = build(
        generator,
        starter.reference,
        recipe=recipe,
        conditions={},
        known_sets={"starter": starter.dataset},
        known_formulas=(starter.near_hull.uuid,) if starter.near_hull is not None else (),
        n=asked.n,
        seed=asked.seed,
        threads=asked.threads,
        overrides={"relax": {"parameters": {"selection": {"n": asked.relax}}}},
    )
    builder.metadata.label = f"{recipe} {generator.generator}"
    print(f"\n{builder.metadata.label}")
    tell_support(generator, builder.conditions.get_dict())
    return finished(builder, [recipe, generator.uuid, asked.n, asked.relax, asked.seed], allow=(420,))


def finished(builder: Any, key: list[Any], allow: tuple[int, ...] = ()) -> Any:
    """Return the finished process of a step: found, taken up again or submitted now.

    :param allow: exit codes that are answers too, such as that no crystal met the constraints.
    """
    from aiida import orm

    from crysgen_aiida.cli.following import follow, require_ok
    from crysgen_aiida.cli.submit import checked
    from crysgen_aiida.crystals.hashing import json_hash

    name = json_hash(key)
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={f"extras.{ARM}": name}, tag="run")
    found = query.order_by({"run": {"id": "desc"}}).all(flat=True)
    good = [p for p in found if not p.is_terminated or p.is_finished_ok or p.exit_status in allow]
    process = good[0] if good else checked(builder)
    process.base.extras.set(ARM, name)
    print(f"process {process.pk}: {process.label}", flush=True)
    follow([process], process.label, tell=lambda text: print(f"  {text}", flush=True))
    if process.exit_status not in allow:
        require_ok([process])
    return process


# -- what came of them -------------------------------------------------------------------------------------------------


def judged(process: Any, generator: Any, recipe: str) -> dict[str, Any]:
    """Return the funnel of an arm as ``crysgen store funnel`` gives it, its candidates and their origin."""
    from crysgen_aiida.cli.indexing import synchronise
    from crysgen_aiida.store.explain.funnel import of_run
    from crysgen_aiida.store.explain.runs import find_run
    from crysgen_aiida.store.location import open_index

    index = open_index(PROFILE)
    try:
        synchronise(index)
        funnel = of_run(index, find_run(index, str(process.pk)))
    finally:
        index.close()
    candidates, first = ranked(process)
    return {
        "recipe": recipe,
        "generator": generator.generator,
        "process": process.pk,
        "stages": funnel["stages"],
        "seconds": throughput(process),
        "candidates": candidates,
        "trace": first,
    }


def ranked(process: Any) -> tuple[list[dict[str, Any]], str | None]:
    """Return the ranked candidates and the trace of the first."""
    from crysgen_aiida.store import candidates, export, trace

    if not process.is_finished_ok:
        return [], None
    found = candidates.of_process(process)
    best = export.best(found, int(process.inputs.n_promote.value))
    shown = [{name: record.get(name) for name in SHOWN} for record in best]
    return shown, trace.render(trace.trace(str(best[0]["address"]))) if best else None


def throughput(process: Any) -> dict[str, float]:
    """Return the seconds each stage worked, from the workers' own results."""
    from crysgen_aiida.cli.quickstart import throughputs

    return {row["stage"]: row["seconds"] for row in throughputs(process) if row["seconds"] is not None}


def supported(generator: Any, recipe: str) -> list[dict[str, Any]]:
    """Return how the training set of a generator supports the targets of a recipe."""
    from crysgen_aiida.store.support import support, training_set_of
    from crysgen_aiida.workchains.protocols import load_recipe

    training = training_set_of(generator)
    return [] if training is None else support(training.to_frame(), load_recipe(recipe)["conditions"])


def markdown(report: dict[str, Any]) -> Iterator[str]:
    """Yield the tables of a results page, line by line."""
    from crysgen_aiida.store.explain.funnel import STEP, rows_of

    yield from _support_table(report["support"])
    for arm in report["arms"]:
        yield f"\n### Recipe `{arm['recipe']}`, generator `{arm['generator']}` (N = {report['n']})\n"
        steps = [stage for stage in arm["stages"] if stage["kind"] == STEP]
        yield from _table(rows_of(steps), ("stage", "n", "of", "share", "95 %", "why not"))
        verdicts = [stage for stage in arm["stages"] if stage["kind"] != STEP]
        yield "\nVerdicts on all relaxed crystals, each by itself:\n"
        yield from _table(rows_of(verdicts, 1), ("stage", "n", "of", "share", "95 %", "unknown"))
        yield f"\nSeconds of work by stage: {', '.join(f'{k} {v:.0f}' for k, v in arm['seconds'].items())}.\n"
        if arm["candidates"]:
            yield from _table(arm["candidates"], SHOWN)
            yield f"\nOrigin of the first:\n\n```\n{arm['trace']}\n```"
        else:
            yield "No crystal passed every filter."


def _support_table(records: list[dict[str, Any]]) -> Iterator[str]:
    yield "Support of the targets in the training set:\n"
    columns = ("condition", "target", "labelled", "near", "tolerance", "beyond", "percentile", "median", "extreme")
    yield from _table(records, columns)


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(_cell(row.get(name)) for name in columns) + " |"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return " ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value)
    return str(value).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s")
