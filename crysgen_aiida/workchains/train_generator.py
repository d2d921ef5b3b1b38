"""TrainGeneratorWorkChain: from a data set to a trained generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ToContext, WorkChain

from crysgen_aiida.calculations.once import SubmitOnce
from crysgen_aiida.calculations.ports import define_exit_codes
from crysgen_aiida.data.generator import GeneratorData
from crysgen_aiida.data.packed import CrystalSetData
from crysgen_aiida.generators.contract import deep_merge, get_generator
from crysgen_aiida.workchains.base import PrepareBaseWorkChain, TrainBaseWorkChain
from crysgen_aiida.workchains.line import link_inputs, pass_on
from crysgen_aiida.workchains.protocols import load_protocol, training_of


class TrainGeneratorWorkChain(SubmitOnce, WorkChain):
    """Prepare the training set of a generator from crystals, then train it."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline and outputs."""
        super().define(spec)
        spec.input("code", valid_type=orm.AbstractCode, help="The worker, for stages that name no code of their own.")
        spec.input("crystals", valid_type=CrystalSetData, help="The data set.")
        spec.input("generator_name", valid_type=orm.Str, serializer=orm.to_aiida_type, help="Name of the generator.")
        spec.input("seed", valid_type=orm.Int, default=lambda: orm.Int(0), serializer=orm.to_aiida_type, help="Seed.")
        given = ("generator_name", "seed")
        spec.expose_inputs(
            PrepareBaseWorkChain, namespace="prepare", exclude=[f"prepare.{x}" for x in (*given, "crystals")]
        )
        spec.expose_inputs(
            TrainBaseWorkChain, namespace="train", exclude=[f"train.{x}" for x in (*given, "training_set")]
        )
        spec.outline(cls.prepare, cls.train, cls.finish)
        spec.expose_outputs(PrepareBaseWorkChain)
        spec.expose_outputs(TrainBaseWorkChain)
        define_exit_codes(spec)

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        crystals: CrystalSetData,
        *,
        generator: str,
        protocol: str | None = None,
        recipe: str | None = None,
        preset: str | None = None,
        spec: Mapping[str, Any] | None = None,
        seed: int = 0,
        start_from: GeneratorData | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return a builder filled in from a protocol.

        :param recipe: whose training settings (preset, data filters) to start from, if it is about this generator.
        :param preset: named settings of the generator, in place of the protocol's.
        :param spec: settings of the generator laid over the preset.
        :param options: ``metadata.options`` of every stage.
        :raises ImpossibleRequest: for an unknown protocol, preset or setting.
        """
        settings = load_protocol("train_generator", protocol, overrides)
        info = get_generator(generator)
        asked = training_of(recipe, generator) if recipe else {}
        preset = preset or asked.get("preset")
        if preset is None:
            preset = next((p for p in settings["presets"] if p in info.presets), None)
        merged = deep_merge(deep_merge(settings["spec"], asked.get("spec") or {}), spec or {})
        info.make_spec(merged, preset)
        builder: Any = cls.get_builder()
        builder.code = code
        builder.crystals = crystals
        builder.generator_name = orm.Str(generator)
        builder.seed = orm.Int(seed)
        for stage in ("prepare", "train"):
            job: dict[str, Any] = {"metadata": {"options": {**settings["options"][stage], **(options or {})}}}
            if merged:
                job["spec"] = orm.Dict(merged)
            if preset is not None:
                job["preset"] = orm.Str(preset)
            builder._update({stage: {stage: job}})
        if start_from is not None:
            builder.train.train["start_from"] = start_from
        return builder

    def prepare(self) -> Any:
        """Make the training set."""
        inputs = link_inputs(self, PrepareBaseWorkChain, generator_name=self.inputs.generator_name)
        inputs.prepare.crystals = self.inputs.crystals
        return ToContext(prepare=self.submit(PrepareBaseWorkChain, **inputs))

    def train(self) -> Any:
        """Train on it."""
        if (stop := pass_on(self, PrepareBaseWorkChain, self.ctx.prepare)) is not None:
            return stop
        inputs = link_inputs(self, TrainBaseWorkChain, generator_name=self.inputs.generator_name)
        inputs.train.training_set = self.ctx.prepare.outputs.training_set
        return ToContext(train=self.submit(TrainBaseWorkChain, **inputs))

    def finish(self) -> Any:
        """Hand out the generator."""
        return pass_on(self, TrainBaseWorkChain, self.ctx.train)
