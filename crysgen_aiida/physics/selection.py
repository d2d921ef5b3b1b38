"""Which crystals deserve a relaxation: composition, distances, symmetry and one energy each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.batch import CellBatch
from crysgen_aiida.physics.charge import ChargeRule, charge_neutral
from crysgen_aiida.physics.potentials import LoadedPotential

#: Rows per finished part and crystals per evaluation of the one-shot energies.
PART_ROWS, BATCH = 64, 8


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
    :param max_per_formula: at most so many of one reduced formula.
    :param energy_ranking: rank what is left by one evaluation of the potential: formation energy per atom against
        the elements in their reference structures, lowest first; otherwise the order of the rows.
    """

    n: int | None = 64
    charge_neutral: bool = True
    min_distance: float = 0.8
    min_volume_per_atom: float = 3.0
    max_volume_per_atom: float = 80.0
    max_atoms: int | None = None
    not_centrosymmetric: bool = False
    symprec: float = 0.1
    max_per_formula: int | None = 3
    energy_ranking: bool = True

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise ValueError("n must be at least 1, or null for all")
        if self.max_per_formula is not None and self.max_per_formula < 1:
            raise ValueError("max_per_formula must be at least 1, or null for no limit")


def select_rows(crystals: CrystalSet, spec: SelectionSpec, potential: LoadedPotential, run: Run) -> list[str | None]:
    """Return for each row None if it is chosen, else the reason why not.

    Ties are broken by the row, so the choice depends on the set alone.
    """
    geometry = [_geometry(crystals, row) for row in range(len(crystals))]
    reasons = [_rule_out(crystals, row, held, spec, potential) for row, held in enumerate(geometry)]
    order = [row for row, reason in enumerate(reasons) if reason is None]
    if spec.energy_ranking and order:
        energies = _one_shot(geometry, reasons, potential, run)
        for row in order:
            if not np.isfinite(energies[row]):
                reasons[row] = "not chosen: the potential gives no finite energy for it"
        order = sorted((r for r in order if reasons[r] is None), key=lambda r: (energies[r], r))
    chosen, per_formula = 0, dict[str, int]()
    formulas = crystals.column("reduced_formula")
    for rank, row in enumerate(order):
        seen = per_formula.get(formulas[row], 0)
        if spec.max_per_formula is not None and seen >= spec.max_per_formula:
            reasons[row] = f"not chosen: {seen} crystals of the formula {formulas[row]} are ranked before it"
        elif spec.n is not None and chosen >= spec.n:
            by = "one-shot formation energy" if spec.energy_ranking else "order of the rows"
            reasons[row] = f"not chosen: rank {rank + 1} by {by}, and only {spec.n} are relaxed"
        else:
            chosen += 1
            per_formula[formulas[row]] = seen + 1
    return reasons


Geometry = tuple[np.ndarray, np.ndarray, np.ndarray]  # cell (3, 3) [A], numbers (n,), fractional coordinates (n, 3)


def _geometry(crystals: CrystalSet, row: int) -> Geometry | None:
    record = crystals.get(row)
    if record["status"] != schema.STATUS_OK or record["lattice"] is None:
        return None
    frac = np.array(record["frac_coords"], dtype=float).reshape(-1, 3)
    return np.array(record["lattice"]).reshape(3, 3), np.array(record["numbers"], dtype=np.int64), frac


def _rule_out(
    crystals: CrystalSet, row: int, held: Geometry | None, spec: SelectionSpec, potential: LoadedPotential
) -> str | None:
    if held is None:
        return f"not chosen: it holds no crystal ({crystals.column('reason')[row]})"
    cell, numbers, frac = held
    per_atom = abs(float(np.linalg.det(cell))) / len(numbers)
    formula = crystals.column("reduced_formula")[row]
    if not np.isfinite(per_atom):
        return "not chosen: its cell is not finite"
    if spec.max_atoms is not None and len(numbers) > spec.max_atoms:
        return f"not chosen: {len(numbers)} atoms, more than {spec.max_atoms}"
    if not potential.info.covers(numbers.tolist()):
        return f"not chosen: {potential.info.method} does not cover all elements of {formula}"
    if not spec.min_volume_per_atom <= per_atom <= spec.max_volume_per_atom:
        allowed = f"{spec.min_volume_per_atom:g} to {spec.max_volume_per_atom:g}"
        return f"not chosen: {per_atom:.1f} A^3 per atom is outside {allowed}"
    neutral = charge_neutral(formula, ChargeRule(alloys=False, elements=False)) if spec.charge_neutral else True
    if neutral is None:
        return f"not chosen: SMACT has no data for an element of {formula}"
    if not neutral:
        return f"not chosen: no neutral combination of oxidation states for {formula} (SMACT)"
    shortest = shortest_distance(cell, frac)
    if shortest < spec.min_distance:
        return f"not chosen: atoms {shortest:.2f} A apart, closer than {spec.min_distance:g} A"
    if spec.not_centrosymmetric:
        return _gate(held, spec.symprec)
    return None


def _gate(held: Geometry, symprec: float) -> str | None:
    from crysgen_aiida.crystals.symmetry import cell_symmetry

    cell, numbers, frac = held
    try:
        found = cell_symmetry(cell, frac, numbers, symprec)
    except BadInput:
        return f"not chosen: no space group is found at symprec {symprec:g} A"
    if found.piezo_allowed:
        return None
    return f"not chosen: space group {found.symbol} forbids piezoelectricity (symprec {symprec:g} A)"


def shortest_distance(cell: np.ndarray, frac: np.ndarray, beyond: float = 6.0) -> float:
    """Return the shortest interatomic distance [A], periodic images included; infinite if above ``beyond``."""
    from crysgen_aiida.physics.neighbours import half_list

    pairs = half_list(cell, frac, beyond, 0.0)
    vectors = (frac[pairs.j] - frac[pairs.i] + pairs.image) @ cell
    return float(np.sqrt((vectors * vectors).sum(axis=1)).min()) if len(vectors) else float("inf")


def _one_shot(
    geometry: list[Geometry | None], reasons: list[str | None], potential: LoadedPotential, run: Run
) -> np.ndarray:
    """Return the formation energy per atom [eV/atom] of every row still in the race, NaN elsewhere."""
    from crysgen_aiida.physics.elements import one_shot_element_energies

    wanted = {int(z) for row, held in enumerate(geometry) if reasons[row] is None and held for z in held[1]}
    terminals = one_shot_element_energies(sorted(wanted), potential)

    def part(rows: range) -> PropertyTable:
        energies: list[float | None] = [None] * len(rows)
        held = [(k, geometry[row]) for k, row in enumerate(rows) if reasons[row] is None]
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
