"""What a query means: frozen dataclasses, as the parser makes them and the compiler reads them.

Every node knows its place in the text, which does not count when two nodes are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from crysgen_aiida.store.language.place import Place

NOWHERE = Place("", 0, 0)


@dataclass(frozen=True)
class Node:
    """Anything with a place in the text."""

    place: Place = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


# -- what can stand on either side of a comparison -------------------------------------------------------------------


@dataclass(frozen=True)
class Number(Node):
    """A number, with the unit it was written with, if any."""

    value: float
    unit: str | None = None


@dataclass(frozen=True)
class Text(Node):
    """A string in quotes."""

    value: str


@dataclass(frozen=True)
class Word(Node):
    """A bare word: a column, a text without quotes, or yes and no. The other side decides."""

    value: str


@dataclass(frozen=True)
class Column(Node):
    """A column; of a property also its value by one method: ``band_gap['pbe-mp2020']``."""

    name: str
    method: str | None = None


@dataclass(frozen=True)
class MethodOf(Node):
    """The method by which the current value of a property is: ``method(band_gap)``."""

    name: str


@dataclass(frozen=True)
class SigmaOf(Node):
    """The standard uncertainty of a property's value: ``sigma(band_gap)``."""

    name: str
    method: str | None = None


@dataclass(frozen=True)
class Scaled(Node):
    """A column times a factor, numbers as they are. No text says so, only plain constraints."""

    column: Column
    factor: float


Operand = Column | MethodOf | SigmaOf
Literal = Number | Text | Word

# -- conditions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison(Node):
    """``left operator right``; the operator is one of ``< <= > >= == !=``."""

    left: Operand
    operator: str
    right: Operand | Literal | Scaled


@dataclass(frozen=True)
class Between(Node):
    """``low <= operand <= high``."""

    operand: Operand
    low: Number
    high: Number


@dataclass(frozen=True)
class In(Node):
    """The operand is one of the values."""

    operand: Operand
    values: tuple[Literal, ...]


@dataclass(frozen=True)
class IsMissing(Node):
    """The operand has no value."""

    operand: Operand


@dataclass(frozen=True)
class Flag(Node):
    """A yes/no column that says yes."""

    operand: Operand


@dataclass(frozen=True)
class Elements(Node):
    """A condition on the set of elements: has ``any`` or ``all`` of these, ``only`` these, or just these (``are``)."""

    how: str
    symbols: tuple[str, ...]


@dataclass(frozen=True)
class Not(Node):
    """The condition is false. Where it is unknown this is unknown too."""

    condition: Expression


@dataclass(frozen=True)
class And(Node):
    """All conditions hold; with none, everything does."""

    conditions: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class Or(Node):
    """At least one condition holds."""

    conditions: tuple[Expression, ...]


Expression = And | Or | Not | Comparison | Between | In | IsMissing | Flag | Elements


def steps(expression: Expression) -> tuple[Expression, ...]:
    """Return the conditions that must all hold: those of an ``and`` at the top, or the expression itself."""
    return expression.conditions if isinstance(expression, And) else (expression,)


def operands(expression: Expression) -> Iterator[Operand]:
    """Iterate over all columns an expression names, in order."""
    if isinstance(expression, (And, Or)):
        for condition in expression.conditions:
            yield from operands(condition)
    elif isinstance(expression, Not):
        yield from operands(expression.condition)
    elif isinstance(expression, Comparison):
        yield expression.left
        if isinstance(expression.right, (Column, MethodOf, SigmaOf)):
            yield expression.right
        elif isinstance(expression.right, Scaled):
            yield expression.right.column
    elif not isinstance(expression, Elements):
        yield expression.operand
