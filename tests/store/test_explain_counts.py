"""What is counted, and how it is worded: reasons, funnels, DOT text. Pure functions, no profile."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.screening.statistics import wilson
from crysgen_aiida.store.explain.funnel import add_up, decided, rows_of, with_rates
from crysgen_aiida.store.explain.graph import trace_dot
from crysgen_aiida.store.explain.reasons import MOST, OTHERS, count_reasons, reason_column, template, why_not
from crysgen_aiida.store.explain.stages import stages_of

COLUMNS = (
    "valid_structure", "valid_structure_reason", "band_gap", "band_gap_reason", "piezo_reason", "novel_reason",
    "reference_reason", "conditions_reason", "reason",
)  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "column"),
    [
        ("valid_structure", "valid_structure_reason"),
        ("semiconductor", "band_gap_reason"),
        ("piezo_active", "piezo_reason"),
        ("novel", "novel_reason"),
        ("novel_against.training", "novel_reason"),
        ("near_reference", "reference_reason"),
        ("conditions_met", "conditions_reason"),
        ("condition.band_gap", None),
        ("unique", None),
        ("valid", None),
    ],
)
def test_each_verdict_is_explained_by_its_own_column(verdict: str, column: str | None) -> None:
    assert reason_column(verdict, COLUMNS) == column


def test_reasons_differ_by_their_cause_and_not_by_their_numbers() -> None:
    alike = [f"atoms {k / 10:.2f} A apart, closer than 0.5 A" for k in range(20)]
    given_ = [*alike, "not chosen: 1 crystals of the formula Al2O3 are ranked before it",
              "not chosen: 3 crystals of the formula GaN are ranked before it", None]  # fmt: skip
    counted = count_reasons(pa.array(given_, pa.string()))
    assert counted == {
        "atoms … A apart, closer than … A": 20,
        "not chosen: … crystals of the formula … are ranked before it": 2,
    }
    assert {template(text) for text in given_ if text} == set(counted)
    assert template("Fm-3m has an inversion centre") == "Fm-3m has an inversion centre"


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text("abcdefghijkl", min_size=1, max_size=1)), max_size=60))
def test_no_reason_is_lost_in_counting(reasons: list[str | None]) -> None:
    counted = count_reasons(pa.chunked_array([pa.array(reasons, pa.string())]))
    assert sum(counted.values()) == sum(r is not None for r in reasons)
    assert len(counted) <= MOST + 1
    shown = [n for reason, n in counted.items() if reason != OTHERS]
    assert shown == sorted(shown, reverse=True)


def test_a_known_or_equal_structure_is_named() -> None:
    judged = {"novel": False, "novel_reason": None, "known_as.training": 7, "known_as.mine": None, "duplicate_of": 2}
    assert why_not("novel", judged) == "the same structure as row 7 of the known set 'training'"
    assert why_not("novel_against.mine", judged) is None
    assert why_not("unique", judged) == "the same structure as row 2"
    assert why_not("unique", {}) is None


_STATUS = st.sampled_from(["ok", "failed", "skipped"])


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), _STATUS, st.sampled_from([True, False, None])), max_size=30))
def test_a_funnel_agrees_with_counting_by_hand(rows: list[tuple]) -> None:
    """Each row is a string that is accepted or not, decodes or not, relaxes or not, is valid or not."""
    n = range(len(rows))

    def table(status: list[str], **columns: list) -> pa.Table:
        reasons = [None if s == "ok" else f"{s} because {k}" for k, s in enumerate(status)]
        held = {"status": pa.array(status, pa.string()), "reason": pa.array(reasons, pa.string()),
                "parent_row": pa.array(list(n), pa.int64())}  # fmt: skip
        return pa.table({**held, **{k: pa.array(v, pa.bool_()) for k, v in columns.items()}})

    accepted = [r[0] for r in rows]
    decoded = [r[0] and r[1] for r in rows]
    status = [r[2] if d else "failed" for r, d in zip(rows, decoded, strict=True)]
    relaxed = [s == "ok" for s in status]
    valid = [r[3] if ok else None for r, ok in zip(rows, relaxed, strict=True)]
    word = {True: "ok", False: "failed"}
    found = stages_of(
        table([word[g] for g in accepted]), table([word[d] for d in decoded]), table(status),
        table(status, valid=valid),
    )  # fmt: skip
    stages = {stage["stage"]: stage for stage in found["stages"]}
    selected = sum(d and s != "skipped" for d, s in zip(decoded, status, strict=True))
    assert [(s["stage"], s["n"], s["denominator"]) for s in found["stages"]] == [
        ("sampled", len(rows), None),
        ("accepted", sum(accepted), len(rows)),
        ("decoded", sum(decoded), sum(accepted)),
        ("selected", selected, sum(decoded)),
        ("relaxed", sum(relaxed), selected),
        ("valid", sum(v is True for v in valid), sum(relaxed)),
    ]
    assert stages["valid"]["unknown"] == sum(v is None and ok for v, ok in zip(valid, relaxed, strict=True))
    for stage in ("accepted", "decoded", "selected", "relaxed"):  # every row that is lost has its reason counted
        assert sum(stages[stage]["reasons"].values()) == stages[stage]["denominator"] - stages[stage]["n"]
    twice = {s["stage"]: s for s in add_up([found, found])["stages"]}
    for stage in with_rates(found):
        assert twice[stage["stage"]]["n"] == 2 * stage["n"]
        if stage["denominator"]:
            assert stage["wilson95"] == list(wilson(stage["n"], stage["denominator"]))
    assert len(rows_of(with_rates(found))) == len(found["stages"])


def test_a_funnel_without_sequences_begins_where_it_can() -> None:
    relaxed = pa.table({"status": ["ok", "failed"], "reason": [None, "no"], "parent_row": [0, 1]})
    table = pa.table(
        {"status": ["ok", "ok"], "reason": pa.nulls(2, pa.string()), "parent_row": [1, 0], "v": [True, True]}
    )
    stages = stages_of(None, None, relaxed, table)["stages"]
    assert [(s["stage"], s["n"], s["denominator"]) for s in stages] == [
        ("selected", 2, 2), ("relaxed", 1, 2), ("v", 1, 1),
    ]  # fmt: skip


def test_a_recorded_ranking_goes_on_step_by_step() -> None:
    class Decision:
        metadata = {"funnel": [["all", 9], ["status == ok", 7], ["novel == True", 4]]}  # noqa: RUF012
        n_rows = 4

    stages = [(s["stage"], s["n"], s["denominator"]) for s in decided(Decision(), 3)]
    assert stages == [
        ("met status == ok", 7, 9), ("met novel == True", 4, 7), ("ranked", 4, 4), ("promoted", 3, 4),
    ]  # fmt: skip
    assert decided(None, 0) == []


_TEXT = st.text(max_size=20) | st.sampled_from(['"]; evil [x="', "a\\", "\\N\n\r", "<b>", 'é"'])


@settings(deadline=None)
@given(_TEXT, _TEXT)
def test_whatever_a_label_holds_the_picture_stays_a_picture(label: str, content: str) -> None:
    entry = {
        "kind": "set",
        "what": "relaxed",
        "uuid": "12345678-aaaa",
        "label": label,
        "row": 1,
        "content": {"c": content},
    }
    text = trace_dot({"address": "12345678-aaaa:1", "chain": [entry], "screens": []})
    lines = text.splitlines()
    assert lines[0].startswith("digraph ")
    assert lines[-1] == "}"
    assert len(lines) == 6
    for line in lines[2:-1]:  # outside of quoted strings there are names of attributes and punctuation only
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "Q", line)
        assert re.fullmatch(r"  Q( -> Q)?( \[[A-Za-z= Q]*\])?;", bare), line
