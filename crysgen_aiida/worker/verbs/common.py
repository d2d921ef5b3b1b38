"""What several verbs need: the generator of the job, and the promises of the contract checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.errors import BadInput, BadJob, CrysgenError
from crysgen_aiida.crystals.table import PackedTable, PropertyTable, ReferenceSet
from crysgen_aiida.generators.contract import Generator, GeneratorInfo, build_spec, get_generator
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun

T = TypeVar("T", bound=PackedTable)


def load_generator(job: Job) -> tuple[GeneratorInfo, Generator, Any]:
    """Return the info, the implementation and the spec of the job's generator."""
    assert job.generator is not None
    info = get_generator(job.generator.name)
    spec = info.make_spec(job.generator.spec, job.generator.preset)
    return info, info.load(), spec


def make_settings(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """Build a frozen dataclass of settings from a job's parameters.

    :raises BadInput: if a value is outside what the settings allow.
    """
    try:
        return build_spec(cls, values, where)
    except (TypeError, ValueError) as error:
        raise BadInput(f"The settings {where.rstrip('.')} are not usable: {error}") from error


def potential_name(job: Job) -> str:
    """Return the name of the job's potential.

    :raises BadJob: if it is not given as ``{"name": …}``.
    """
    potential = job.parameters["potential"]
    name = potential.get("name")
    if not isinstance(name, str) or set(potential) != {"name"}:
        raise BadJob(
            f"The parameter 'potential' of {job.verb.name} must be {{\"name\": …}} with the name of a potential only."
        )
    return name


def of_potential(
    job: Job, inputs: Inputs, run: WorkerRun, compute: Callable[..., PropertyTable], settings: type, what: str
) -> dict[str, PropertyTable]:
    """Return the table that ``compute`` makes of the job's crystals with its potential, one row a crystal.

    :param settings: the frozen dataclass of the verb's settings, which the job has under the name of the verb.
    :param what: the table holds, for errors.
    :raises BadJob: if the potential is not named.
    """
    crystals = inputs.crystals("crystals")
    name = job.verb.name
    spec = make_settings(settings, job.parameters[name], f"{name}.")
    table = compute(crystals, potential=potential_name(job), spec=spec, run=run)
    expect_rows(table, len(crystals), what)
    return {"table": with_parents(table, "crystals")}


def known_formulas(inputs: Inputs) -> dict[str, frozenset[str]]:
    """Return the reduced formulas of the reference tables that crystals must be new against, by label."""
    from crysgen_aiida.physics.reference import reduced_formulas

    held = inputs.namespaces.get("known_formulas", {})
    return {label: reduced_formulas(table) for label, table in held.items() if isinstance(table, ReferenceSet)}


def expect_rows(output: PackedTable, n: int, who: str) -> None:
    """Refuse an output that has not one row for each row of the input: rows are never dropped.

    :raises CrysgenError: naming the generator or step that broke the contract.
    """
    if len(output) != n:
        raise CrysgenError(
            f"{who} returned {len(output)} rows for {n}; every row must come back, a failure as a row with a reason."
        )


def with_parents(output: T, label: str) -> T:
    """Return ``output`` with lineage: row i comes from row i of the input ``label``, unless it says so itself."""
    n = len(output)
    named = output.column("parent_input")
    if all(name == label for name in named) and None not in output.column("parent_row"):
        return output
    if any(name is not None for name in named):
        raise CrysgenError(
            f"The output names {sorted({str(name) for name in named})} as its parent, but it comes from {label!r}."
        )
    fields = {field.name: field for field in schema.required_schema(output.kind)}
    return output.with_columns(
        {
            fields["parent_input"]: pa.array([label] * n, type=pa.string()),
            fields["parent_row"]: pa.array(range(n), type=pa.int64()),
        }
    )
