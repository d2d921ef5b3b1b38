"""Constraints as plain values (JSON), and which rows of a frame meet them.

A constraint is a list:

- ``[column, operator, value]`` with ``< <= > >= == !=``, ``in`` (a list), ``between`` (two numbers) or ``missing``
  (true or false). Instead of a number the value may be ``{"column": name, "times": factor}``.
- ``["elements", "any" | "all" | "only" | "are", symbols]``: has any or all of them, only these, or exactly these.
- ``["and", constraints]``, ``["or", constraints]``, ``["not", constraint]``.

A missing value makes a constraint unknown; its negation is then unknown too, and a row is kept only if all its
constraints are known and true. That is how a database answers the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.data.elements import elements_of

if TYPE_CHECKING:
    import pandas as pd

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "==": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "in": lambda column, value: column.isin(list(value)),
    "between": lambda column, value: (column >= value[0]) & (column <= value[1]),
}

#: What a condition on elements asks, as a test of the wanted and the present ones.
ELEMENTS: dict[str, Callable[[frozenset[str], frozenset[str]], bool]] = {
    "any": lambda wanted, present: bool(wanted & present),
    "all": lambda wanted, present: wanted <= present,
    "only": lambda wanted, present: present <= wanted,
    "are": lambda wanted, present: present == wanted,
}

#: How deep ``and``, ``or`` and ``not`` may be nested.
MAX_DEPTH = 100

Constraint = tuple[Any, ...]


def checked(given: Any, depth: int = 0) -> Constraint:
    """Return a constraint as nested tuples.

    :raises BadInput: if it is none, saying what is wrong.
    """
    if isinstance(given, str) or not isinstance(given, (list, tuple)) or len(given) not in (2, 3):
        raise BadInput(f"A constraint is a list [column, operator, value], not {given!r}.")
    if depth > MAX_DEPTH:
        raise BadInput(f"A constraint is nested more than {MAX_DEPTH} deep; write it flatter.")
    if len(given) == 2:
        what, inner = str(given[0]), given[1]
        if what == "not":
            return ("not", checked(inner, depth + 1))
        if what in ("and", "or") and isinstance(inner, (list, tuple)):
            return (what, tuple(checked(c, depth + 1) for c in inner))
        raise BadInput(f"The constraint on {what} has no value; write [column, operator, value].")
    column, operator, value = str(given[0]), str(given[1]), given[2]
    if column == "elements" and operator in ELEMENTS:
        symbols = [value] if isinstance(value, str) else value
        if not isinstance(symbols, (list, tuple)) or not symbols:
            raise BadInput(f"The constraint on the elements needs a list of symbols, not {value!r}.")
        return (column, operator, tuple(str(symbol) for symbol in symbols))
    if operator == "missing":
        return (column, operator, bool(value))
    if operator not in OPERATORS:
        raise BadInput(f"The constraint on {column} uses {operator!r}; use one of {' '.join(OPERATORS)}.")
    if operator == "in" and (isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__")):
        raise BadInput(f"The constraint on {column} uses 'in'; give a list of values, not {value!r}.")
    if operator == "between" and (not isinstance(value, (list, tuple)) or len(value) != 2):
        raise BadInput(f"The constraint on {column} uses 'between'; give two numbers, not {value!r}.")
    if isinstance(value, Mapping) and not (
        isinstance(value.get("column"), str)
        and set(value) <= {"column", "times"}
        and isinstance(value.get("times", 1), (int, float))
    ):
        raise BadInput(f"The constraint on {column} compares with {value!r}; write {{column: name, times: factor}}.")
    return (column, operator, value)


def plain(constraint: Constraint) -> list[Any]:
    """Return a constraint as nested lists, ready for JSON."""
    if len(constraint) == 2:
        what, inner = constraint
        return [what, plain(inner) if what == "not" else [plain(c) for c in inner]]
    column, operator, value = constraint
    return [column, operator, list(value) if isinstance(value, tuple) else value]


def columns_of(constraint: Constraint) -> Iterator[str]:
    """Iterate over the columns a constraint needs; conditions on elements need the formula."""
    if len(constraint) == 2:
        for inner in [constraint[1]] if constraint[0] == "not" else constraint[1]:
            yield from columns_of(inner)
        return
    column, operator, value = constraint
    yield "reduced_formula" if column == "elements" and operator in ELEMENTS else column
    if isinstance(value, Mapping):
        yield str(value["column"])


def label(constraint: Constraint) -> str:
    """Return a constraint in words, for a funnel."""
    if len(constraint) == 2:
        what, inner = constraint
        if what == "not":
            return f"not ({label(inner)})"
        return f" {what} ".join(f"({label(c)})" if len(c) == 2 else label(c) for c in inner) or "everything"
    column, operator, value = constraint
    if column == "elements" and operator in ELEMENTS:
        has = f"has {operator}" if operator in ("any", "all") else operator
        return f"elements {has} ({', '.join(value)})"
    if operator == "missing":
        return f"{column} is {'' if value else 'not '}missing"
    if isinstance(value, Mapping):
        times = value.get("times", 1)
        value = value["column"] if times == 1 else f"{times} {value['column']}"
    elif isinstance(value, tuple):
        value = list(value)
    return f"{column} {operator} {value}"


def holds(constraint: Constraint, frame: pd.DataFrame) -> np.ndarray:
    """Return for each row whether the constraint is known and true, (n,) bool.

    :raises ImpossibleRequest: if values cannot be compared (text with a number).
    """
    true, known = _truth(constraint, frame)
    return true & known


def _truth(constraint: Constraint, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return truth and whether it is known, (n,) bool each; true is False where it is not known."""
    if len(constraint) == 3:
        return _simple(*constraint, frame)
    what, inner = constraint
    if what == "not":
        true, known = _truth(inner, frame)
        return ~true & known, known
    n = len(frame)
    # a true part makes an `or` true, a false part makes an `and` false, whatever is unknown beside it
    deciding, all_known = np.zeros(n, dtype=bool), np.ones(n, dtype=bool)
    for part in inner:
        true, known = _truth(part, frame)
        deciding |= known & (true if what == "or" else ~true)
        all_known &= known
    known = all_known | deciding
    return (deciding if what == "or" else known & ~deciding), known


def _simple(column: str, operator: str, value: Any, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    if column == "elements" and operator in ELEMENTS:
        wanted, test = frozenset(value), ELEMENTS[operator]
        formulas = frame["reduced_formula"]
        known = formulas.notna().to_numpy(dtype=bool)
        true = np.array([k and test(wanted, elements_of(f)) for f, k in zip(formulas, known, strict=True)], dtype=bool)
        return true, known
    series = frame[column]
    known = series.notna().to_numpy(dtype=bool)
    if operator == "missing":
        return known != value, np.ones(len(frame), dtype=bool)
    if isinstance(value, Mapping):
        other = frame[str(value["column"])]
        known = known & other.notna().to_numpy(dtype=bool)
        value = other * float(value["times"]) if "times" in value else other
    try:
        found = OPERATORS[operator](series, value)
    except TypeError as error:
        raise ImpossibleRequest(
            f"The column {column} cannot be compared with {value!r}; compare numbers with numbers and text with text."
        ) from error
    return found.fillna(False).to_numpy(dtype=bool) & known, known
