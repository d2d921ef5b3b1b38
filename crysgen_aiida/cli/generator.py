"""``crysgen generator``: train, look at, bring in and take out generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from aiida.cmdline.groups import VerdiCommandGroup

from crysgen_aiida.cli.output import FORMATS, emit, emit_record, format_option
from crysgen_aiida.cli.pictures import check_output, overwrite_option, write_picture
from crysgen_aiida.cli.profiles import with_profile
from crysgen_aiida.cli.site import require_gpus, site_options


@click.group("generator", cls=VerdiCommandGroup)
def generator() -> None:
    """Train, list, show, export and import generators."""


@generator.command("train")
@click.argument("dataset", metavar="DATASET")
@click.option("--generator", "name", default="mattergpt", show_default=True, help="Name of the system.")
@click.option("--recipe", help="Train as a recipe says: its preset and which rows to learn from.")
@click.option("--preset", help="Named settings, e.g. tiny, small, starter, paper.")
@click.option("--protocol", default="balanced", show_default=True, help="fast, balanced or paper.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Setting of the spec; repeatable.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Threads the worker may use.")
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="GPUs to ask for.")
@site_options
@click.option("--start-from", metavar="GENERATOR", help="Fine-tune this generator.")
@click.option("--code", metavar="LABEL", help="Code of the worker; this machine's by default.")
@click.option("--label", default="", help="Name to call the generator by.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it until it ends.")
@with_profile
def train(dataset: str, name: str, recipe: str | None, preset: str | None, protocol: str,
          settings: tuple[str, ...], seed: int, threads: int | None, gpus: int, site: dict[str, Any],
          start_from: str | None, code: str | None, label: str, wait: bool) -> None:  # fmt: skip
    """Train a generator on DATASET (pk, uuid or label of a data set)."""
    from aiida import orm

    from crysgen_aiida.cli.following import follow, require_ok
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.cli.settings import nested
    from crysgen_aiida.cli.setup import default_code
    from crysgen_aiida.cli.submit import checked
    from crysgen_aiida.data.generator import GeneratorData
    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.generators.contract import get_generator
    from crysgen_aiida.workchains.train_generator import TrainGeneratorWorkChain

    spec = nested(settings)
    get_generator(name).make_spec(spec, preset)  # refuse here, before anything is submitted
    worker = orm.load_code(code) if code else default_code()
    require_gpus(worker, gpus)
    options = {**site, **{k: v for k, v in {"threads": threads, "gpus": gpus or None}.items() if v}}
    builder = TrainGeneratorWorkChain.get_builder_from_protocol(
        worker,
        load(dataset, CrystalSetData, "data set"),
        protocol=protocol,
        generator=name,
        recipe=recipe,
        preset=preset,
        spec=spec or None,
        seed=seed,
        start_from=load(start_from, GeneratorData, "generator") if start_from else None,
        options=options or None,
    )
    builder.train.train.metadata.label = label
    process = checked(builder)
    click.echo(f"Submitted training {process.pk}; follow it with `crysgen run status {process.pk}`.", err=True)
    if not wait:
        return
    follow([process], "train", tell=lambda text: click.echo(f"  {text}", err=True))
    require_ok([process])
    node = process.outputs["generator"]
    node.label = label or node.label
    emit_record(_record(node))


@generator.command("list")
@format_option
@with_profile
def list_(fmt: str) -> None:
    """List the generators of the profile."""
    from aiida import orm

    from crysgen_aiida.data.generator import GeneratorData

    query = orm.QueryBuilder().append(GeneratorData, tag="node").order_by({"node": {"id": "asc"}})
    rows = [_record(node) for node in query.all(flat=True)]
    columns = ["pk", "uuid", "label", "generator", "parameters", "conditions", "val_loss", "trained here"]
    emit(rows, fmt, columns=columns, empty="No generator yet; run `crysgen quickstart` or `crysgen generator train`.")


@generator.command("show")
@click.argument("generator_id", metavar="GENERATOR")
@format_option
@with_profile
def show(generator_id: str, fmt: str) -> None:
    """Show a generator: what it can be conditioned on, what it learned from, its loss curve."""
    from crysgen_aiida.cli.output import readable
    from crysgen_aiida.store.support import training_set_of

    node = _load(generator_id)
    training = training_set_of(node)
    record = {**_record(node), "weights_hash": node.weights_hash, "seed": node.seed, "spec": node.spec}
    if training is not None:
        record["training_set"] = training.uuid
        record["training_rows"] = training.n_ok
        record["labels"] = {k: v["n_valid"] for k, v in training.column_stats.items()}
    history = node.history()
    if fmt == "json":
        emit_record({**record, "history": history}, fmt)
        return
    if fmt == "csv":
        emit(history, fmt)
        return
    emit_record(record)
    losses = [h for h in history if isinstance(h.get("val_loss"), (int, float))]
    if losses:
        click.echo("\nvalidation loss  " + sparkline([float(h["val_loss"]) for h in losses]))
        click.echo(f"                 {readable(losses[0]['val_loss'])} → {readable(losses[-1]['val_loss'])}")


@generator.command("curve")
@click.argument("generators", metavar="GENERATOR...", nargs=-1, required=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Draw the curves into this file, .svg or .png."
)
@overwrite_option
@click.option(
    "--by",
    type=click.Choice(["epoch", "step"]),
    default="epoch",
    show_default=True,
    help="What to draw the losses against.",
)
@click.option(
    "--from",
    "first",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="EPOCH",
    help="Epoch the picture begins with: later ones differ less.",
)
@click.option(
    "--format",
    "fmt",
    type=click.Choice(FORMATS),
    help="How to print the epochs; a table if there is no --output, and else nothing.",
)
def curve(generators: tuple[str, ...], output: Path | None, overwrite: bool, by: str, first: int,
          fmt: str | None) -> None:  # fmt: skip
    """Show or draw learning curves: the losses of every epoch, the best one marked.

    GENERATOR is a pk, uuid or label, or the folder of a checkpoint made elsewhere. Several are drawn into one picture.
    """
    from crysgen_aiida.cli.curves import COLUMNS, curve_figure, find_training

    if output is not None:
        check_output(output, overwrite)
    trainings = list({training.name: training for training in map(find_training, generators)}.values())
    if output is not None:
        names = ", ".join(training.name for training in trainings)
        write_picture(output, curve_figure(trainings, by, first), f"Learning curve of {names}")
        click.echo(f"Wrote {output}.", err=True)
    if output is None or fmt:
        emit([row for training in trainings for row in training.rows()], fmt or "table", columns=COLUMNS)


@generator.command("latent")
@click.argument("generator_id", metavar="GENERATOR")
@click.option("--property", "name", metavar="NAME", help="Learned property to show; the first by default.")
@click.option(
    "--of",
    type=click.Choice(["label", "predicted"]),
    default="label",
    show_default=True,
    help="Its values: those of the data, or what the model reads.",
)
@click.option(
    "--designs", metavar="SET", help="Mark these designs in the picture: a set or a run (pk, uuid, label), or a file."
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Draw into this file, .svg or .png.")
@overwrite_option
@format_option
def latent(
    generator_id: str, name: str | None, of: str, designs: str | None, output: Path | None, overwrite: bool, fmt: str
) -> None:
    """Show along which dimensions of a latent space a property changes most; draw the training rows in two of them.

    GENERATOR is a pk, uuid or label, or the folder of a checkpoint. A change is in standard deviations of the property
    for one of the points along that dimension. First come the dimensions in which points lie farther apart (spread)
    than the encoder makes them wide (width): of the others the decoder can tell little.
    """
    from crysgen_aiida.cli.latent import COLUMNS, find_designs, find_latent, latent_figure, rows, values_of

    if output is not None:
        check_output(output, overwrite)
    elif designs:
        raise click.ClickException("--designs marks designs in a picture; say where to draw it with --output.")
    points = find_latent(generator_id)
    name, values = values_of(points, name, of)
    if output is not None:
        marked = find_designs(designs, points.means.shape[1]) if designs else None
        figure = latent_figure(points, name, of, values, marked)
        write_picture(output, figure, f"Latent space of {Path(generator_id).name} by {name}")
        click.echo(f"Wrote {output}.", err=True)
    emit(rows(points, name, of, values), fmt, columns=COLUMNS)


@generator.command("lineage")
@click.argument("generator_id", metavar="GENERATOR")
@click.option("--seed", type=click.IntRange(0), help="Only what was sampled with this seed.")
@format_option
@with_profile
def lineage(generator_id: str, seed: int | None, fmt: str) -> None:
    """Show everything a generator made: sequences, crystals, candidates, decisions, structures, tuned generators.

    Sets that were sampled but never screened are listed too. Totals count cached repetitions once.
    """
    from crysgen_aiida.store.explain import lineage as descent

    print_lineage(descent.lineage(_load(generator_id), seed), fmt, "This generator has made nothing yet.")


def print_lineage(found: Any, fmt: str, empty: str) -> None:
    """Print what was made from a node (:func:`crysgen_aiida.store.explain.lineage.lineage`)."""
    from crysgen_aiida.cli.output import to_json
    from crysgen_aiida.store.explain.lineage import rows_of

    if fmt == "json":
        click.echo(to_json(found))
        return
    if fmt == "csv":
        columns = ["what", "uuid", "label", "rows", "ok", "by", "seed", "as", "process", "from"]
        emit([*found["made"], *found["used"]], fmt, columns=columns)
        return
    emit(rows_of(found), empty=empty)
    if found["totals"]:
        click.echo("\nIn all: " + ", ".join(f"{n} {what}" for what, n in found["totals"].items()))


@generator.command("export")
@click.argument("generator_id", metavar="GENERATOR")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--overwrite", is_flag=True, help="Write into a folder that exists.")
@with_profile
def export(generator_id: str, folder: Path, overwrite: bool) -> None:
    """Write a generator's four files into FOLDER. For the graph as well use `verdi archive create`."""
    node = _load(generator_id)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise click.ClickException(f"{folder} is not empty; choose another folder or add --overwrite.")
    node.write(folder)
    click.echo(f"Wrote generator {node.uuid[:8]} to {folder}; `crysgen generator import {folder}` brings it in.")


@generator.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--label", default="", help="Name to call it by.")
@format_option
@with_profile
def import_(folder: Path, label: str, fmt: str) -> None:
    """Bring in a generator from its four files. Its training is unknown to the graph.

    A run of the worker made elsewhere keeps its origin with `crysgen run import` instead.
    """
    from crysgen_aiida.data.generator import GeneratorData

    node = GeneratorData.get_or_create(folder)
    if label:
        node.label = label
    emit_record(_record(node), fmt)


def sparkline(values: list[float], width: int = 40) -> str:
    """Return a curve drawn with block characters, at most ``width`` of them."""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    low, high = min(values), max(values)
    steps = "▁▂▃▄▅▆▇█"
    span = high - low or 1.0
    return "".join(steps[min(len(steps) - 1, int((v - low) / span * len(steps)))] for v in values)


def _load(text: str) -> Any:
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.data.generator import GeneratorData

    return load(text, GeneratorData, "generator")


def _record(node: Any) -> dict[str, Any]:
    from crysgen_aiida.cli.nodes import summary
    from crysgen_aiida.store.candidates import creator_of

    return {
        **summary(node),
        "uuid": node.uuid,
        "generator": f"{node.generator} {node.generator_version}",
        "parameters": node.n_parameters,
        "conditions": node.conditions,
        "val_loss": node.val_loss,
        "trained here": creator_of(node) is not None,
    }
