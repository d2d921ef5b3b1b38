"""Between the language and constraints as plain values, the form in which decisions record them.

See :mod:`crysgen_aiida.data.constraints` for that form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crysgen_aiida.data.constraints import ELEMENTS, Constraint, label
from crysgen_aiida.store.language.compiler import NO, YES, converted
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
    Not,
    Number,
    Operand,
    Or,
    Scaled,
    Text,
    Word,
    steps,
)
from crysgen_aiida.store.language.place import Place, suggestion
from crysgen_aiida.store.language.tokens import refuse_unprintable
from crysgen_aiida.store.language.units import DifferentQuantity, UnknownUnit, convert

if TYPE_CHECKING:
    from crysgen_aiida.store.language.columns import Columns


def to_plain(expression: Expression, columns: Columns) -> list[Constraint]:
    """Return an expression as plain constraints, one for each that must hold; numbers in the units of the columns.

    :raises ImpossibleRequest: for a condition on methods or uncertainties, which only the index knows.
    """
    return [_plain(step, columns) for step in steps(expression)]


def from_plain(constraint: Constraint) -> Expression:
    """Return a plain constraint as an expression. Its place is the constraint in words.

    :raises BadInput: if a value is of no kind that a column can hold.
    """
    return _expression(constraint, _place(label(constraint)))


def _plain(node: Expression, columns: Columns) -> Constraint:
    if isinstance(node, (And, Or)):
        what = "and" if isinstance(node, And) else "or"
        return (what, tuple(_plain(c, columns) for c in node.conditions))
    if isinstance(node, Not):
        if isinstance(node.condition, Flag):
            return (_name(node.condition.operand, columns), "==", False)
        return ("not", _plain(node.condition, columns))
    if isinstance(node, Elements):
        return ("elements", node.how, node.symbols)
    if isinstance(node, Comparison):
        name = _name(node.left, columns)
        return (name, node.operator, _value(name, node.right, columns))
    name = _name(node.operand, columns)
    if isinstance(node, Between):
        return (name, "between", (_value(name, node.low, columns), _value(name, node.high, columns)))
    if isinstance(node, In):
        return (name, "in", tuple(_value(name, value, columns) for value in node.values))
    if isinstance(node, IsMissing):
        return (name, "missing", True)
    return (name, "==", True)


def _name(operand: Operand, columns: Columns) -> str:
    if isinstance(operand, Column) and operand.method is None:
        columns.resolve(operand)
        return operand.name
    raise operand.place.impossible(
        "Methods and uncertainties are known to the index, not to the tables a decision is recorded over; leave this "
        "out to record the ranking."
    )


def _value(name: str, value: Operand | Literal | Scaled, columns: Columns) -> Any:
    if isinstance(value, Scaled):
        return {"column": _name(value.column, columns), "times": value.factor}
    column = columns.resolve(Column(name))
    if isinstance(value, Number):
        number = converted(column, value)
        return bool(number) if column.kind == "flag" else number
    if isinstance(value, Text) or (isinstance(value, Word) and column.kind == "text"):
        return value.value
    if isinstance(value, Word) and value.value.lower() in YES + NO:
        return value.value.lower() in YES
    operand = Column(value.value, place=value.place) if isinstance(value, Word) else value
    other = columns.resolve(Column(_name(operand, columns), place=value.place))
    try:
        times = convert(1.0, other.unit, column.unit) if other.unit and column.unit else 1.0
    except (DifferentQuantity, UnknownUnit):
        raise value.place.impossible(
            f"{column.name} is in {column.unit} and {other.name} in {other.unit}; they cannot be compared."
        ) from None
    return {"column": other.name} if times == 1.0 else {"column": other.name, "times": times}


# -- from plain values ------------------------------------------------------------------------------------------------


def _expression(constraint: Constraint, place: Place) -> Expression:
    if len(constraint) == 2:
        what, inner = constraint
        if what == "not":
            return Not(_expression(inner, place), place=place)
        parts = tuple(_expression(c, place) for c in inner)
        return And(parts, place=place) if what == "and" else Or(parts, place=place)
    name, operator, value = constraint
    if name == "elements" and operator in ELEMENTS:
        return Elements(operator, _symbols(value, place), place=place)
    column = Column(name, place=place)
    if operator == "missing":
        missing = IsMissing(column, place=place)
        return missing if value else Not(missing, place=place)
    if operator == "in":
        return In(column, tuple(_literal(v, place) for v in value), place=place)
    if operator == "between":
        low, high = (_literal(v, place) for v in value)
        if isinstance(low, Number) and isinstance(high, Number):
            return Between(column, low, high, place=place)
        raise place.malformed("`between` needs two numbers.")
    if isinstance(value, Mapping):
        other = Column(str(value.get("column")), place=place)
        scaled = Scaled(other, float(value["times"]), place=place) if "times" in value else other
        return Comparison(column, operator, scaled, place=place)
    return Comparison(column, operator, _literal(value, place), place=place)


def _symbols(value: Sequence[str], place: Place) -> tuple[str, ...]:
    from crysgen_aiida.data.elements import NUMBERS

    for symbol in value:
        if symbol not in NUMBERS:
            raise place.impossible(f"There is no element {symbol!r}. {suggestion(symbol, NUMBERS)}")
    return tuple(value)


def _literal(value: Any, place: Place) -> Literal:
    if isinstance(value, bool):
        return Word("true" if value else "false", place=place)
    if isinstance(value, (int, float)) and abs(value) < float("inf"):
        return Number(float(value), place=place)
    if isinstance(value, str):
        refuse_unprintable(value)
        return Text(value, place=place)
    raise place.malformed(f"A constraint compares with a number, a text, yes or no, not with {json.dumps(str(value))}.")


def _place(text: str) -> Place:
    return Place(text, 0, len(text))
