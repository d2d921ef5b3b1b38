"""Which properties were registered when an index was filled: what a column means depends on it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.store.index.bulk import store_setting
from crysgen_aiida.store.index.models import Results, Screening, Setting

_NAME = "properties"


def filled_otherwise(connection: Connection) -> bool:
    """Whether an index holds something that was put there when other properties were registered."""
    if connection.scalar(select(Setting.value).where(Setting.name == _NAME)) == _registered():
        return False
    return any(connection.scalar(select(what).limit(1)) is not None for what in (Screening.uuid, Results.uuid))


def note_registered(connection: Connection) -> None:
    """Write down which properties are registered now."""
    store_setting(connection, _NAME, _registered())


def _registered() -> dict[str, Any]:
    return {name: [held.unit, list(held.shape)] for name, held in sorted(PROPERTIES.items())}
