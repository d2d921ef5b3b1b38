"""The parser: recursive descent, one method a rule.

::

    expression  = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = ("not" | "!") negation | "(" expression ")" | condition
    condition   = operand                                        a yes/no column
                | operand operator value | value operator operand [ operator value ]
                | operand ["not"] "between" number "and" number
                | operand ["not"] "in" "(" value { "," value } ")"
                | operand "is" ["not"] ("null" | "missing" | "true" | "false")
                | "elements" ("has" ["any" | "all"] | "only" | "are") symbols
    operand     = name [ "[" method "]" ] | "method" "(" name ")" | "sigma" "(" operand ")"
    value       = number [ unit ] | string | word | operand
    symbols     = symbol | "(" symbol { "," symbol } ")"
"""

from __future__ import annotations

import math

from crysgen_aiida.store.language.nodes import (
    And,
    Between,
    Column,
    Comparison,
    Elements,
    Expression,
    Flag,
    In,
    IsMissing,
    Literal,
    MethodOf,
    Not,
    Number,
    Operand,
    Or,
    SigmaOf,
    Text,
    Word,
)
from crysgen_aiida.store.language.place import printable, shown
from crysgen_aiida.store.language.tokens import Kind, Token, tokenize

#: How deep parentheses and negations may be nested, and how many conditions there may be. SQLite takes expressions
#: of depth 1000.
MAX_DEPTH = 50
MAX_CONDITIONS = 500

#: Words with a meaning of their own; a column of such a name is written in double quotes.
KEYWORDS = frozenset(("and", "or", "not", "in", "is", "between", "null", "missing", "method", "sigma"))

_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def parse(text: str) -> Expression:
    """Return what a query means. An empty text is a query everything satisfies.

    :raises BadInput: where the text breaks the grammar, pointing at the place.
    """
    parser = _Parser(text)
    return parser.whole()


def parse_operand(text: str) -> Operand:
    """Return what a column stands for: ``band_gap``, ``band_gap['pbe-mp2020']``, ``sigma(band_gap)``.

    :raises BadInput: if it is none of these.
    """
    parser = _Parser(text)
    operand = parser.operand()
    parser.expect_end("a column alone is wanted here")
    return operand


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = tokenize(text)
        self.position = 0
        self.depth = 0
        self.conditions = 0

    # -- moving -------------------------------------------------------------------------------------------------------

    @property
    def here(self) -> Token:
        return self.tokens[self.position]

    @property
    def next(self) -> Token:
        return self.tokens[min(self.position + 1, len(self.tokens) - 1)]

    def take(self) -> Token:
        token = self.here
        if token.kind is not Kind.END:
            self.position += 1
        return token

    def take_mark(self, mark: str) -> bool:
        found = self.here.kind is Kind.MARK and self.here.text == mark
        if found:
            self.position += 1
        return found

    def take_word(self, *words: str) -> str | None:
        if not self.here.is_word(*words):
            return None
        return self.take().text.lower()

    def expect_mark(self, mark: str, what: str) -> Token:
        token = self.here
        if not self.take_mark(mark):
            raise self.unexpected(f"{what} needs a {mark} here")
        return token

    def expect_end(self, sentence: str) -> None:
        if self.here.kind is not Kind.END:
            raise self.unexpected(sentence)

    def unexpected(self, sentence: str) -> Exception:
        if self.here.kind is Kind.END:
            return self.here.place.malformed(f"The query ends too early: {sentence}.")
        if self.here.text == "-" and self.tokens[self.position - 1].kind is Kind.NAME:
            sentence = "a name with a hyphen is written in single quotes, as text and as a method"
        return self.here.place.malformed(f"Cannot read `{printable(str(self.here.place), 30)}` here: {sentence}.")

    # -- conditions ---------------------------------------------------------------------------------------------------

    def whole(self) -> Expression:
        if self.here.kind is Kind.END:
            return And(place=self.here.place)
        expression = self.expression()
        self.expect_end("join conditions with `and` or `or`")
        return expression

    def expression(self) -> Expression:
        parts = [self.conjunction()]
        while self.take_word("or"):
            parts.append(self.conjunction())
        if len(parts) == 1:
            return parts[0]
        flat = tuple(c for part in parts for c in (part.conditions if isinstance(part, Or) else (part,)))
        return Or(flat, place=parts[0].place.to(parts[-1].place))

    def conjunction(self) -> Expression:
        parts = [self.negation()]
        while self.take_word("and"):
            parts.append(self.negation())
        if len(parts) == 1:
            return parts[0]
        flat = tuple(c for part in parts for c in (part.conditions if isinstance(part, And) else (part,)))
        return And(flat, place=parts[0].place.to(parts[-1].place))

    def negation(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.here.place.malformed(f"This is nested more than {MAX_DEPTH} deep; write the query flatter.")
        start = self.here.place
        result: Expression
        if self.take_word("not") or self.take_mark("!"):
            inner = self.negation()
            result = Not(inner, place=start.to(inner.place))
        elif self.take_mark("("):
            result = self.expression()
            self.expect_mark(")", "the parenthesis opened before")
        else:
            result = self.condition()
        self.depth -= 1
        return result

    def condition(self) -> Expression:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise self.here.place.malformed(
                f"A query may have {MAX_CONDITIONS} conditions; use `in (…)` for many values of one column."
            )
        start = self.here.place
        if self.here.kind in (Kind.NUMBER, Kind.STRING) or (self.here.kind is Kind.MARK and self.here.text in "+-"):
            return self.turned()
        if self.here.is_word("elements") and self.next.kind is Kind.NAME and self.next.is_word(*_ELEMENTS):
            return self.elements()
        operand = self.operand()
        if self.here.kind is Kind.OPERATOR:
            operator = self.take().text
            right = self.value()
            self.refuse_chain()
            return Comparison(operand, operator, right, place=start.to(right.place))
        if self.take_word("is"):
            return self.is_something(operand)
        turned = self.here.is_word("not") and self.next.is_word("between", "in")
        if turned:
            self.take()
        found: Expression
        if self.take_word("between"):
            low = self.number("between")
            if not self.take_word("and"):
                raise self.unexpected("`between` is followed by two numbers: between 1 and 2")
            high = self.number("between")
            found = Between(operand, low, high, place=start.to(high.place))
        elif self.take_word("in"):
            values, end = self.listed()
            found = In(operand, values, place=start.to(end.place))
        elif turned:
            raise self.unexpected("`not` is followed by `between` or `in` here")
        else:
            found = Flag(operand, place=operand.place)
        return Not(found, place=found.place) if turned else found

    def turned(self) -> Expression:
        """``1.5 < band_gap`` and ``0 < band_gap <= 3``."""
        left = self.value()
        if self.here.kind is not Kind.OPERATOR:
            raise self.unexpected("a comparison is wanted after a value: < <= > >= = !=")
        operator = self.take().text
        operand = self.operand()
        if isinstance(left, Column | MethodOf | SigmaOf):  # cannot be: a value that begins so is a number or a string
            raise left.place.malformed("A number or a string is wanted here.")
        place = left.place.to(operand.place)
        first = Comparison(operand, _TURNED[operator], left, place=place)
        if self.here.kind is not Kind.OPERATOR:
            return first
        operator = self.take().text
        right = self.value()
        self.refuse_chain()
        place = left.place.to(right.place)
        return And((first, Comparison(operand, operator, right, place=operand.place.to(right.place))), place=place)

    def refuse_chain(self) -> None:
        if self.here.kind is Kind.OPERATOR:
            raise self.unexpected("a comparison has two sides; write `a < b and b < c`")

    def is_something(self, operand: Operand) -> Expression:
        turned = self.take_word("not") is not None
        end = self.here.place
        word = self.take_word("null", "missing", "true", "false", "yes", "no")
        if word is None:
            raise self.unexpected("`is` is followed by null, not null, missing, true or false")
        place = operand.place.to(end)
        found: Expression
        if word in ("null", "missing"):
            found = IsMissing(operand, place=place)
        else:
            found = Flag(operand, place=place)
            turned ^= word in ("false", "no")
        return Not(found, place=place) if turned else found

    def elements(self) -> Expression:
        start = self.take().place
        how = self.take().text.lower()
        if how == "has":
            how = self.take_word("any", "all") or "all"
        symbols, end = [], self.here
        if self.take_mark("("):
            while True:
                symbols.append(self.symbol())
                end = self.here
                if self.take_mark(")"):
                    break
                self.expect_mark(",", "a list of elements")
        else:
            symbols.append(self.symbol())
        return Elements(how, tuple(dict.fromkeys(symbols)), place=start.to(end.place))

    def symbol(self) -> str:
        from crysgen_aiida.data.elements import NUMBERS

        token = self.here
        if token.kind not in (Kind.NAME, Kind.STRING, Kind.QUOTED):
            raise self.unexpected("the symbol of an element is wanted here: elements has any (Bi, Pb)")
        self.take()
        if token.text not in NUMBERS:
            proper = token.text[:2].capitalize()
            hint = f" Did you mean {proper}?" if len(token.text) <= 2 and proper in NUMBERS else ""
            raise token.place.impossible(f"There is no element {shown(token.text, 20)}.{hint}")
        return token.text

    # -- values -------------------------------------------------------------------------------------------------------

    def operand(self) -> Operand:
        token = self.here
        if token.kind is Kind.NAME and token.text.lower() in ("method", "sigma") and self.next.text == "(":
            return self.function()
        if token.is_word(*KEYWORDS) or token.kind not in (Kind.NAME, Kind.QUOTED):
            raise self.unexpected("a condition begins with the name of a column")
        self.take()
        method, end = self.by_method(token)
        return Column(token.text, method, place=token.place.to(end.place))

    def function(self) -> Operand:
        start = self.take()
        self.expect_mark("(", start.text)
        token = self.here
        if token.kind not in (Kind.NAME, Kind.QUOTED):
            raise self.unexpected(f"{start.text}(…) is of a property: {start.text}(band_gap)")
        self.take()
        method, _ = self.by_method(token)
        end = self.expect_mark(")", start.text)
        place = start.place.to(end.place)
        if start.text.lower() == "sigma":
            return SigmaOf(token.text, method, place=place)
        if method is not None:
            raise place.malformed(f"The method of {token.text} by {shown(method)} is {shown(method)}.")
        return MethodOf(token.text, place=place)

    def by_method(self, name: Token) -> tuple[str | None, Token]:
        if not self.take_mark("["):
            return None, name
        token = self.here
        if token.kind not in (Kind.STRING, Kind.QUOTED, Kind.NAME):
            raise self.unexpected(f"the name of a method is wanted here: {name.text}['pbe-mp2020']")
        self.take()
        return token.text, self.expect_mark("]", "the name of a method")

    def value(self) -> Operand | Literal:
        token = self.here
        if token.kind is Kind.NUMBER or (token.kind is Kind.MARK and token.text in "+-"):
            return self.number("a comparison")
        if token.kind in (Kind.STRING, Kind.QUOTED):
            return Text(self.take().text, place=token.place)
        if token.is_word("null", "missing"):
            raise token.place.malformed("Nothing equals a missing value; write `is null` or `is not null`.")
        if token.kind is Kind.NAME and self.next.kind is Kind.MARK and self.next.text in "[(":
            return self.operand()
        if token.kind is Kind.NAME and not token.is_word(*KEYWORDS):
            return Word(self.take().text, place=token.place)
        raise self.unexpected("a value is wanted here: a number, 'text', or yes and no")

    def listed(self) -> tuple[tuple[Literal, ...], Token]:
        self.expect_mark("(", "`in`")
        values: list[Literal] = []
        while True:
            value = self.value()
            if isinstance(value, (Column, MethodOf, SigmaOf)):
                raise value.place.malformed("A list holds numbers or text, not columns.")
            values.append(value)
            end = self.here
            if self.take_mark(")"):
                return tuple(values), end
            self.expect_mark(",", "a list of values")

    def number(self, what: str) -> Number:
        start = self.here.place
        sign = -1.0 if self.take_mark("-") else 1.0
        if sign > 0:
            self.take_mark("+")
        token = self.here
        if token.kind is not Kind.NUMBER:
            raise self.unexpected(f"{what} needs a number here")
        self.take()
        value = sign * float(token.text)
        if not math.isfinite(value):
            raise token.place.malformed("This number is too large.")
        unit, end = self.unit(token)
        return Number(value, unit, place=start.to(end.place))

    def unit(self, number: Token) -> tuple[str | None, Token]:
        """Take the unit after a number as it is written: ``eV/atom``, ``C/m^2``, ``%``."""
        first = end = self.here
        if not ((first.kind is Kind.NAME and not first.is_word(*KEYWORDS)) or self.here.text == "%"):
            return None, number
        self.take()
        while self.here.kind is Kind.MARK and self.here.text in "/*^·":
            self.take()
            self.take_mark("-")
            end = self.here
            if end.kind not in (Kind.NAME, Kind.NUMBER):
                raise self.unexpected("a unit is written like eV/atom or C/m^2")
            self.take()
        return str(first.place.to(end.place)), end


_ELEMENTS = ("has", "only", "are")
