"""From a net to a crystal (SLI2Cry), without a potential: one geometry a net, or a reason.

Follows Xiao et al., Nat. Commun. 14, 7027 (2023), with integer cycle algebra for the test, one Laplacian solve for the
embedding, closed-form targets and analytic gradients; in ``strict`` mode the cell is freed at the end. Limits that
decide the result are counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.crystal_set import Arrays
from crysgen_aiida.representations.slices.archetype import SINGULAR, Archetype, archetype
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.nets import Net
from crysgen_aiida.representations.slices.placements import Placement, freed, optimised, plain
from crysgen_aiida.representations.slices.spec import SlicesSpec

if TYPE_CHECKING:
    from pymatgen.core import Structure

T = TypeVar("T")
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

COLLAPSED = "Two atoms ended less than 0.5 A apart."

#: Atoms closer than this are a failed geometry [A].
MIN_DISTANCE = 0.5
#: Two geometries of one net are one if no atom and no lattice vector differs by more than this [A].
SAME = 0.02
#: The geometries of a net in the order in which they are taken.
STARTS = ("freed", "optimised", "slack", "archetype")
#: Those of which the first that succeeds is the one of :func:`decode`.
OPTIMISED = STARTS[:2]

_CELLS = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)


@dataclass(frozen=True)
class Decoded:
    """A decoded crystal.

    :ivar lattice: (3, 3) rows [A]; ``numbers`` (n,); ``frac_coords`` (n, 3) in [0, 1).
    :ivar objective: value reached [A^4]; 0 means that all targets are met.
    :ivar unstable: the barycentric embedding had bonds of zero length.
    :ivar iterations: iterations of the optimiser.
    :ivar start: which of ``STARTS`` it is.
    """

    lattice: FloatArray
    numbers: IntArray
    frac_coords: FloatArray
    objective: float
    unstable: bool
    iterations: int
    start: str

    @property
    def volume(self) -> float:
        """Volume of the cell [A^3]."""
        return float(abs(np.linalg.det(self.lattice)))

    @property
    def arrays(self) -> Arrays:
        """The crystal as a set packs it."""
        return self.lattice, self.numbers, self.frac_coords

    def structure(self) -> Structure:
        """Return a pymatgen structure."""
        from pymatgen.core import Lattice, Structure

        return Structure(Lattice(self.lattice), self.numbers.tolist(), self.frac_coords)


def decode(net: Net | str, spec: SlicesSpec = SlicesSpec()) -> Decoded:  # noqa: B008 - frozen
    """Return the one crystal of a net or string.

    :raises SlicesError: with a ``reason`` from a small set of sentences. No other exception leaves this function for
        any net or string.
    """
    return starts(net, spec, 1, OPTIMISED)[0]


def starts(net: Net | str, spec: SlicesSpec, most: int, names: Sequence[str] = STARTS) -> list[Decoded]:
    """Return up to ``most`` different geometries of a net or string, at least one, in the order of ``names``.

    A geometry that fails gives way to the next, and so does one that repeats an earlier one.

    :raises SlicesError: if the net cannot be decoded, or with the reason of the first geometry if all of them fail.
    """
    held = guarded(lambda: archetype(net, spec))
    found: list[Decoded] = []
    failure: SlicesError | None = None
    rules = _rules(held, spec)
    for name in names:
        if name not in rules:
            continue
        try:
            crystal = guarded(partial(_crystal, held, rules[name], name))
        except SlicesError as error:
            failure = failure or error
            continue
        if not any(same(crystal, other) for other in found):
            found.append(crystal)
        if len(found) == most:
            break
    if not found:
        assert failure is not None
        raise failure
    return found


def guarded(work: Callable[[], T]) -> T:
    """Run numerics of decoding; what they raise becomes a reason.

    :raises SlicesError: if the net has no usable geometry.
    """
    try:
        with np.errstate(all="ignore"):
            return work()
    except (np.linalg.LinAlgError, FloatingPointError, OverflowError, ZeroDivisionError) as error:
        raise SlicesError(SINGULAR) from error


def same(one: Decoded, other: Decoded) -> bool:
    """Whether two geometries of one net are one, atom by atom, in whatever orientation.

    Cheap: lattices by their lengths and angles, atoms by fractional coordinates with their mean shift removed.
    """
    gram, other_gram = one.lattice @ one.lattice.T, other.lattice @ other.lattice.T
    length = np.sqrt(np.diag(gram))
    if (np.abs(gram - other_gram) > 2.0 * SAME * length[:, None]).any():
        return False
    apart = other.frac_coords - one.frac_coords
    apart -= apart[0]
    apart -= np.round(apart)
    return float(np.linalg.norm((apart - apart.mean(axis=0)) @ one.lattice, axis=1).max()) <= SAME


def _rules(held: Archetype, spec: SlicesSpec) -> dict[str, Callable[[], Placement]]:
    """Return the geometries as functions, none of them computed yet; the first optimisation is shared."""
    shared: list[Placement] = []

    def first() -> Placement:
        if not shared:
            shared.append(optimised(held, spec))
        return shared[0]

    rules: dict[str, Callable[[], Placement]] = {
        "freed": lambda: freed(held, spec, first()),
        "optimised": first,
        "slack": lambda: freed(held, replace(spec, stiffness=0.0, free_repulsion=spec.repulsion), first()),
        "archetype": lambda: plain(held),
    }
    if spec.mode == "paper":
        del rules["freed"], rules["slack"]
    return rules


def _crystal(held: Archetype, rule: Callable[[], Placement], name: str) -> Decoded:
    """Compute a geometry and wrap its atoms into the cell.

    :raises SlicesError: if it fails, or two atoms are too close.
    """
    place = rule()
    frac = place.coords % 1.0
    frac[frac > 1.0 - 1e-9] = 0.0
    if min_distance(place.lattice, frac) < MIN_DISTANCE:
        raise SlicesError(COLLAPSED)
    numbers = held.net.numbers.copy()
    return Decoded(place.lattice, numbers, frac, place.objective, held.unstable, place.iterations, name)


def min_distance(lattice: FloatArray, frac_coords: FloatArray) -> float:
    """Return the shortest distance between two atoms or an atom and its images [A], over the 27 nearest cells."""
    first, second = np.triu_indices(len(frac_coords))
    difference = frac_coords[second] - frac_coords[first]
    difference -= np.round(difference)
    vector = (difference[:, None, :] + _CELLS[None]) @ lattice
    square = np.einsum("pck,pck->pc", vector, vector)
    square[first == second, len(_CELLS) // 2] = np.inf  # an atom and itself
    return float(np.sqrt(square.min()))
