"""What all geometries of a net begin from: the checked net, its embedding, its targets and its lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crysgen_aiida.representations.slices.checker import DISCONNECTED, check
from crysgen_aiida.representations.slices.embedding import Embedding, barycentric, cholesky_lattice
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.geometry import Targets, rescale, targets
from crysgen_aiida.representations.slices.gfnff_elements import ROW_ENDS
from crysgen_aiida.representations.slices.nets import Net, parse
from crysgen_aiida.representations.slices.spec import SlicesSpec

FloatArray = npt.NDArray[np.float64]

SINGULAR = "The net has no embedding with independent lattice vectors."
TOO_LARGE = "The net is too large to decode: more than 60 atoms or 400 bonds."
NO_PARAMETERS = "An element is heavier than radon, where the force field ends."

#: Atomic number of the last element with parameters.
LAST_ELEMENT = ROW_ENDS[-1]
MAX_ATOMS, MAX_BONDS = 60, 400  # a net of this size takes seconds, and the time grows with the cube


@dataclass(frozen=True)
class Archetype:
    """A net that can be decoded, embedded.

    :ivar net: checked, without duplicate bonds.
    :ivar embedding: barycentric.
    :ivar aim: targets of the geometry.
    :ivar lattice: (3, 3) archetypal lattice, rows; its scale is arbitrary.
    :ivar rescaled: (3, 3) archetypal lattice with its vectors stretched to the targets [A].
    :ivar unstable: whether the embedding has bonds of zero length.
    """

    net: Net
    embedding: Embedding
    aim: Targets
    lattice: FloatArray
    rescaled: FloatArray
    unstable: bool


def archetype(net: Net | str, spec: SlicesSpec) -> Archetype:
    """Check and embed a net or string.

    :raises SlicesError: if it is none that can be decoded.
    :raises numpy.linalg.LinAlgError: if it has no lattice.
    """
    if isinstance(net, str):
        net = parse(net, spec.strategy)
    verdict = check(net, "strict", duplicates=spec.duplicates)
    if not verdict.ok:
        raise SlicesError(verdict.reason or DISCONNECTED)
    net = net.without_duplicates()
    if net.n_atoms > MAX_ATOMS or net.n_edges > MAX_BONDS:
        raise SlicesError(TOO_LARGE, f"{net.n_atoms} atoms, {net.n_edges} bonds")
    if heavy := sorted({int(z) for z in net.numbers if z > LAST_ELEMENT}):
        raise SlicesError(NO_PARAMETERS, f"Z = {', '.join(map(str, heavy))}")
    embedding = barycentric(net)
    aim = targets(net, spec)
    lattice = cholesky_lattice(embedding.metric)
    rescaled, unstable = rescale(embedding, lattice, aim, spec)
    if not np.isfinite(rescaled).all():
        raise SlicesError(SINGULAR)
    return Archetype(net, embedding, aim, lattice, rescaled, unstable)
