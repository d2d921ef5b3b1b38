"""From what a job gave to the results of the stage, by a calcfunction: a number leads back to its job."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import calcfunction

from crysgen_aiida.data.structures import to_pymatgen
from crysgen_aiida.engines.results import stage_results
from crysgen_aiida.physics.tensors import tensor_properties

#: A crystal under a larger stress [GPa], 1 kbar, is not at rest, and its elastic constants are not those at rest.
MAX_STRESS = 0.1
#: Under a larger stress [GPa] nothing elastic is reported: the constants would be those of another crystal.
STRAINED = 5.0
#: What a stress takes part in.
_ELASTIC = (
    "elastic_min_eigenvalue",
    "bulk_modulus_vrh",
    "shear_modulus_vrh",
    "young_modulus_vrh",
    "poisson_ratio",
    "universal_anisotropy",
    "piezo_strain_max",
)
#: A crystal with a larger force on an atom [eV/A] is not at rest.
MAX_FORCE = 0.05
#: Charge neutrality violated by more [e per atom], or acoustic modes this far from zero [THz], mean a coarse basis.
MAX_CHARGE, MAX_ACOUSTIC = 0.1, 3.0

#: Facts of the self-consistent run, and of the whole one.
GROUND = (
    "version",
    "energy_ev",
    "scf_steps",
    "gap_at_kpoints_ev",
    "stress_gpa",
    "max_force_ev_per_a",
    "space_group",
)
WHOLE = (
    "charge_neutrality_violation",
    "acoustic_before_sum_rule",
    "acoustic_sum_rule_violation",
    "memory_estimate_mb",
)


@calcfunction
def dfpt_results(
    about: orm.Dict, structure: orm.StructureData, tensors: orm.ArrayData, scf: orm.Dict, response: orm.Dict
) -> orm.Dict:
    """Return values and facts of the stage.

    :param about: ``method``, ``settings``, ``parameters``.
    :param scf: facts of the self-consistent run.
    :param response: facts of the whole run.
    """
    asked = about.get_dict()
    ground, whole = scf.get_dict(), response.get_dict()
    arrays = {name: tensors.get_array(name) for name in tensors.get_arraynames()}
    values, facts = tensor_properties(to_pymatgen(structure), arrays, asked["settings"]["symprec"])
    known = {**{n: ground[n] for n in GROUND if n in ground}, **{n: whole[n] for n in WHOLE if n in whole}}
    facts = {**facts, **known, "parameters": asked["parameters"], "jobs": asked.get("jobs", [])}
    said = [*facts["doubts"], *warnings(known, len(structure.sites))]
    if largest_stress(known) > STRAINED:
        values = {name: value for name, value in values.items() if name not in _ELASTIC}
        said.append(f"above {10 * STRAINED:g} kbar no elastic constants are reported")
    return orm.Dict(
        stage_results(
            engine="abinit", stage="dfpt", method=asked["method"], values=values, facts=facts, verdict="; ".join(said)
        )
    )


def warnings(facts: dict[str, Any], atoms: int) -> list[str]:
    """Return what a reader of the numbers should know, as sentences: stress, forces, violated sum rules."""
    said = []
    stress = largest_stress(facts)
    if stress > MAX_STRESS:
        said.append(
            f"the crystal is not at rest: a stress of {10 * stress:.1f} kbar remains at these settings, which elastic "
            "constants contain; relax it with the same pseudopotentials and cutoff"
        )
    force = facts.get("max_force_ev_per_a", 0.0)
    if force > MAX_FORCE:
        said.append(f"the crystal is not at rest: a force of {force:.2f} eV/A remains")
    if facts.get("charge_neutrality_violation", 0.0) > MAX_CHARGE * atoms:
        said.append(
            f"Born charges sum to {facts['charge_neutrality_violation']:.2f} e before they are made neutral: too few "
            "k-points or too low a cutoff"
        )
    if facts.get("acoustic_sum_rule_violation", 0.0) > MAX_ACOUSTIC:
        said.append(
            f"acoustic modes are at {facts['acoustic_sum_rule_violation']:.1f} THz without sum rule: too low a cutoff"
        )
    return said


def largest_stress(facts: dict[str, Any]) -> float:
    """Return the largest component of the stress that is left [GPa], zero if it is not known."""
    return max((abs(x) for x in facts.get("stress_gpa") or []), default=0.0)
