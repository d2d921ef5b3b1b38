"""Settings of the SLICES representation."""

from __future__ import annotations

from dataclasses import dataclass

from crysgen_aiida.crystals.errors import ImpossibleRequest

#: How bonds are found.
GRAPH_METHODS = ("econnn", "crystalnn")


@dataclass(frozen=True)
class SlicesSpec:
    """All settings of encoding and decoding, with the published defaults.

    ``mode`` says which of two variants is used where results depend on it:

    * ``strict`` (default): at every atom all pairs of bonds enter the angle target; unbonded atoms repel with the mean
      of both radii, across cell borders, in the lattice as it is being optimised; rescaling stretches lattice vectors;
      lattice lengths equal to a part in 10^4 vary together; coinciding atoms are separated by a small fixed shift; at
      the end the whole cell is freed, angles too, with its volume held;
    * ``paper``: the published angle list, which depends on how bonds are directed, with weights rounded to 0.01;
      repulsion inside one fixed cell with the radius of the first atom only; rescaling stretches Cartesian columns;
      only bitwise equal lengths vary together; coinciding atoms are separated by a fixed divergence.

    Neither repeats the published numerical gradient, the bound of 0.45 on the shifts (atoms move freely), the charge
    factor of the angle weights, or the check that lets nets of rank below 3 through to an exception.

    :param strategy: spelling, 1 to 4.
    :param graph_method: ``econnn`` (package default) or ``crystalnn`` (used for the piezoelectrics paper).
    :param prefix: write the space-group prefix (strategy 4).
    :param primitive: reduce to the primitive cell before encoding if that has fewer atoms.
    :param symprec: tolerance of the space group in the prefix [A].
    :param max_atoms: larger cells are refused by encoding.
    :param bond_scaling: factor on the target bond lengths, on top of the fixed 1.05.
    :param angle_weight: weight of the angle terms against the bond terms.
    :param repulsion: well depth of the r^-12 repulsion between atoms that are not bonded; 0 turns it off.
    :param expand: largest factor on lattice lengths during optimisation is 1.01 times this.
    :param free_repulsion: depth of the repulsion while the whole cell is free (``strict``).
    :param stiffness: what holds the volume of the free cell: weight of the squared logarithm of its change, against
        the sum of the fourth powers of the bond lengths (``strict``).
    :param duplicates: whether decoding tolerates a bond that is written twice; the published checker calls it edge
        redundancy and refuses such strings where it is asked to (``dupli_check``).
    :param max_iterations: iterations of L-BFGS-B: a count, so that results do not depend on the machine's speed.
    :param starts: most geometries of a string that a potential chooses from; without one the first is taken.
    :param keep: of those, how many of the lowest energies are relaxed; the others only if none of these keeps the
        bonds of the string.
    :param symmetrise: impose the space group of the prefix on the decoded crystal where it is near enough.
    :param max_move: how far an atom may move for that [A].
    :raises ImpossibleRequest: for a strategy, graph method or mode that does not exist, or no starts.
    """

    strategy: int = 4
    graph_method: str = "econnn"
    mode: str = "strict"
    prefix: bool = True
    primitive: bool = True
    symprec: float = 0.01
    max_atoms: int = 20
    bond_scaling: float = 1.05
    angle_weight: float = 0.5
    repulsion: float = 0.01
    expand: float = 1.25
    free_repulsion: float = 3.0
    stiffness: float = 3.0
    max_iterations: int = 300
    duplicates: bool = True
    starts: int = 4
    keep: int = 2
    symmetrise: bool = False
    max_move: float = 0.3

    def __post_init__(self) -> None:
        if self.strategy not in (1, 2, 3, 4):
            raise ImpossibleRequest(f"Strategy {self.strategy} does not exist; choose 1, 2, 3 or 4.")
        if self.graph_method not in GRAPH_METHODS:
            raise ImpossibleRequest(
                f"There is no graph method {self.graph_method!r}; choose {' or '.join(GRAPH_METHODS)}."
            )
        if self.mode not in ("strict", "paper"):
            raise ImpossibleRequest(f"There is no mode {self.mode!r}; choose 'strict' or 'paper'.")
        if self.starts < 1 or self.keep < 1:
            raise ImpossibleRequest(
                f"There must be at least one start and one kept, not {self.starts} and {self.keep}; choose 1 or more."
            )
