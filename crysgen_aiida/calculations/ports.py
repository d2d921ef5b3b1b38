"""Inputs, options and exit codes every job has, and the sentences that refuse what cannot work."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiida import orm
from aiida.engine.processes.process_spec import CalcJobProcessSpec

from crysgen_aiida.calculations import gpus
from crysgen_aiida.calculations.versions import WORKER_API
from crysgen_aiida.crystals.errors import ALL_ERRORS
from crysgen_aiida.data.generator import GeneratorData

if TYPE_CHECKING:
    from crysgen_aiida.calculations.base import WorkerCalculation

#: The worker stops this long before its limit, so a shorter limit leaves it nothing.
SHORTEST_WALLTIME = 10


def define_exit_codes(spec: Any) -> None:
    """Declare the worker's exit codes. All invalidate the cache: a failure is tried again, never repeated from it."""
    spec.exit_code(
        300,
        "ERROR_NO_RESULT",
        invalidates_cache=True,
        message="The worker left no result.json: it was killed; finished parts are kept and the run can be resumed.",
    )
    spec.exit_code(
        301,
        "ERROR_BAD_RESULT",
        invalidates_cache=True,
        message="result.json or an output is malformed, missing or not what its hash says.",
    )
    for error in ALL_ERRORS:
        spec.exit_code(error.exit_code, error.label, invalidates_cache=True, message=error.summary)


def define_inputs(cls: type[WorkerCalculation], spec: CalcJobProcessSpec) -> None:
    """Define the sets a verb takes, its parameters, seed and parent."""
    for label, node_class in cls.SETS.items():
        spec.input(label, valid_type=node_class, help=f"The {label} that the verb {cls.VERB} works on.")
    for label, node_class in cls.OPTIONAL_SETS.items():
        spec.input(label, valid_type=node_class, required=False, help=f"Optional {label} for the verb {cls.VERB}.")
    for label, node_class in cls.NAMESPACES.items():
        spec.input_namespace(label, valid_type=node_class, required=False, dynamic=True, help=f"Named {label} sets.")
    if cls.NAMES_GENERATOR:
        spec.input("generator_name", valid_type=orm.Str, serializer=orm.to_aiida_type, help="Name of the generator.")
    if cls.NAMES_GENERATOR or GeneratorData in cls.SETS.values():
        spec.input(
            "spec",
            valid_type=orm.Dict,
            required=False,
            serializer=orm.to_aiida_type,
            help="Settings of the generator that differ from its defaults, nested as its spec is.",
        )
        spec.input(
            "preset",
            valid_type=orm.Str,
            required=False,
            serializer=orm.to_aiida_type,
            help="Named settings of the generator, on which `spec` is laid.",
        )
    spec.input(
        "parameters",
        valid_type=orm.Dict,
        default=lambda: orm.Dict({}),
        serializer=orm.to_aiida_type,
        validator=functools.partial(_validate_parameters, cls),
        help=" ".join(f"{name}: {meaning}." for name, meaning in cls.PARAMETERS.items()) or "This verb has none.",
    )
    spec.input(
        "seed",
        valid_type=orm.Int,
        default=lambda: orm.Int(0),
        serializer=orm.to_aiida_type,
        validator=_validate_seed,
        help="Seed of every random number; rows have their own, so batches and restarts change nothing.",
    )
    spec.input(
        "worker_api",
        valid_type=orm.Str,
        default=lambda: orm.Str(WORKER_API),
        serializer=orm.to_aiida_type,
        help="Version of the worker's behaviour. It is raised whenever the same job gives another result.",
    )
    spec.input(
        "parent_folder",
        valid_type=orm.RemoteData,
        required=False,
        help="Folder of an unfinished run of the same job; its finished parts are taken over.",
    )


def define_options(spec: CalcJobProcessSpec) -> None:
    """Define what a job may use; nothing here changes a result."""
    options: Any = spec.inputs["metadata"]["options"]  # type: ignore[index]
    options["parser_name"].default = "crysgen.worker"
    options["resources"].default = lambda: {"num_machines": 1, "num_mpiprocs_per_machine": 1}
    options["resources"].required = False  # so that other options can be set in a builder by themselves
    options["withmpi"].default = False
    options["max_wallclock_seconds"].validator = _validate_walltime
    spec.input(
        "metadata.options.threads",
        valid_type=int,
        required=False,
        validator=_positive,
        help="Threads the worker may use; by default `resources.num_cores_per_mpiproc`, else 1.",
    )
    spec.input(
        "metadata.options.device",
        valid_type=str,
        default="auto",
        validator=lambda value, _: (
            None if value in ("auto", "cpu", "cuda") else f"device is {value!r}; use auto, cpu or cuda."
        ),
        help="Where to compute: auto, cpu or cuda.",
    )
    spec.input(
        "metadata.options.gpus",
        valid_type=int,
        default=0,
        validator=lambda value, _: None if value >= 0 else f"gpus is {value}; give 0 or more.",
        help="Number of GPUs to ask the scheduler for; without a scheduler, number of slots to take.",
    )
    spec.input(
        "metadata.options.gpu_slots",
        valid_type=dict,
        required=False,
        validator=_validate_slots,
        help="{'directory': …, 'count': …}: the GPU slots of a computer without a scheduler, taken at run time.",
    )
    spec.input(
        "metadata.options.batch_scale",
        valid_type=float,
        default=1.0,
        validator=lambda value, _: None if 0 < value <= 1 else f"batch_scale is {value}; give more than 0, at most 1.",
        help="Factor on compute batches; made smaller after memory ran out. It changes no result.",
    )


def validate_all(
    cls: type[WorkerCalculation], base: Callable[..., str | None] | None, inputs: Any, ctx: Any
) -> str | None:
    """Return a sentence if the inputs cannot work together, else None."""
    if base is not None and (problem := base(inputs, ctx)) is not None:
        return problem
    if inputs is None or "code" not in inputs:
        return None
    needed = (*cls.SETS, *(("generator_name",) if cls.NAMES_GENERATOR else ()))
    if any(label not in inputs for label in needed):
        return None  # exposed in a work chain, which hands these in later; a missing one is said by its own port
    problem = cls.validate_together(inputs)
    if problem is not None:
        return problem
    options = inputs.get("metadata", {}).get("options", {})
    computer = inputs["code"].computer or inputs["metadata"].get("computer")
    if computer is None:
        return None
    if (problem := _resources_problem(options, computer)) is not None:
        return problem
    directive = computer.get_property(gpus.DIRECTIVE_PROPERTY, None)
    return gpus.refuse_gpus(
        computer.scheduler_type, options.get("gpus", 0), declared_slots(options, computer), directive
    )


def _resources_problem(options: Mapping[str, Any], computer: orm.Computer) -> str | None:
    resources = dict(options.get("resources", None) or {})
    if not resources:
        return None
    scheduler = computer.get_scheduler()
    try:
        scheduler.preprocess_resources(resources, computer.get_default_mpiprocs_per_machine())
        scheduler.validate_resources(**resources)
    except ValueError as error:
        return f"metadata.options.resources do not suit the scheduler {computer.scheduler_type}: {error}"
    return None


def declared_slots(options: Mapping[str, Any], computer: orm.Computer) -> dict[str, Any] | None:
    """Return the GPU slots a job may take: its own option, else those declared on the computer."""
    declared = options.get("gpu_slots", None) or computer.get_property(gpus.SLOTS_PROPERTY, None)
    return dict(declared) if declared else None


def _validate_parameters(cls: type[WorkerCalculation], value: orm.Dict | None, _: Any) -> str | None:
    held = value.get_dict() if value is not None else {}
    unknown = sorted(set(held) - set(cls.PARAMETERS))
    if unknown:
        known = ", ".join(cls.PARAMETERS) or "none"
        return f"the verb {cls.VERB} has no parameter {', '.join(unknown)}; it has {known}."
    return cls.validate_values(held)


def _validate_seed(value: orm.Int | None, _: Any) -> str | None:
    if value is not None and not 0 <= value.value < 2**63:
        return f"seed is {value.value}; give a whole number from 0 to 2^63 - 1."
    return None


def _validate_walltime(value: int | None, _: Any) -> str | None:
    if value is not None and value <= SHORTEST_WALLTIME:
        return (
            f"max_wallclock_seconds is {value}, but the worker stops {SHORTEST_WALLTIME} s before the limit and could "
            "do nothing; give it more."
        )
    return None


def _validate_slots(value: Mapping[str, Any] | None, _: Any) -> str | None:
    if value is None or (set(value) == {"directory", "count"} and isinstance(value["count"], int)):
        return None
    return f"gpu_slots is {dict(value)!r}; give {{'directory': folder all jobs see, 'count': number of GPUs}}."


def _positive(value: int | None, _: Any) -> str | None:
    return None if value is None or value > 0 else f"threads is {value}; give 1 or more."
