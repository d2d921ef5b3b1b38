"""Settings of the FTCP representation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from crysgen_aiida.crystals.errors import ImpossibleRequest

#: Rows of the element matrix: H to Lr.
ELEMENTS = 103
#: The last of them that the CGCNN atom vectors describe.
DESCRIBED = 100
#: Rows of the property matrix: length of the CGCNN atom vector.
PROPERTIES = 92
#: The matrix is padded to a multiple of this many rows, for two convolutions of stride 2.
ROW_MULTIPLE = 4

KPOINT_CHOICES = ("length", "paper")
SITE_ORDERS = ("given", "symmetry")
OCCUPANCIES = ("corrected", "paper")


@dataclass(frozen=True)
class FtcpSpec:
    """All settings of encoding and decoding; sizes are those of the published case 1 (ternary, 20 sites).

    Where results depend on a flaw of the published code, its way can be asked for by the word ``paper``.

    :param max_sites: sites the matrix holds; larger cells are refused.
    :param max_elements: elements it holds.
    :param n_kpoints: points of the reciprocal lattice, one column each.
    :param kpoints: ``length``: the nearest to the origin, always as many as asked for; ``paper``: in a sphere of
        1.297 1/A, or 1.4 if too few lie in it, the first by |h| + |k| + |l|: cells with too few are refused.
    :param site_order: ``given``: sites and elements as the crystal lists them; ``symmetry``: elements by
        electronegativity, their orbits under the space group together, whatever the order they are listed in.
    :param occupancy: how a decoded site that is empty is read. ``corrected``: it is removed, and hydrogen is an
        element; ``paper``: before the last site it becomes hydrogen, and hydrogen at the end is cut off.
    :param reciprocal: False leaves out the columns of k-points (the published ablation).
    :param threshold: a decoded site whose occupancies are all below this is empty.
    :param min_distance: decoded atoms nearer than this, periodic images included, overlap [A]; 0 lets them.
    :raises ImpossibleRequest: for a size, a choice or a number that makes no sense.
    """

    max_sites: int = 20
    max_elements: int = 3
    n_kpoints: int = 59
    kpoints: str = "length"
    site_order: str = "given"
    occupancy: str = "corrected"
    reciprocal: bool = True
    threshold: float = 0.05
    min_distance: float = 0.5

    def __post_init__(self) -> None:
        for name in ("max_sites", "max_elements", "n_kpoints"):
            if getattr(self, name) < 1:
                raise ImpossibleRequest(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.max_elements > ELEMENTS:
            raise ImpossibleRequest(f"max_elements is {self.max_elements}, but there are only {ELEMENTS}; lower it.")
        choices = (("kpoints", KPOINT_CHOICES), ("site_order", SITE_ORDERS), ("occupancy", OCCUPANCIES))
        for name, known in choices:
            if getattr(self, name) not in known:
                raise ImpossibleRequest(f"{name} cannot be {getattr(self, name)!r}; choose {' or '.join(known)}.")
        if not 0 < self.threshold < 1:
            raise ImpossibleRequest(f"threshold must lie between 0 and 1, not {self.threshold}; the paper has 0.05.")
        if not (self.min_distance >= 0 and math.isfinite(self.min_distance)):
            raise ImpossibleRequest(f"min_distance must be 0 A or more, not {self.min_distance}; 0.5 is usual.")

    @property
    def rows(self) -> int:
        """Rows of the matrix, padded: 240 for 20 sites, 280 for 40."""
        used = ELEMENTS + 2 + 2 * self.max_sites + 1 + PROPERTIES
        return -(-used // ROW_MULTIPLE) * ROW_MULTIPLE

    @property
    def columns(self) -> int:
        """Columns of the matrix: one an element, at least three, and one a k-point."""
        return max(3, self.max_elements) + (self.n_kpoints if self.reciprocal else 0)
