"""Read ``job.json`` strictly: every mistake is a sentence that says what to write instead."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from crysgen_aiida.crystals.errors import BadJob
from crysgen_aiida.worker import JOB_SCHEMA, WORKER_API
from crysgen_aiida.worker.verbs import VERBS, Verb

#: The worker stops this share of the limit, and at least these seconds, before the limit.
TIME_MARGIN_SHARE, TIME_MARGIN_SECONDS = 0.05, 10.0

_KEYS = {
    "job_schema",
    "worker_api",
    "verb",
    "inputs",
    "generator",
    "parameters",
    "seed",
    "resources",
    "parent_folder",
}
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class GeneratorChoice:
    """The generator of a job: entry-point name, overrides of its spec, preset, version the job was written for."""

    name: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    version: str | None = None

    def check_version(self, installed: str) -> None:
        """Refuse to work for a cache that would file the results under another version.

        :raises BadJob: if the job was written for another version than ``installed``.
        """
        if self.version not in (None, installed):
            raise BadJob(
                f"The job was written for version {self.version} of the generator {self.name}, but version {installed} "
                "is installed here: install the same on both sides, or write the job again."
            )


@dataclass(frozen=True)
class GpuSlotsChoice:
    """Slots shared by the jobs of a machine without a scheduler: ``count`` slots, of which this job takes ``take``."""

    directory: Path
    count: int
    take: int = 1


@dataclass(frozen=True)
class Resources:
    """What the job may use. Nothing here changes what is computed, so it is not part of the job's hash."""

    threads: int = 1
    device: str = "auto"
    batch_scale: float = 1.0
    max_wallclock_seconds: float | None = None
    gpu_slots: GpuSlotsChoice | None = None


@dataclass(frozen=True)
class Job:
    """A parsed job. Paths of inputs are relative to its folder."""

    verb: Verb
    inputs: Mapping[str, Path | Mapping[str, Path]]
    generator: GeneratorChoice | None
    parameters: Mapping[str, Any]
    seed: int
    resources: Resources
    parent_folder: Path | None
    worker_api: str = WORKER_API


def load_job(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``.

    :raises BadJob: if there is no such file or it holds no JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise BadJob(f"There is no job description {path.name} in {path.parent}; give the path of job.json.") from None
    except UnicodeDecodeError:
        raise BadJob(f"{path.name} is not UTF-8 text; write it again as JSON.") from None
    try:
        held = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadJob(f"{path.name} is not valid JSON ({error}); correct it there.") from None
    if not isinstance(held, dict):
        raise BadJob(f"{path.name} must hold one JSON object, not {_kind(held)}.")
    return held


def parse_job(held: Mapping[str, Any], verb_name: str | None = None) -> Job:
    """Check a job description and return it typed.

    :param verb_name: the verb given on the command line, which must be the job's own.
    :raises BadJob: for anything missing, unknown, of the wrong type or outside its range.
    """
    _only(held, _KEYS, "the job")
    if held.get("job_schema", JOB_SCHEMA) != JOB_SCHEMA:
        raise BadJob(
            f"The job has job_schema {held['job_schema']!r}, but this worker reads {JOB_SCHEMA}: use the same "
            "version of crysgen-aiida on both sides."
        )
    if held.get("worker_api", WORKER_API) != WORKER_API:
        raise BadJob(
            f"The job was written for worker_api {held['worker_api']!r}, but this worker is {WORKER_API!r}: install "
            "the version of crysgen-aiida it was written for, or write the job again."
        )
    if verb_name is not None:
        parse_verb(verb_name)
    verb = parse_verb(_get(held, "verb", (str,), "the job"))
    if verb_name is not None and verb_name != verb.name:
        raise BadJob(f"The command says {verb_name!r} but the job says {verb.name!r}; make them agree.")
    return Job(
        verb=verb,
        inputs=_inputs(_get(held, "inputs", (dict,), "the job"), verb),
        generator=_generator(held.get("generator"), verb),
        parameters=_parameters(held.get("parameters") or {}, verb),
        seed=_whole(held.get("seed", 0), "seed", 0, 2**63 - 1),
        resources=_resources(held.get("resources") or {}),
        parent_folder=_parent(held.get("parent_folder")),
    )


def parse_verb(name: str) -> Verb:
    """Return the verb called ``name``.

    :raises BadJob: if there is none; the message suggests close names.
    """
    if name not in VERBS:
        raise BadJob(f"There is no verb {name!r}; {_suggest(name, VERBS)}")
    return VERBS[name]


def _inputs(held: Mapping[str, Any], verb: Verb) -> dict[str, Path | Mapping[str, Path]]:
    _only(held, {*verb.inputs, *verb.optional, *verb.namespaces}, f"the inputs of {verb.name}")
    missing = [label for label in verb.inputs if held.get(label) is None]
    if missing:
        raise BadJob(f"The verb {verb.name} needs the input {missing[0]!r}; add it to the job's inputs.")
    inputs: dict[str, Path | Mapping[str, Path]] = {}
    for label, value in held.items():
        if value is None:
            continue
        if label in verb.namespaces:
            if not isinstance(value, dict):
                raise BadJob(f"The input {label!r} must be an object of names and paths, not {_kind(value)}.")
            inputs[label] = {sub: _relative(path, f"{label}.{sub}") for sub, path in sorted(value.items())}
        else:
            inputs[label] = _relative(value, label)
    return inputs


def _generator(held: Any, verb: Verb) -> GeneratorChoice | None:
    if held is None:
        if verb.generator:
            raise BadJob(f'The verb {verb.name} needs a generator; add "generator": {{"name": …}} to the job.')
        return None
    if not verb.generator:
        raise BadJob(f"The verb {verb.name} takes no generator; leave it out of the job.")
    if not isinstance(held, dict):
        raise BadJob(f"The generator must be an object with a name, not {_kind(held)}.")
    _only(held, {"name", "spec", "preset", "version"}, "the generator")
    preset, version = held.get("preset"), held.get("version")
    for key, value in (("preset", preset), ("version", version)):
        if value is not None and not isinstance(value, str):
            raise BadJob(f"The {key} of the generator must be text or null, not {_kind(value)}.")
    spec = held.get("spec") or {}
    if not isinstance(spec, dict):
        raise BadJob(f"The spec of the generator must be an object of settings, not {_kind(spec)}.")
    return GeneratorChoice(_get(held, "name", (str,), "the generator"), spec, preset, version)


def _parameters(held: Any, verb: Verb) -> dict[str, Any]:
    if not isinstance(held, dict):
        raise BadJob(f"The parameters must be an object, not {_kind(held)}.")
    _only(held, verb.parameters, f"the parameters of {verb.name}")
    values: dict[str, Any] = {}
    for name, parameter in verb.parameters.items():
        if name not in held:
            if parameter.required:
                raise BadJob(f"The verb {verb.name} needs the parameter {name!r}; add it to the job's parameters.")
            values[name] = parameter.default
            continue
        value = held[name]
        if not isinstance(value, parameter.types) or isinstance(value, bool):
            wanted = " or ".join(_kind(t()) for t in parameter.types)
            raise BadJob(f"The parameter {name!r} of {verb.name} must be {wanted}, not {_kind(value)}.")
        values[name] = value
    return values


def _resources(held: Any) -> Resources:
    if not isinstance(held, dict):
        raise BadJob(f"The resources must be an object, not {_kind(held)}.")
    _only(held, {"threads", "device", "batch_scale", "max_wallclock_seconds", "gpu_slots"}, "the resources")
    device = held.get("device") or "auto"
    if device not in DEVICES:
        raise BadJob(f"resources.device must be one of {', '.join(DEVICES)}, not {device!r}.")
    limit = held.get("max_wallclock_seconds")
    if limit is not None:
        limit = _number(limit, "resources.max_wallclock_seconds")
        if limit <= TIME_MARGIN_SECONDS:
            raise BadJob(
                f"resources.max_wallclock_seconds is {limit:g}, but the worker stops {TIME_MARGIN_SECONDS:g} s before "
                "the limit and could do nothing; give it more time."
            )
    scale = _number(held.get("batch_scale", 1.0), "resources.batch_scale")
    if not 0 < scale <= 1:
        raise BadJob(f"resources.batch_scale must be more than 0 and at most 1, not {scale:g}.")
    return Resources(
        threads=_whole(held.get("threads", 1), "resources.threads", 1, 4096),
        device=device,
        batch_scale=scale,
        max_wallclock_seconds=limit,
        gpu_slots=_slots(held.get("gpu_slots")),
    )


def _slots(held: Any) -> GpuSlotsChoice | None:
    if held is None:
        return None
    if not isinstance(held, dict):
        raise BadJob(f"resources.gpu_slots must be an object with directory and count, not {_kind(held)}.")
    _only(held, {"directory", "count", "take"}, "resources.gpu_slots")
    directory = _get(held, "directory", (str,), "resources.gpu_slots")
    count = _whole(held.get("count"), "resources.gpu_slots.count", 1, 1024)
    take = _whole(held.get("take", 1), "resources.gpu_slots.take", 1, count)
    return GpuSlotsChoice(Path(directory).expanduser(), count, take)


def _parent(held: Any) -> Path | None:
    return None if held is None else _relative(held, "parent_folder")


def _relative(value: Any, label: str) -> Path:
    if not isinstance(value, str) or not value:
        raise BadJob(f"The path of {label!r} must be text, not {_kind(value)}.")
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts:
        raise BadJob(f"The path of {label!r} is {value!r}; it must be inside the job's folder: copy or link it there.")
    return Path(path)


def _get(held: Mapping[str, Any], key: str, types: tuple[type, ...], where: str) -> Any:
    if key not in held:
        raise BadJob(f"In {where} the key {key!r} is missing; add it.")
    if not isinstance(held[key], types):
        raise BadJob(f"In {where} the key {key!r} must be {_kind(types[0]())}, not {_kind(held[key])}.")
    return held[key]


def _only(held: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    known = list(known)
    for key in held:
        if key not in known:
            raise BadJob(f"In {where} there is no {key!r}; {_suggest(key, known)}")


def _suggest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(known)}." if known else "it takes none."


def _whole(value: Any, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadJob(f"{name} must be a whole number from {low} to {high}, not {value!r}.")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadJob(f"{name} must be a number, not {value!r}.")
    return float(value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a whole number"}
    return {**names, float: "a number", type(None): "null"}.get(type(value), type(value).__name__)
