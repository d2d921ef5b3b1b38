"""What the settings of all generators need."""

from __future__ import annotations

from crysgen_aiida.crystals.errors import ImpossibleRequest


def require(holds: bool, sentence: str) -> None:
    """Refuse settings that make no sense.

    :raises ImpossibleRequest: with the sentence, if it does not hold.
    """
    if not holds:
        raise ImpossibleRequest(sentence)
