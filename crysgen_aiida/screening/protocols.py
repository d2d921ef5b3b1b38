"""Named evaluation protocols: every knob in one frozen record that is stamped on the table.

The same model moves a hundredfold with the protocol it is judged by, so a rate means nothing without one. ``mattergen``
and ``lemat`` follow the published evaluation codes, ``slices-paper`` the MatterGPT paper; where this program cannot do
what they do (their potentials, their reference sets), the record says what was used instead.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crysgen_aiida.crystals.errors import ImpossibleRequest


@dataclass(frozen=True)
class StructureRule:
    """When a structure is valid.

    :param min_distance: shortest interatomic distance [A].
    :param radius_factor: d_ij >= factor (offset + r_i + r_j) with covalent radii (Cordero 2008); 0 switches it off.
    :param radius_offset: that offset [A]; lemat-genbench adds 0.7.
    :param min_volume: of the cell [A^3].
    :param density: allowed mass density [g/cm^3].
    :param atom_density: allowed atoms per volume [1/A^3].
    :param lengths: allowed cell lengths [A].
    """

    min_distance: float = 0.5
    radius_factor: float = 0.0
    radius_offset: float = 0.0
    min_volume: float = 0.1
    density: tuple[float, float] = (0.0, 1.0e9)
    atom_density: tuple[float, float] = (0.0, 1.0e9)
    lengths: tuple[float, float] = (0.0, 1.0e9)


@dataclass(frozen=True)
class CompositionRule:
    """When a composition is valid: SMACT charge neutrality, with the rule for metals.

    :param pauling: electronegativity test as well.
    :param alloys: metals only are valid; single elements always are.
    :param oxidation_states: SMACT's list.
    """

    pauling: bool = True
    alloys: bool = True
    oxidation_states: str = "icsd24"


@dataclass(frozen=True)
class MatcherRule:
    """Tolerances of the structure matcher; see :class:`crysgen_aiida.crystals.matching.MatchSpec`."""

    ltol: float = 0.2
    stol: float = 0.3
    angle_tol: float = 5.0
    scale: bool = True


#: What a protocol may filter by, and what passes. All but ``converged`` are verdicts of the screening itself.
FILTERS: Mapping[str, str] = {
    "converged": "the relaxation ended by its force threshold, not by its number of steps",
    "valid_structure": "distances, volume and density are plausible",
    "valid_composition": "oxidation states exist that make the composition neutral (SMACT)",
    "piezo_allowed": "no inversion centre and not class 432, at both tolerances",
    "piezo_active": "piezo_allowed, and the gap by the surrogate is large enough for an insulator",
    "unique": "the first of equal crystals of the run",
    "new_formula": "no known crystal has its reduced formula",
    "novel": "no known crystal matches it",
    "dissimilar": "the sites of all known crystals are unlike its own",
    "below_elements": "its formation energy is below the limit",
    "near_reference": "its energy above the reference is within the limit, a lower bound on the energy above the hull",
    "semiconductor": "the gap by the surrogate is within the limits",
}


@dataclass(frozen=True)
class Protocol:
    """How a set is judged.

    :param judged: which geometry structures, uniqueness and novelty are judged on: ``relaxed`` or ``unrelaxed``.
    :param e_above_limit: largest energy above the reference that counts as near it [eV/atom].
    :param e_above_floor: with a value, rows at or below it are not counted as near (lemat's metastable excludes
        stable ones).
    :param denominator: of the combined rates: ``submitted`` rows or ``valid`` ones.
    :param valid_first: whether invalid rows are left out of uniqueness and novelty.
    :param near_first: whether uniqueness and novelty are counted among near rows only (order of lemat).
    :param min_gap: a gap above this [eV] makes a semiconductor.
    :param max_gap: and one up to this; the surrogate's gap decides.
    :param formation_energy_limit: rows of lower formation energy [eV/atom] are ``below_elements``.
    :param min_dissimilarity: rows at least so far from the fingerprints of the known crystals are ``dissimilar``.
    :param tolerances: within which a requested value is met, by property, in its unit.
    :param symprecs: [A], both recorded.
    :param filters: verdicts, in order, that a crystal must all pass; ``passed`` and ``stopped_by`` say whether it does
        and which is the first that it does not. What is unknown does not pass.
    :param notes: what differs from the published evaluation.
    """

    name: str
    judged: str = "relaxed"
    structure: StructureRule = StructureRule()
    composition: CompositionRule = CompositionRule()
    matcher: MatcherRule = MatcherRule()
    e_above_limit: float = 0.1
    e_above_floor: float | None = None
    denominator: str = "submitted"
    valid_first: bool = False
    near_first: bool = False
    min_gap: float = 0.1
    max_gap: float = 4.0
    formation_energy_limit: float = 0.0
    min_dissimilarity: float = 0.75
    tolerances: Mapping[str, float] = field(
        default_factory=lambda: {"formation_energy_per_atom": 0.3, "band_gap": 0.47, "e_above_reference": 0.1}
    )
    symprecs: tuple[float, float] = (0.01, 0.1)
    filters: tuple[str, ...] = ()
    citation: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := [name for name in self.filters if name not in FILTERS]:
            raise ImpossibleRequest(
                f"There is no filter {', '.join(map(repr, unknown))}; a protocol filters by {', '.join(FILTERS)}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values: dict[str, Any] = dataclasses.asdict(self)
        return values


_PIEZO_PAPER = "C. Zhang et al., Appl. Phys. Lett. 126, 111901 (2025)"
_REFERENCE_NOTE = "energies and hull are those of the reference given, by one potential; the published one differs"

PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            name="mattergen",
            citation="Zeni et al., Nature 639, 624 (2025); code mattergen/evaluation",
            notes=(
                _REFERENCE_NOTE,
                "ordered matcher only: the published disordered matcher acts within one reduced formula",
            ),
        ),
        Protocol(
            name="lemat",
            judged="unrelaxed",
            structure=StructureRule(
                min_distance=0.0,
                radius_factor=0.5,
                radius_offset=0.7,
                min_volume=1.0,
                density=(0.01, 25.0),
                atom_density=(1e-5, 0.5),
                lengths=(1.0, 100.0),
            ),
            matcher=MatcherRule(ltol=0.1),
            e_above_limit=0.1,
            e_above_floor=0.0,
            denominator="valid",
            valid_first=True,
            near_first=True,
            citation="LeMat-GenBench, official configuration",
            notes=(
                _REFERENCE_NOTE,
                "one potential instead of the mean of three, energy after relaxation instead of as submitted",
                "charge by SMACT instead of bond-valence sums with an ICSD prior",
            ),
        ),
        Protocol(
            name="slices-paper",
            e_above_limit=0.5,
            composition=CompositionRule(alloys=False),
            min_gap=0.1,
            max_gap=4.0,
            tolerances={"formation_energy_per_atom": 0.3, "band_gap": 0.47},
            citation="MatterGPT, arXiv:2408.07608, and its piezoelectric study",
            notes=(_REFERENCE_NOTE, "band gap by the CGCNN surrogate instead of DFT"),
        ),
        Protocol(
            name="piezo",
            e_above_limit=0.5,
            composition=CompositionRule(alloys=False),
            filters=(
                "valid_structure",
                "valid_composition",
                "piezo_allowed",
                "unique",
                "novel",
                "near_reference",
                "semiconductor",
            ),
            citation=_PIEZO_PAPER,
            notes=(_REFERENCE_NOTE, "band gap by the CGCNN surrogate, mean error 0.47 eV on non-metals"),
        ),
        Protocol(
            name="piezo-paper",
            e_above_limit=0.5,
            composition=CompositionRule(alloys=False),
            filters=("new_formula", "dissimilar", "below_elements", "near_reference", "semiconductor"),
            citation=_PIEZO_PAPER,
            notes=(
                _REFERENCE_NOTE,
                "band gap by the CGCNN surrogate instead of ALIGNN; the published window is not stated",
                "new formulas and dissimilarity against the known sets given, not the whole Materials Project",
            ),
        ),
    )
}


def get_protocol(name: str, overrides: Mapping[str, Any] | None = None) -> Protocol:
    """Return a named protocol, with settings overridden (nested mappings).

    A protocol with overrides is stamped ``NAME (modified)``: its rates are no longer comparable by name.

    :raises ImpossibleRequest: for an unknown protocol or setting.
    """
    if name not in PROTOCOLS:
        close = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(PROTOCOLS)}."
        raise ImpossibleRequest(f"There is no protocol {name!r}. {hint}")
    protocol = PROTOCOLS[name]
    if not overrides:
        return protocol
    changed = _override(protocol, overrides, name)
    return dataclasses.replace(changed, name=f"{name} (modified)")


def _override(settings: Any, overrides: Mapping[str, Any], where: str) -> Any:
    known = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    values: dict[str, Any] = {}
    for key, value in overrides.items():
        if key not in known or key == "name":
            raise ImpossibleRequest(f"The protocol {where} has no setting {key!r}; it has {', '.join(known)}.")
        held = known[key]
        if dataclasses.is_dataclass(held):
            values[key] = _override(held, value, f"{where}.{key}")
        elif isinstance(held, Mapping):
            values[key] = {**held, **value}
        else:
            values[key] = tuple(value) if isinstance(held, tuple) else value
    return dataclasses.replace(settings, **values)
