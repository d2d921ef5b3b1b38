"""Was what was asked for delivered? A requested value is a wish, never a property; so is what a generator predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.properties import PROPERTIES, get_property

if TYPE_CHECKING:
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.table import SequenceSet

STRUCTURAL = ("crystal_system", "space_group", "elements", "composition")
_PREFIX = "target."
_PREDICTED = "predicted."


@dataclass(frozen=True)
class Verdict:
    """Whether one condition is met; ``met`` is None where nothing can tell, and ``reason`` says why."""

    met: bool | None
    reason: str | None = None


def requested_of_rows(
    crystals: CrystalSet,
    unrelaxed: CrystalSet | None,
    sequences: SequenceSet | None,
    requested: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return what was asked for in each row: the targets of its sequence, else the values for the whole set.

    A list among the latter was cycled over the sequences, so without them it cannot be told which value was meant.

    :raises ImpossibleRequest: if a condition is neither a registered property nor a structural one.
    """
    for name in requested:
        if name not in STRUCTURAL:
            get_property(name)
    general = {
        name: value
        for name, value in requested.items()
        if name == "elements" or not (isinstance(value, (list, tuple)) and len(value) != 1)
    }
    general = {k: v[0] if isinstance(v, (list, tuple)) and k != "elements" else v for k, v in general.items()}
    rows = [dict(general) for _ in range(len(crystals))]
    if sequences is None:
        return rows
    targets = {c.removeprefix(_PREFIX): sequences.column(c) for c in sequences.columns if c.startswith(_PREFIX)}
    for row, parent in zip(rows, _sequence_rows(crystals, unrelaxed, sequences), strict=True):
        if parent is not None:
            row.update({name: values[parent] for name, values in targets.items() if values[parent] is not None})
    return rows


def predicted_of_rows(
    crystals: CrystalSet, unrelaxed: CrystalSet | None, sequences: SequenceSet | None
) -> dict[pa.Field, pa.Array]:
    """Return the columns ``predicted.<property>``: what the generator itself took each row's sequence to be.

    They order candidates by what nothing else predicts, and judge nothing: a generator that steers by its own
    predictions agrees with itself.
    """
    names = [c for c in sequences.columns if c.startswith(_PREDICTED)] if sequences is not None else []
    if sequences is None or not names:
        return {}
    rows = pa.array(_sequence_rows(crystals, unrelaxed, sequences), type=pa.int64())
    taken = sequences.arrow.select(names).take(rows)
    return {taken.schema.field(name).with_nullable(True): taken[name].combine_chunks() for name in names}


def _sequence_rows(crystals: CrystalSet, unrelaxed: CrystalSet | None, sequences: SequenceSet) -> list[int | None]:
    """Return the row of the sequence each crystal was made from, None where that is not known."""
    parents = crystals.column("parent_row")
    if unrelaxed is not None:
        above = unrelaxed.column("parent_row")
        parents = [None if p is None or not 0 <= p < len(above) else above[p] for p in parents]
    return [p if p is not None and 0 <= p < len(sequences) else None for p in parents]


def judge_condition(name: str, wanted: Any, computed: Mapping[str, Any], tolerances: Mapping[str, float]) -> Verdict:
    """Compare a requested with a computed value.

    :param computed: values of the row by property name, and ``space_group``, ``crystal_system``, ``elements``,
        ``composition``; None or absent where there is none.
    :param tolerances: largest deviation that meets a request, in the unit of the property.
    """
    value = computed.get(name)
    if name in STRUCTURAL:
        return _structural(name, wanted, value)
    if name not in computed:
        return Verdict(None, f"nothing here predicts {name}")
    if value is None:
        return Verdict(None, f"{name} of this crystal is unknown")
    if name not in tolerances:
        return Verdict(None, f"the protocol states no tolerance for {name}")
    if not isinstance(wanted, (int, float)):
        return Verdict(None, f"{name} = {wanted!r} is not a number")
    gap = abs(float(value) - float(wanted))
    if gap <= tolerances[name]:
        return Verdict(True)
    unit = PROPERTIES[name].unit
    return Verdict(False, f"{name} is {value:.3g}, not {wanted:g} within {tolerances[name]:g} {unit}")


def judge_conditions(verdicts: Mapping[str, Verdict]) -> Verdict:
    """Join the verdicts of a row: false if one is, true if all are, else unknown."""
    if not verdicts:
        return Verdict(None, "nothing was requested")
    missed = [v.reason or name for name, v in verdicts.items() if v.met is False]
    if missed:
        return Verdict(False, "; ".join(missed))
    unknown = [v.reason or name for name, v in verdicts.items() if v.met is None]
    return Verdict(None, "; ".join(unknown)) if unknown else Verdict(True)


def _structural(name: str, wanted: Any, value: Any) -> Verdict:
    if value is None:
        return Verdict(None, f"the {name.replace('_', ' ')} of this crystal is unknown")
    if name == "elements":
        same = set(_symbols(wanted)) == set(value)
    elif name == "composition":
        same = _reduced(str(wanted)) == _reduced(str(value))
    elif name == "space_group":
        same = int(wanted) == int(value)
    else:
        same = str(wanted).lower() == str(value).lower()
    if same:
        return Verdict(True)
    return Verdict(False, f"the {name.replace('_', ' ')} is {_show(value)}, not {_show(wanted)}")


def _symbols(wanted: Any) -> Sequence[str]:
    return wanted.replace(",", "-").split("-") if isinstance(wanted, str) else list(wanted)


def _show(value: Any) -> str:
    return value if isinstance(value, str) else "-".join(sorted(map(str, value))) if _many(value) else str(value)


def _many(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset))


def _reduced(formula: str) -> str:
    from pymatgen.core import Composition

    try:
        return str(Composition(formula).reduced_formula)
    except ValueError as error:
        raise ImpossibleRequest(f"{formula!r} is not a formula ({error}).") from error
