"""Prototypes: known crystals with the oxidation states of their elements, as text and as a table to draw from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.errors import ImpossibleRequest

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Prototype:
    """A crystal whose elements may be exchanged.

    :param lattice: row-major vectors [A], 9 numbers.
    :param numbers: atomic numbers, n.
    :param frac_coords: flattened n x 3.
    :param charges: oxidation state by element symbol.
    """

    lattice: tuple[float, ...]
    numbers: tuple[int, ...]
    frac_coords: tuple[float, ...]
    charges: Mapping[str, int]

    @property
    def counts(self) -> dict[str, int]:
        """Atoms of each element."""
        from pymatgen.core import Element

        symbols = [Element.from_Z(z).symbol for z in self.numbers]
        return {symbol: symbols.count(symbol) for symbol in self.charges}

    def to_text(self, swap: Mapping[str, tuple[str, int]] | None = None) -> str:
        """Return JSON: the prototype and, if given, which elements are exchanged for which at which charge."""
        held: dict[str, Any] = {
            "lattice": list(self.lattice),
            "numbers": list(self.numbers),
            "frac_coords": list(self.frac_coords),
            "charges": dict(self.charges),
        }
        if swap is not None:
            held["swap"] = {old: list(new) for old, new in swap.items()}
        return json.dumps(held, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> tuple[Prototype, dict[str, tuple[str, int]]]:
        """Return a prototype and the exchange written with it (empty if there is none)."""
        held = json.loads(text)
        swap = {str(old): (str(new), int(charge)) for old, (new, charge) in held.get("swap", {}).items()}
        charges = {str(symbol): int(charge) for symbol, charge in held["charges"].items()}
        made = cls(tuple(held["lattice"]), tuple(held["numbers"]), tuple(held["frac_coords"]), charges)
        return made, swap


def oxidation_states(formula: str) -> dict[str, int] | None:
    """Return the likeliest neutral oxidation states of a formula, None if there are none or they are not whole.

    They are pymatgen's guess from the frequencies in the ICSD. Elements and alloys have none; nor have compounds with
    one element in two states, whose sites the formula does not tell apart.
    """
    from pymatgen.core import Composition

    guesses = Composition(formula).oxi_state_guesses(max_sites=-1)
    if not guesses or not all(value and float(value).is_integer() for value in guesses[0].values()):
        return None
    return {str(symbol): int(value) for symbol, value in guesses[0].items()}


def exchanged(prototype: Prototype, swap: Mapping[str, tuple[str, int]]) -> Structure:
    """Return the crystal with its elements exchanged and its cell scaled by the radii.

    :raises ValueError: if the radius of an element is unknown.
    """
    import warnings

    from pymatgen.analysis.structure_prediction.volume_predictor import RLSVolumePredictor
    from pymatgen.core import Element, Lattice, Species, Structure

    symbols = [Element.from_Z(z).symbol for z in prototype.numbers]
    lattice = Lattice(np.reshape(prototype.lattice, (3, 3)))
    frac = np.reshape(prototype.frac_coords, (-1, 3))
    before = Structure(lattice, [Species(s, prototype.charges[s]) for s in symbols], frac)
    ions = {s: swap.get(s, (s, prototype.charges[s])) for s in set(symbols)}
    after = Structure(lattice, [Species(*ions[s]) for s in symbols], frac)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # where an ionic radius is unknown, both crystals are measured by atomic ones
            volume = float(RLSVolumePredictor(check_isostructural=False).predict(after, before))
    except (TypeError, KeyError) as error:
        raise ValueError("the radius of an element is unknown") from error
    if not np.isfinite(volume) or volume <= 0:
        raise ValueError("the volume predicted from radii is not a positive number")
    after.scale_lattice(volume)
    after.remove_oxidation_states()
    return after


class Choice:
    """Weights of prototypes under conditions: a Gaussian kernel on the distance of their labels from the targets.

    :param labels: name to values (m,), NaN where a prototype has none.
    :param log1p: names whose values are compared as log(1 + value).
    :param bandwidth: in standard deviations of the labels.
    """

    def __init__(self, labels: Mapping[str, np.ndarray], log1p: Sequence[str], bandwidth: float, n: int) -> None:
        self.n, self.bandwidth, self.log1p = n, bandwidth, frozenset(log1p)
        self._values = {name: self._scaled(name, values) for name, values in labels.items()}

    def weights(self, targets: Mapping[str, float]) -> np.ndarray:
        """Return the probability of each prototype (m,); one without a label that is asked for has none.

        :raises ImpossibleRequest: if no prototype has all the labels.
        """
        square = np.zeros(self.n)
        for name, target in targets.items():
            values = self._values[name]
            spread = float(np.nanstd(values)) if np.isfinite(values).any() else 0.0
            square += ((values - self._scaled(name, np.array([float(target)]))[0]) / (spread or 1.0)) ** 2
        if not np.isfinite(square).any():
            raise ImpossibleRequest(f"No prototype has all of the labels {', '.join(targets)}; ask for fewer at once.")
        exponent = np.where(np.isfinite(square), -0.5 * (square - np.nanmin(square)) / self.bandwidth**2, -np.inf)
        weights = np.exp(exponent)
        return np.asarray(weights / weights.sum())

    def _scaled(self, name: str, values: np.ndarray) -> np.ndarray:
        return np.log1p(np.maximum(values, 0.0)) if name in self.log1p else values
