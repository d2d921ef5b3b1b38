"""Why a string or a crystal could not be translated."""

from __future__ import annotations

from crysgen_aiida.crystals.errors import BadInput


class SlicesError(BadInput):
    """A string that is not a net, a net that is not a crystal, or a crystal that has no net.

    :param reason: a sentence from a small set, so that failures can be counted by reason.
    :param detail: where exactly; shown in the message, not counted.
    """

    label = "ERROR_BAD_INPUT"

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail
