"""Charge neutrality of a composition by SMACT (Davies et al., Chem 1, 617 (2016)), the one rule used everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class ChargeRule:
    """How a composition is judged.

    :param pauling: the anion must also be more electronegative than every cation.
    :param alloys: compositions of metals only pass without an oxidation state.
    :param elements: single elements pass; SMACT lets them always.
    :param oxidation_states: SMACT's list; ``icsd24`` is the one derived from the ICSD, SMACT's default.
    """

    pauling: bool = True
    alloys: bool = True
    elements: bool = True
    oxidation_states: str = "icsd24"


@cache
def charge_neutral(formula: str, rule: ChargeRule) -> bool | None:
    """Return whether oxidation states exist that make the formula neutral, None if SMACT cannot judge it.

    With ``elements`` the verdict is that of :func:`smact.screening.smact_validity`, found from the sums that can be
    reached: trying every combination of states takes minutes for a formula of a dozen elements.

    :param formula: reduced formula.
    """
    from pymatgen.core import Composition
    from smact import metals

    composition = Composition(formula)
    symbols = [element.symbol for element in composition]
    if len(symbols) == 1:
        return rule.elements
    if rule.alloys and all(symbol in metals for symbol in symbols):
        return True
    counts = [int(composition[symbol]) for symbol in symbols]
    try:
        states = [_states(symbol, rule.oxidation_states) for symbol in symbols]
        if not all(states):
            return None  # SMACT itself answers false, for lack of data
        if not rule.pauling:
            return _reaches_zero(counts, states)
        negativities = [_electronegativity(symbol) for symbol in symbols]
    except (TypeError, KeyError, NameError, AttributeError):
        return None  # SMACT has no data for one of the elements
    known = [value for value in negativities if value is not None]
    if len(known) < len(symbols):
        return None
    # every cation is less electronegative than every anion: some value separates the two
    return any(
        _reaches_zero(
            counts,
            [
                tuple(s for s in held if (s <= 0 if value >= least else s >= 0))
                for held, value in zip(states, known, strict=True)
            ],
        )
        for least in set(known)
    )


def _reaches_zero(counts: list[int], states: list[tuple[int, ...]]) -> bool:
    sums = {0}
    for count, held in zip(counts, states, strict=True):
        sums = {total + count * state for total in sums for state in held}
    return 0 in sums


@cache
def _states(symbol: str, name: str) -> tuple[int, ...]:
    from smact import Element

    if name == "icsd24":
        return _icsd24().get(symbol, ())
    return tuple(getattr(Element(symbol), f"oxidation_states_{name.removeprefix('pymatgen_')}") or ())


@cache
def _icsd24() -> dict[str, tuple[int, ...]]:
    from smact.utils.oxidation import ICSD24OxStatesFilter

    table = ICSD24OxStatesFilter().filter(consensus=3, include_zero=False, commonality="low")
    return {
        str(symbol): tuple(int(state) for state in str(states).split())
        for symbol, states in zip(table["element"], table["oxidation_state"], strict=True)
    }


@cache
def _electronegativity(symbol: str) -> float | None:
    from smact import Element

    value: float | None = Element(symbol).pauling_eneg
    return value
