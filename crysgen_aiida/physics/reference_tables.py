"""References from tables of formulas and energies on one of the Materials Project's scales.

A table cannot make a self-consistent reference: nothing in it says with which checkpoint and settings its crystals were
relaxed. Formation energies get elements of zero by definition; total energies must bring their elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.errors import BadInput, EmptySet, EnergySchemeMismatch, ImpossibleRequest
from crysgen_aiida.crystals.table import ReferenceSet
from crysgen_aiida.physics.hull import read_system, system_of
from crysgen_aiida.physics.potentials import SELF_CONSISTENT
from crysgen_aiida.physics.reference import LABEL_METHODS, OF_FORMATION

if TYPE_CHECKING:
    import pandas as pd

FORMATION, TOTAL = "formation", "total"
_FORMULAS = ("formula", "pretty_formula", "reduced_formula", "formula_pretty", "composition")
_IDS = ("material_id", "entry_id", "id")
_ENERGIES = {
    FORMATION: ("formation_energy_per_atom", "e_form", "formation_energy"),
    TOTAL: ("energy_per_atom", "corrected_energy_per_atom"),
}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read; what is not said is looked for under the usual names.

    :param hull: column of known distances to the hull [eV/atom], none by default.
    """

    formula: str | None = None
    energy: str | None = None
    id: str | None = None
    hull: str | None = None


@dataclass(frozen=True)
class EnergyTable:
    """Formulas with energies per atom [eV/atom], (n,); labels are known distances to the hull, NaN where unknown."""

    formulas: list[str]
    energies: np.ndarray
    ids: list[str]
    labels: np.ndarray

    @classmethod
    def joined(cls, tables: Sequence[EnergyTable]) -> EnergyTable:
        """Return tables end to end."""
        return cls(
            [f for t in tables for f in t.formulas],
            np.concatenate([t.energies for t in tables]),
            [i for t in tables for i in t.ids],
            np.concatenate([t.labels for t in tables]),
        )


def read_energies(path: Path, columns: Columns | None = None, kind: str = FORMATION) -> EnergyTable:
    """Read a table: CSV or JSON lines, compressed or not, or Parquet.

    :param kind: whether energies are ``formation`` or ``total`` energies per atom [eV/atom].
    :raises BadInput: if the file cannot be read as a table.
    :raises ImpossibleRequest: if a column is not there.
    """
    columns = columns or Columns()
    frame = _frame(path)
    formula = _column(frame, path, columns.formula, _FORMULAS, "formula", "--formula-column")
    energy = _column(frame, path, columns.energy, _ENERGIES[kind], f"{kind} energy", "--energy-column")
    name = columns.id or next((c for c in _IDS if c in frame.columns), None)
    hull = None if columns.hull is None else _column(frame, path, columns.hull, (), "hull", "--hull-column")
    nothing = np.full(len(frame), np.nan)
    return EnergyTable(
        ["" if f is None or f != f else str(f) for f in frame[formula]],
        _numbers(frame[energy]),
        [f"{path.name} row {k}" for k in range(len(frame))] if name is None else [str(i) for i in frame[name]],
        nothing if hull is None else _numbers(frame[hull]),
    )


def table_reference(
    table: EnergyTable, *, name: str, scheme: str, kind: str = FORMATION, about: Mapping[str, Any] | None = None
) -> ReferenceSet:
    """Make a reference from a table. Of rows with the same id the first counts; each row left out says why.

    :param kind: ``formation`` or ``total``.
    :param about: further metadata, e.g. ``source`` and ``license``.
    :raises EnergySchemeMismatch: if the scheme is not one of labels.
    :raises EmptySet: if no row is usable.
    """
    if scheme not in LABEL_METHODS:
        more = " (relax a data set with the potential and build from that)" if scheme == SELF_CONSISTENT else ""
        raise EnergySchemeMismatch(
            f"A table cannot make a reference of scheme {scheme!r}{more}; its energies may be on the scale "
            f"{' or '.join(LABEL_METHODS)}."
        )
    method = LABEL_METHODS[scheme]
    reasons = _reasons(table, kind)
    usable = [k for k, reason in enumerate(reasons) if reason is None]
    if not usable:
        raise EmptySet(f"No row of the table has a formula and an energy; the first says: {reasons[0]}.")
    elements = {s for k in usable for s in system_of(table.formulas[k])}
    held = {s[0] for k in usable if len(s := system_of(table.formulas[k])) == 1}
    zeros = sorted(elements) if kind == FORMATION else []
    n = len(zeros)
    columns = {
        "formula": [*table.formulas, *zeros],
        "source": [*table.ids, *["definition"] * n],
        "status": [*(schema.STATUS_OK if r is None else schema.STATUS_SKIPPED for r in reasons), *["ok"] * n],
        "reason": pa.array([*reasons, *[None] * n], type=pa.string()),
    }
    energies = [e if r is None else None for e, r in zip(table.energies.tolist(), reasons, strict=True)]
    packed = pa.table(columns).append_column(
        schema.property_field("energy_per_atom", method), [[*energies, *[0.0] * n]]
    )
    metadata = {
        "name": name,
        "scheme": scheme,
        "method": method,
        "energy_zero": OF_FORMATION if kind == FORMATION else f"total energies of {method}",
        "without_terminal": [] if kind == FORMATION else sorted(elements - held),
    }
    return ReferenceSet(packed, {**metadata, **(about or {})})


def _reasons(table: EnergyTable, kind: str) -> list[str | None]:
    """Return why each row is left out, None where it is not."""
    seen: set[str] = set()
    reasons = []
    for formula, energy, name in zip(table.formulas, table.energies, table.ids, strict=True):
        system = read_system(formula)
        reason = None
        if system is None:
            reason = f"the formula {formula!r} cannot be read"
        elif not np.isfinite(energy):
            reason = "it has no energy"
        elif kind == FORMATION and len(system) == 1:
            reason = "an element, which is zero by definition"
        elif name in seen:
            reason = "a row before has the same id"
        seen.add(name)
        reasons.append(reason)
    return reasons


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    try:
        if kind == ".parquet":
            return pd.read_parquet(path)
        if kind in (".jsonl", ".ndjson"):
            return pd.read_json(path, lines=True)
        if kind == ".csv":
            return pd.read_csv(path, dtype=None, low_memory=False)
    except FileNotFoundError:
        raise BadInput(f"There is no file {path.name}; check the path.") from None
    except (ValueError, OSError) as error:  # pandas' and Arrow's own are ValueErrors
        raise BadInput(f"{path.name} cannot be read as a table ({str(error).splitlines()[0]}).") from error
    raise BadInput(f"{path.name} is no table that is understood; give .csv, .jsonl (also .gz) or .parquet.")


def _column(frame: pd.DataFrame, path: Path, asked: str | None, usual: Sequence[str], what: str, option: str) -> str:
    found = [c for c in ((asked,) if asked else usual) if c in frame.columns]
    if found:
        return found[0]
    sought = f"column {asked!r}" if asked else f"column with the {what} ({', '.join(usual)})"
    raise ImpossibleRequest(
        f"{path.name} has no {sought}; it has {', '.join(map(str, frame.columns[:12]))}. Name one with {option}."
    )


def _numbers(values: Any) -> np.ndarray:
    import pandas as pd

    return np.asarray(pd.to_numeric(values, errors="coerce"), dtype=np.float64)
