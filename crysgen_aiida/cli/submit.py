"""Start one verb as a process: the same few lines for every command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from aiida.orm import ProcessNode


def submit_verb(
    verb: str,
    inputs: Mapping[str, Any],
    parameters: Mapping[str, Any] | None = None,
    *,
    generator: Mapping[str, Any] | None = None,
    seed: int | None = None,
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    code: str | None = None,
    label: str = "",
) -> ProcessNode:
    """Submit a verb's restart chain to the daemon.

    :param inputs: sets by label, e.g. ``{"crystals": node}``.
    :param generator: ``{"name", "preset", "spec"}`` for the verbs that take one.
    :param options: ``metadata.options`` of the job, e.g. its wall time.
    :param code: label of the worker's code; this machine's by default.
    :return: the process, not yet finished.
    """
    from aiida import orm
    from aiida.engine import submit

    from crysgen_aiida.cli.setup import default_code
    from crysgen_aiida.workchains.base import BY_VERB

    builder: Any = BY_VERB[verb].get_builder()
    job = builder[verb]
    job.code = orm.load_code(code) if code else default_code()
    for name, node in inputs.items():
        setattr(job, name, node)
    if parameters:
        job.parameters = orm.Dict(dict(parameters))
    if seed is not None:
        job.seed = orm.Int(seed)
    if generator is not None:
        job.generator_name = orm.Str(generator["name"])
        if generator.get("preset"):
            job.preset = orm.Str(generator["preset"])
        if generator.get("spec"):
            job.spec = orm.Dict(dict(generator["spec"]))
    for name, value in {**(options or {}), **({"threads": threads} if threads else {})}.items():
        setattr(job.metadata.options, name, value)
    builder.metadata.label = job.metadata.label = label
    process: ProcessNode = submit(builder)
    return process


def checked(builder: Any) -> Any:
    """Submit a builder; what its validators say becomes a usage error instead of a traceback."""
    from aiida.engine import submit

    try:
        return submit(builder)
    except ValueError as error:
        raise click.ClickException(sentence(str(error))) from error


def sentence(text: str) -> str:
    """Return the sentence in AiiDA's validation message, without the port it was found on."""
    lines = [line for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else text).strip()
