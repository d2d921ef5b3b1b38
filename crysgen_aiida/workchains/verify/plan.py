"""What a verification does: steps in their order, each a stage by an engine, with its settings and its gates."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.engines.contract import STAGES, get_engine
from crysgen_aiida.engines.protocols import stage_settings
from crysgen_aiida.generators.contract import deep_merge

#: The engines whose stages run in the worker.
POTENTIAL, TRANSPORT = "potential", "boltztrap"
#: Distance of k-points of bands that transport is computed from, where the protocol asks for none [1/A].
TRANSPORT_MESH = 0.15
#: Stages that a potential answers for geometries at rest of its own.
AT_REST = ("phonon", "elastic", "kappa")

#: When a candidate goes no further; see :mod:`crysgen_aiida.workchains.verify.gates`.
GATES: dict[str, float | bool | None] = {
    "max_e_above_reference": 0.1,  # eV/atom
    "min_gap": 0.1,  # eV, before dielectric response
    "piezo": True,  # dielectric response is asked for its piezoelectric tensor: symmetry must allow one
    "phonon_stable": True,
    "elastic_stable": True,
}


@dataclass(frozen=True)
class Step:
    """One stage by one engine.

    :param potential: the potential, if that is the engine.
    :param second: whether this is the second opinion: it stops nobody, and its difference from the first is the
        uncertainty of the first.
    """

    stage: str
    engine: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    potential: str | None = None
    second: bool = False

    @property
    def key(self) -> str:
        """A name for links and labels: letters, digits and single underscores."""
        return f"{self.stage}_{self.potential or self.engine}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Step:
        """Build a step from plain values.

        :raises ImpossibleRequest: for an unknown stage, engine or potential, or a stage its engine has not.
        """
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown or not {"stage", "engine"} <= set(values):
            raise ImpossibleRequest(
                f"A step names stage and engine, and may name settings, potential and second; not {dict(values)!r}."
            )
        step = cls(**values)
        get_engine(step.engine).stage(step.stage)
        if step.engine == POTENTIAL and step.stage != "hull" and not step.potential:
            raise ImpossibleRequest(f"The step {step.stage} of a potential must name it, e.g. potential: chgnet.")
        return step


def make_plan(
    stages: Sequence[str],
    engines: Mapping[str, str] | None = None,
    *,
    potential: str,
    second: str | None = None,
    protocol: str | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Step]:
    """Return the steps of a verification in the order of :data:`~crysgen_aiida.engines.contract.STAGES`.

    What a potential says of phonons or elastic constants it says of crystals at rest with itself: where no such
    relaxation is asked for, one is put before.

    :param engines: stage to engine; a potential where none is named, if it can.
    :param second: potential that repeats phonons and elastic constants.
    :param settings: stage to settings over those of the protocol.
    :raises ImpossibleRequest: for unknown stages, engines, potentials, protocols or settings, or a stage that no
        engine named here has.
    """
    chosen = dict(engines or {})
    for name in [*stages, *chosen, *(settings or {})]:
        if name not in STAGES:
            close = difflib.get_close_matches(name, STAGES, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(STAGES)}."
            raise ImpossibleRequest(f"There is no stage {name!r}; {hint}")
    steps: list[Step] = []
    for stage in (s for s in STAGES if s in stages):
        engine = chosen.get(stage, TRANSPORT if stage == "transport" else POTENTIAL)
        get_engine(engine).stage(stage)
        over = (settings or {}).get(stage, {})
        if not get_engine(engine).batched:
            asked = stage_settings(engine, stage, protocol, over)
            if stage == "bands" and "transport" in stages and asked.get("mesh_distance", 0) is None:
                asked["mesh_distance"] = TRANSPORT_MESH
            steps.append(Step(stage, engine, asked))
            continue
        # settings of the worker's verbs are checked by their ports
        told = deep_merge(stage_settings(engine, stage, protocol), over)
        if engine != POTENTIAL or stage == "hull":
            steps.append(Step(stage, engine, told))
            continue
        for name in dict.fromkeys(filter(None, (potential, second if stage in AT_REST else None))):
            other = name != potential
            if stage in AT_REST and not any(s.stage == "relax" and s.potential == name for s in steps):
                steps.append(Step("relax", POTENTIAL, stage_settings(POTENTIAL, "relax", protocol), name, second=other))
            steps.append(Step(stage, POTENTIAL, told, name, second=other))
    if not steps:
        raise ImpossibleRequest(f"No stage is asked for; name some of {', '.join(STAGES)}.")
    return steps


def make_gates(values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the gates with ``values`` over the defaults; None switches a limit off.

    :raises ImpossibleRequest: for an unknown gate, or a value of another kind.
    """
    for name, value in (values or {}).items():
        if name not in GATES:
            close = difflib.get_close_matches(name, GATES, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(GATES)}."
            raise ImpossibleRequest(f"There is no gate {name!r}; {hint}")
        wanted = (bool,) if isinstance(GATES[name], bool) else (int, float)
        if value is not None and (not isinstance(value, wanted) or (bool not in wanted and isinstance(value, bool))):
            raise ImpossibleRequest(
                f"The gate {name} is {value!r}; give {'true or false' if bool in wanted else 'a number'}."
            )
    return deep_merge(GATES, values or {})
