"""A query cut into tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.store.language.place import Place, shown

#: Longest query, in characters. Nothing a person writes comes near it.
MAX_LENGTH = 20_000


class Kind(Enum):
    """What a token is."""

    NUMBER = "number"
    NAME = "name"
    STRING = "string"
    QUOTED = "quoted"  #: in double quotes: a name where a column is expected, a string where a value is
    OPERATOR = "operator"
    MARK = "mark"
    END = "end"


@dataclass(frozen=True)
class Token:
    """A word, number or sign of a query.

    :param text: what it says: without quotes and with doubled quotes undone, for strings.
    """

    kind: Kind
    text: str
    place: Place

    def is_word(self, *words: str) -> bool:
        """Say whether this is one of some key words (in any case)."""
        return self.kind is Kind.NAME and self.text.lower() in words


_SPACE = re.compile(r"\s+")
_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    # ASCII digits only: float() reads others, a reader may not
    (Kind.NUMBER, re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")),
    (Kind.NAME, re.compile(r"[^\W\d]\w*(?:\.\w+)*")),
    (Kind.OPERATOR, re.compile(r"<=|>=|==|!=|<>|<|>|=|≤|≥|≠")),
    (Kind.MARK, re.compile(r"[()\[\],+\-*/^%!·²³⁻¹]")),
)
_QUOTES = {
    "'": (Kind.STRING, re.compile(r"'((?:[^']|'')*)'")),
    '"': (Kind.QUOTED, re.compile(r'"((?:[^"]|"")*)"')),
}
_SAME = {"=": "==", "<>": "!=", "≤": "<=", "≥": ">=", "≠": "!="}


def tokenize(text: str) -> list[Token]:
    """Return the tokens of a query, an END token last.

    :raises BadInput: at a character that is of no token, at a string that does not end, or if the text is too long.
    """
    if len(text) > MAX_LENGTH:
        raise BadInput(
            f"A query may have {MAX_LENGTH} characters, this one has {len(text)}; for a long list of candidates read "
            "the columns with crysgen_aiida.store.query and select in Python."
        )
    refuse_unprintable(text)
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        space = _SPACE.match(text, at)
        if space:
            at = space.end()
            continue
        token = _quoted(text, at) if text[at] in _QUOTES else _plain(text, at)
        tokens.append(token)
        at = token.place.end
    tokens.append(Token(Kind.END, "", Place(text, len(text), len(text))))
    return tokens


def refuse_unprintable(text: str) -> None:
    """Refuse text no database holds.

    :raises BadInput: if it has a NUL character or half a character.
    """
    for at, character in enumerate(text):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise Place(text, at, at + 1).malformed("A query cannot hold this character; leave it out.")


def _quoted(text: str, at: int) -> Token:
    mark = text[at]
    kind, pattern = _QUOTES[mark]
    found = pattern.match(text, at)
    if found is None:
        raise Place(text, at, at + 1).malformed(
            f"This quotation mark is never closed; end the string with {mark} (a {mark} inside it is written twice)."
        )
    return Token(kind, found.group(1).replace(mark * 2, mark), Place(text, at, found.end()))


def _plain(text: str, at: int) -> Token:
    for kind, pattern in _PATTERNS:
        found = pattern.match(text, at)
        if found:
            word = found.group()
            return Token(kind, _SAME.get(word, word), Place(text, at, found.end()))
    if text[at] in "&|":
        raise Place(text, at, at + 1).malformed(f"Write `{'and' if text[at] == '&' else 'or'}` for {text[at]}.")
    raise Place(text, at, at + 1).malformed(
        f"A query has no use for {shown(text[at])}; write text in single quotes: status = 'ok', and a column with an "
        'unusual name in double quotes: "my column" > 1.'
    )
