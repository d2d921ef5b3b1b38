"""Judge a set of crystals by a named protocol: verdicts and properties row by row, rates for the set.

A verdict is true, false or, where nothing can tell, null with a reason beside it. Every rate comes with its numerator,
its denominator and a 95 % interval, and the protocol's knobs are stamped on the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess, Run
from crysgen_aiida.crystals.table import PropertyTable, ReferenceSet, SequenceSet
from crysgen_aiida.screening.aggregates import aggregate
from crysgen_aiida.screening.conditions import judge_condition, judge_conditions, predicted_of_rows, requested_of_rows
from crysgen_aiida.screening.filters import judge_filters
from crysgen_aiida.screening.novelty import judge_dissimilarity, judge_formulas, judge_structures
from crysgen_aiida.screening.protocols import Protocol, get_protocol
from crysgen_aiida.screening.uniqueness import Known, Uniqueness, judge_uniqueness

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Rows of one finished part.
PART_ROWS = 64
#: Properties that a request may be compared with.
_PREDICTED = ("formation_energy_per_atom", "band_gap", "e_above_reference", "volume_per_atom", "density")


def screen_set(
    crystals: CrystalSet,
    *,
    unrelaxed: CrystalSet | None = None,
    sequences: SequenceSet | None = None,
    reference: ReferenceSet | None = None,
    known: Mapping[str, CrystalSet] | None = None,
    fingerprints: Mapping[str, PropertyTable] | None = None,
    formulas: Mapping[str, frozenset[str]] | None = None,
    protocol: str = "mattergen",
    requested: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    run: Run | None = None,
) -> PropertyTable:
    """Judge relaxed crystals, one row each; ``parent_row`` is the row judged.

    :param unrelaxed: the set the crystals were relaxed from (their ``parent_row``), for the protocols that judge it.
    :param sequences: what was decoded into ``unrelaxed``; its ``target.*`` columns are what was requested, its
        ``predicted.*`` columns go into the table as they are.
    :param reference: reference energies; without them there are no energies above anything.
    :param known: sets to be new against, by label (``training``, ``starter``…).
    :param fingerprints: site fingerprints of known crystals, by label; without them nothing is said of dissimilarity.
    :param formulas: reduced formulas to be new against besides those of the known sets, by label.
    :param requested: conditions for the whole set, where the sequences do not say.
    :param overrides: settings of the protocol to change; it is then stamped as modified.
    :raises ImpossibleRequest: for an unknown protocol, setting or condition, or an input the protocol needs.
    :raises EnergySchemeMismatch: if energies of different schemes would be compared.
    """
    rules = get_protocol(protocol, overrides)
    run = run or InProcess()
    if rules.judged == "unrelaxed" and unrelaxed is None:
        raise ImpossibleRequest(f"The protocol {rules.name!r} judges the unrelaxed crystals: give them as well.")
    work = _Screening(crystals, unrelaxed, rules, run)
    table = work.judge_rows()
    columns = work.compare_energies(reference)
    columns.update(work.match(table, known or {}, fingerprints or {}, formulas or {}))
    table = table.with_columns(columns)
    if rules.filters:
        table = table.with_columns(judge_filters(crystals, table, rules.filters))
    table = table.with_columns(predicted_of_rows(crystals, unrelaxed, sequences))
    asked = requested_of_rows(crystals, unrelaxed, sequences, requested or {})
    table = table.with_columns(_judge_requests(crystals, table, asked, rules))
    return table.with_metadata(
        protocol=rules.to_dict(),
        aggregates=aggregate(crystals, table, rules, work.uniqueness),
        reference=reference.metadata.get("name", "unnamed") if reference is not None else "none",
        known={label: len(held) for label, held in sorted((known or {}).items())},
        known_formulas={label: len(held) for label, held in sorted((formulas or {}).items())},
        fingerprints={label: int(held.ok.sum()) for label, held in sorted((fingerprints or {}).items())},
        wording=_wording(reference),
        surrogate=_surrogate_record(),
    )


@dataclass
class _Screening:
    crystals: CrystalSet
    unrelaxed: CrystalSet | None
    rules: Protocol
    run: Run
    uniqueness: Uniqueness = field(init=False)

    def judge_rows(self) -> PropertyTable:
        """Judge each row on its own: structure, composition, symmetry, gap."""
        return self.run.map_rows("judge", len(self.crystals), self._part, part_rows=PART_ROWS)

    def _part(self, rows: range) -> PropertyTable:
        from crysgen_aiida.screening.rows import judge_part

        self.run.check_time()
        return judge_part(self.crystals, self.unrelaxed, rows, self.rules)

    def compare_energies(self, reference: ReferenceSet | None) -> dict[pa.Field, list[Any]]:
        """Return the energy columns, and ``near_reference``: within the protocol's limit."""
        from crysgen_aiida.physics.reference import e_above_reference

        n = len(self.crystals)
        if reference is None:
            return {
                pa.field("reference_reason", pa.string()): ["no reference was given"] * n,
                pa.field("near_reference", pa.bool_()): [None] * n,
                pa.field("below_elements", pa.bool_()): [None] * n,
            }
        columns = e_above_reference(self.crystals, reference)
        held = {f.name: values for f, values in columns.items()}
        name, why = reference.metadata.get("name", "the reference"), held["reference_reason"]
        near = [self._near(value, name) for value in held["e_above_reference"]]
        below = [self._below(value) for value in held["formation_energy_per_atom"]]
        for label, verdicts in (("near_reference", near), ("below_elements", below)):
            columns[pa.field(label, pa.bool_())] = [verdict for verdict, _ in verdicts]
            reasons = [w if v is None else r for (v, r), w in zip(verdicts, why, strict=True)]
            columns[pa.field(f"{label}_reason", pa.string())] = reasons
        return columns

    def _near(self, value: float | None, reference: str) -> tuple[bool | None, str | None]:
        limit, floor = self.rules.e_above_limit, self.rules.e_above_floor
        if value is None:
            return None, None
        if value > limit:
            return False, f"{value:.3f} eV/atom above {reference}, over the limit of {limit:g}"
        if floor is not None and value <= floor:
            return False, f"{value:.3f} eV/atom above {reference}, not over the floor of {floor:g}"
        return True, None

    def _below(self, value: float | None) -> tuple[bool | None, str | None]:
        limit = self.rules.formation_energy_limit
        if value is None:
            return None, None
        if value < limit:
            return True, None
        return False, f"its formation energy of {value:.3f} eV/atom is not below {limit:g}"

    def match(
        self,
        table: PropertyTable,
        known: Mapping[str, CrystalSet],
        fingerprints: Mapping[str, PropertyTable],
        formulas: Mapping[str, frozenset[str]],
    ) -> dict[pa.Field, list[Any]]:
        """Return what follows from comparing crystals: ``unique``, ``new_formula``, ``novel``, ``dissimilar``."""
        valid = _both(table.column("valid_structure"), table.column("valid_composition"))
        structures = [
            None if self.rules.valid_first and not ok else self._structure(row) for row, ok in enumerate(valid)
        ]
        self.uniqueness = judge_uniqueness(structures, self.rules.matcher)
        twins = self.uniqueness.duplicate_of
        columns: dict[pa.Field, list[Any]] = {
            pa.field("unique", pa.bool_()): self.uniqueness.unique,
            pa.field("duplicate_of", pa.int64()): twins,
            pa.field("unique_reason", pa.string()): [
                None if twin is None else f"the same structure as row {twin}" for twin in twins
            ],
        }
        held = zip(self.crystals.column("reduced_formula"), structures, strict=True)
        columns.update(judge_formulas([None if s is None else f for f, s in held], known, formulas))
        columns.update(judge_structures(structures, Known(known, self.rules.matcher), self.run))
        if fingerprints:
            columns.update(judge_dissimilarity(structures, fingerprints, self.rules.min_dissimilarity, self.run))
        return columns

    def _structure(self, row: int) -> Structure | None:
        """Return the geometry that the protocol judges, None if there is none."""
        from crysgen_aiida.screening.rows import judged_record

        held = judged_record(self.crystals, self.unrelaxed, row, self.rules)
        if held is None:
            return None
        source, index = held
        try:
            return source.structure(index)
        except (BadInput, ValueError):
            return None


def _both(one: list[bool | None], other: list[bool | None]) -> list[bool]:
    return [a is True and b is True for a, b in zip(one, other, strict=True)]


def _judge_requests(
    crystals: CrystalSet, table: PropertyTable, asked: list[dict[str, Any]], rules: Protocol
) -> dict[pa.Field, list[Any]]:
    """Return ``condition.<name>`` and ``conditions_met`` with the reasons."""
    from crysgen_aiida.crystals.symmetry import crystal_system
    from crysgen_aiida.physics.hull import system_of

    names = sorted({name for row in asked for name in row})
    values = {name: table.column(name) for name in _PREDICTED if name in table.columns}
    groups, formulas = table.column("space_group_loose"), crystals.column("reduced_formula")
    verdicts: dict[str, list[bool | None]] = {name: [] for name in names}
    met: list[bool | None] = []
    reasons: list[str | None] = []
    for row, wanted in enumerate(asked):
        computed: dict[str, Any] = {name: held[row] for name, held in values.items()}
        computed["space_group"] = groups[row]
        computed["crystal_system"] = None if groups[row] is None else crystal_system(groups[row])
        computed["elements"] = None if formulas[row] is None else system_of(formulas[row])
        computed["composition"] = formulas[row]
        found = {name: judge_condition(name, w, computed, rules.tolerances) for name, w in wanted.items()}
        for name in names:
            verdicts[name].append(found[name].met if name in found else None)
        total = judge_conditions(found)
        met.append(total.met)
        reasons.append(total.reason)
    columns: dict[pa.Field, list[Any]] = {pa.field(f"condition.{n}", pa.bool_()): v for n, v in verdicts.items()}
    columns[pa.field("conditions_met", pa.bool_())] = met
    columns[pa.field("conditions_reason", pa.string())] = reasons
    return columns


def _wording(reference: ReferenceSet | None) -> str:
    from crysgen_aiida.physics.assessment import wording

    return "none" if reference is None else wording(reference)


def _surrogate_record() -> dict[str, Any]:
    from crysgen_aiida.physics.surrogates import GAP_MAE, METAL_THRESHOLD, METHOD

    return {"band_gap": METHOD, "mae_non_metals_ev": GAP_MAE, "metal_threshold": METAL_THRESHOLD}


def aggregates_of(table: PropertyTable) -> dict[str, dict[str, Any]]:
    """Return the rates stamped on a screened table.

    :raises BadInput: if the table carries none.
    """
    try:
        held: dict[str, dict[str, Any]] = json.loads(table.metadata["aggregates"])
    except KeyError:
        raise BadInput("This table carries no aggregates; make it with the verb 'screen'.") from None
    return held
