"""Reference energies, and how far a crystal lies above them.

Energies are compared only within one scheme:

``self-consistent``
    every entry, elements included, relaxed with the same potential, checkpoint and settings as the candidates;
``mp2020-compatible``
    entries on the scale of the Materials Project's 2020 corrections, candidates by a potential trained on that scale;
``mp-legacy``
    formation energies on the Materials Project's legacy scale, candidates with labels of the same method.

Anything else is refused. The distance to such a hull is a *lower bound* on the distance to the true one: a compound
that the reference does not know can only raise it. A reference may be called a judge of stability once it has passed
:func:`~crysgen_aiida.physics.assessment.assess_reference`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import EmptySet, EnergySchemeMismatch, ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess, Run
from crysgen_aiida.crystals.table import PackedTable, ReferenceSet
from crysgen_aiida.physics.elements import SOURCE, element_structures
from crysgen_aiida.physics.hull import Hull, HullPoint, formation_energy, system_of
from crysgen_aiida.physics.potentials import MP2020, SELF_CONSISTENT

MP_LEGACY = "mp-legacy"
SCHEMES = (SELF_CONSISTENT, MP2020, MP_LEGACY)
#: Methods whose formation energies each scheme of labels takes.
LABEL_METHODS = {MP2020: "pbe-mp2020", MP_LEGACY: "pbe-mp-legacy"}
#: What ``energy_zero`` says of a reference whose energies are formation energies.
OF_FORMATION = "elements (energies are formation energies per atom)"
_ELEMENT_PREFIX = "element: "


def build_reference(crystals: CrystalSet, *, name: str, scheme: str, run: Run | None = None) -> ReferenceSet:
    """Make a reference set from a crystal set.

    For ``self-consistent`` the crystals must come from :func:`~crysgen_aiida.physics.relaxation.relax_set`: the
    elements that are missing are relaxed with the potential and the settings recorded there. For the label schemes
    entries are formation energies per atom, elements zero by definition.

    :param name: what columns that compare with it will say.
    :raises ImpossibleRequest: for an unknown scheme.
    :raises EnergySchemeMismatch: if the crystals carry no energies of that scheme.
    :raises EmptySet: if no row is usable.
    """
    if scheme not in SCHEMES:
        raise ImpossibleRequest(f"There is no energy scheme {scheme!r}; known: {', '.join(SCHEMES)}.")
    if scheme == SELF_CONSISTENT:
        return _self_consistent(crystals, name, run or InProcess())
    return _from_labels(crystals, name, scheme)


@dataclass(frozen=True)
class _Entry:
    formula: str
    energy: float
    source: str
    content_id: str | None = None
    parent_row: int | None = None


def _self_consistent(crystals: CrystalSet, name: str, run: Run) -> ReferenceSet:
    metadata = crystals.metadata
    if "energy_per_atom" not in crystals.columns or "potential" not in metadata:
        raise EnergySchemeMismatch(
            "A self-consistent reference needs crystals relaxed with a potential, with their energies and its record; "
            "relax the set first."
        )
    potential = json.loads(metadata["potential"])
    entries = _entries(crystals, "energy_per_atom")
    held = {system_of(e.formula)[0] for e in entries if len(system_of(e.formula)) == 1}
    wanted = {symbol for e in entries for symbol in system_of(e.formula)}
    elements, notes = _relax_elements(sorted(wanted), potential, metadata, run)
    unreachable = sorted(wanted - held - {system_of(e.formula)[0] for e in elements})
    if unreachable:
        run.warn(f"No terminal for {', '.join(unreachable)}: crystals with these elements will have no hull.")
    return _pack(
        [*entries, *elements],
        potential["method"],
        {
            "name": name,
            "scheme": SELF_CONSISTENT,
            "method": potential["method"],
            "potential": potential,
            "relax_spec": metadata.get("relax_spec", "none"),
            "energy_zero": f"total energies of {potential['method']}",
            "elements": SOURCE,
            "elements_deviation": notes,
            "without_terminal": unreachable,
        },
    )


def _entries(crystals: CrystalSet, column: str) -> list[_Entry]:
    values = crystals.values(column)
    formulas, ids = crystals.column("reduced_formula"), crystals.column("content_id")
    rows = np.flatnonzero(crystals.ok & np.isfinite(values))
    if len(rows) == 0:
        raise EmptySet(f"No row has a usable {column}: there is nothing to refer to.")
    return [_Entry(formulas[r], float(values[r]), "crystals", ids[r], int(r)) for r in rows]


def _relax_elements(
    symbols: Sequence[str], potential: Mapping[str, Any], metadata: Mapping[str, str], run: Run
) -> tuple[list[_Entry], dict[str, float]]:
    """Relax the elemental ground states as the set was relaxed; also return how far PBE energies are [eV/atom].

    :raises EnergySchemeMismatch: if the potential installed here is not the one that relaxed the set.
    """
    from pymatgen.core import Element

    from crysgen_aiida.physics.elements import element_pbe_energies
    from crysgen_aiida.physics.potentials import load_potential
    from crysgen_aiida.physics.relaxation import RelaxSpec, relax_many

    loaded = load_potential(str(potential["name"]), run.device)
    if loaded.checkpoint_hash != potential["checkpoint_sha256"]:
        raise EnergySchemeMismatch(
            f"The set was relaxed with checkpoint {potential['checkpoint_sha256'][:12]} of {potential['name']}, but "
            f"{loaded.checkpoint_hash[:12]} is installed here; use the same one for the elements."
        )
    spec = RelaxSpec(**json.loads(metadata["relax_spec"])) if "relax_spec" in metadata else RelaxSpec()
    structures = element_structures()
    chosen = [Element(s).Z for s in symbols if Element(s).Z in structures]
    starts = [
        (
            np.array(structures[z]["lattice"], dtype=float),
            np.full(len(structures[z]["frac_coords"]), z, dtype=np.int64),
            np.array(structures[z]["frac_coords"], dtype=float),
        )
        for z in chosen
    ]
    pbe = element_pbe_energies()
    entries, deviation = [], {}
    for z, result in zip(chosen, relax_many(starts, loaded, spec, run), strict=True):
        symbol = Element.from_Z(z).symbol
        if result.energy_per_atom is None:
            run.warn(f"The terminal {symbol} could not be relaxed: {result.reason}.")
            continue
        entries.append(_Entry(symbol, result.energy_per_atom, _ELEMENT_PREFIX + SOURCE))
        if z in pbe:
            deviation[symbol] = round(result.energy_per_atom - pbe[z], 4)
    return entries, deviation


def _from_labels(crystals: CrystalSet, name: str, scheme: str) -> ReferenceSet:
    column, method = "formation_energy_per_atom", LABEL_METHODS[scheme]
    if column not in crystals.columns or crystals.method(column) != method:
        raise EnergySchemeMismatch(
            f"A reference of scheme {scheme!r} needs {column} by {method}; this set has "
            f"{crystals.method(column) if column in crystals.columns else 'none'}."
        )
    entries = [e for e in _entries(crystals, column) if len(system_of(e.formula)) > 1]
    symbols = sorted({s for e in entries for s in system_of(e.formula)})
    return _pack(
        [*entries, *(_Entry(s, 0.0, "definition") for s in symbols)],
        method,
        {"name": name, "scheme": scheme, "method": method, "energy_zero": OF_FORMATION},
    )


def _pack(entries: Sequence[_Entry], method: str, metadata: Mapping[str, Any]) -> ReferenceSet:
    from_set = [e.parent_row is not None for e in entries]
    table = pa.table(
        {
            "content_id": pa.array([e.content_id for e in entries], type=pa.string()),
            "parent_input": pa.array(["crystals" if there else None for there in from_set], type=pa.string()),
            "parent_row": pa.array([e.parent_row for e in entries], type=pa.int64()),
            "formula": [e.formula for e in entries],
            "source": [e.source for e in entries],
        }
    )
    field = schema.property_field("energy_per_atom", method)
    return ReferenceSet(table.append_column(field, [[e.energy for e in entries]]), metadata)


# -- comparing ------------------------------------------------------------------------------------------------------


class Reference:
    """A reference set ready to be compared with.

    :param reference: the set; its metadata names scheme, method and, for a potential, the checkpoint.
    """

    def __init__(self, reference: ReferenceSet) -> None:
        self.set = reference
        self.name = reference.metadata.get("name", "unnamed")
        self.scheme = reference.metadata.get("scheme", "")
        if self.scheme not in SCHEMES:
            raise EnergySchemeMismatch(
                f"The reference {self.name!r} has the energy scheme {self.scheme!r}; known: {', '.join(SCHEMES)}."
            )
        self.method = reference.metadata.get("method", "")
        self.formulas: list[str] = reference.column("formula")
        self.energies = reference.values("energy_per_atom")
        self.hull = Hull(self.formulas, self.energies)
        self.terminals = self.hull.terminals()
        self.of_formation = reference.metadata.get("energy_zero", "").startswith("elements")

    def energies_of(self, crystals: PackedTable) -> np.ndarray:
        """Return the energy per atom of each row on the scale of this reference [eV/atom], NaN where there is none.

        :raises EnergySchemeMismatch: if the set has no energies that may be compared with this reference.
        """
        column = "formation_energy_per_atom" if self.of_formation else "energy_per_atom"
        if column not in crystals.columns:
            raise EnergySchemeMismatch(
                f"The reference {self.name!r} ({self.scheme}) compares {column}, which this set does not have; "
                "relax or label it with the same method."
            )
        method = crystals.method(column)
        if self.scheme == SELF_CONSISTENT or self.of_formation:
            if method != self.method:
                raise EnergySchemeMismatch(
                    f"The energies are by {method}, those of the reference {self.name!r} by {self.method}: they must "
                    "not share a hull. Use a reference made with the same method."
                )
            if not self.of_formation:
                self._same_potential(crystals)
        elif MP2020 not in json.loads(crystals.metadata.get("potential", "{}")).get("schemes", ()):
            raise EnergySchemeMismatch(
                f"The reference {self.name!r} is on the mp2020-compatible scale, but the potential {method} does not "
                "declare it; use a self-consistent reference of that potential."
            )
        return crystals.values(column)

    def _same_potential(self, crystals: PackedTable) -> None:
        ours, theirs = _settings(self.set), _settings(crystals)
        for what, value in ours.items():
            if value != theirs[what]:
                raise EnergySchemeMismatch(
                    f"The {what} of the crystals ({theirs[what]}) is not that of the reference {self.name!r} "
                    f"({value}): relax the crystals as the reference was relaxed."
                )


def _settings(packed: PackedTable) -> dict[str, Any]:
    """Return what decides the energy of a relaxed crystal; limits on steps and volume only decide if it has one."""
    potential = json.loads(packed.metadata.get("potential", "{}"))
    text = packed.metadata.get("relax_spec", "none")
    spec = {} if text == "none" else json.loads(text)
    return {
        "checkpoint of the potential": potential.get("checkpoint_sha256"),
        "force limit": spec.get("fmax"),
        "freedom of the cell": spec.get("relax_cell"),
    }


def e_above_reference(
    crystals: CrystalSet, reference: ReferenceSet | Reference, *, without_self: bool = False
) -> dict[pa.Field, list[Any]]:
    """Return the columns that compare a set with a reference, row for row.

    ``e_above_reference`` [eV/atom] may be negative: below everything the reference knows. ``formation_energy_per_atom``
    is against the same reference's terminals. Beside them: ``n_competing_phases`` (compounds of the reference in the
    chemical system), ``reference_coverage`` (share of its sub-systems with an entry), ``reference`` (the name) and
    ``reference_reason`` (why there is no value, null if there is one).

    :param without_self: leave the row's own entry out, for rows that the reference was made from.
    :raises EnergySchemeMismatch: if the energies of the set must not be compared with this reference at all.
    """
    against = reference if isinstance(reference, Reference) else Reference(reference)
    energies = against.energies_of(crystals)
    formulas, ok, given = crystals.column("reduced_formula"), crystals.ok, crystals.column("reason")
    above: list[float | None] = []
    formation: list[float | None] = []
    points: list[HullPoint | None] = []
    reasons: list[str | None] = []
    for row, formula in enumerate(formulas):
        energy = float(energies[row])
        if not ok[row] or formula is None or not np.isfinite(energy):
            why = given[row] or "it has no energy"
            point, value, bound = None, None, None
        else:
            point = against.hull.at(formula, without=energy if without_self else None)
            bound = energy if against.of_formation else formation_energy(formula, energy, against.terminals)
            value = None if point.energy is None else _settled(energy - point.energy)
            why = _why_none(point, against.name) if value is None else None
        above.append(value)
        formation.append(bound)
        points.append(point)
        reasons.append(why)
    return {
        schema.property_field("e_above_reference", against.method): above,
        schema.property_field("formation_energy_per_atom", against.method): formation,
        pa.field("n_competing_phases", pa.int32()): [p.n_competing if p else None for p in points],
        pa.field("reference_coverage", pa.float64()): [p.coverage if p else None for p in points],
        pa.field("reference", pa.string()): [against.name] * len(formulas),
        pa.field("reference_reason", pa.string()): reasons,
    }


def reduced_formulas(reference: ReferenceSet) -> frozenset[str]:
    """Return the reduced formulas of the entries, which may have no crystals: what is known to exist in some form."""
    from pymatgen.core import Composition

    usable = {formula for formula, ok in zip(reference.column("formula"), reference.ok, strict=True) if ok}
    return frozenset(str(Composition(formula).reduced_formula) for formula in usable)


def _settled(value: float) -> float:
    """Return zero for what is zero but for the rounding of the solver: on the hull is not above it."""
    return 0.0 if abs(value) < 1e-9 else value


def _why_none(point: HullPoint, name: str) -> str:
    if point.missing:
        return f"the reference {name!r} has no terminal for {', '.join(point.missing)}"
    return f"no mixture of entries of the reference {name!r} has this composition"
