"""Proposals: ions exchanged as often as crystals of the ICSD are found to exchange them, neutral and plausible."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from crysgen_aiida.generators.substitution.prototypes import Prototype
from crysgen_aiida.generators.substitution.spec import SamplingSpec
from crysgen_aiida.physics.charge import ChargeRule, charge_neutral

if TYPE_CHECKING:
    from numpy.random import Generator

Ion = tuple[str, int]  # symbol, oxidation state
Swap = dict[str, Ion]


@cache
def ions() -> tuple[Ion, ...]:
    """Return the ions of the table of substitution probabilities, sorted."""
    found = {(str(s.element.symbol), int(s.oxi_state)) for s in _table().species if float(s.oxi_state).is_integer()}
    return tuple(sorted(found))


@cache
def replacements(old: Ion, min_probability: float, max_z: int) -> tuple[tuple[Ion, ...], np.ndarray]:
    """Return which ions may take the place of another and how likely each is (Hautier et al. 2011), likeliest first.

    An ion that is not in the table keeps its place.
    """
    from pymatgen.core import Element, Species

    if old not in ions():
        return (old,), np.ones(1)
    table, fixed = _table(), Species(*old)
    odds = [(float(table.cond_prob(Species(*new), fixed)), new) for new in ions() if max_z >= Element(new[0]).Z]
    kept = sorted(((p, new) for p, new in odds if p >= min_probability), key=lambda pair: (-pair[0], pair[1]))
    if not kept:
        return (old,), np.ones(1)
    weights = np.array([p for p, _ in kept])
    return tuple(new for _, new in kept), weights / weights.sum()


def propose(prototype: Prototype, spec: SamplingSpec, rng: Generator) -> Swap | None:
    """Draw an exchange: every ion is replaced by its own odds, itself included, until the whole is acceptable.

    Acceptable is what changes the formula, keeps the elements apart, is neutral with the states drawn, and passes SMACT
    (charge and Pauling). None if ``spec.attempts`` draws give nothing.
    """
    symbols = sorted(prototype.charges)
    options = [replacements((s, prototype.charges[s]), spec.min_probability, spec.max_z) for s in symbols]
    counts = prototype.counts
    for _ in range(spec.attempts):
        drawn = [new[int(rng.choice(len(new), p=odds))] for new, odds in options]
        elements = [element for element, _ in drawn]
        if len(set(elements)) < len(elements) or elements == symbols:
            continue
        if sum(charge * counts[s] for s, (_, charge) in zip(symbols, drawn, strict=True)):
            continue
        formula = _formula({element: counts[s] for s, (element, _) in zip(symbols, drawn, strict=True)})
        if charge_neutral(formula, ChargeRule(alloys=False, elements=False)):
            return {s: new for s, new in zip(symbols, drawn, strict=True) if new != (s, prototype.charges[s])}
    return None


def in_words(swap: Swap, prototype: Prototype) -> str:
    """Return an exchange as text, e.g. ``Al3+ > Ga3+, N3- > P3-``."""
    return ", ".join(f"{_ion((old, prototype.charges[old]))} > {_ion(new)}" for old, new in sorted(swap.items()))


def _ion(ion: Ion) -> str:
    symbol, charge = ion
    return f"{symbol}{abs(charge)}{'+' if charge > 0 else '-'}"


def _formula(counts: dict[str, int]) -> str:
    from pymatgen.core import Composition

    return str(Composition(counts).reduced_formula)


@cache
def _table():  # type: ignore[no-untyped-def]
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability

    return SubstitutionProbability()
