"""Where in a text something is wrong, and how to point at it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest

#: Characters of a query shown around a mistake.
WINDOW = 76


@dataclass(frozen=True)
class Place:
    """A stretch of a text: characters ``start`` to ``end`` (excluded)."""

    text: str
    start: int
    end: int

    def __str__(self) -> str:
        return self.text[self.start : self.end]

    def to(self, other: Place) -> Place:
        """Return the stretch from here to the end of another place of the same text."""
        return Place(self.text, self.start, max(self.end, other.end))

    def malformed(self, sentence: str) -> BadInput:
        """Return the error for text that cannot be read, pointing here."""
        return BadInput(f"{sentence}\n{self.pointer()}")

    def impossible(self, sentence: str) -> ImpossibleRequest:
        """Return the error for text that can be read but not answered, pointing here."""
        return ImpossibleRequest(f"{sentence}\n{self.pointer()}")

    def pointer(self) -> str:
        """Return the text around this place and, below it, a line with carets.

        What is not printable (a line break, an escape sequence, a mark that joins the letter before it) is shown as a
        dot, so that a hostile query cannot write anything but itself, and the carets stand where they should.
        """
        begin = max(0, min(self.start - WINDOW // 2, len(self.text) - WINDOW))
        middle = "".join(_visible(c) for c in self.text[begin : begin + WINDOW])
        left = "…" if begin else ""
        right = "…" if begin + WINDOW < len(self.text) else ""
        offset = len(left) + self.start - begin
        width = max(1, min(self.end, begin + WINDOW) - self.start)
        return f"  {left}{middle}{right}\n  {' ' * offset}{'^' * width}"


def printable(text: str, most: int = 200) -> str:
    """Return a text as a terminal may show it: short, on one line, without escape sequences."""
    return "".join(_visible(c) for c in text[:most]) + ("…" if len(text) > most else "")


def clean(text: str) -> str:
    """Return a line of text as a terminal may show it, whatever its length."""
    return "".join(_visible(c) for c in text) if not text.isascii() or not text.isprintable() else text


def shown(text: str, most: int = 60) -> str:
    """Return a text in quotes, as an error may name it."""
    return f"'{printable(text, most)}'"


def suggestion(name: str, known: Iterable[str], *, most: int = 12) -> str:
    """Return ``Did you mean a, b?``, or what there is if nothing is close."""
    names = sorted(known)
    by_lower = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name[:100].lower(), by_lower, n=3)
    if close:
        return f"Did you mean {', '.join(by_lower[c] for c in close)}?"
    if len(names) < 2:
        return f"There is only {names[0]}." if names else "There is none."
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"There are {', '.join(names[:most])}{more}."


def _visible(character: str) -> str:
    import unicodedata

    if character == "\t":
        return " "
    hidden = not character.isprintable() or unicodedata.combining(character)
    return "·" if hidden else character
