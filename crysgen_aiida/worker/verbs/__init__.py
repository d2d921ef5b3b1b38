"""What each verb takes and gives, free of heavy imports; the work itself is one thin function a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Kind of an input that is a trained generator: a folder, not a packed set.
GENERATOR = "generator"

_MAPPING, _TEXT, _COUNT, _LIST = (dict,), (str,), (int,), (list,)
_NUMBER_OR_NONE: tuple[type, ...] = (int, float, type(None))
_MAPPING_OR_NONE: tuple[type, ...] = (dict, type(None))


@dataclass(frozen=True)
class Parameter:
    """A parameter of a verb: the JSON types it may have and its default; ``required`` has none."""

    types: tuple[type, ...]
    default: Any = None
    required: bool = False


@dataclass(frozen=True)
class Verb:
    """A verb of the worker.

    :param inputs: link label of each input to its kind; all are required.
    :param optional: the same for inputs that may be left out.
    :param namespaces: labels under which any number of sets of one kind may come.
    :param generator: whether the job must name a generator.
    :param usable: inputs of which at least one row must be ``ok``.
    :param output: label of the output whose rows are counted in the result.
    """

    name: str
    summary: str
    inputs: Mapping[str, str]
    output: str
    optional: Mapping[str, str] = field(default_factory=dict)
    namespaces: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    generator: bool = False
    usable: tuple[str, ...] = ()


_ALL = (
    Verb(
        "prepare",
        "make the training set of a generator from a set of crystals",
        inputs={"crystals": "crystals"},
        output="training_set",
        generator=True,
        usable=("crystals",),
    ),
    Verb(
        "train",
        "train a generator, or fine-tune one",
        inputs={"training_set": "sequences"},
        optional={"start_from": GENERATOR},
        output="generator",
        generator=True,
        usable=("training_set",),
    ),
    Verb(
        "sample",
        "sample sequences from a trained generator under conditions",
        inputs={"generator": GENERATOR},
        output="sequences",
        generator=True,
        parameters={"n": Parameter(_COUNT, required=True), "conditions": Parameter(_MAPPING, {})},
    ),
    Verb(
        "decode",
        "turn sequences into crystals, a reason for each that fails",
        inputs={"sequences": "sequences"},
        output="crystals",
        generator=True,
        usable=("sequences",),
        parameters={"potential": Parameter(_MAPPING_OR_NONE), "relax": Parameter(_MAPPING, {})},
    ),
    Verb(
        "relax",
        "relax crystals with a potential, atoms and cell",
        inputs={"crystals": "crystals"},
        output="crystals",
        namespaces={"known": "crystals", "known_formulas": "reference"},
        usable=("crystals",),
        parameters={
            "potential": Parameter(_MAPPING, {"name": "chgnet"}),
            "relax": Parameter(_MAPPING, {}),
            "selection": Parameter(_MAPPING_OR_NONE),
            "time_box_seconds": Parameter(_NUMBER_OR_NONE),
        },
    ),
    Verb(
        "screen",
        "judge crystals: validity, uniqueness, novelty, energy above the reference, conditions met",
        inputs={"crystals": "crystals", "reference": "reference"},
        optional={"unrelaxed": "crystals", "sequences": "sequences"},
        namespaces={"known": "crystals", "known_formulas": "reference", "fingerprints": "table"},
        output="table",
        parameters={
            "protocol": Parameter(_TEXT, "mattergen"),
            "requested": Parameter(_MAPPING, {}),
            "overrides": Parameter(_MAPPING, {}),
        },
    ),
    Verb(
        "fingerprint",
        "make site fingerprints of known crystals, for how unlike them others are",
        inputs={"crystals": "crystals"},
        output="table",
        usable=("crystals",),
        parameters={"labelled": Parameter(_LIST, [])},
    ),
    Verb(
        "phonon",
        "compute phonons of relaxed crystals with a potential, and say which are at a minimum",
        inputs={"crystals": "crystals"},
        output="table",
        usable=("crystals",),
        parameters={"potential": Parameter(_MAPPING, {"name": "chgnet"}), "phonon": Parameter(_MAPPING, {})},
    ),
    Verb(
        "elastic",
        "compute elastic constants of relaxed crystals with a potential",
        inputs={"crystals": "crystals"},
        output="table",
        usable=("crystals",),
        parameters={"potential": Parameter(_MAPPING, {"name": "chgnet"}), "elastic": Parameter(_MAPPING, {})},
    ),
    Verb(
        "kappa",
        "compute the lattice thermal conductivity of relaxed crystals with a potential",
        inputs={"crystals": "crystals"},
        output="table",
        usable=("crystals",),
        parameters={"potential": Parameter(_MAPPING, {"name": "chgnet"}), "kappa": Parameter(_MAPPING, {})},
    ),
    Verb(
        "predict",
        "predict gap, metallicity and elastic moduli by surrogates, each with its uncertainty",
        inputs={"crystals": "crystals"},
        output="table",
        usable=("crystals",),
    ),
    Verb(
        "transport",
        "compute Seebeck coefficients, conductivities and power factors from electron bands",
        inputs={"bands": "table"},
        output="table",
        usable=("bands",),
        parameters={"transport": Parameter(_MAPPING, {})},
    ),
    Verb(
        "reference",
        "make a set of reference energies from relaxed crystals",
        inputs={"crystals": "crystals"},
        output="reference",
        usable=("crystals",),
        parameters={"name": Parameter(_TEXT, required=True), "scheme": Parameter(_TEXT, "self-consistent")},
    ),
)

VERBS: dict[str, Verb] = {verb.name: verb for verb in _ALL}
