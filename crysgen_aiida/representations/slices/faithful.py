"""Whether a crystal has the bonds of its string."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.graphs import net_of
from crysgen_aiida.representations.slices.invariant import net_hash
from crysgen_aiida.representations.slices.nets import Net
from crysgen_aiida.representations.slices.spec import SlicesSpec

if TYPE_CHECKING:
    from pymatgen.core import Structure


def keeps_net(structure: Structure, net: Net, spec: SlicesSpec) -> bool:
    """Return whether the bonds of a crystal, found by ``spec.graph_method``, are those of ``net``.

    Cells, origins and the order of atoms do not matter; mirror images are one.
    """
    try:
        return net_hash(net_of(structure, spec.graph_method)) == net_hash(net)
    except SlicesError:
        return False
