"""A hash of a net that does not depend on how it is written.

The bond vectors of the barycentric embedding span a space of three dimensions within those of all bonds; the matrix P
that projects onto it, ``P = Omega (Omega^T Omega)^-1 Omega^T`` with the arcs ``Omega`` (E, 3), stays the same whatever
the order of atoms, the cell each of them is taken from and the choice of lattice vectors, and only follows the order
and direction of bonds. It is rational, so it is computed exactly, modulo two primes. The hash refines colours of the
directed bonds with the entries of P as labels (Weisfeiler and Leman, 1968) and keeps the multiset of colours.

Equal nets always have equal hashes. Nets that differ share one only if colours cannot tell them apart; mirror images
are one net.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from crysgen_aiida.representations.slices.checker import DISCONNECTED, check
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.nets import Net

IntArray = npt.NDArray[np.int64]
Colours = npt.NDArray[np.uint64]

#: The greatest primes below 2^31, so that products fit into 63 bits. Two at a time; further ones if one divides a
#: denominator.
PRIMES = (2147483647, 2147483629, 2147483587, 2147483579, 2147483563, 2147483549)

#: Rounds of refinement. Every bond sees all others in each, so few are needed.
ROUNDS = 4


def net_hash(net: Net) -> str:
    """Return 32 hexadecimal digits that are equal for all spellings of a net. The space group does not enter.

    :raises SlicesError: if the net is not one connected net of three periods.
    """
    verdict = check(net)
    if not verdict.ok:
        raise SlicesError(verdict.reason or DISCONNECTED)
    net = net.without_duplicates()
    tail, head = np.concatenate([net.edges, net.edges[:, ::-1]]).T
    meets = _mixed(
        (tail[:, None] == tail[None]) + 2 * (head[:, None] == head[None])
        + 4 * (tail[:, None] == head[None]) + 8 * (head[:, None] == tail[None])
    )  # fmt: skip
    label = _mixed(meets ^ _projection(net).view(np.uint64))
    colour = _mixed(net.numbers[tail] * 256 + net.numbers[head]) ^ np.diagonal(label)
    for _ in range(ROUNDS):
        colour = _mixed(colour + _mixed(colour[None] + label).sum(axis=1, dtype=np.uint64))
    digest = hashlib.sha256(np.sort(net.numbers).astype("<i8").tobytes() + np.sort(colour).astype("<u8").tobytes())
    return digest.hexdigest()[:32]


def _mixed(values: npt.NDArray[np.generic]) -> Colours:
    """Return well-mixed bits of integers (the finaliser of SplitMix64)."""
    bits = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _projection(net: Net) -> IntArray:
    """Return P (2E, 2E) of the bonds and the reversed bonds, its residues to two primes side by side in 62 bits."""
    found: list[IntArray] = []
    for prime in PRIMES:
        residues = _modulo(net, prime)
        if residues is not None:
            found.append(residues)
        if len(found) == 2:
            return found[0] | (found[1] << 31)
    raise SlicesError(DISCONNECTED)


def _modulo(net: Net, prime: int) -> IntArray | None:
    """Return P modulo a prime, None if the prime divides a denominator."""
    tail, head = net.edges.T
    n = net.n_atoms
    pull = np.zeros((n, 3), dtype=np.int64)
    np.add.at(pull, head, -net.images)
    np.add.at(pull, tail, net.images)
    laplacian = np.zeros((n, n), dtype=np.int64)
    for i, j, sign in ((tail, tail, 1), (head, head, 1), (tail, head, -1), (head, tail, -1)):
        np.add.at(laplacian, (i, j), sign)
    places = _solved(laplacian[1:, 1:], pull[1:], prime)
    if places is None:
        return None
    coords = np.concatenate([np.zeros((1, 3), dtype=np.int64), places])
    arcs = (net.images + coords[head] - coords[tail]) % prime
    gram = (arcs[:, :, None] * arcs[:, None, :] % prime).sum(axis=0)
    dual = _solved(gram, np.ascontiguousarray(arcs.T), prime)
    if dual is None:
        return None
    inner = (arcs[:, :, None] * dual[None] % prime).sum(axis=1) % prime
    return np.block([[inner, -inner], [-inner, inner]]) % prime


def _solved(matrix: IntArray, right: IntArray, prime: int) -> IntArray | None:
    """Solve ``matrix @ x = right`` modulo a prime by Gauss and Jordan, None if the matrix is singular there."""
    n = len(matrix)
    held = np.concatenate([matrix, right], axis=1) % prime
    for k in range(n):
        rows = np.flatnonzero(held[k:, k])
        if not len(rows):
            return None
        pivot = k + int(rows[0])
        if pivot != k:
            held[[k, pivot]] = held[[pivot, k]]
        held[k] = held[k] * pow(int(held[k, k]), -1, prime) % prime
        factors = held[:, k].copy()
        factors[k] = 0
        held = (held - factors[:, None] * held[k] % prime) % prime
    return held[:, n:]
