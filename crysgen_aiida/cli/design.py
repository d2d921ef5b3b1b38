"""``crysgen design``: ask a generator for crystals with given properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from crysgen_aiida.cli.output import emit, emit_record, format_option
from crysgen_aiida.cli.profiles import with_profile
from crysgen_aiida.cli.site import require_gpus, site_options


@click.command("design")
@click.option("--recipe", help="Named wish, e.g. mattergpt-piezo; `--recipe list` shows them.")
@click.option("--generator", "generator_id", metavar="GENERATOR", help="pk, uuid or label; the newest by default.")
@click.option("--reference", "reference_id", metavar="NODE", help="Reference energies; the newest by default.")
@click.option("--known", multiple=True, metavar="DATASET", help="Set that candidates must be new against; repeatable.")
@click.option("--known-formulas", "formula_ids", multiple=True, metavar="REFERENCE",
              help="Table whose formulas count as known too; repeatable.")  # fmt: skip
@click.option("--fingerprints", "fingerprint_ids", multiple=True, metavar="TABLE",
              help="Fingerprints of crystals that candidates must be unlike; repeatable.")  # fmt: skip
@click.option("--set", "conditions", multiple=True, metavar="CONDITION=VALUE", help="Target, e.g. piezo_max=7.5.")
@click.option("--n", type=click.IntRange(1), help="Sequences to sample.")
@click.option("--promote", type=click.IntRange(0), help="Best candidates to make structures of.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--protocol", default="fast", show_default=True, help="Effort: fast, balanced or paper.")
@click.option("--override", "overrides", multiple=True, metavar="STAGE.KEY=VALUE", help="Setting of a stage.")
@click.option("--threads", type=click.IntRange(1), help="Threads the worker may use.")
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="GPUs to ask for.")
@site_options
@click.option("--code", metavar="LABEL", help="Code of the worker; this machine's by default.")
@click.option("--label", default="", help="Name to call the run by.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it until it ends.")
@format_option
@with_profile
def design(recipe: str | None, generator_id: str | None, reference_id: str | None, known: tuple[str, ...],
           formula_ids: tuple[str, ...], fingerprint_ids: tuple[str, ...], conditions: tuple[str, ...],
           n: int | None, promote: int | None, seed: int, protocol: str, overrides: tuple[str, ...],
           threads: int | None, gpus: int, site: dict[str, Any], code: str | None, label: str, wait: bool,
           fmt: str) -> None:  # fmt: skip
    """Sample, decode, relax, screen, rank and promote crystals for a wish.

    The wish is a recipe, conditions given with --set, or both; how many training crystals lie near each target is
    printed beside it.
    """
    from crysgen_aiida.cli.following import follow, require_ok
    from crysgen_aiida.cli.settings import flat, nested
    from crysgen_aiida.cli.submit import checked
    from crysgen_aiida.workchains.protocols import recipe_names

    if recipe == "list":
        emit([{"recipe": name, "what for": text} for name, text in recipe_names().items()], fmt)
        return
    asked = flat(conditions)
    generator, reference = find_generator(generator_id), find_reference(reference_id)
    builder = build(
        generator, reference, recipe=recipe, conditions=asked, known=known, known_formulas=formula_ids,
        fingerprints=fingerprint_ids, n=n,
        n_promote=promote, seed=seed,
        protocol=protocol, overrides=nested(overrides), threads=threads, gpus=gpus, site=site, code=code,
    )  # fmt: skip
    builder.metadata.label = label or recipe or "design"
    supported = tell_support(generator, builder.conditions.get_dict())
    process = checked(builder)
    click.echo(f"Submitted design {process.pk}; follow it with `crysgen run status {process.pk}`.", err=True)
    if wait:
        from crysgen_aiida.cli.indexing import sync_afterwards

        follow([process], "design", tell=lambda text: click.echo(f"  {text}", err=True))
        require_ok([process])
        sync_afterwards()
        click.echo(f"Done; see `crysgen candidate rank {process.pk}`.", err=True)
    record = {"pk": process.pk, "uuid": process.uuid, "label": process.label}
    emit_record({**record, "support": supported} if fmt == "json" else record, fmt)


def build(generator: Any, reference: Any, *, recipe: str | None, conditions: Mapping[str, Any],
          known: tuple[str, ...] = (), known_formulas: tuple[str, ...] = (),
          fingerprints: tuple[str, ...] = (), n: int | None = None,
          n_promote: int | None = None, seed: int = 0,
          protocol: str = "fast", overrides: Mapping[str, Any] | None = None, threads: int | None = None,
          gpus: int = 0, site: Mapping[str, Any] | None = None, code: str | None = None,
          known_sets: Mapping[str, Any] | None = None) -> Any:  # fmt: skip
    """Return the builder of a design. Conditions given here are laid over the recipe's."""
    from aiida import orm

    from crysgen_aiida.cli.fingerprints import fingerprints_for
    from crysgen_aiida.cli.setup import default_code
    from crysgen_aiida.workchains.inverse_design import InverseDesignWorkChain, needs, recipe_settings
    from crysgen_aiida.workchains.protocols import load_recipe

    wish = {**(load_recipe(recipe)["conditions"] if recipe else {}), **conditions}
    if not wish and not recipe:
        raise click.UsageError("Nothing is asked for: give --recipe NAME, or --set CONDITION=VALUE.")
    worker = orm.load_code(code) if code else default_code()
    require_gpus(worker, gpus)
    options: dict[str, Any] = dict(site or {})
    if threads:
        options["threads"] = threads
    if gpus:
        options["gpus"] = gpus
    if options:
        options["resources"] = {"num_machines": 1, "num_mpiprocs_per_machine": 1}
    sets = dict(known_sets or {}) or _known(known, generator)
    rules = recipe_settings(generator, protocol=protocol, recipe=recipe, overrides=overrides)
    return InverseDesignWorkChain.get_builder_from_protocol(
        worker,
        generator,
        reference,
        protocol=protocol,
        recipe=recipe,
        conditions=wish,
        known=sets,
        known_formulas=_formulas(known_formulas),
        fingerprints=fingerprints_for(sets, fingerprints, needed=needs(rules)[1]),
        n=n,
        n_promote=n_promote,
        seed=seed,
        overrides=dict(overrides or {}),
        options=options or None,
    )


def find_generator(text: str | None) -> Any:
    """Return the generator meant, or the newest."""
    from crysgen_aiida.cli.nodes import load, newest
    from crysgen_aiida.data.generator import GeneratorData

    if text:
        return load(text, GeneratorData, "generator")
    return newest(GeneratorData, "generator", "run `crysgen quickstart` or `crysgen generator train`.")


def find_reference(text: str | None) -> Any:
    """Return the reference energies meant, or the newest that are self-consistent."""
    from aiida import orm

    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.data.packed import ReferenceEnergiesData

    if text:
        return load(text, ReferenceEnergiesData, "set of reference energies")
    query = orm.QueryBuilder()
    query.append(ReferenceEnergiesData, filters={"attributes.metadata.scheme": "self-consistent"}, tag="node")
    node = query.order_by({"node": {"id": "desc"}}).limit(1).first(flat=True)
    if node is None:
        raise click.ClickException(
            "This profile holds no self-consistent reference energies; `crysgen quickstart` brings some, or give "
            "--reference."
        )
    return node


def tell_support(generator: Any, conditions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Print how many training crystals lie near each target, on stderr; return the records."""
    from tabulate import tabulate

    from crysgen_aiida.cli.output import readable
    from crysgen_aiida.crystals.properties import PROPERTIES
    from crysgen_aiida.store.support import support, training_set_of, warnings_of

    training = training_set_of(generator)
    if training is None:
        click.echo("The generator's training set is not in the graph: its support of the targets is unknown.", err=True)
        return []
    records = support(training.to_frame(), conditions)
    units = {name: PROPERTIES[name].unit for name in conditions if name in PROPERTIES}
    rows = []
    for record in records:
        unit = units.get(record["condition"], "")
        row = {"asked for": record["condition"], "target": f"{readable(record['target'])} {unit}".strip()}
        row["near it in training"] = f"{readable(record.get('near'))} of {readable(record.get('labelled'))} labelled"
        if record.get("min") is not None:
            row["at or beyond it"] = readable(record["beyond"])
            row["percentile"] = f"{record['percentile']:.1f}"
            row["range"] = f"{readable(record['min'])} … {readable(record['median'])} … {readable(record['max'])}"
            row["extreme"] = " ".join(f"{value:.4g}" for value in record["extreme"])
        row["note"] = record.get("note", "")
        rows.append(row)
    click.echo(tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True), err=True)
    for sentence in warnings_of(records, units):
        click.echo(f"Warning: {sentence}", err=True)
    return records


def _formulas(texts: tuple[str, ...]) -> dict[str, Any]:
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.data.packed import ReferenceEnergiesData

    held = [load(text, ReferenceEnergiesData, "table of formulas") for text in texts]
    return {f"formulas{i}": node for i, node in enumerate(held)}


def _known(texts: tuple[str, ...], generator: Any) -> dict[str, Any]:
    """Return the sets candidates must be new against: those named, else the data set the generator learned from."""
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.store.candidates import creator_of, inputs_of
    from crysgen_aiida.store.support import training_set_of

    if texts:
        return {f"set{i}": load(text, CrystalSetData, "data set") for i, text in enumerate(texts)}
    training = training_set_of(generator)
    prepared = creator_of(training) if training is not None else None
    learned = inputs_of(prepared).get("crystals") if prepared is not None else None
    return {"training": learned} if learned is not None else {}
