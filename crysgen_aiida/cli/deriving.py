"""``crysgen dataset relax``, ``phonons``, ``elastic``, ``kappa``: what a potential makes of the crystals of a set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from crysgen_aiida.cli.output import emit_record, format_option
from crysgen_aiida.cli.profiles import with_profile
from crysgen_aiida.cli.site import site_options

#: What a verb makes if it is no table.
_MADE = {"relax": "crystals", "reference": "reference"}

#: What each command takes when no potential is named; phonons need crystals at rest with the same one.
_DEFAULTS = {
    "relax": "chgnet by default",
    **dict.fromkeys(
        ("phonons", "elastic", "kappa"), "by default the one the crystals were relaxed with, else sevennet"
    ),
}


def derive(verb: str, node: Any, parameters: Mapping[str, Any] | None, *, what: str, threads: int | None,
           site: Mapping[str, Any], code: str | None, wait: bool, fmt: str, label: str = "") -> None:  # fmt: skip
    """Submit a verb that works on one data set, and follow it until its set or table is there.

    :param what: of the data set is made, e.g. ``fingerprints``.
    :param label: of what is made; by default it says of what it was made.
    :raises click.ClickException: if the parameters are refused, or the process fails.
    """
    from crysgen_aiida.cli.following import follow, require_ok
    from crysgen_aiida.cli.submit import sentence, submit_verb

    try:
        process = submit_verb(
            verb, {"crystals": node}, parameters, threads=threads, options=site, code=code, label=label
        )
    except ValueError as error:
        raise click.ClickException(sentence(str(error))) from error
    click.echo(f"Submitted {what} {process.pk}; follow them with `crysgen run status {process.pk}`.", err=True)
    if not wait:
        return
    follow([process], verb, tell=lambda text: click.echo(f"  {text}", err=True))
    require_ok([process])
    made: Any = process.outputs[_MADE.get(verb, "table")]
    made.label = made.label or label or f"{what} of {node.label or node.uuid[:8]}"
    record = {"pk": made.pk, "uuid": made.uuid, "rows": made.n_rows, "ok": made.n_ok}
    emit_record({**record, "method": made.metadata.get("method")}, fmt)


def _default(verb: str, node: Any) -> str:
    """Return the potential of screening, the one the crystals are at rest with, or the better judge."""
    from crysgen_aiida.physics.judges import DEFAULT_JUDGE
    from crysgen_aiida.physics.potentials import DEFAULT_POTENTIAL

    if verb == "relax":
        return DEFAULT_POTENTIAL
    record = node.metadata.get("potential")
    return str(record["name"]) if isinstance(record, Mapping) and "name" in record else DEFAULT_JUDGE


def _options(verb: str, settings: str) -> Callable[[Callable[..., None]], click.Command]:
    """Return a decorator that gives a command the arguments these commands share."""

    def wrap(function: Callable[..., None]) -> click.Command:
        for decorate in reversed(
            (
                click.argument("dataset_id", metavar="DATASET"),
                click.option("--potential", help=f"Potential to compute with; {_DEFAULTS[verb]}."),
                click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help=f"{settings}; repeatable."),
                click.option("--threads", type=click.IntRange(1), help="Threads the worker may use."),
                site_options,
                click.option("--code", metavar="LABEL", help="Code of the worker; this machine's by default."),
                click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it until it ends."),
                format_option,
                with_profile,
            )
        ):
            function = decorate(function)
        return click.command(verb)(function)

    return wrap


def _run(verb: str, what: str, dataset_id: str, potential: str | None, settings: tuple[str, ...], **how: Any) -> None:
    from crysgen_aiida.cli.nodes import load
    from crysgen_aiida.cli.settings import nested
    from crysgen_aiida.data.packed import CrystalSetData

    node = load(dataset_id, CrystalSetData, "data set")
    parameters = {"potential": {"name": potential or _default(verb, node)}, verb: nested(settings)}
    derive(verb, node, parameters, what=what, **how)


@_options("relax", "Setting of the relaxation, e.g. fmax=0.005, optimizer=lbfgs")
def relax(**given: Any) -> None:
    """Relax the crystals of a data set, atoms and cell, with a potential.

    Phonons and elastic constants need crystals at rest: --set fmax=0.005 --set max_steps=500; --set optimizer=lbfgs
    takes fewer steps, and --set fix_symmetry=true keeps the space group.
    """
    _run("relax", "relaxed crystals", **given)


@_options("phonons", "Setting of the phonons, e.g. min_length=15, max_atoms=800")
def phonons(**given: Any) -> None:
    """Compute phonons of a data set by a potential, and say which crystals are at a minimum of its energy.

    The crystals must be relaxed with the same potential (crysgen dataset relax); others are refused with a reason.
    """
    _run("phonon", "phonons", **given)


@_options("elastic", "Setting of the strains, e.g. strains=[0.005]")
def elastic(**given: Any) -> None:
    """Compute elastic constants of a data set by a potential: C_ij, moduli, stability.

    The crystals must be relaxed with the same potential (crysgen dataset relax); others are refused with a reason.
    """
    _run("elastic", "elastic constants", **given)


@_options("kappa", "Setting of the conductivity, e.g. mesh_lengths=[50,80], method=lbte")
def kappa(**given: Any) -> None:
    """Compute the lattice thermal conductivity of a data set by a potential, from three-phonon scattering.

    The crystals must be relaxed with the same potential (crysgen dataset relax); others are refused with a reason. Few
    potentials have the third derivatives right: the verdict of each row says what is known of this one.
    """
    _run("kappa", "thermal conductivity", **given)
