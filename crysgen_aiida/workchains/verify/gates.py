"""Gates: whether a candidate goes on after a step, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crysgen_aiida.crystals import schema
from crysgen_aiida.physics.piezo import piezo_gate

PASSED, STOPPED, NOT_COMPUTED = "passed", "stopped", "not computed"


@dataclass(frozen=True)
class Verdict:
    """What became of a candidate in a step.

    :param verdict: ``passed``; ``stopped`` by a gate; ``not computed``, because it could not be.
    :param reason: a sentence; of what passed what was found, if there is anything to say.
    """

    verdict: str
    reason: str = ""

    @property
    def goes_on(self) -> bool:
        """Whether the candidate takes part in the next step."""
        return self.verdict == PASSED


def judge_row(stage: str, row: Mapping[str, Any], gates: Mapping[str, Any]) -> Verdict:
    """Judge a candidate by its row in the set or table that a stage of the worker made.

    :param row: as :meth:`~crysgen_aiida.crystals.table.PackedTable.get` returns it.
    """
    if row["status"] != schema.STATUS_OK:
        return Verdict(NOT_COMPUTED, str(row["reason"]))
    if stage == "relax" and not row["converged"]:
        return Verdict(
            STOPPED,
            f"it did not come to rest in {row['n_steps']} steps: the largest force is {row['max_force']:.3g} eV/A",
        )
    if stage == "hull":
        return _hull(row, gates)
    if stage == "phonon":
        return _stable(row["phonon_stable"], row["phonon_verdict"], gates["phonon_stable"])
    if stage == "elastic":
        return _stable(row["elastic_stable"], row["elastic_verdict"], gates["elastic_stable"])
    return Verdict(PASSED, str(row.get(f"{stage}_verdict") or ""))


def judge_results(stage: str, results: Mapping[str, Any], gates: Mapping[str, Any]) -> Verdict:
    """Judge a candidate by the ``results`` of an engine's stage."""
    values, said = results["values"], str(results.get("verdict", ""))
    lowest = values.get("phonon_min_frequency", values.get("phonon_min_frequency_gamma"))
    if stage == "phonon" and lowest is not None:
        stable = bool(results["facts"].get("stable", lowest > -0.05))
        return _stable(stable, said or f"the lowest mode is {lowest:.3g} THz", gates["phonon_stable"])
    least = values.get("elastic_min_eigenvalue")
    if stage == "elastic" and least is not None:
        sentence = f"the least eigenvalue of the elastic tensor is {least:.3g} GPa"
        return _stable(least > 0, said or sentence, gates["elastic_stable"])
    return Verdict(PASSED, said)


def before_response(structure: Any, band_gap: float | None, gates: Mapping[str, Any]) -> Verdict:
    """Judge whether dielectric response is worth computing: an insulator and, if piezoelectricity is asked for, no
    inversion centre and not class 432, at both tolerances.

    :param structure: pymatgen structure.
    :param band_gap: [eV], None if unknown, which stops nobody: the engine refuses a metal itself.
    """
    numbers = [site.specie.Z for site in structure]
    floor = gates["min_gap"] if gates["min_gap"] is not None else float("-inf")
    found = piezo_gate(structure.lattice.matrix, structure.frac_coords, numbers, band_gap, min_gap=floor)
    if band_gap is not None and band_gap <= floor:
        return Verdict(STOPPED, f"the gap of {band_gap:.2f} eV is not above {floor:g} eV: a metal screens the field")
    if gates["piezo"] and found.allowed is not True:
        return Verdict(STOPPED, str(found.reason))
    return Verdict(PASSED)


def _hull(row: Mapping[str, Any], gates: Mapping[str, Any]) -> Verdict:
    above, limit = row["e_above_reference"], gates["max_e_above_reference"]
    if above is None:
        return Verdict(PASSED, f"no energy above the reference: {row['reference_reason']}")
    said = f"{above:.3f} eV/atom above the reference"
    if limit is not None and above > limit:
        return Verdict(STOPPED, f"it is {said}, more than {limit:g}")
    return Verdict(PASSED, said)


def _stable(stable: bool | None, said: str, required: bool | None) -> Verdict:
    return Verdict(STOPPED if required and not stable else PASSED, said)
