"""Support of a target: how many training crystals lie near it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crysgen_aiida.store.support import FEW, MOST, support, warnings_of


def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    gaps = np.concatenate([rng.uniform(0, 4, 400), [40.0], [np.nan] * 10])
    frame = pd.DataFrame({"band_gap": gaps, "status": "ok", "copy": 0, "crystal_system": "cubic"})
    frame.loc[:9, "crystal_system"] = "trigonal"
    return frame


def test_targets_inside_at_the_edge_and_outside_are_told_apart() -> None:
    inside, edge, outside = support(_frame(), {"band_gap": [2.0, 35.0, 90.0]})
    assert inside["labelled"] == 401
    assert inside["near"] > FEW
    assert inside["note"] == ""
    assert edge["near"] == 0
    assert edge["note"] == "few examples"
    assert "extrapolation" in outside["note"]


def test_one_outlier_does_not_make_everything_near() -> None:
    (record,) = support(_frame(), {"band_gap": 2.0})
    assert record["tolerance"] < 0.3


def test_copies_and_failed_rows_are_not_counted_twice() -> None:
    frame = _frame()
    copies = frame.assign(copy=1)
    failed = frame.assign(status="failed")
    assert support(pd.concat([frame, copies, failed]), {"band_gap": 2.0}) == support(frame, {"band_gap": 2.0})


def test_categories_are_counted_and_unknown_labels_said() -> None:
    (record,) = support(_frame(), {"crystal_system": "trigonal"})
    assert (record["near"], record["note"]) == (10, "few examples")
    (record,) = support(_frame(), {"kappa_300k": 1.0})
    assert record["near"] is None


def test_values_at_or_beyond_a_target_are_counted_away_from_the_bulk() -> None:
    frame = pd.DataFrame({"piezo_max": [*np.linspace(0, 2, 101), 8.0, 9.0, 12.0], "status": "ok"})
    high, low = support(frame, {"piezo_max": [7.5, 0.02]})
    assert (high["beyond"], high["extreme"]) == (3, [12.0, 9.0, 8.0, 2.0, 1.98])
    assert high["percentile"] == 100 * 101 / 104
    assert high["note"] == "few examples"
    assert (low["beyond"], low["extreme"]) == (2, [0.0, 0.02, 0.04, 0.06, 0.08])
    assert len(high["extreme"]) == MOST


def test_a_target_without_support_is_warned_of_in_words() -> None:
    frame = pd.DataFrame({"piezo_max": [*np.linspace(0, 2, 1001), 8.0], "band_gap": 1.0, "status": "ok"})
    asked = {"piezo_max": [7.5, 30.0, 1.0], "band_gap": -1.0}
    said = warnings_of(support(frame, asked), {"piezo_max": "C/m^2"})
    assert len(said) == 3
    assert said[0].startswith("piezo_max = 7.5 C/m^2 is supported by few of 1002 labelled rows")
    assert "1 at or beyond it" in said[0]
    assert "lies beyond all 1002 labelled rows (largest is 8 C/m^2)" in said[1]
    assert said[2].startswith("band_gap = -1 lies beyond all 1002 labelled rows (smallest is 1)")
    assert warnings_of(support(frame, {"kappa_300k": 1.0}), {}) == []
