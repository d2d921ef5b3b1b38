"""Protocols (how much effort) and recipes (what is wanted), as YAML laid over each other."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import yaml

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.generators.contract import deep_merge

DEFAULT_PROTOCOL = "balanced"


def protocol_names(work_chain: str) -> dict[str, str]:
    """Return the protocols of a work chain with what each is for."""
    return {name: held["description"] for name, held in _load("protocols", work_chain)["protocols"].items()}


def load_protocol(
    work_chain: str,
    name: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    generator: str | None = None,
) -> dict[str, Any]:
    """Return the settings of a protocol: the defaults, the protocol's, its own for a generator, then ``overrides``.

    :raises ImpossibleRequest: if there is no such protocol, or an override names a setting no protocol has.
    """
    held = _load("protocols", work_chain)
    name = name or DEFAULT_PROTOCOL
    if name not in held["protocols"]:
        raise ImpossibleRequest(f"There is no protocol {name!r}; {_hint(name, held['protocols'])}")
    chosen = held["protocols"][name]
    settings = deep_merge(held["default_inputs"], chosen.get("inputs", {}))
    settings = deep_merge(settings, chosen.get("generators", {}).get(generator, {}))
    for stage in overrides or {}:
        if stage not in settings:
            raise ImpossibleRequest(f"The work chain has no stage or setting {stage!r}; {_hint(stage, settings)}")
    return deep_merge(settings, overrides or {})


def recipe_names() -> dict[str, str]:
    """Return the recipes with what each is for."""
    names = sorted(f.name.removesuffix(".yaml") for f in _folder("recipes").iterdir() if f.name.endswith(".yaml"))
    return {name: _load("recipes", name)["description"] for name in names}


def load_recipe(name: str) -> dict[str, Any]:
    """Return a recipe: ``generator``, ``n``, ``n_promote``, ``conditions``, ``citation``, ``overrides`` of stages,
    ``generator_overrides`` of stages for the generator it names, ``training`` (preset and spec of that generator) and
    ``verify`` (stages, engines and gates of a verification).

    :raises ImpossibleRequest: if there is none of that name.
    """
    names = recipe_names()
    if name not in names:
        raise ImpossibleRequest(f"There is no recipe {name!r}; {_hint(name, names)}")
    return _load("recipes", name)


def training_of(recipe: str, generator: str) -> dict[str, Any]:
    """Return how a recipe trains a generator: ``preset`` and ``spec``.

    Another generator than the recipe's own, such as the baseline beside it, learns from the same rows (``data.keep``).

    :raises ImpossibleRequest: if there is no such recipe.
    """
    held = load_recipe(recipe)
    training: dict[str, Any] = held.get("training") or {}
    if held.get("generator") == generator:
        return training
    keep = ((training.get("spec") or {}).get("data") or {}).get("keep")
    return {"spec": {"data": {"keep": keep}}} if keep else {}


def _folder(kind: str) -> Any:
    return files("crysgen_aiida.workchains") / kind


def _load(kind: str, name: str) -> dict[str, Any]:
    held = yaml.safe_load((_folder(kind) / f"{name}.yaml").read_text(encoding="utf-8"))
    if not isinstance(held, dict):
        raise BadInput(f"{kind}/{name}.yaml must hold a mapping; the installation is damaged, reinstall crysgen-aiida.")
    return held


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known := list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}."
