"""Physics of each engine as YAML: ``fast``, ``balanced``, ``stringent``, settings by stage. Sites are apart."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.generators.contract import deep_merge

DEFAULT_PROTOCOL = "balanced"


def protocol_names(engine: str) -> dict[str, str]:
    """Return the protocols of an engine with what each is for."""
    return {name: held["description"] for name, held in _load(engine)["protocols"].items()}


def stage_settings(
    engine: str, stage: str, protocol: str | None = None, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the settings of a stage: the engine's defaults, then the protocol's, then ``overrides``.

    :raises ImpossibleRequest: if there is no such protocol, or an override names a setting the stage does not have.
    """
    held = _load(engine)
    name = protocol or DEFAULT_PROTOCOL
    if name not in held["protocols"]:
        raise ImpossibleRequest(f"The engine {engine} has no protocol {name!r}; {_hint(name, held['protocols'])}")
    settings = deep_merge(held["default"].get(stage, {}), held["protocols"][name].get(stage, {}))
    for key in overrides or {}:
        if key not in settings:
            raise ImpossibleRequest(f"The stage {stage} of {engine} has no setting {key!r}; {_hint(key, settings)}")
    return deep_merge(settings, overrides or {})


def _load(engine: str) -> dict[str, Any]:
    path = files("crysgen_aiida.engines.protocols") / f"{engine}.yaml"
    if not path.is_file():
        told = {"description": "the engine's own defaults"}
        return {"default": {}, "protocols": dict.fromkeys(("fast", DEFAULT_PROTOCOL, "stringent"), told)}
    held = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(held, dict) or not {"default", "protocols"} <= set(held):
        raise BadInput(f"engines/protocols/{engine}.yaml is damaged; reinstall crysgen-aiida.")
    return held


def _hint(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known) or 'none'}."
