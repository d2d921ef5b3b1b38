"""The content of a stage's ``results`` node: values in registered units, facts of the computation, a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from crysgen_aiida.crystals.properties import get_property
from crysgen_aiida.engines.contract import STAGES


def stage_results(
    *,
    engine: str,
    stage: str,
    method: str,
    values: Mapping[str, float],
    facts: Mapping[str, Any] | None = None,
    verdict: str = "",
) -> dict[str, Any]:
    """Return the content of the ``results`` of a stage.

    :param method: stamped on every value, e.g. ``qe-pbe`` or ``abinit-dfpt-pbe``: what computed it and with which
        functional; a stand-in for an engine names itself, never the engine.
    :param values: registered scalar properties in their registered units.
    :param facts: what was computed and how well (settings reached, residuals, versions); JSON values. The stage bands
        tells ``number_of_electrons`` and ``fermi_energy`` [eV], the stage phonon ``stable``.
    :param verdict: a sentence, e.g. why a crystal does not pass.
    :raises ImpossibleRequest: for a property that is not registered.
    :raises ValueError: for an unknown stage, a value that is no finite number, or a property that is no scalar.
    """
    if stage not in STAGES:
        raise ValueError(f"there is no stage {stage!r}; the stages are {', '.join(STAGES)}")
    for name, value in values.items():
        if get_property(name).shape:
            raise ValueError(f"{name} is no scalar; put it into the tensors of the stage")
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}; leave out what could not be computed and say why in the verdict")
    return {
        "engine": engine,
        "stage": stage,
        "method": method,
        "values": {name: float(value) for name, value in values.items()},
        "facts": dict(facts or {}),
        "verdict": verdict,
    }
