"""Why a query found nothing: which constraint left nothing, and how near the nearest candidate came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, case, desc, func, select

from crysgen_aiida.store.language.columns import FLAG, METHOD, TEXT, Resolved
from crysgen_aiida.store.language.compiler import bound, converted
from crysgen_aiida.store.language.nodes import (
    Between,
    Comparison,
    Expression,
    In,
    IsMissing,
    Not,
    Number,
    Operand,
    Text,
    Word,
)
from crysgen_aiida.store.language.place import printable, shown
from crysgen_aiida.store.reading import Reading, written

#: How many of the values there are a sentence names.
_NAMED = 5


def emptied(reading: Reading, expressions: Sequence[Expression], counts: Sequence[int]) -> str | None:
    """Return the sentence about the constraint that left nothing, None if something is left.

    :param counts: how many candidates there are, and are left after each expression.
    """
    if counts[-1]:
        return None
    if not counts[0]:
        return "There are no candidates here; run `crysgen store sync`, and `crysgen store stats` to see what there is."
    at = next(k for k, left in enumerate(counts[1:]) if not left)
    guilty = expressions[at]
    kept = f"all {_candidates(counts[0])}"
    if at:
        kept = f"the {_candidates(counts[at])} that met the constraints before it"
    told = _how_near(reading, guilty, reading.condition(expressions[:at]))
    return f"No candidate is left after `{printable(str(guilty.place))}`: of {kept}, {told}."


def _candidates(n: int) -> str:
    return "candidate" if n == 1 else f"{n} candidates"


def _how_near(reading: Reading, guilty: Expression, before: ColumnElement[bool]) -> str:
    condition = reading.compiler.condition(guilty)
    # counted as what is not known to be true or false: `NOT x IS NULL` means two things in two databases
    every, known = reading.scan(before, func.count(), func.count(condition))
    unknown = every - known
    lacking = f"; {unknown} lack{'s' if unknown == 1 else ''} a value for it" if unknown else ""
    return (_nearest(reading, guilty, before) or "none meets it") + lacking


def _nearest(reading: Reading, guilty: Expression, before: ColumnElement[bool]) -> str | None:
    inner = guilty.condition if isinstance(guilty, Not) else guilty
    if isinstance(inner, IsMissing) or not isinstance(inner, Comparison | Between | In):
        return None
    if isinstance(inner, Comparison) and not isinstance(inner.right, Number | Text | Word):
        return None
    operand = inner.left if isinstance(inner, Comparison) else inner.operand
    column = reading.names.resolve(operand)
    if column.kind in (TEXT, METHOD):
        return _most_frequent(reading, operand, column, before)
    if column.kind == FLAG or (isinstance(inner, Comparison) and not isinstance(inner.right, Number)):
        return None
    low, high = reading.scan(before, func.min(column.value), func.max(column.value))
    name = written(operand)
    if low is None:
        return f"none has a value of {name}"
    if inner is guilty:
        if isinstance(inner, Comparison) and inner.operator in ("<", "<="):
            return f"the lowest {name} is {_number(low, column)}"
        if isinstance(inner, Comparison) and inner.operator in (">", ">="):
            return f"the highest {name} is {_number(high, column)}"
        nearest = _around(reading, inner, column, before)
        if nearest:
            return f"the nearest {name} is {' or '.join(_number(v, column) for v in nearest)}"
    return f"{name} is from {_number(low, column)} to {_number(high, column)}"


def _around(
    reading: Reading, node: Comparison | Between | In, column: Resolved, before: ColumnElement[bool]
) -> list[float]:
    """Return the values next to the wanted ones, below and above."""
    if isinstance(node, Between):
        low, high = converted(column, node.low), converted(column, node.high)
    elif isinstance(node, Comparison) and isinstance(node.right, Number):
        low = high = converted(column, node.right)
    else:
        return []
    below = func.max(case((column.value <= bound(low), column.value)))
    above = func.min(case((column.value >= bound(high), column.value)))
    found = reading.scan(before, below, above)
    if low > high:  # nothing is between these
        return []
    known = [(abs(v - edge), v) for v, edge in zip(found, (low, high), strict=True) if v is not None]
    best = min((distance for distance, _ in known), default=0.0)
    return [v for distance, v in known if distance == best]


def _most_frequent(reading: Reading, operand: Operand, column: Resolved, before: ColumnElement[bool]) -> str:
    count = func.count()
    value = column.value.label("value")
    asked = select(value, count).select_from(reading.wide).where(before, column.value.is_not(None))
    rows = reading.connection.execute(asked.group_by(value).order_by(desc(count), value).limit(_NAMED + 1)).all()
    if not rows:
        return f"none has a value of {written(operand)}"
    names: list[Any] = [reading.names.methods[v] if column.kind == METHOD else v for v, _ in rows[:_NAMED]]
    told = ", ".join(f"{shown(str(name), 40)} ({n})" for name, (_, n) in zip(names, rows, strict=False))
    return f"{written(operand)} is {told}{' and more' if len(rows) > _NAMED else ''}"


def _number(value: float, column: Resolved) -> str:
    return f"{value:.6g} {column.unit}" if column.unit not in (None, "1") else f"{value:.6g}"
