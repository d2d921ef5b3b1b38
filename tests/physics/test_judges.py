"""What is said of a judge is what was measured, and beside every verdict it may not be used for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crysgen_aiida.physics.judges import (
    CONTROLS,
    DEFAULT_JUDGE,
    MAX_FALSE_UNSTABLE,
    SECOND_OPINION,
    Control,
    disagreement,
    doubt,
)
from crysgen_aiida.physics.potentials import POTENTIALS

MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "potentials.json"


def test_the_controls_are_the_committed_measurement() -> None:
    measured = json.loads(MEASURED.read_text())
    counts = {}
    for name, held in measured.items():
        if name in POTENTIALS:
            stable, _, n = held["control"]["called stable"]["unit"].partition(" of ")
            counts[held["method"]] = (int(stable), int(n))
    assert counts == {method: (control.stable, control.n) for method, control in CONTROLS.items()}


def test_the_default_judge_is_the_better_of_those_that_come_with_a_package() -> None:
    first, second = (CONTROLS[POTENTIALS[name].method] for name in (DEFAULT_JUDGE, SECOND_OPINION))
    assert first.false_unstable <= second.false_unstable
    assert all(POTENTIALS[name].conservative for name in (DEFAULT_JUDGE, SECOND_OPINION))


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_a_judge_may_be_used_for_a_claim_up_to_a_fifth_of_false_alarms(n: int, share: float) -> None:
    stable = round(share * n)
    control = Control(stable, n, "here")
    low, high = control.interval
    assert low - 1e-9 <= control.false_unstable <= high + 1e-9
    assert control.may_claim == (n - stable <= MAX_FALSE_UNSTABLE * n + 1e-9)


def test_doubts_name_the_share_and_what_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTROLS, "bad-1", Control(70, 100, "here"))
    monkeypatch.setitem(CONTROLS, "good-1", Control(90, 100, "here"))
    said = doubt("bad-1")
    assert said is not None
    assert "may not be used for a claim: bad-1 calls 30% of on-hull insulators unstable (30 of 100" in said
    assert doubt("good-1") is None
    assert "has not been measured" in str(doubt("new-1"))


def test_disagreement_is_a_distance() -> None:
    assert disagreement(100.0, 90.0) == disagreement(90.0, 100.0) == 10.0
    assert disagreement(None, 90.0) is None
    assert disagreement(100.0, None) is None
