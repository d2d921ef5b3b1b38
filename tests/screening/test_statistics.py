"""Intervals and rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crysgen_aiida.screening.statistics import rate, wilson


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),  # Brown, Cai and DasGupta (2001) and R's prop.test(correct=FALSE)
        (5, 10, 0.2366, 0.7634),
        (7, 18, 0.2031, 0.6138),
        (81, 263, 0.2553, 0.3662),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_wilson_has_the_known_values(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_lies_in_the_unit_interval(counts: tuple[int, int]) -> None:
    k, n = counts
    low, high = wilson(k, n)
    assert 0.0 <= low <= k / n + 1e-12
    assert k / n - 1e-12 <= high <= 1.0


def test_a_rate_counts_the_unknown_apart() -> None:
    found = rate([True, False, None, True])
    assert (found["numerator"], found["denominator"], found["unknown"]) == (2, 3, 1)
    assert rate([True, None], 10)["rate"] == 0.1
    assert rate([])["rate"] is None
    assert rate([])["wilson95"] == [0.0, 1.0]
