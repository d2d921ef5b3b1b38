"""Which crystals deserve a relaxation: gates in a stated order, then one energy each to choose among what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.crystals.matching import KnownCrystals
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.batch import CellBatch
from crysgen_aiida.physics.charge import ChargeRule, charge_neutral
from crysgen_aiida.physics.potentials import LoadedPotential

#: Rows per finished part and crystals per evaluation of the one-shot energies.
PART_ROWS, BATCH = 64, 8

#: The gates, in the order in which they stand unless a spec says otherwise: the cheap ones first.
STRUCTURE, ELEMENTS, COMPOSITION = "structure", "elements", "composition"
SYMMETRY, NEW_FORMULA, NEW_STRUCTURE = "symmetry", "new_formula", "new_structure"
GATES = (STRUCTURE, ELEMENTS, COMPOSITION, SYMMETRY, NEW_FORMULA, NEW_STRUCTURE)
#: What stops a crystal that passed every gate: too many of its formula, or too many altogether.
CHOICE = "choice"


@dataclass(frozen=True)
class SelectionSpec:
    """Rules for choosing the crystals to relax; a row that is not chosen says by which rule.

    :param n: how many to choose; None chooses all that pass.
    :param charge_neutral: the composition must be neutral by SMACT (metals and single elements fail).
    :param min_distance: shortest interatomic distance allowed [A].
    :param min_volume_per_atom: [A^3].
    :param max_volume_per_atom: [A^3].
    :param max_atoms: largest cell allowed.
    :param not_centrosymmetric: keep only crystals that pass the symmetry gate for piezoelectrics.
    :param symprec: tolerance of that gate [A].
    :param new_formula: keep only crystals whose reduced formula no known crystal has.
    :param new_structure: keep only crystals that match no known crystal of their formula (default tolerances).
    :param max_per_formula: at most so many of one reduced formula.
    :param energy_ranking: rank what is left by one evaluation of the potential: formation energy per atom against
        the elements in their reference structures, lowest first; otherwise the order of the rows.
    :param order: in which the gates stand; one that is left out comes after those named. It changes which gate a
        crystal is counted at, never whether it passes.
    """

    n: int | None = 64
    charge_neutral: bool = True
    min_distance: float = 0.8
    min_volume_per_atom: float = 3.0
    max_volume_per_atom: float = 80.0
    max_atoms: int | None = None
    not_centrosymmetric: bool = False
    symprec: float = 0.1
    new_formula: bool = False
    new_structure: bool = False
    max_per_formula: int | None = 3
    energy_ranking: bool = True
    order: tuple[str, ...] = GATES

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise ValueError("n must be at least 1, or null for all")
        if self.max_per_formula is not None and self.max_per_formula < 1:
            raise ValueError("max_per_formula must be at least 1, or null for no limit")
        if strange := [gate for gate in self.order if gate not in GATES]:
            raise ValueError(f"order names no gate {', '.join(map(repr, strange))}; there are {', '.join(GATES)}")

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates a crystal goes through, in order."""
        off = {
            COMPOSITION: not self.charge_neutral,
            SYMMETRY: not self.not_centrosymmetric,
            NEW_FORMULA: not self.new_formula,
            NEW_STRUCTURE: not self.new_structure,
        }
        return tuple(gate for gate in dict.fromkeys((*self.order, *GATES)) if not off.get(gate, False))


@dataclass(frozen=True)
class Refusal:
    """Why a crystal is not relaxed; ``gate`` is None where there is no crystal."""

    gate: str | None
    reason: str


def select_rows(
    crystals: CrystalSet,
    spec: SelectionSpec,
    potential: LoadedPotential,
    run: Run,
    known: Mapping[str, CrystalSet] | None = None,
    formulas: Mapping[str, frozenset[str]] | None = None,
) -> list[Refusal | None]:
    """Return for each row None if it is chosen, else why not.

    Ties are broken by the row, so the choice depends on the set alone.

    :param known: sets that ``new_formula`` and ``new_structure`` compare with, by label.
    :param formulas: reduced formulas that ``new_formula`` compares with as well, by label.
    :raises ImpossibleRequest: if these are asked for without a set.
    """
    if (spec.new_structure and not known) or (spec.new_formula and not (known or formulas)):
        raise ImpossibleRequest("Crystals can only be new against known ones: give the job at least one known set.")
    geometry = [_geometry(crystals, row) for row in range(len(crystals))]
    gates = _Gates(crystals, spec, potential, known or {}, formulas or {})
    refusals = [gates.judge(row, held) for row, held in enumerate(geometry)]
    order = [row for row, refusal in enumerate(refusals) if refusal is None]
    if spec.energy_ranking and order:
        energies = _one_shot(geometry, refusals, potential, run)
        for row in order:
            if not np.isfinite(energies[row]):
                refusals[row] = Refusal(CHOICE, "not chosen: the potential gives no finite energy for it")
        order = sorted((r for r in order if refusals[r] is None), key=lambda r: (energies[r], r))
    chosen, per_formula = 0, dict[str, int]()
    names = crystals.column("reduced_formula")
    for rank, row in enumerate(order):
        seen = per_formula.get(names[row], 0)
        if spec.max_per_formula is not None and seen >= spec.max_per_formula:
            why = f"not chosen: {seen} crystals of the formula {names[row]} are ranked before it"
            refusals[row] = Refusal(CHOICE, why)
        elif spec.n is not None and chosen >= spec.n:
            by = "one-shot formation energy" if spec.energy_ranking else "order of the rows"
            refusals[row] = Refusal(CHOICE, f"not chosen: rank {rank + 1} by {by}, and only {spec.n} are relaxed")
        else:
            chosen += 1
            per_formula[names[row]] = seen + 1
    return refusals


Geometry = tuple[np.ndarray, np.ndarray, np.ndarray]  # cell (3, 3) [A], numbers (n,), fractional coordinates (n, 3)


def _geometry(crystals: CrystalSet, row: int) -> Geometry | None:
    record = crystals.get(row)
    if record["status"] != schema.STATUS_OK or record["lattice"] is None:
        return None
    frac = np.array(record["frac_coords"], dtype=float).reshape(-1, 3)
    return np.array(record["lattice"]).reshape(3, 3), np.array(record["numbers"], dtype=np.int64), frac


class _Gates:
    """The gates of a spec, ready to judge the rows of a set: each returns why a crystal does not pass, or None."""

    def __init__(
        self,
        crystals: CrystalSet,
        spec: SelectionSpec,
        potential: LoadedPotential,
        known: Mapping[str, CrystalSet],
        formulas: Mapping[str, frozenset[str]],
    ) -> None:
        self.crystals, self.spec, self.potential, self.known = crystals, spec, potential, known
        self.formulas = crystals.column("reduced_formula")
        of: dict[str, Callable[[int, Geometry], str | None]] = {
            STRUCTURE: self._structure,
            ELEMENTS: self._elements,
            COMPOSITION: self._composition,
            SYMMETRY: self._symmetry,
            NEW_FORMULA: self._new_formula,
            NEW_STRUCTURE: self._new_structure,
        }
        self.gates = [(gate, of[gate]) for gate in spec.gates]
        self._matchers: dict[str, KnownCrystals] = {}
        self._rows: dict[str, dict[str, list[int]]] = {}
        for label, held in known.items():
            by_formula = self._rows.setdefault(label, {})
            for row, (formula, there) in enumerate(zip(held.column("reduced_formula"), held.ok, strict=True)):
                if there:
                    by_formula.setdefault(formula, []).append(row)
        self._there = {**{label: set(held) for label, held in self._rows.items()}, **formulas}

    def judge(self, row: int, held: Geometry | None) -> Refusal | None:
        """Return which gate stops a crystal and why, None if none does."""
        if held is None:
            return Refusal(None, f"not chosen: it holds no crystal ({self.crystals.column('reason')[row]})")
        for gate, passes in self.gates:
            if (why := passes(row, held)) is not None:
                return Refusal(gate, f"not chosen: {why}")
        return None

    def _structure(self, row: int, held: Geometry) -> str | None:
        spec, (cell, numbers, frac) = self.spec, held
        per_atom = abs(float(np.linalg.det(cell))) / len(numbers)
        if not np.isfinite(per_atom) or not np.isfinite(frac).all():
            return "its cell is not finite"
        if spec.max_atoms is not None and len(numbers) > spec.max_atoms:
            return f"{len(numbers)} atoms, more than {spec.max_atoms}"
        if not spec.min_volume_per_atom <= per_atom <= spec.max_volume_per_atom:
            allowed = f"{spec.min_volume_per_atom:g} to {spec.max_volume_per_atom:g}"
            return f"{per_atom:.1f} A^3 per atom is outside {allowed}"
        shortest = shortest_distance(cell, frac)
        if shortest < spec.min_distance:
            return f"atoms {shortest:.2f} A apart, closer than {spec.min_distance:g} A"
        return None

    def _elements(self, row: int, held: Geometry) -> str | None:
        info = self.potential.info
        if info.covers(held[1].tolist()):
            return None
        return f"{info.method} does not cover all elements of {self.formulas[row]}"

    def _composition(self, row: int, held: Geometry) -> str | None:
        formula = self.formulas[row]
        neutral = charge_neutral(formula, ChargeRule(alloys=False, elements=False))
        if neutral is None:
            return f"SMACT has no data for an element of {formula}"
        return None if neutral else f"no neutral combination of oxidation states for {formula} (SMACT)"

    def _symmetry(self, row: int, held: Geometry) -> str | None:
        return _gate(held, self.spec.symprec)

    def _new_formula(self, row: int, held: Geometry) -> str | None:
        formula = self.formulas[row]
        hits = [label for label in sorted(self._there) if formula in self._there[label]]
        return f"the known set {' and '.join(map(repr, hits))} has the formula {formula}" if hits else None

    def _new_structure(self, row: int, held: Geometry) -> str | None:
        formula = self.formulas[row]
        for label in sorted(self.known):
            rows = self._rows[label].get(formula, [])
            if not rows:
                continue
            key = f"{label} {formula}"
            if key not in self._matchers:
                self._matchers[key] = KnownCrystals([self.known[label].structure(k) for k in rows])
            (hit,) = self._matchers[key].match([self.crystals.structure(row)]).first
            if hit is not None:
                return f"the same structure as row {rows[hit]} of the known set {label!r}"
        return None


def _gate(held: Geometry, symprec: float) -> str | None:
    from crysgen_aiida.crystals.symmetry import cell_symmetry

    cell, numbers, frac = held
    try:
        found = cell_symmetry(cell, frac, numbers, symprec)
    except BadInput:
        return f"no space group is found at symprec {symprec:g} A"
    if found.piezo_allowed:
        return None
    return f"space group {found.symbol} forbids piezoelectricity (symprec {symprec:g} A)"


def shortest_distance(cell: np.ndarray, frac: np.ndarray, beyond: float = 6.0) -> float:
    """Return the shortest interatomic distance [A], periodic images included; infinite if above ``beyond``."""
    from crysgen_aiida.physics.neighbours import half_list

    pairs = half_list(cell, frac, beyond, 0.0)
    vectors = (frac[pairs.j] - frac[pairs.i] + pairs.image) @ cell
    return float(np.sqrt((vectors * vectors).sum(axis=1)).min()) if len(vectors) else float("inf")


def _one_shot(
    geometry: list[Geometry | None], refusals: list[Refusal | None], potential: LoadedPotential, run: Run
) -> np.ndarray:
    """Return the formation energy per atom [eV/atom] of every row still in the race, NaN elsewhere."""
    from crysgen_aiida.physics.elements import one_shot_element_energies

    wanted = {int(z) for row, held in enumerate(geometry) if refusals[row] is None and held for z in held[1]}
    terminals = one_shot_element_energies(sorted(wanted), potential)

    def part(rows: range) -> PropertyTable:
        energies: list[float | None] = [None] * len(rows)
        held = [(k, geometry[row]) for k, row in enumerate(rows) if refusals[row] is None]
        crystals = [(k, g) for k, g in held if g is not None]
        for start in range(0, len(crystals), BATCH):
            run.check_time()
            chunk = crystals[start : start + BATCH]
            batch = CellBatch.build([g[1] for _, g in chunk], [g[2] for _, g in chunk], [g[0] for _, g in chunk])
            found = potential.compute.evaluate(batch).energies
            potential.compute.forget()
            for (k, g), energy in zip(chunk, found, strict=True):
                energies[k] = _formation(float(energy), g[1], terminals)
        field = schema.property_field("formation_energy_per_atom", potential.info.method)
        return PropertyTable(pa.table({"parent_row": list(rows)}).append_column(field, [energies]))

    return run.map_rows("select", len(geometry), part, part_rows=PART_ROWS).values("formation_energy_per_atom")


def _formation(energy: float, numbers: Any, terminals: dict[int, float]) -> float | None:
    value = (energy - sum(terminals[int(z)] for z in numbers)) / len(numbers)
    return value if np.isfinite(value) else None
