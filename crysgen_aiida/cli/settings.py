"""``--set key.sub=value`` on a command line, as nested settings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from crysgen_aiida.crystals.errors import ImpossibleRequest


def nested(settings: Iterable[str]) -> dict[str, Any]:
    """Return nested settings of texts like ``training.epochs=2``.

    A value is read as JSON and, failing that, as plain text, so that ``name=chgnet`` needs no quotes.

    :raises ImpossibleRequest: if a text has no ``=``, or a setting is both a value and a group.
    """
    values: dict[str, Any] = {}
    for text in settings:
        path, equals, raw = text.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ImpossibleRequest(f"{text!r} is not a setting; write name=value or group.name=value.")
        place = values
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ImpossibleRequest(f"The setting {key!r} in {text!r} is a value already and cannot be a group.")
        if isinstance(place.get(keys[-1]), dict):
            raise ImpossibleRequest(f"{path!r} is a group of settings already and cannot be a value.")
        place[keys[-1]] = parse_value(raw)
    return values


def parse_value(raw: str) -> Any:
    """Return a JSON value, or the text itself if it is not JSON."""
    try:
        return json.loads(raw)
    except ValueError:
        return raw.strip()


def flat(settings: Iterable[str]) -> dict[str, Any]:
    """Return ``{name: value}`` of texts like ``piezo_max=7.5``.

    :raises ImpossibleRequest: if a text has no ``=`` or a name is given twice.
    """
    values: dict[str, Any] = {}
    for text in settings:
        name, equals, raw = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ImpossibleRequest(f"{text!r} is not a condition; write name=value, e.g. piezo_max=7.5.")
        if name in values:
            raise ImpossibleRequest(f"The condition {name} is given twice.")
        values[name] = parse_value(raw)
    return values
