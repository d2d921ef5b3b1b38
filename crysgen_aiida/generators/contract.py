"""The generator contract: what a system must offer to be trained, sampled, decoded, screened and ranked.

A system registers a :class:`GeneratorInfo` under the entry-point group ``crysgen.generators``. The info is free of
heavy imports: the daemon and the command line read it, and only the worker loads the implementation it names.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest, NotInstalled
from crysgen_aiida.crystals.properties import get_property
from crysgen_aiida.crystals.relaxing import Relaxer
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import SequenceSet

ENTRY_POINT_GROUP = "crysgen.generators"

#: Conditions that are not registered properties, with what they mean.
STRUCTURAL_CONDITIONS = {
    "crystal_system": "one of triclinic, monoclinic, orthorhombic, tetragonal, trigonal, hexagonal, cubic",
    "space_group": "international number, 1 to 230",
    "elements": "list of element symbols the crystal is made of",
    "composition": "formula of the crystal",
}

Conditions = Mapping[str, Any]


@dataclass(frozen=True)
class GeneratorInfo:
    """What everybody may know of a generator without importing it.

    :param name: entry-point name, e.g. ``mattergpt``.
    :param version: changes whenever the code gives other results; part of the cache hash.
    :param implementation: ``module:Class`` of the :class:`Generator`, imported by the worker only.
    :param spec: frozen dataclass of all settings, defaults from the paper.
    :param presets: named overrides of the spec, e.g. ``{"tiny": {"model": {"layers": 4}}}``.
    :param conditions: names a user may condition on, of properties or of :data:`STRUCTURAL_CONDITIONS`;
        the trained model says which of them it was trained with.
    :param imposed: those of them that every model serves without having been trained with them.
    :param loss_unit: of the losses in ``history.jsonl``, e.g. ``nats/token``; empty if they have none.
    :param sequence_columns: payload columns of its sequences, name to Arrow type, e.g. ``{"sequence": "string"}``.
    :param citation: the paper.
    :param install: the pip requirement that provides it.
    """

    name: str
    version: str
    implementation: str
    spec: type
    conditions: tuple[str, ...]
    sequence_columns: Mapping[str, str]
    citation: str
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    install: str = "crysgen-aiida"
    imposed: tuple[str, ...] = ()
    loss_unit: str = ""

    def load(self) -> Generator:
        """Import and instantiate the implementation.

        :raises NotInstalled: if it cannot be imported.
        """
        module, _, attribute = self.implementation.partition(":")
        try:
            implementation = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise NotInstalled(
                f"Generator {self.name!r} needs {self.implementation}, which cannot be imported here ({error}); "
                f"run `pip install {self.install}` where the worker runs."
            ) from error
        generator: Generator = implementation()
        return generator

    def make_spec(self, overrides: Mapping[str, Any] | None = None, preset: str | None = None) -> Any:
        """Return the frozen spec: defaults, then the preset, then the overrides (nested mappings).

        :raises ImpossibleRequest: for an unknown preset or field.
        """
        values: dict[str, Any] = {}
        if preset is not None:
            if preset not in self.presets:
                raise ImpossibleRequest(f"{self.name} has no preset {preset!r}; it has {', '.join(self.presets)}.")
            values = deep_merge(values, self.presets[preset])
        return build_spec(self.spec, deep_merge(values, overrides or {}))

    def check_conditions(self, conditions: Conditions, trained: tuple[str, ...] | None = None) -> None:
        """Refuse conditions this generator (or this trained model) cannot serve.

        :raises ImpossibleRequest: naming what can be asked for.
        """
        able = (*trained, *self.imposed) if trained is not None else self.conditions
        for name in conditions:
            if name not in STRUCTURAL_CONDITIONS:
                get_property(name)
            if name not in able:
                offered = ", ".join(able) or "nothing"
                raise ImpossibleRequest(f"{self.name} cannot be conditioned on {name!r} here; it can on {offered}.")


class Generator(Protocol):
    """The four verbs of a system. A checkpoint is a folder that :class:`GeneratorData` can hold:
    ``weights.safetensors``, ``config.json``, ``vocabulary.json`` and ``history.jsonl`` (no clock times)."""

    def prepare(self, crystals: CrystalSet, spec: Any, *, seed: int, run: Run) -> SequenceSet:
        """Return the training set: sequences with a ``split`` column, labels, and parents in ``crystals``."""

    def train(
        self, training_set: SequenceSet, spec: Any, *, seed: int, run: Run, start_from: Path | None = None
    ) -> Path:
        """Train (or fine-tune ``start_from``) and return the checkpoint folder, inside ``run.folder``.

        Training checkpoints go to ``run.folder``; finding one there means: resume.
        """

    def sample(
        self, checkpoint: Path, n: int, conditions: Conditions, spec: Any, *, seed: int, run: Run
    ) -> SequenceSet:
        """Return ``n`` sequences; requested values are columns ``target.<condition>``."""

    def decode(
        self, sequences: SequenceSet, spec: Any, *, seed: int, run: Run, relaxer: Relaxer | None = None
    ) -> CrystalSet:
        """Return one row a sequence: a crystal, or the reason why there is none."""


def generator_names() -> list[str]:
    """Return the names of the installed generators."""
    return sorted({e.name for e in entry_points(group=ENTRY_POINT_GROUP)})


def get_generator(name: str) -> GeneratorInfo:
    """Return the info of an installed generator.

    :raises NotInstalled: if no distribution provides it; the message suggests close names.
    """
    found = [e for e in entry_points(group=ENTRY_POINT_GROUP) if e.name == name]
    if not found:
        names = generator_names()
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Installed: {', '.join(names) or 'none'}."
        raise NotInstalled(f"No generator {name!r} is installed here. {hint}")
    info = found[0].load()
    if not isinstance(info, GeneratorInfo):
        raise NotInstalled(
            f"The entry point {name!r} in {ENTRY_POINT_GROUP!r} is not a GeneratorInfo; fix that package."
        )
    return info


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on top, nested mappings merged."""
    merged = dict(base)
    for key, value in over.items():
        held = merged.get(key)
        merged[key] = deep_merge(held, value) if isinstance(held, Mapping) and isinstance(value, Mapping) else value
    return merged


def build_spec(cls: type, values: Mapping[str, Any], where: str = "") -> Any:
    """Build a frozen dataclass (nested ones too) from a mapping, converting lists to tuples.

    :raises ImpossibleRequest: for a field it does not have.
    :raises BadInput: for a value of the wrong type.
    """
    import typing

    hints = typing.get_type_hints(cls)
    fields = {f.name for f in dataclasses.fields(cls)}
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(sorted(fields))}."
            raise ImpossibleRequest(f"The setting {where}{key} does not exist; {hint}")
        hint_type = hints[key]
        if dataclasses.is_dataclass(hint_type) and isinstance(value, Mapping):
            value = build_spec(typing.cast(type, hint_type), value, f"{where}{key}.")
        elif isinstance(value, list):
            value = tuple(value)
        elif hint_type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        wrong = hint_type in (int, float, str, bool) and not isinstance(value, hint_type)
        if wrong or (hint_type is int and isinstance(value, bool)):
            raise BadInput(f"The setting {where}{key} must be {hint_type.__name__}, not {value!r}.")
        arguments[key] = value
    return cls(**arguments)
