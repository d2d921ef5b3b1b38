"""WorkerCalculation: one calculation job for every verb of the worker."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob
from aiida.engine.processes.process_spec import CalcJobProcessSpec

from crysgen_aiida.calculations import gpus
from crysgen_aiida.calculations.ports import (
    declared_slots,
    define_exit_codes,
    define_inputs,
    define_options,
    validate_all,
)
from crysgen_aiida.calculations.versions import UNKNOWN, code_versions, generator_version
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

#: A scheduler that ends a job tells its shell first. A shell that dies of it takes the worker along, which would have
#: put its work away; one that listens waits for it.
PATIENT_SHELL = "trap : TERM INT XCPU USR1"


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
        define_inputs(cls, spec)
        define_options(spec)
        for label, node_class in cls.OUTPUTS.items():
            spec.output(label, valid_type=node_class, required=True, help=f"The {label} the verb {cls.VERB} made.")
        define_exit_codes(spec)
        spec.inputs.validator = functools.partial(validate_all, cls, spec.inputs.validator)

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
        info.prepend_text = PATIENT_SHELL
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
        """Add the request for GPUs and for the cores of the threads to the submit script AiiDA wrote."""
        info = super().presubmit(folder)
        computer, name = self.node.computer, self.options.submit_script_filename
        if computer is not None and "remote_folder" not in self.inputs:
            with folder.open(name, encoding="utf-8") as handle:
                script = handle.read()
            directive = computer.get_property(gpus.DIRECTIVE_PROPERTY, None)
            script = gpus.add_gpus(script, computer.scheduler_type, int(self.options.get("gpus", 0)), directive)
            script = gpus.add_cores(script, computer.scheduler_type, int(self._resources()["threads"]))
            with folder.open(name, "w", encoding="utf-8") as handle:
                handle.write(script)
        return info

    # -- what is hashed -------------------------------------------------------------------------------------------

    def _setup_metadata(self, metadata: dict[str, Any]) -> None:
        options = {k: v for k, v in metadata.get("options", {}).items() if k not in UNHASHED_OPTIONS}
        super()._setup_metadata({**metadata, "options": options})

    def _setup_version_info(self) -> dict[str, Any]:
        info = super()._setup_version_info()
        held = self.node.base.attributes.get(self.KEY_CACHE_VERSION, {})
        versions = {**code_versions(self._generator_name(), self._versioned_parameters()), **self._versions()}
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

    def _versions(self) -> dict[str, str]:
        """Return versions of further packages that decide the result."""
        return {}

    def _generator_name(self) -> str | None:
        if self.NAMES_GENERATOR:
            return str(self.inputs.generator_name.value)
        generator = self.inputs.get("generator", None)
        return generator.generator if isinstance(generator, GeneratorData) else None

    def _generator(self) -> dict[str, Any] | None:
        name = self._generator_name()
        if name is None:
            return None
        version = generator_version(name)
        return {
            "name": name,
            "version": None if version == UNKNOWN else version,
            "spec": self.inputs.spec.get_dict() if "spec" in self.inputs else {},
            "preset": self.inputs.preset.value if "preset" in self.inputs else None,
        }

    def _resources(self) -> dict[str, Any]:
        options, computer = self.options, self.node.computer
        slots = None
        if options.get("gpus", 0) and computer is not None and computer.scheduler_type == gpus.SLOTS:
            declared = declared_slots(options, computer)
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
