"""Support of a target: how many training crystals lie near it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crysgen_aiida.store.support import FEW, support


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
