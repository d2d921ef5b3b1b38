"""How well the training data support a target: beside every wish, how many crystals the model has seen near it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from crysgen_aiida.data.generator import GeneratorData
    from crysgen_aiida.data.packed import SequenceSetData

#: A training value within this share of the labelled range counts as near a target.
NEAR = 0.05

#: Fewer near examples than this deserve a warning.
FEW = 20

#: So many of the values farthest from the bulk on the target's side are listed.
MOST = 5


def training_set_of(generator: GeneratorData) -> SequenceSetData | None:
    """Return the training set of a generator, or None if the graph does not hold it."""
    from crysgen_aiida.store.candidates import creator_of, inputs_of

    process = creator_of(generator)
    return inputs_of(process).get("training_set") if process is not None else None


def support(frame: pd.DataFrame, conditions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one record a condition: what was asked for and how many training rows lie near it or beyond it.

    A number also has its ``percentile`` among the labels, how many labels are at or ``beyond`` it (away from the
    median), and the ``extreme`` labels on its side.

    :param frame: rows of a training set with a column for each label; augmented copies (``copy`` > 0) are not counted.
    :param conditions: name to value, or to a list of values.
    """
    if "copy" in frame.columns:
        frame = frame[frame["copy"].fillna(0) == 0]
    if "status" in frame.columns:
        frame = frame[frame["status"] == "ok"]
    records: list[dict[str, Any]] = []
    for name, wanted in conditions.items():
        values = wanted if isinstance(wanted, (list, tuple)) and name != "elements" else [wanted]
        records.extend(_support_of(frame, name, value) for value in values)
    return records


def _support_of(frame: pd.DataFrame, name: str, value: Any) -> dict[str, Any]:
    record: dict[str, Any] = {"condition": name, "target": value}
    if name not in frame.columns:
        return {**record, "labelled": None, "near": None, "note": "not a label of the training set"}
    column = frame[name].dropna()
    record["labelled"] = len(column)
    if not len(column):
        return {**record, "near": 0, "note": "no labelled row"}
    if not isinstance(value, (int, float)) or isinstance(value, bool) or column.dtype == object:
        near = int((column == value).sum())
        return {**record, "near": near, "note": "few examples" if near < FEW else ""}
    values = column.to_numpy(dtype=float)
    low, high = float(values.min()), float(values.max())
    # relative to the bulk of the data, so that one outlier does not make everything near
    spread = float(np.quantile(values, 0.99) - np.quantile(values, 0.01)) or max(high - low, 1e-12)
    tolerance = max(NEAR * spread, 0.05 * abs(float(value)))
    near = int((np.abs(values - value) <= tolerance).sum())
    median = float(np.median(values))
    # counted away from the bulk: values as large as a large target, as small as a small one
    beyond = int((values >= value).sum() if value >= median else (values <= value).sum())
    ordered = np.sort(values)
    extreme = ordered[::-1][:MOST] if value >= median else ordered[:MOST]
    note = ""
    if not low <= value <= high:
        note = "outside the training range: extrapolation"
    elif near < FEW or beyond < FEW:
        note = "few examples"
    return {
        **record,
        "near": near,
        "tolerance": tolerance,
        "beyond": beyond,
        "percentile": 100.0 * float((values <= value).mean()),
        "min": low,
        "median": median,
        "max": high,
        "extreme": [float(v) for v in extreme],
        "note": note,
    }


def warnings_of(records: list[dict[str, Any]], units: Mapping[str, str]) -> list[str]:
    """Return a sentence for each target that few training rows support, none for the others.

    :param units: of the conditions, where they have one.
    """
    found = []
    for record in records:
        name, target, note = record["condition"], record["target"], record.get("note")
        unit = f" {units[name]}" if units.get(name) else ""
        if record.get("beyond") is None or not note:
            continue
        held = f"{record['labelled']} labelled rows"
        if note.startswith("outside"):
            side = f"largest is {record['max']:g}" if target > record["max"] else f"smallest is {record['min']:g}"
            found.append(
                f"{name} = {target:g}{unit} lies beyond all {held} ({side}{unit}): the model has seen nothing like it, "
                "and what it writes for it is extrapolation."
            )
        else:
            found.append(
                f"{name} = {target:g}{unit} is supported by few of {held}: {record['near']} within "
                f"{record['tolerance']:.2g}{unit}, {record['beyond']} at or beyond it."
            )
    return found
