"""WorkerCalculation: one calculation job for every verb of the worker."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob
from aiida.engine.processes.process_spec import CalcJobProcessSpec

from crysgen_aiida.calculations import gpus
from crysgen_aiida.calculations.versions import WORKER_API, code_versions
from crysgen_aiida.crystals.errors import ALL_ERRORS
from crysgen_aiida.data.generator import FILES, GeneratorData
from crysgen_aiida.data.packed import PackedData

JOB_FILE, RESULT_FILE, LOG_FILE = "job.json", "result.json", "crysgen.log"
JOURNAL_FILE, PROGRESS_FILE = "journal.jsonl", "progress.jsonl"
OUTPUT_FOLDER, PARENT_FOLDER = "outputs", "parent"

#: What a new run takes over from the folder of the one before it, if it is the same job.
PARENT_CONTENT = (JOB_FILE, "origin.json", JOURNAL_FILE, "parts", "state")

JOB_SCHEMA = 1

#: Options that do not change what is computed. They are kept out of the node's attributes, hence out of the cache hash.
UNHASHED_OPTIONS = ("threads", "device", "gpus", "gpu_slots", "batch_scale")

#: The worker stops this long before its limit, so a shorter limit leaves it nothing.
SHORTEST_WALLTIME = 10


class WorkerCalculation(CalcJob):
    """Run one verb of ``crysgen-worker`` on packed sets.

    Subclasses name the verb and its sets; everything else is here. What changes a result is an input node or the
    ``cache_version`` attribute, both part of the cache hash; what does not (threads, device, GPUs, slots) is neither.
    """

    VERB: ClassVar[str] = ""
    #: Link label to node class: what the verb needs, may be given, may be given any number of, and makes.
    SETS: ClassVar[Mapping[str, type[orm.Data]]] = {}
    OPTIONAL_SETS: ClassVar[Mapping[str, type[orm.Data]]] = {}
    NAMESPACES: ClassVar[Mapping[str, type[orm.Data]]] = {}
    OUTPUTS: ClassVar[Mapping[str, type[orm.Data]]] = {}
    #: Parameter names the verb knows, to the sentence that says what each is.
    PARAMETERS: ClassVar[Mapping[str, str]] = {}
    #: Whether the job names a generator through ``generator_name`` (a trained one names itself).
    NAMES_GENERATOR: ClassVar[bool] = False

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define inputs, options, outputs and exit codes."""
        super().define(spec)
        _define_inputs(cls, spec)
        _define_options(spec)
        for label, node_class in cls.OUTPUTS.items():
            spec.output(label, valid_type=node_class, required=True, help=f"The {label} the verb {cls.VERB} made.")
        define_exit_codes(spec)
        spec.inputs.validator = functools.partial(_validate_all, cls, spec.inputs.validator)

    @classmethod
    def validate_values(cls, values: Mapping[str, Any]) -> str | None:
        """Return a sentence if the parameters are wrong by themselves, else None."""
        return None

    @classmethod
    def validate_together(cls, inputs: Mapping[str, Any]) -> str | None:
        """Return a sentence if the inputs do not fit each other, else None."""
        return None

    # -- writing the job ------------------------------------------------------------------------------------------

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write ``job.json`` and list what to copy there and back."""
        with folder.open(JOB_FILE, "w", encoding="utf-8") as handle:
            json.dump(self.job(), handle, indent=1, sort_keys=True)
            handle.write("\n")
        info = CalcInfo()
        info.local_copy_list = [
            (node.uuid, name, str(path / name) if isinstance(node, GeneratorData) else str(path))
            for _, node, path in self._sets()
            for name in (FILES if isinstance(node, GeneratorData) else (PackedData.FILENAME,))
        ]
        info.remote_copy_list = []
        if "parent_folder" in self.inputs:
            parent = self.inputs.parent_folder
            folder.get_subfolder(PARENT_FOLDER, create=True)
            source = PurePosixPath(parent.get_remote_path())
            info.remote_copy_list = [
                (parent.computer.uuid, str(source / name), f"{PARENT_FOLDER}/{name}") for name in PARENT_CONTENT
            ]
        info.codes_info = []
        if "code" in self.inputs:
            code = CodeInfo()
            code.code_uuid = self.inputs.code.uuid
            code.cmdline_params = [self.VERB, JOB_FILE]
            code.stdout_name = LOG_FILE
            code.join_files = True
            code.withmpi = False
            info.codes_info = [code]
        info.retrieve_list = [RESULT_FILE, JOURNAL_FILE, PROGRESS_FILE, LOG_FILE]
        # the sets become nodes of their own: kept in `retrieved` as well, everything would be stored twice
        info.retrieve_temporary_list = [OUTPUT_FOLDER]
        return info

    def job(self) -> dict[str, Any]:
        """Return the content of ``job.json``."""
        inputs: dict[str, Any] = {}
        for label, _, path in self._sets():
            name, _, sub = label.partition(".")
            if sub:
                inputs.setdefault(name, {})[sub] = str(path)
            else:
                inputs[name] = str(path)
        return {
            "job_schema": JOB_SCHEMA,
            "worker_api": self.inputs.worker_api.value,
            "verb": self.VERB,
            "inputs": inputs,
            "generator": self._generator(),
            "parameters": self.inputs.parameters.get_dict(),
            "seed": self.inputs.seed.value,
            "resources": self._resources(),
            "parent_folder": PARENT_FOLDER if "parent_folder" in self.inputs else None,
        }

    def presubmit(self, folder: Folder) -> CalcInfo:
        """Add the request for GPUs to the submit script AiiDA wrote."""
        info = super().presubmit(folder)
        asked, computer = int(self.options.get("gpus", 0)), self.node.computer
        name = self.options.submit_script_filename
        if asked and computer is not None and "remote_folder" not in self.inputs:
            with folder.open(name, encoding="utf-8") as handle:
                script = handle.read()
            directive = computer.get_property(gpus.DIRECTIVE_PROPERTY, None)
            with folder.open(name, "w", encoding="utf-8") as handle:
                handle.write(gpus.add_gpus(script, computer.scheduler_type, asked, directive))
        return info

    # -- what is hashed -------------------------------------------------------------------------------------------

    def _setup_metadata(self, metadata: dict[str, Any]) -> None:
        options = {k: v for k, v in metadata.get("options", {}).items() if k not in UNHASHED_OPTIONS}
        super()._setup_metadata({**metadata, "options": options})

    def _setup_version_info(self) -> dict[str, Any]:
        info = super()._setup_version_info()
        held = self.node.base.attributes.get(self.KEY_CACHE_VERSION, {})
        versions = code_versions(self._generator_name(), self._versioned_parameters())
        self.node.base.attributes.set(self.KEY_CACHE_VERSION, {**held, **versions})
        return info

    def _build_process_label(self) -> str:
        return f"{type(self).__name__}<{self._subject()}>"

    # -- parts of the job -----------------------------------------------------------------------------------------

    def _subject(self) -> str:
        """Return what the process label says besides the verb."""
        return self._generator_name() or self.VERB

    def _versioned_parameters(self) -> dict[str, Any]:
        """Return the parameters whose code has a version of its own."""
        return dict(self.inputs.parameters.get_dict())

    def _generator_name(self) -> str | None:
        if self.NAMES_GENERATOR:
            return str(self.inputs.generator_name.value)
        generator = self.inputs.get("generator", None)
        return generator.generator if isinstance(generator, GeneratorData) else None

    def _generator(self) -> dict[str, Any] | None:
        name = self._generator_name()
        if name is None:
            return None
        return {
            "name": name,
            "spec": self.inputs.spec.get_dict() if "spec" in self.inputs else {},
            "preset": self.inputs.preset.value if "preset" in self.inputs else None,
        }

    def _resources(self) -> dict[str, Any]:
        options, computer = self.options, self.node.computer
        slots = None
        if options.get("gpus", 0) and computer is not None and computer.scheduler_type == gpus.SLOTS:
            declared = _slots(options, computer)
            slots = {**declared, "take": options.gpus} if declared else None
        return {
            "threads": options.get("threads", None) or options.resources.get("num_cores_per_mpiproc", None) or 1,
            "device": options.device,
            "batch_scale": options.batch_scale,
            "max_wallclock_seconds": options.get("max_wallclock_seconds", None),
            "gpu_slots": slots,
        }

    def _sets(self) -> Iterator[tuple[str, orm.Data, PurePosixPath]]:
        """Yield link label, node and path in the job's folder of each set given, in a fixed order."""
        for label in (*self.SETS, *self.OPTIONAL_SETS):
            if label in self.inputs:
                suffix = "" if isinstance(self.inputs[label], GeneratorData) else ".parquet"
                yield label, self.inputs[label], PurePosixPath("inputs") / f"{label}{suffix}"
        for namespace in self.NAMESPACES:
            for name, node in sorted(self.inputs.get(namespace, {}).items()):
                yield f"{namespace}.{name}", node, PurePosixPath("inputs") / namespace / f"{name}.parquet"


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


def _define_inputs(cls: type[WorkerCalculation], spec: CalcJobProcessSpec) -> None:
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


def _define_options(spec: CalcJobProcessSpec) -> None:
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


def _validate_all(
    cls: type[WorkerCalculation], base: Callable[..., str | None] | None, inputs: Any, ctx: Any
) -> str | None:
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
    return gpus.refuse_gpus(computer.scheduler_type, options.get("gpus", 0), _slots(options, computer), directive)


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


def _slots(options: Mapping[str, Any], computer: orm.Computer) -> dict[str, Any] | None:
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
