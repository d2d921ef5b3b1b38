"""How far a potential may be trusted as a judge of stability: measured, not assumed.

The control is a share: of crystals of the Materials Project on the hull with a gap, how many a potential calls
dynamically stable (``python benchmarks/potentials.py``, docs/results/potentials.md). They are known, most of them as
real materials, so most of those called unstable are false alarms; a few are unstable in DFT as well (ScF3, cubic
CsCaBr3), so the share of false alarms is an upper bound. A judge that raises too many may not be used for a claim, and
every verdict of it says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from crysgen_aiida.crystals.intervals import wilson

#: Above this share of known crystals called unstable a judge may not be used for a claim.
MAX_FALSE_UNSTABLE = 0.2


@dataclass(frozen=True)
class Control:
    """What a potential said of crystals that are known to be stable.

    :param stable: crystals called stable on the mesh and at the wave vectors of the supercell.
    :param n: crystals it gave an answer for.
    :param source: where it was measured.
    """

    stable: int
    n: int
    source: str

    @property
    def false_unstable(self) -> float:
        """Share called unstable."""
        return 1.0 - self.stable / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson interval of that share, 95 %."""
        low, high = wilson(self.n - self.stable, self.n)
        return low, high

    @property
    def may_claim(self) -> bool:
        """Whether its verdicts may be used for a claim."""
        return self.false_unstable <= MAX_FALSE_UNSTABLE


_SOURCE = "104 on-hull insulators of at most six atoms, docs/results/potentials.md"
#: By method, since another checkpoint of the same name is another judge.
CONTROLS = {
    "chgnet-0.3.0": Control(72, 104, _SOURCE),
    "sevennet-l3i5": Control(78, 104, _SOURCE),
    "nequix-mp-1-pft": Control(80, 104, _SOURCE),
}

#: The better judge of phonons and elastic constants of those whose weights come with a package, and the other.
DEFAULT_JUDGE, SECOND_OPINION = "sevennet", "chgnet"


def doubt(method: str) -> str | None:
    """Return what must be said beside a verdict on stability by a potential, None if it may be used for a claim.

    :param method: as stamped on values, e.g. ``chgnet-0.3.0``.
    """
    control = CONTROLS.get(method)
    if control is None:
        return f"how many crystals known to be stable {method} calls unstable has not been measured"
    if control.may_claim:
        return None
    low, high = control.interval
    return (
        f"may not be used for a claim: {method} calls {control.false_unstable:.0%} of on-hull insulators unstable "
        f"({control.n - control.stable} of {control.n}, interval {low:.0%} to {high:.0%})"
    )


def disagreement(value: float | None, second: float | None) -> float | None:
    """Return sigma of a value from a second opinion: their absolute difference, in the unit of both.

    Two potentials trained on the same data err alike, so this is a lower bound of the uncertainty.

    :returns: None if one of them has no value.
    """
    return None if value is None or second is None else abs(value - second)
