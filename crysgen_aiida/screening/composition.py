"""Is it a plausible composition? SMACT, and flags for chemistry that potentials and plain DFT treat badly."""

from __future__ import annotations

from crysgen_aiida.physics.charge import ChargeRule, charge_neutral
from crysgen_aiida.physics.hull import system_of
from crysgen_aiida.screening.protocols import CompositionRule

#: 3d elements whose moments matter; runs without spin misjudge their compounds.
MAGNETIC = frozenset(("Cr", "Mn", "Fe", "Co", "Ni"))
#: Elements with open f shells.
F_ELECTRON = frozenset(
    "Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Th Pa U Np Pu Am Cm Bk Cf".split()  # noqa: SIM905 - a list to read
)
#: The Materials Project adds a Hubbard U to these in oxides and fluorides.
HUBBARD_U = frozenset(("V", "Cr", "Mn", "Fe", "Co", "Ni", "Mo", "W"))


def valid_composition(formula: str, rule: CompositionRule) -> tuple[bool | None, str | None]:
    """Return the verdict on a reduced formula and, unless it is true, the reason."""
    verdict = charge_neutral(
        formula, ChargeRule(pauling=rule.pauling, alloys=rule.alloys, oxidation_states=rule.oxidation_states)
    )
    if verdict is None:
        return None, f"SMACT cannot judge {formula}: it lacks data for one of its elements"
    return verdict, None if verdict else f"no neutral combination of oxidation states for {formula} (SMACT)"


def chemistry_flags(formula: str) -> str:
    """Return what a reader should know of the chemistry, separated by commas; empty if nothing.

    ``magnetic``, ``f-electron`` and ``hubbard-u`` mean that energies and gaps need spin, f shells or a U that neither
    the default potential nor the surrogate treats explicitly.
    """
    elements = set(system_of(formula))
    flags = []
    if elements & MAGNETIC:
        flags.append("magnetic")
    if elements & F_ELECTRON:
        flags.append("f-electron")
    if elements & HUBBARD_U and elements & {"O", "F"}:
        flags.append("hubbard-u")
    return ",".join(flags)
