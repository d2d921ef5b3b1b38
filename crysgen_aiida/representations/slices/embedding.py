"""The barycentric embedding of a net and its archetypal lattice, without bases of cycles.

Every atom sits at the barycentre of its neighbours; fractional arcs Omega (E, 3) follow from one Laplacian solve.
Eon's metric of the archetype (J.-G. Eon, Acta Cryst. A67, 68, 2011) is then ``G = (Omega^T Omega)^-1``, equal to the
published route through cycle, lattice and cocycle bases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crysgen_aiida.representations.slices.nets import Net

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Embedding:
    """:ivar coords: (n, 3) fractional coordinates, atom 0 at the origin, not wrapped.

    :ivar arcs: (E, 3) fractional bond vectors.
    :ivar metric: (3, 3) Gram matrix of the archetypal lattice vectors (scale is arbitrary).
    :ivar incidence: (E, n) +1 at the head and -1 at the tail of each bond, 0 for loops.
    """

    coords: FloatArray
    arcs: FloatArray
    metric: FloatArray
    incidence: FloatArray


def barycentric(net: Net) -> Embedding:
    """Embed a net that passed the checker.

    :raises numpy.linalg.LinAlgError: if the net is disconnected or of rank below 3.
    """
    n, m = net.n_atoms, net.n_edges
    incidence = np.zeros((m, n))
    rows = np.arange(m)
    np.add.at(incidence, (rows, net.edges[:, 1]), 1.0)
    np.add.at(incidence, (rows, net.edges[:, 0]), -1.0)
    images = net.images.astype(float)
    coords = np.zeros((n, 3))
    if n > 1:
        reduced = incidence[:, 1:]
        coords[1:] = np.linalg.solve(reduced.T @ reduced, -reduced.T @ images)
    arcs = images + incidence @ coords
    metric = np.linalg.inv(arcs.T @ arcs).astype(np.float64)
    return Embedding(coords, arcs, metric, incidence)


def cholesky_lattice(metric: FloatArray) -> FloatArray:
    """Return lattice vectors as rows of a lower-triangular matrix, so that ``M @ M.T`` is the metric.

    :raises numpy.linalg.LinAlgError: if the metric is not positive definite.
    """
    lattice: FloatArray = np.linalg.cholesky(0.5 * (metric + metric.T)).astype(np.float64)
    return lattice
