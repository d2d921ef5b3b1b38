"""InverseDesignWorkChain: from a trained generator and a wish to ranked, promoted crystals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, ToContext, WorkChain, if_

from crysgen_aiida.calculations.functions import promote, record_ranking
from crysgen_aiida.calculations.once import SubmitOnce
from crysgen_aiida.calculations.ports import define_exit_codes
from crysgen_aiida.crystals.errors import CrysgenError, ImpossibleRequest
from crysgen_aiida.data.generator import GeneratorData
from crysgen_aiida.data.packed import (
    CrystalSetData,
    DecisionData,
    PropertyTableData,
    ReferenceEnergiesData,
    SequenceSetData,
)
from crysgen_aiida.data.ranking import Query
from crysgen_aiida.generators.contract import get_generator
from crysgen_aiida.screening.protocols import get_protocol
from crysgen_aiida.workchains.base import (
    DecodeBaseWorkChain,
    RelaxBaseWorkChain,
    SampleBaseWorkChain,
    ScreenBaseWorkChain,
)
from crysgen_aiida.workchains.line import link_inputs, pass_on
from crysgen_aiida.workchains.protocols import load_protocol, load_recipe


class InverseDesignWorkChain(SubmitOnce, WorkChain):
    """Sample, decode, relax, screen, rank, promote.

    The line is the same for every generator. A subclass may put steps of its own between these in ``define``.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline, outputs and exit codes."""
        super().define(spec)
        spec.input("code", valid_type=orm.AbstractCode, help="The worker, for stages that name no code of their own.")
        spec.input("generator", valid_type=GeneratorData, help="The trained generator.")
        spec.input("reference", valid_type=ReferenceEnergiesData, help="What energies are judged against.")
        _define_known(spec)
        for name, value, text in (
            ("n", 256, "Number of sequences to sample."),
            ("seed", 0, "Seed of every stage."),
            ("n_promote", 10, "Number of ranked crystals to make structures of; 0 for none."),
        ):
            spec.input(
                name,
                valid_type=orm.Int,
                default=lambda value=value: orm.Int(value),
                serializer=orm.to_aiida_type,
                validator=_not_negative,
                help=text,
            )
        spec.input(
            "conditions",
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            serializer=orm.to_aiida_type,
            help="What is asked of the generator: property or structural condition to value.",
        )
        spec.input(
            "ranking",
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            serializer=orm.to_aiida_type,
            validator=_validate_ranking,
            help="Constraints and objectives of the ranking.",
        )
        _expose_stages(spec)
        spec.outline(
            cls.sample,
            cls.decode,
            cls.relax,
            cls.screen,
            cls.rank,
            if_(cls.should_promote)(cls.promote),  # type: ignore[arg-type]
        )
        _define_outputs(spec)
        define_exit_codes(spec)
        spec.exit_code(
            420,
            "ERROR_NO_CANDIDATES",
            invalidates_cache=True,
            message="No crystal met the constraints of the ranking.",
        )
        spec.exit_code(
            421,
            "ERROR_RANKING_FAILED",
            invalidates_cache=True,
            message="The ranking or the promotion failed.",
        )

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        generator: GeneratorData,
        reference: ReferenceEnergiesData,
        *,
        protocol: str | None = None,
        recipe: str | None = None,
        conditions: Mapping[str, Any] | None = None,
        known: Mapping[str, CrystalSetData] | None = None,
        known_formulas: Mapping[str, ReferenceEnergiesData] | None = None,
        fingerprints: Mapping[str, PropertyTableData] | None = None,
        n: int | None = None,
        n_promote: int | None = None,
        seed: int = 0,
        ranking: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return a builder: the protocol (effort), the recipe (wish) over it, then what is given here.

        :param overrides: settings by stage, in the form of the protocol files.
        :param options: ``metadata.options`` of every stage.
        :param known_formulas: tables whose formulas a candidate must be new against as well.
        :param fingerprints: of known crystals, by label.
        :raises ImpossibleRequest: for an unknown protocol, recipe, setting or condition, or known crystals or
            fingerprints that the settings need and that are not given.
        """
        held = load_recipe(recipe) if recipe else {}
        settings = recipe_settings(generator, protocol=protocol, recipe=recipe, overrides=overrides)
        needs_known, needs_fingerprints = needs(settings)
        if needs_known and not known:
            raise ImpossibleRequest(
                "These settings ask for new crystals: give the known ones they must be new against."
            )
        if needs_fingerprints and not fingerprints:
            raise ImpossibleRequest(
                "The protocol of the screening filters by dissimilarity: give fingerprints of known crystals "
                "(`crysgen dataset fingerprint DATASET` makes them)."
            )
        wish = dict(conditions if conditions is not None else held.get("conditions", {}))
        get_generator(generator.generator).check_conditions(wish, tuple(generator.conditions))
        query = dict(ranking if ranking is not None else settings["ranking"])
        Query.from_dict(query)

        builder = cls.get_builder()
        builder.code, builder.generator, builder.reference = code, generator, reference
        builder.known = dict(known or {})
        builder.known_formulas = dict(known_formulas or {})
        builder.fingerprints = dict(fingerprints or {})
        builder.n = orm.Int(n if n is not None else held.get("n", settings["n"]))
        builder.n_promote = orm.Int(
            n_promote if n_promote is not None else held.get("n_promote", settings["n_promote"])
        )
        builder.seed = orm.Int(seed)
        builder.conditions = orm.Dict(wish)
        builder.ranking = orm.Dict(query)
        for stage in STAGES:
            builder._update({stage: {stage: _job(settings[stage], options)}})
        return builder

    # -- the line -------------------------------------------------------------------------------------------------

    def sample(self) -> Any:
        """Sample under the conditions."""
        inputs = link_inputs(self, SampleBaseWorkChain, generator=self.inputs.generator)
        inputs.sample.parameters = orm.Dict({"n": self.inputs.n.value, "conditions": self.inputs.conditions.get_dict()})
        return ToContext(sample=self.submit(SampleBaseWorkChain, **inputs))

    def decode(self) -> Any:
        """Turn what was sampled into crystals."""
        if (stop := pass_on(self, SampleBaseWorkChain, self.ctx.sample)) is not None:
            return stop
        name = orm.Str(self.inputs.generator.generator)
        inputs = link_inputs(self, DecodeBaseWorkChain, generator_name=name)
        inputs.decode.sequences = self.ctx.sample.outputs.sequences
        return ToContext(decode=self.submit(DecodeBaseWorkChain, **inputs))

    def relax(self) -> Any:
        """Relax them."""
        if (stop := pass_on(self, DecodeBaseWorkChain, self.ctx.decode, crystals="decoded")) is not None:
            return stop
        inputs = link_inputs(self, RelaxBaseWorkChain)
        inputs.relax.crystals = self.ctx.decode.outputs.crystals
        if _compares(inputs.relax.parameters.get_dict() if "parameters" in inputs.relax else {}):
            inputs.relax.known = dict(self.inputs.get("known", {}))
            inputs.relax.known_formulas = dict(self.inputs.get("known_formulas", {}))
        return ToContext(relax=self.submit(RelaxBaseWorkChain, **inputs))

    def screen(self) -> Any:
        """Judge them."""
        if (stop := pass_on(self, RelaxBaseWorkChain, self.ctx.relax)) is not None:
            return stop
        inputs = link_inputs(self, ScreenBaseWorkChain, reference=self.inputs.reference)
        job = inputs.screen
        job.crystals = self.ctx.relax.outputs.crystals
        job.unrelaxed = self.ctx.decode.outputs.crystals
        job.sequences = self.ctx.sample.outputs.sequences
        job.known = dict(self.inputs.get("known", {}))
        job.known_formulas = dict(self.inputs.get("known_formulas", {}))
        job.fingerprints = dict(self.inputs.get("fingerprints", {}))
        asked = job.parameters.get_dict() if "parameters" in job else {}
        job.parameters = orm.Dict({**asked, "requested": self.inputs.conditions.get_dict()})
        return ToContext(screen=self.submit(ScreenBaseWorkChain, **inputs))

    def rank(self) -> ExitCode | None:
        """Rank them, and keep the order as a decision."""
        if (stop := pass_on(self, ScreenBaseWorkChain, self.ctx.screen)) is not None:
            return stop
        crystals, table = self.ctx.relax.outputs.crystals, self.ctx.screen.outputs.table
        query = orm.Dict({"proposer": "InverseDesignWorkChain", **self.inputs.ranking.get_dict()})
        try:
            decision = record_ranking(crystals, table, query, metadata={"call_link_label": "rank"})  # type: ignore[call-arg]
        except CrysgenError as error:
            return self._failed("ERROR_RANKING_FAILED", str(error))
        self.ctx.decision = decision
        self.out("decision", decision)
        if decision.n_rows == 0:
            funnel = ", ".join(f"{step}: {count}" for step, count in decision.metadata["funnel"])
            return self._failed(
                "ERROR_NO_CANDIDATES", f"No crystal met the constraints ({funnel}); sample more or ask for less."
            )
        return None

    def should_promote(self) -> bool:
        """Whether structures are wanted."""
        return bool(self.inputs.n_promote.value > 0)

    def promote(self) -> ExitCode | None:
        """Make structures of the best."""
        decision = self.ctx.decision
        rows = decision.table.column("parent_row")[: self.inputs.n_promote.value]
        made = promote(
            self.ctx.relax.outputs.crystals,
            self.ctx.screen.outputs.table,
            self.inputs.reference,
            decision,
            orm.List(rows),
            metadata={"call_link_label": "promote"},  # type: ignore[call-arg]
        )
        self.out("structures", dict(made["structures"]))
        return None

    def _failed(self, label: str, message: str) -> ExitCode:
        self.report(message)
        code = self.exit_codes[label]
        return ExitCode(code.status, message, code.invalidates_cache)


#: The stages that are jobs, in order.
STAGES = ("sample", "decode", "relax", "screen")


def _define_known(spec: Any) -> None:
    """Define what candidates are compared with."""
    spec.input_namespace("known", valid_type=CrystalSetData, dynamic=True, required=False, help="Known crystals.")
    spec.input_namespace(
        "known_formulas",
        valid_type=ReferenceEnergiesData,
        dynamic=True,
        required=False,
        help="Tables whose formulas are known as well, with or without a crystal.",
    )
    spec.input_namespace(
        "fingerprints",
        valid_type=PropertyTableData,
        dynamic=True,
        required=False,
        help="Site fingerprints of known crystals, for protocols that ask how unlike them a candidate is.",
    )


def _define_outputs(spec: Any) -> None:
    """Define what each stage of the line leaves."""
    spec.output("sequences", valid_type=SequenceSetData, help="What was sampled.")
    spec.output("decoded", valid_type=CrystalSetData, help="The crystals as decoded.")
    spec.output("crystals", valid_type=CrystalSetData, help="The relaxed crystals: their rows are the candidates.")
    spec.output("table", valid_type=PropertyTableData, help="Verdicts and properties of the relaxed crystals.")
    spec.output("decision", valid_type=DecisionData, help="The ranking.")
    spec.output_namespace("structures", valid_type=orm.StructureData, dynamic=True, required=False, help="The best.")


def _expose_stages(spec: Any) -> None:
    """Expose what a stage can be told, less what the line itself hands it."""
    linked = {
        SampleBaseWorkChain: ("generator", "parameters"),
        DecodeBaseWorkChain: ("sequences", "generator_name"),
        RelaxBaseWorkChain: ("crystals", "known", "known_formulas"),
        ScreenBaseWorkChain: (
            "crystals",
            "unrelaxed",
            "sequences",
            "reference",
            "known",
            "known_formulas",
            "fingerprints",
        ),
    }
    for chain, given in linked.items():
        verb = chain._process_class.VERB
        spec.expose_inputs(chain, namespace=verb, exclude=[f"{verb}.{x}" for x in ("seed", *given)])


def recipe_settings(
    generator: GeneratorData,
    *,
    protocol: str | None = None,
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the settings of the stages: the protocol's, the recipe's over them, then the overrides.

    What the recipe says for its own generator only is left out for another, so that both go through the same funnel.
    """
    held = load_recipe(recipe) if recipe else {}
    own = held.get("generator_overrides") if held.get("generator") == generator.generator else None
    merged = _merged(held.get("overrides"), own, overrides)
    return load_protocol("inverse_design", protocol, merged, generator.generator)


def needs(settings: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether settings of the stages need known crystals before the relaxation, and fingerprints of some."""
    screening = settings["screen"]["parameters"]
    rules = get_protocol(screening.get("protocol", "mattergen"), screening.get("overrides"))
    return _compares(settings["relax"]["parameters"]), "dissimilar" in rules.filters


def _compares(parameters: Mapping[str, Any]) -> bool:
    selection = parameters.get("selection") or {}
    return bool(selection.get("new_formula") or selection.get("new_structure"))


def _job(settings: Mapping[str, Any], options: Mapping[str, Any] | None) -> AttributeDict:
    job = AttributeDict({"metadata": {"options": {**settings.get("options", {}), **(options or {})}}})
    if settings.get("parameters"):
        job.parameters = orm.Dict(dict(settings["parameters"]))
    if settings.get("spec"):
        job.spec = orm.Dict(dict(settings["spec"]))
    if settings.get("preset"):
        job.preset = orm.Str(settings["preset"])
    return job


def _merged(*layers: Mapping[str, Any] | None) -> dict[str, Any]:
    from crysgen_aiida.generators.contract import deep_merge

    merged: dict[str, Any] = {}
    for layer in layers:
        merged = deep_merge(merged, layer or {})
    return merged


def _not_negative(value: orm.Int | None, _: Any) -> str | None:
    return f"give 0 or more, not {value.value}." if value is not None and value.value < 0 else None


def _validate_ranking(value: orm.Dict | None, _: Any) -> str | None:
    held = value.get_dict() if value is not None else {}
    try:
        Query.from_dict({k: v for k, v in held.items() if k not in ("proposer", "note")})
    except CrysgenError as error:
        return str(error)
    return None
