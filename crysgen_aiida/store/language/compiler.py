"""Expressions to SQLAlchemy: columns are looked up in the index, values are bound, units are converted.

Missing values follow SQL's three-valued logic: no comparison with one is true, nor its negation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ColumnElement, Double, String, and_, case, false, literal, not_, or_, true

from crysgen_aiida.data.elements import NUMBERS
from crysgen_aiida.store.index.wide import element_mask
from crysgen_aiida.store.language.columns import FLAG, METHOD, TEXT, Columns, Resolved
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
)
from crysgen_aiida.store.language.place import shown, suggestion
from crysgen_aiida.store.language.units import DifferentQuantity, UnknownUnit, convert

if TYPE_CHECKING:
    from crysgen_aiida.store.index.database import Index

Condition = ColumnElement[bool]

YES, NO = ("true", "yes"), ("false", "no")


def compile_filter(
    expression: Expression, index: Index, prefer: Mapping[str, str | Sequence[str]] | None = None
) -> Condition:
    """Return the condition on the wide table that an expression means.

    :param prefer: property to the method (or class of methods) whose values stand for the property in this query,
        where there are any.
    :raises ImpossibleRequest: for a column or method that is not in the index, a unit of another quantity, or a
        comparison of different kinds; points at the place.
    """
    return Compiler(Columns(index, prefer)).condition(expression)


class Compiler:
    """Compiles several expressions for one index, looking its columns up once."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def condition(self, expression: Expression) -> Condition:
        """Return the condition an expression means; see :func:`compile_filter`."""
        if isinstance(expression, And):
            return and_(true(), *(self.condition(c) for c in expression.conditions))
        if isinstance(expression, Or):
            return or_(false(), *(self.condition(c) for c in expression.conditions))
        if isinstance(expression, Not):
            return not_(self.condition(expression.condition))
        if isinstance(expression, Comparison):
            return self._comparison(expression, expression.right)
        if isinstance(expression, Between):
            column = self._number(expression.operand)
            low, high = (bound(converted(column, n)) for n in (expression.low, expression.high))
            return and_(column.value >= low, column.value <= high)
        if isinstance(expression, In):
            return self._in(expression)
        if isinstance(expression, IsMissing):
            return self.columns.resolve(expression.operand).value.is_(None)
        if isinstance(expression, Flag):
            return self._flag(expression)
        return self._elements(expression)

    # -- one condition ------------------------------------------------------------------------------------------------

    def _comparison(self, node: Comparison, right: Operand | Literal | Scaled) -> Condition:
        if isinstance(right, Scaled):
            other = self._number(right.column)
            return compared(self._number(node.left).value, node.operator, other.value * bound(right.factor))
        left = self.columns.resolve(node.left)
        if left.kind == METHOD:
            return self._by_method(node, left, right)
        if left.kind == TEXT:
            if node.operator not in ("==", "!="):
                raise node.place.impossible(f"{left.name} holds text, which is compared with = and != only.")
            return compared(left.value, node.operator, literal(self._text(left, right), String))
        if left.kind == FLAG:
            return self._yes_or_no(node, left, right)
        if isinstance(right, Number):
            return compared(left.value, node.operator, bound(converted(left, right)))
        if isinstance(right, Text) or (isinstance(right, Word) and right.value.lower() in YES + NO):
            raise right.place.impossible(f"{left.name} holds numbers; compare it with a number, without quotes.")
        return compared(left.value, node.operator, self._other_number(left, right))

    def _other_number(self, left: Resolved, right: Operand | Word) -> ColumnElement[float]:
        other = self._number(Column(right.value, place=right.place) if isinstance(right, Word) else right)
        if left.unit is None or other.unit is None or left.unit == other.unit:
            return other.value
        factor = self._factor(other, left, right)
        return other.value * bound(factor)

    def _factor(self, other: Resolved, left: Resolved, right: Operand | Word) -> float:
        try:
            return convert(1.0, str(other.unit), str(left.unit))
        except (DifferentQuantity, UnknownUnit):
            raise right.place.impossible(
                f"{left.name} is in {left.unit} and {other.name} in {other.unit}; they cannot be compared."
            ) from None

    def _yes_or_no(self, node: Comparison, left: Resolved, right: Operand | Literal) -> Condition:
        if node.operator not in ("==", "!="):
            raise node.place.impossible(f"{left.name} is yes or no; write `{left.name}` or `not {left.name}`.")
        said = _said(right)
        if said is not None:
            return left.value if said == (node.operator == "==") else not_(left.value)
        if isinstance(right, (Word, Column)):
            operand = Column(right.value, place=right.place) if isinstance(right, Word) else right
            other = self.columns.resolve(operand)
            if other.kind == FLAG:
                return compared(left.value, node.operator, other.value)
        raise right.place.impossible(f"{left.name} is yes or no; write `{left.name}` or `not {left.name}`.")

    def _by_method(self, node: Comparison, left: Resolved, right: Operand | Literal) -> Condition:
        if node.operator not in ("==", "!="):
            raise node.place.impossible("Methods are compared with = and != only.")
        numbers = self._methods(left, [right])
        found = one_of(left.value, numbers)
        return found if node.operator == "==" else not_(found)

    def _in(self, node: In) -> Condition:
        left = self.columns.resolve(node.operand)
        if left.kind == METHOD:
            return one_of(left.value, self._methods(left, node.values))
        if left.kind == TEXT:
            return one_of(left.value, [self._text(left, value) for value in node.values])
        if left.kind == FLAG:
            raise node.place.impossible(f"{left.name} is yes or no; write `{left.name}` or `not {left.name}`.")
        numbers = []
        for value in node.values:
            if not isinstance(value, Number):
                raise value.place.impossible(f"{left.name} holds numbers; {shown(value.value)} is none.")
            numbers.append(bound(converted(left, value)))
        return one_of(left.value, numbers)

    def _flag(self, node: Flag) -> Condition:
        column = self.columns.resolve(node.operand)
        if column.kind != FLAG:
            what = {TEXT: "text", METHOD: "a method"}.get(column.kind, "a number")
            example = f"{column.name} = 'ok'" if column.kind in (TEXT, METHOD) else f"{column.name} > 0"
            raise node.place.impossible(f"{column.name} is {what}, not yes or no; compare it: {example}.")
        return column.value

    def _elements(self, node: Elements) -> Condition:
        wanted = element_mask(NUMBERS[symbol] for symbol in node.symbols)
        pairs = [(c, m) for c, m in zip(self.columns.elements(), wanted, strict=True)]
        if node.how == "any":
            return or_(*(c.op("&", return_type=BigInteger())(mask(m)) != 0 for c, m in pairs))
        if node.how == "all":
            return and_(*(c.op("&", return_type=BigInteger())(mask(m)) == mask(m) for c, m in pairs))
        if node.how == "only":
            return and_(*(c.op("&", return_type=BigInteger())(mask(_ALL_BITS ^ m)) == 0 for c, m in pairs))
        return and_(*(c == mask(m) for c, m in pairs))

    # -- values -------------------------------------------------------------------------------------------------------

    def _number(self, operand: Operand) -> Resolved:
        column = self.columns.resolve(operand)
        if not column.is_number:
            raise operand.place.impossible(f"{column.name} holds no numbers.")
        return column

    def _text(self, left: Resolved, value: Operand | Literal) -> str:
        if isinstance(value, (Text, Word)):
            return value.value
        raise value.place.impossible(f"{left.name} holds text; write it in single quotes: {left.name} = 'text'.")

    def _methods(self, left: Resolved, values: Sequence[Operand | Literal]) -> list[int]:
        known = self.columns.methods
        numbers: list[int] = []
        for value in values:
            if not isinstance(value, (Text, Word)):
                raise value.place.impossible("The name of a method is wanted here, in single quotes.")
            names = self.columns.methods_called(value.value)
            if names is None:
                hint = suggestion(value.value, known)
                raise value.place.impossible(f"No value in the index is by the method {shown(value.value)}. {hint}")
            numbers += [known.index(name) for name in names if name in known]
        return numbers


#: Every bit an element may have in a mask.
_ALL_BITS = (1 << 60) - 1


def one_of(value: ColumnElement[Any], options: Sequence[Any]) -> Condition:
    """Return that a value is one of some, which may be none: unknown where there is no value, as any comparison."""
    return value.in_(options) if options else case((value.is_not(None), false()))


def compared(left: ColumnElement[Any], operator: str, right: ColumnElement[Any]) -> Condition:
    """Return a comparison of two SQL expressions."""
    if operator == "==":
        return left == right
    if operator == "!=":
        return left != right
    if operator in ("<", "<="):
        return left < right if operator == "<" else left <= right
    return left > right if operator == ">" else left >= right


def converted(column: Resolved, number: Number) -> float:
    """Return a number in the unit of a column.

    :raises ImpossibleRequest: if it is written in a unit of another quantity, or in none that is known.
    """
    if number.unit is None:
        return number.value
    if column.unit is None:
        raise number.place.impossible(f"{column.name} has no unit; write the number alone.")
    try:
        return convert(number.value, number.unit, column.unit)
    except UnknownUnit as error:
        said = str(error) if str(error).endswith("?") else f"{error}."
        raise number.place.impossible(
            f"{said} {column.name} is in {column.unit}; conditions are joined with `and` or `or`."
        ) from None
    except DifferentQuantity:
        raise number.place.impossible(
            f"{column.name} is in {column.unit}, and {number.unit} is a unit of another quantity; give a number in "
            f"{column.unit}."
        ) from None


def bound(value: float) -> ColumnElement[float]:
    """Return a number as a bound value. Always a float: a whole number too large for a column's type is no error."""
    return literal(value, Double)


def mask(bits: int) -> ColumnElement[int]:
    """Return a mask of elements as a bound value."""
    return literal(bits, BigInteger)


def _said(value: Operand | Literal) -> bool | None:
    """Return what a literal says, or None if it says neither yes nor no."""
    if isinstance(value, Number) and value.unit is None and value.value in (0.0, 1.0):
        return value.value == 1.0
    if isinstance(value, (Word, Text)) and value.value.lower() in YES + NO:
        return value.value.lower() in YES
    return None
