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

_NEAR_CELLS = np.array(list(product((-1, 0, 1), repeat=3)), dtype=np.int64)


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
    radii = np.array([COVALENT_RADIUS[z - 1] for z in net.numbers])
    first, second = np.triu_indices(net.n_atoms)
    if spec.mode == "paper":
        off = first < second
        first, second = first[off], second[off]
        bonded = {(u, v) for (u, v), w in zip(net.edges.tolist(), net.images.tolist(), strict=True) if not any(w)}
        free = [(i, j) not in bonded for i, j in zip(first.tolist(), second.tolist(), strict=True)]
        inside = np.stack([first, second], axis=1)[np.array(free, dtype=bool)]
        return Repulsion(inside, np.zeros((len(inside), 3)), SIGMA * 2.0 * radii[inside[:, 0]])
    difference = coords[second] - coords[first]
    nearest = -np.round(difference).astype(np.int64)
    cells = (nearest[:, None, :] + _NEAR_CELLS[None]).reshape(-1, 3)
    pairs = np.repeat(np.stack([first, second], axis=1), len(_NEAR_CELLS), axis=0)
    vector = (np.repeat(difference, len(_NEAR_CELLS), axis=0) + cells) @ lattice
    sigma = SIGMA * (radii[pairs[:, 0]] + radii[pairs[:, 1]])
    near = np.einsum("ij,ij->i", vector, vector) < (REPULSION_RANGE * sigma) ** 2
    key = _pair_key(pairs[:, 0], pairs[:, 1], cells)
    tail, head = net.edges[:, 0], net.edges[:, 1]
    bonded_keys = np.concatenate([_pair_key(tail, head, net.images), _pair_key(head, tail, -net.images)])
    # an own image is met twice, as +T and -T: keep the lexicographically positive one
    positive = (cells[:, 0] * 9 + cells[:, 1] * 3 + cells[:, 2]) > 0
    keep = near & ~np.isin(key, bonded_keys) & ((pairs[:, 0] != pairs[:, 1]) | positive)
    return Repulsion(pairs[keep], cells[keep].astype(float), sigma[keep])


def _pair_key(i: IntArray, j: IntArray, cells: IntArray) -> IntArray:
    shifted = cells + 50
    key: IntArray = (((i * 1000 + j) * 101 + shifted[:, 0]) * 101 + shifted[:, 1]) * 101 + shifted[:, 2]
    return key


class Objective:
    """The objective as a function of lattice scales and atomic shifts, with its gradient.

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
        n = embedding.coords.shape[0]
        self.lattice, self.aim, self.depth, self.frozen = lattice, aim, depth, frozen
        self.coords = embedding.coords
        self.ties = np.array(ties)
        self.n_scales = int(self.ties.max()) + 1
        self.inverse = np.linalg.inv(lattice)
        pairs = push.pairs
        reach = np.zeros((len(pairs), n))
        rows = np.arange(len(pairs))
        np.add.at(reach, (rows, pairs[:, 1]), 1.0)
        np.add.at(reach, (rows, pairs[:, 0]), -1.0)
        self.n_edges = len(embedding.arcs)
        self.start = np.concatenate([embedding.arcs, push.cells + reach @ embedding.coords])
        self.shift = np.concatenate([embedding.incidence, reach])[:, 1:]
        self.sigma2 = push.sigma**2
        self.n_shifts = 3 * (n - 1)

    @property
    def n_variables(self) -> int:
        """Number of variables: those of the cell, then three a shifted atom."""
        return self.n_scales + self.n_shifts

    def origin(self) -> FloatArray:
        """Return the variables of the start."""
        x = np.zeros(self.n_variables)
        x[: self.n_scales] = 1.0
        return x

    def arrangement(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (3, 3) lattice [A] and the (n - 1, 3) fractional shifts of atoms 1 to n - 1."""
        return self._cell(x[: self.n_scales]), x[self.n_scales :].reshape(-1, 3) @ self.inverse

    def __call__(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Return value and gradient. ``x``: the cell, then Cartesian shifts [A] measured in the start lattice."""
        scaled, shifts = self.arrangement(x)
        fractional = self.start + self.shift @ shifts
        bonds = fractional[: self.n_edges] @ scaled
        deviation = bonds @ bonds.T - self.aim.products
        weighted = self.aim.weights * deviation
        value = float(np.vdot(weighted, deviation))
        force = np.empty_like(fractional)  # derivative with respect to every fractional vector
        bond_force = 4.0 * (weighted @ bonds)
        force[: self.n_edges] = bond_force @ scaled.T
        cell_gradient = self._cell_gradient(fractional[: self.n_edges], bond_force)
        if len(self.sigma2):
            cell = self.lattice if self.frozen else scaled
            apart = fractional[self.n_edges :] @ cell
            inverse = self.sigma2 / (np.einsum("ij,ij->i", apart, apart) + 1e-4)
            term = 4.0 * self.depth * inverse**6
            value += float(term.sum())
            pair_force = (-12.0 * term * inverse / self.sigma2)[:, None] * apart
            force[self.n_edges :] = pair_force @ cell.T
            if not self.frozen:
                cell_gradient += self._cell_gradient(fractional[self.n_edges :], pair_force)
        gradient = np.empty_like(x)
        gradient[: self.n_scales] = self._tied(cell_gradient)
        gradient[self.n_scales :] = (self.shift.T @ force @ self.inverse.T).ravel()
        return value, gradient

    def _cell(self, variables: FloatArray) -> FloatArray:
        """Return the lattice (3, 3) [A]."""
        return variables[self.ties][:, None] * self.lattice

    def _cell_gradient(self, fractional: FloatArray, force: FloatArray) -> FloatArray:
        """Return the derivative with respect to what describes the cell.

        :param fractional: (N, 3) fractional vectors; ``force`` (N, 3) derivatives with respect to the Cartesian ones.
        """
        scales: FloatArray = np.einsum("ek,ek->k", fractional, force @ self.lattice.T)
        return scales

    def _tied(self, cell_gradient: FloatArray) -> FloatArray:
        """Return the derivative with respect to the variables of the cell."""
        tied: FloatArray = np.bincount(self.ties, cell_gradient, self.n_scales).astype(np.float64)
        return tied


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
        self.n_scales = len(SYMMETRIC)
        self.stiffness = stiffness * float((aim.lengths**4).sum())

    def origin(self) -> FloatArray:
        """Return the variables of the start: D is the identity."""
        x = np.zeros(self.n_variables)
        x[:3] = 1.0
        return x

    def __call__(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Return value and gradient. ``x``: the entries of D, then Cartesian shifts [A]."""
        value, gradient = super().__call__(x)
        deformation = (x[:6] @ SYMMETRIC).reshape(3, 3)
        swelling = math.log(float(np.linalg.det(deformation)))
        gradient[:6] += 2.0 * self.stiffness * swelling * (SYMMETRIC @ np.linalg.inv(deformation).ravel())
        return value + self.stiffness * swelling**2, gradient

    def _cell(self, variables: FloatArray) -> FloatArray:
        return self.lattice @ (variables @ SYMMETRIC).reshape(3, 3)

    def _cell_gradient(self, fractional: FloatArray, force: FloatArray) -> FloatArray:
        free: FloatArray = SYMMETRIC @ (self.lattice.T @ (fractional.T @ force)).ravel()
        return free

    def _tied(self, cell_gradient: FloatArray) -> FloatArray:
        return cell_gradient


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
