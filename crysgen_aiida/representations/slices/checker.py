"""Is a string, or a net, one connected three-periodic crystal net?"""

from __future__ import annotations

from dataclasses import dataclass

from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.lattice_algebra import build, component_labels, voltage_rank_index
from crysgen_aiida.representations.slices.nets import Net, parse

NO_EDGES = "An atom has no bond."
SELF_BOND = "A bond joins an atom to itself in the same cell."
DUPLICATE = "A bond is written twice."
DISCONNECTED = "The bonds leave the atoms in several separate pieces."
LOW_RANK = {
    0: "The net is a molecule: it is periodic in no direction.",
    1: "The net is a chain: it is periodic in only 1 direction.",
    2: "The net is a layer: it is periodic in only 2 directions.",
}
SUPERCELL = "The cycles span only a sublattice: the string describes several interpenetrating or repeated nets."
FEW_CYCLES = "The net has fewer than 3 independent cycles."
AXIS_UNUSED = "The labels do not span three axes by the published rule."


@dataclass(frozen=True)
class Verdict:
    """Whether a net is valid, and if not, why: ``reason`` is one of a small set of sentences."""

    ok: bool
    reason: str | None = None

    def __bool__(self) -> bool:
        return self.ok


def check(net: Net | str, mode: str = "strict", *, strategy: int = 4, duplicates: bool = True) -> Verdict:
    """Judge a net or a string.

    ``strict`` is the true test: every atom bonded, no bond from an atom to itself in one cell, connected, cycle
    voltages of rank 3 and lattice index 1. ``paper`` repeats the published ``check_SLICES``, which rejects some good
    nets and passes some that cannot be decoded (rank below 3, index above 1, separate pieces).

    :param duplicates: whether a bond written twice (also reversed) is tolerated; the repeat is ignored.
    """
    if isinstance(net, str):
        try:
            net = parse(net, strategy)
        except SlicesError as error:
            return Verdict(False, error.reason)
    if mode not in ("strict", "paper"):
        raise ValueError(f"There is no checking mode {mode!r}; choose 'strict' or 'paper'.")
    single = net.without_duplicates()
    if not duplicates and single.n_edges < net.n_edges:
        return Verdict(False, DUPLICATE)
    touched = set(single.edges.ravel().tolist())
    if mode == "paper":
        return _paper(single, len(touched))
    if len(touched) < net.n_atoms or net.n_atoms == 0:
        return Verdict(False, NO_EDGES)
    if any(u == v and not any(w) for (u, v), w in zip(single.edges.tolist(), single.images.tolist(), strict=True)):
        return Verdict(False, SELF_BOND)
    graph = build(single.edges.tolist(), single.images.tolist(), single.n_atoms)
    if not graph.connected:
        return Verdict(False, DISCONNECTED)
    if graph.rank < 3:
        return Verdict(False, LOW_RANK[graph.rank])
    if graph.index != 1:
        return Verdict(False, SUPERCELL)
    return Verdict(True)


def _paper(net: Net, n_touched: int) -> Verdict:
    """Judge as published: Betti number, bonded atoms, then a rule on which edges have a label on which axis."""
    pieces = len(set(component_labels(net.edges.tolist(), net.n_atoms)))
    if net.n_edges - (net.n_atoms - pieces) < 3:
        return Verdict(False, FEW_CYCLES)
    if n_touched < net.n_atoms:
        return Verdict(False, NO_EDGES)
    on_axis = [[e for e, image in enumerate(net.images.tolist()) if image[k]] for k in range(3)]
    if not all(on_axis):
        return Verdict(False, AXIS_UNUSED)
    first = _difference(on_axis[0], on_axis[1])
    second = _difference(on_axis[0] + on_axis[1], on_axis[2])
    return Verdict(True) if first and second else Verdict(False, AXIS_UNUSED)


def _difference(a: list[int], b: list[int]) -> set[int]:
    """Return the longer list without the members of the other; of equal lengths the first is taken as the longer."""
    longer, other = (a, b) if len(a) >= len(b) else (b, a)
    return set(longer) - set(other)


def dimensionality(net: Net) -> int:
    """Return the largest number of directions in which a piece of the net is periodic, 0 to 3."""
    labels = component_labels(net.edges.tolist(), net.n_atoms)
    best = 0
    for piece in set(labels):
        members = [e for e, (u, _) in enumerate(net.edges.tolist()) if labels[u] == piece]
        rank, _ = voltage_rank_index(net.edges[members].tolist(), net.images[members].tolist(), net.n_atoms)
        best = max(best, rank)
    return best
