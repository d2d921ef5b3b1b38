"""From an embedding to a geometry: what is aimed at, the objective with its analytic gradient, and its minimum.

The published objective ("ZL*") over lattice lengths and atomic shifts, angles of the cell fixed:

    sum_e (g_ee - g*_ee)^2 + w sum_(e,f) w_ef (g_ef - g*_ef)^2 + sum over unbonded pairs 4 eps (sigma / r)^12

with the inner products g_ef = v_e . v_f of bond vectors [A^2] and targets g* from :mod:`gfnff`. All pairs of bonds are
kept in one matrix (E, E), so value and gradient are three small matrix products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from crysgen_aiida.representations.slices import gfnff
from crysgen_aiida.representations.slices.embedding import Embedding
from crysgen_aiida.representations.slices.gfnff_elements import COVALENT_RADIUS
from crysgen_aiida.representations.slices.nets import Net
from crysgen_aiida.representations.slices.spec import SlicesSpec

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: sigma of the repulsion is this times the sum of covalent radii: 2^(-1/6), so that the well's minimum is that sum.
SIGMA = 0.8909
#: Pairs further than this many sigma at the start are left out.
REPULSION_RANGE = 3.0

_NEAR_CELLS = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)
_HOME = len(_NEAR_CELLS) // 2


@dataclass(frozen=True)
class Targets:
    """:ivar lengths: (E,) target bond lengths [A].

    :ivar products: (E, E) target inner products of bond vectors [A^2]; the diagonal holds squared lengths.
    :ivar weights: (E, E) symmetric weights of the squared deviations, 1 on the diagonal, 0 where there is no target.
    """

    lengths: FloatArray
    products: FloatArray
    weights: FloatArray


@dataclass(frozen=True)
class Repulsion:
    """Pairs of atoms that are not bonded.

    :ivar pairs: (R, 2) atoms; ``cells`` (R, 3) translation of the second; ``sigma`` (R,) [A].
    """

    pairs: IntArray
    cells: FloatArray
    sigma: FloatArray


def targets(net: Net, spec: SlicesSpec) -> Targets:
    """Return what the geometry of a net should be.

    In ``strict`` mode every pair of bonds that meets at an atom counts, so that the order of atoms and the direction
    of bonds do not matter; the ``paper`` mode takes only pairs that meet as they are written. Two targets for one pair
    (two bonds that meet at both ends) are merged by their weighted mean, which least squares cannot tell apart.
    """
    edges = net.edges.tolist()
    atoms = gfnff.atoms_of(net.numbers.tolist(), edges)
    lengths = np.array([gfnff.target_length(atoms[u], atoms[v], spec.bond_scaling) for u, v in edges])
    m = len(edges)
    weight, weighted = np.zeros((m, m)), np.zeros((m, m))
    terms = _paper_angles(net) if spec.mode == "paper" else _all_angles(net)
    for centre, e, other_e, f, other_f, sign in terms:
        target = gfnff.angle(atoms[centre], atoms[other_e], atoms[other_f])
        if target is None:
            continue
        weight[e, f] += target.weight
        weighted[e, f] += target.weight * sign * math.cos(target.theta)
    products = np.zeros((m, m))
    top = weight.max(initial=0.0)
    if top > 0.0:
        there = weight > 0.0
        products[there] = weighted[there] / weight[there]
        products *= np.outer(lengths, lengths)
        weight = weight / top
        if spec.mode == "paper":
            weight = np.round(weight, 2)
    # each unordered pair stands once in the upper or lower triangle; share it between both
    products = products + products.T
    weights = 0.5 * spec.angle_weight * (weight + weight.T)
    diagonal = np.arange(m)
    products[diagonal, diagonal] = lengths**2
    weights[diagonal, diagonal] = 1.0
    return Targets(lengths, products, weights)


def _all_angles(net: Net) -> list[tuple[int, int, int, int, int, int]]:
    """Return (centre, edge, its far atom, other edge, its far atom, sign) of all pairs of half-bonds at every atom."""
    at: list[list[tuple[int, int, int]]] = [[] for _ in range(net.n_atoms)]
    for e, (u, v) in enumerate(net.edges.tolist()):
        at[u].append((e, v, 1))
        at[v].append((e, u, -1))
    terms = []
    for centre, halves in enumerate(at):
        if not 2 <= len(halves) <= 6:
            continue
        for a, (e, far_e, sign_e) in enumerate(halves):
            for f, far_f, sign_f in halves[a + 1 :]:
                if e < f:
                    terms.append((centre, e, far_e, f, far_f, sign_e * sign_f))
                elif e > f:
                    terms.append((centre, f, far_f, e, far_e, sign_e * sign_f))
    return terms


def _paper_angles(net: Net) -> list[tuple[int, int, int, int, int, int]]:
    """Return the pairs the published decoder uses: bonds that meet at one atom of the crystal as written."""
    ends = [(u, v, tuple(w)) for (u, v), w in zip(net.edges.tolist(), net.images.tolist(), strict=True)]
    home = (0, 0, 0)
    terms = []
    for e, (u, v, w) in enumerate(ends):
        for f in range(e + 1, len(ends)):
            x, y, z = ends[f]
            if u == x:
                terms.append((u, e, v, f, y, 1))
            if v == y and w == z:
                terms.append((v, e, u, f, x, 1))
            if v == x and w == home:
                terms.append((v, e, u, f, y, -1))
            if y == u and z == home:
                terms.append((u, e, v, f, x, -1))
    return terms


def repulsion(net: Net, coords: FloatArray, lattice: FloatArray, spec: SlicesSpec) -> Repulsion:
    """List the unbonded pairs within reach: across cell borders in ``strict`` mode, inside one cell as published."""
    radii = np.array(COVALENT_RADIUS)[net.numbers - 1]
    first, second = np.triu_indices(net.n_atoms)
    if spec.mode == "paper":
        off = first < second
        first, second = first[off], second[off]
        bonded = {(u, v) for (u, v), w in zip(net.edges.tolist(), net.images.tolist(), strict=True) if not any(w)}
        free = [(i, j) not in bonded for i, j in zip(first.tolist(), second.tolist(), strict=True)]
        inside = np.stack([first, second], axis=1)[np.array(free, dtype=bool)]
        return Repulsion(inside, np.zeros((len(inside), 3)), SIGMA * 2.0 * radii[inside[:, 0]])
    difference = coords[second] - coords[first]
    nearest = -np.round(difference)
    vector = ((difference + nearest) @ lattice)[:, None, :] + _NEAR_CELLS @ lattice  # (pairs, cells, 3)
    sigma = SIGMA * (radii[first] + radii[second])
    there = np.einsum("pck,pck->pc", vector, vector) < ((REPULSION_RANGE * sigma) ** 2)[:, None]
    there[first == second, : _HOME + 1] = False  # an own image is met twice, as +T and -T, and the atom itself once
    there[_bonded(net, nearest)] = False
    pair, cell = there.nonzero()
    return Repulsion(np.stack([first[pair], second[pair]], axis=1), nearest[pair] + _NEAR_CELLS[cell], sigma[pair])


def _bonded(net: Net, nearest: FloatArray) -> tuple[IntArray, IntArray]:
    """Return where the bonds are in a table of pairs of atoms and near cells.

    :param nearest: (P, 3) cell that counts as the middle one, for all pairs (i <= j) in the order of ``triu_indices``.
    """
    ends = np.concatenate([net.edges, net.edges[:, ::-1]])
    images = np.concatenate([net.images, -net.images])
    pair = ends[:, 0] * (2 * net.n_atoms - 1 - ends[:, 0]) // 2 + ends[:, 1]
    pair[ends[:, 0] > ends[:, 1]] = -1  # meant once only
    offset = images - nearest[pair].astype(np.int64)
    listed = (pair >= 0) & (np.abs(offset) <= 1).all(axis=1)
    return pair[listed], _HOME + offset[listed] @ (9, 3, 1)


class Objective:
    """The objective as a function of lattice scales and atomic shifts, with its gradient.

    Vectors are the columns of (3, N) matrices, first those of the bonds and then those of the repulsive pairs. They
    are taken in the start lattice, where the shifts are; then the matrix D deforms them as it deforms the lattice.

    :param embedding: start; arcs and coordinates are shifted from there.
    :param lattice: (3, 3) start lattice, rows [A].
    :param aim: targets.
    :param push: repulsive pairs.
    :param ties: for each lattice vector, the number of its scale variable (tied lengths share one).
    :param depth: repulsion depth.
    :param frozen: measure repulsion in the start lattice, as published.
    """

    def __init__(
        self,
        embedding: Embedding,
        lattice: FloatArray,
        aim: Targets,
        push: Repulsion,
        ties: tuple[int, int, int],
        depth: float,
        frozen: bool = False,
    ) -> None:
        self.lattice, self.aim, self.depth, self.frozen = lattice, aim, depth, frozen
        self.coords = embedding.coords
        self.inverse = np.linalg.inv(lattice).astype(np.float64)
        self.deformations = stretches(lattice, self.inverse, ties)
        self.n_edges, n_atoms = embedding.incidence.shape
        pairs = np.arange(len(push.pairs))
        reach = np.zeros((len(pairs), n_atoms))
        reach[pairs, push.pairs[:, 1]] += 1.0
        reach[pairs, push.pairs[:, 0]] -= 1.0
        self.start = (np.concatenate([embedding.arcs, push.cells + reach @ embedding.coords]) @ lattice).T.copy()
        self.shift = np.concatenate([embedding.incidence, reach]).T[1:].copy()
        self.n_deformed = self.n_edges if frozen else self.start.shape[1]
        self.weights4 = 4.0 * aim.weights  # what the force needs
        self.sigma2 = push.sigma**2
        self.steepness = -48.0 * depth / self.sigma2
        self.n_shifts = 3 * (n_atoms - 1)

    @property
    def n_scales(self) -> int:
        """Number of variables of the cell."""
        return len(self.deformations)

    def origin(self) -> FloatArray:
        """Return the variables of the start."""
        x = np.zeros(self.n_scales + self.n_shifts)
        x[: self.n_scales] = 1.0
        return x

    def arrangement(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (3, 3) lattice [A] and the (n - 1, 3) fractional shifts of atoms 1 to n - 1."""
        deformation, shifts = self._parts(x)
        return self.lattice @ deformation, shifts @ self.inverse

    def __call__(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Return value and gradient. ``x``: the cell, then Cartesian shifts [A] measured in the start lattice."""
        deformation, shifts = self._parts(x)
        k, m, end = self.n_scales, self.n_edges, self.n_deformed
        still = self.start + shifts.T @ self.shift
        vectors = deformation.T @ still
        force = np.empty_like(vectors)  # derivative with respect to every vector after the deformation

        bonds = vectors[:, :m]
        deviation = bonds.T @ bonds - self.aim.products
        weighted = self.weights4 * deviation
        force[:, :m] = bonds @ weighted

        apart = (still if self.frozen else vectors)[:, m:]
        inverse = self.sigma2 / (np.einsum("kp,kp->p", apart, apart) + 1e-4)
        cubed = inverse * inverse * inverse
        force[:, m:] = (self.steepness * inverse * cubed * cubed) * apart

        pull = deformation @ force  # derivative with respect to every vector before the deformation
        pull[:, end:] = force[:, end:]
        gradient = np.empty_like(x)
        gradient[:k] = self.deformations @ (still[:, :end] @ force[:, :end].T).ravel()
        gradient[k:] = (self.shift @ pull.T).ravel()
        value = 0.25 * np.vdot(weighted, deviation) + 4.0 * self.depth * (cubed @ cubed)
        return float(value), gradient

    def _parts(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (3, 3) matrix D, and the (n - 1, 3) Cartesian shifts [A]."""
        return (x[: self.n_scales] @ self.deformations).reshape(3, 3), x[self.n_scales :].reshape(-1, 3)


def stretches(lattice: FloatArray, inverse: FloatArray, ties: tuple[int, int, int]) -> FloatArray:
    """Return for every scale variable the (9,) matrix that it multiplies: their sum deforms ``lattice``."""
    matrices = np.zeros((max(ties) + 1, 9))
    for k, tie in enumerate(ties):
        matrices[tie] += np.outer(inverse[:, k], lattice[k]).ravel()
    return matrices


#: How six numbers make the symmetric matrix that deforms a free cell: xx, yy, zz, yz, xz, xy. An orthonormal basis, so
#: that the minimiser's path does not depend on how the crystal is turned.
SYMMETRIC = np.zeros((6, 9))
for _k, (_i, _j) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
    SYMMETRIC[_k, [3 * _i + _j, 3 * _j + _i]] = 1.0 if _i == _j else math.sqrt(0.5)


class FreeCell(Objective):
    """The objective with all six parameters of the cell free and its volume held.

    The cell is deformed by a symmetric matrix D. Bonds say little about the space between what they join, and the cell
    would close it; so ``stiffness * sum_e l_e^4 * (ln det D)^2`` with the target lengths l_e is added.

    :param stiffness: against changes of volume; the other parameters are those of :class:`Objective`.
    """

    #: Of the six entries of D; within them D is positive definite.
    BOUNDS = ((0.85, 1.2),) * 3 + ((-0.28, 0.28),) * 3

    def __init__(
        self,
        embedding: Embedding,
        lattice: FloatArray,
        aim: Targets,
        push: Repulsion,
        depth: float,
        stiffness: float,
    ) -> None:
        super().__init__(embedding, lattice, aim, push, (0, 1, 2), depth)
        self.deformations = SYMMETRIC
        self.stiffness = stiffness * float((aim.lengths**4).sum())

    def origin(self) -> FloatArray:
        """Return the variables of the start: D is the identity."""
        x = np.zeros(self.n_scales + self.n_shifts)
        x[:3] = 1.0
        return x

    def __call__(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Return value and gradient. ``x``: the entries of D, then Cartesian shifts [A]."""
        value, gradient = super().__call__(x)
        volume, slope = _determinant(*x[:6].tolist())
        swelling = math.log(volume)
        gradient[:6] += 2.0 * self.stiffness * swelling / volume * slope
        return value + self.stiffness * swelling**2, gradient


def _determinant(xx: float, yy: float, zz: float, yz: float, xz: float, xy: float) -> tuple[float, FloatArray]:
    """Return the determinant of the matrix that six numbers make by ``SYMMETRIC``, and its derivatives."""
    d, e, f = math.sqrt(0.5) * yz, math.sqrt(0.5) * xz, math.sqrt(0.5) * xy
    minors = yy * zz - d * d, xx * zz - e * e, xx * yy - f * f
    mixed = e * f - xx * d, d * f - yy * e, d * e - zz * f
    slope = np.array([*minors, *(math.sqrt(2.0) * m for m in mixed)])
    return xx * minors[0] + f * mixed[2] + e * mixed[1], slope


def rescale(embedding: Embedding, lattice: FloatArray, aim: Targets, spec: SlicesSpec) -> tuple[FloatArray, bool]:
    """Stretch the archetypal lattice so that bonds get their target lengths on average.

    Bonds shorter than 1e-4 of the archetype count as of mean length, and the net is called unstable (second value).
    The paper stretches Cartesian columns of the triangular matrix, ``strict`` the lattice vectors.
    """
    length = np.linalg.norm(embedding.arcs @ lattice, axis=1)
    short = length < 1e-4
    if short.any():
        length = np.where(short, length[~short].mean() if (~short).any() else 1.0, length)
    share = np.abs(embedding.arcs)
    stretch = (share * (aim.lengths / length)[:, None]).sum(axis=0) / share.sum(axis=0)
    scaled = lattice * stretch[None, :] if spec.mode == "paper" else stretch[:, None] * lattice
    return scaled, bool(short.any())


def lattice_ties(metric: FloatArray, exact: bool) -> tuple[int, int, int]:
    """Say which lattice lengths vary together: those equal in the archetype (as floats, or to a part in 10^4)."""
    d = np.sqrt(np.diag(metric))

    def same(i: int, j: int) -> bool:
        return bool(d[i] == d[j]) if exact else abs(d[i] - d[j]) < 1e-4 * d[i]

    second = 0 if same(0, 1) else 1
    if same(0, 2):
        return 0, second, 0
    if second == 1 and same(1, 2):
        return 0, 1, 1
    return 0, second, second + 1
