"""Read the inputs of a job and name what the job is by hashes of their content."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, CorruptWeights, EmptySet
from crysgen_aiida.crystals.hashing import folder_hash, json_hash
from crysgen_aiida.crystals.table import PackedTable, PropertyTable, ReferenceSet, SequenceSet
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.parts import CLASSES
from crysgen_aiida.worker.verbs import GENERATOR

WEIGHTS = "weights.safetensors"
GENERATOR_FILES = (WEIGHTS, "config.json", "vocabulary.json", "history.jsonl")


@dataclass
class Inputs:
    """The inputs of a job, read: packed sets, namespaces of them, and folders of trained generators."""

    sets: dict[str, PackedTable] = field(default_factory=dict)
    namespaces: dict[str, dict[str, PackedTable]] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    hashes: dict[str, Any] = field(default_factory=dict)

    def crystals(self, label: str) -> CrystalSet:
        """Return a required set of crystals."""
        found = self.sets[label]
        assert isinstance(found, CrystalSet)
        return found

    def sequences(self, label: str) -> SequenceSet:
        """Return a required set of sequences."""
        found = self.sets[label]
        assert isinstance(found, SequenceSet)
        return found

    def reference(self, label: str) -> ReferenceSet:
        """Return a required set of reference energies."""
        found = self.sets[label]
        assert isinstance(found, ReferenceSet)
        return found

    def tables(self, label: str) -> dict[str, PropertyTable]:
        """Return a namespace of tables, possibly empty."""
        return {sub: held for sub, held in self.namespaces.get(label, {}).items() if isinstance(held, PropertyTable)}

    def known(self, label: str) -> dict[str, CrystalSet]:
        """Return a namespace of sets of crystals, possibly empty."""
        return {sub: held for sub, held in self.namespaces.get(label, {}).items() if isinstance(held, CrystalSet)}


def read_inputs(job: Job, folder: Path) -> Inputs:
    """Read and check every input of a job.

    :raises BadInput: if a file is missing, truncated or of another kind.
    :raises CorruptWeights: if the weights of a generator are not whole.
    :raises EmptySet: if a set has no rows, or none that the verb can work on.
    """
    inputs = Inputs()
    kinds = {**job.verb.inputs, **job.verb.optional}
    for label, path in job.inputs.items():
        if isinstance(path, Path):
            if kinds[label] == GENERATOR:
                check_generator(folder / path, label)
                inputs.folders[label] = folder / path
                inputs.hashes[label] = folder_hash(folder / path, GENERATOR_FILES)
            else:
                held = _read(folder / path, kinds[label], label)
                inputs.sets[label] = held
                inputs.hashes[label] = held.content_hash
        else:
            kind = job.verb.namespaces[label]
            group = {sub: _read(folder / p, kind, f"{label}.{sub}") for sub, p in path.items()}
            inputs.namespaces[label] = group
            inputs.hashes[label] = {sub: held.content_hash for sub, held in group.items()}
    for label in job.verb.inputs:
        if label in inputs.sets:
            _refuse_empty(inputs.sets[label], label, usable=label in job.verb.usable)
    return inputs


def job_hash(job: Job, hashes: dict[str, Any]) -> str:
    """Return the hash of what a job computes: its resources are not part of it."""
    generator = None
    if job.generator is not None:
        generator = {"name": job.generator.name, "spec": dict(job.generator.spec), "preset": job.generator.preset}
    return json_hash(
        {
            "verb": job.verb.name,
            "inputs": hashes,
            "generator": generator,
            "parameters": dict(job.parameters),
            "seed": job.seed,
            "worker_api": job.worker_api,
        }
    )


def description_hash(held: dict[str, Any]) -> str:
    """Return the hash of a job as written, without its resources: tells whether the job in a folder was edited."""
    return json_hash({k: v for k, v in held.items() if k not in ("resources", "parent_folder")})


def check_generator(folder: Path, label: str) -> None:
    """Refuse the folder of a generator that is not whole.

    :raises BadInput: if a file is missing or is not what its name says.
    :raises CorruptWeights: if the weights are missing, truncated or not safetensors.
    """
    if not folder.is_dir():
        raise BadInput(f"The input {label!r} must be the folder of a generator, but {folder.name} is not one.")
    if not (folder / WEIGHTS).is_file():
        raise CorruptWeights(f"The input {label!r} has no {WEIGHTS}; export or copy the generator again.")
    for name in GENERATOR_FILES:
        if not (folder / name).is_file():
            raise BadInput(f"The input {label!r} has no {name}; export or copy the generator again.")
    check_weights(folder / WEIGHTS, label)
    for name in ("config.json", "vocabulary.json"):
        try:
            json.loads((folder / name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadInput(f"{name} of the input {label!r} is not valid JSON ({error}); copy it again.") from None


def check_weights(path: Path, label: str) -> None:
    """Read the header of a safetensors file and compare it with the size of the file.

    :raises CorruptWeights: if they do not agree.
    """
    size = path.stat().st_size
    again = "export or copy the generator again."
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise CorruptWeights(f"{path.name} of the input {label!r} is truncated or not safetensors; {again}")
        try:
            header = json.loads(stream.read(length))
            stop = max(
                (int(held["data_offsets"][1]) for name, held in header.items() if name != "__metadata__"), default=0
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise CorruptWeights(f"The header of {path.name} of the input {label!r} is corrupt; {again}") from None
    if size != 8 + length + stop:
        raise CorruptWeights(
            f"{path.name} of the input {label!r} has {size} bytes, but its header tells of {8 + length + stop}; {again}"
        )


def _read(path: Path, kind: str, label: str) -> PackedTable:
    try:
        return CLASSES[kind].read(path)
    except BadInput as error:
        raise BadInput(f"The input {label!r}: {error}") from error


def _refuse_empty(held: PackedTable, label: str, *, usable: bool) -> None:
    if not len(held):
        raise EmptySet(f"The input {label!r} is an empty set; give one with at least one row.")
    if usable and not held.ok.any():
        reason, count = Counter(r for r in held.column("reason") if r).most_common(1)[0]
        raise EmptySet(
            f"None of the {len(held)} rows of the input {label!r} can be used; the most frequent reason is {reason!r} "
            f"({count} rows)."
        )
