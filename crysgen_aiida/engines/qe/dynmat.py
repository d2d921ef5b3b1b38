"""Reader of the files of dynamical matrices that ph.x writes, which hold every response at their wave vector."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crysgen_aiida.crystals.errors import BadInput

Floats = NDArray[np.float64]

BOHR = 0.529177210903  # A
RYDBERG = 13.605693122994  # eV
#: Atomic units of mass in Rydberg's units, in which the file holds masses: half an electron mass is the unit.
DALTON = 1822.888486209 / 2


@dataclass(frozen=True)
class DynamicalMatrix:
    """Content of a file.

    :param lattice: vectors as rows [A], (3, 3).
    :param symbols: of the atoms, in the order of the calculation.
    :param masses: [u], (n,).
    :param qpoint: cartesian, in units of 2 pi / the lattice parameter of the file.
    :param force_constants: at the first wave vector [eV/A^2], complex, (n, n, 3, 3).
    :param frequencies: as diagonalised there, no sum rule imposed [THz], (3 n,).
    :param dielectric: electronic, (3, 3), if it was computed.
    :param charges: Born charges [e], (n, 3, 3): atom, direction of the field, of the displacement; if computed.
    """

    lattice: Floats
    symbols: tuple[str, ...]
    masses: Floats
    qpoint: Floats
    force_constants: NDArray[np.complex128]
    frequencies: Floats
    dielectric: Floats | None
    charges: Floats | None

    @property
    def volume(self) -> float:
        """Volume of the cell [A^3]."""
        return float(abs(np.linalg.det(self.lattice)))

    @property
    def at_gamma(self) -> bool:
        """Whether the wave vector is zero."""
        return bool(np.abs(self.qpoint).max() < 1e-8)


def read_dynamical_matrix(text: str) -> DynamicalMatrix:
    """Return the content of a file of ph.x, ``ibrav`` 0.

    :raises BadInput: if it is not such a file, or is cut off.
    """
    lines = text.splitlines()
    try:
        kinds, atoms, ibrav, *cell = lines[2].split()
        if int(ibrav) != 0:
            raise BadInput("The file of dynamical matrices has no basis vectors (ibrav is not 0).")
        parameter = float(cell[0]) * BOHR
        lattice = np.array([[float(x) for x in line.split()] for line in lines[4:7]]) * parameter
        names, weights = _kinds(lines[7 : 7 + int(kinds)])
        own = [int(line.split()[1]) - 1 for line in lines[7 + int(kinds) : 7 + int(kinds) + int(atoms)]]
        n = int(atoms)
        body = lines[7 + int(kinds) + n :]
        start = next(k for k, line in enumerate(body) if "q = (" in line)
        qpoint = np.array(re.findall(r"-?\d+\.\d+", body[start])[:3], dtype=float)
        constants = _blocks(body[start + 1 :], n)
        found = [float(x) for x in re.findall(r"freq.*?=\s*(-?\d+\.\d+)\s*\[THz\]", text)]
        if len(found) != 3 * n:
            raise BadInput(f"The file of dynamical matrices holds {len(found)} of {3 * n} frequencies: it is cut off.")
    except (ValueError, IndexError, StopIteration) as error:
        raise BadInput(f"This is not a file of dynamical matrices of ph.x, or it is cut off: {error}.") from error
    return DynamicalMatrix(
        lattice=lattice,
        symbols=tuple(names[k] for k in own),
        masses=np.array([weights[k] for k in own]),
        qpoint=qpoint,
        force_constants=constants * RYDBERG / BOHR**2,
        frequencies=np.array(found),
        dielectric=_tensor(lines, "Dielectric Tensor:"),
        charges=_charges(lines, n),
    )


def _kinds(lines: list[str]) -> tuple[list[str], list[float]]:
    names, weights = [], []
    for line in lines:
        _, name, rest = line.split("'")
        names.append(name.strip())
        weights.append(float(rest) / DALTON)
    return names, weights


def _blocks(lines: list[str], n: int) -> NDArray[np.complex128]:
    """Return the 3x3 blocks of pairs of atoms that follow a wave vector, each after a line with their numbers."""
    rows = [line for line in lines if line.strip()]
    constants = np.zeros((n, n, 3, 3), dtype=complex)
    for k in range(n * n):
        i, j = (int(x) - 1 for x in rows[4 * k].split())
        values = np.array([[float(x) for x in row.split()] for row in rows[4 * k + 1 : 4 * k + 4]])
        constants[i, j] = values[:, 0::2] + 1j * values[:, 1::2]
    return constants


def _tensor(lines: list[str], heading: str) -> Floats | None:
    for k, line in enumerate(lines):
        if line.strip() == heading:
            return _rows([x for x in lines[k + 1 :] if x.strip()][:3])
    return None


def _charges(lines: list[str], n: int) -> Floats | None:
    for k, line in enumerate(lines):
        if line.strip().startswith("Effective Charges E-U"):
            rows = [x for x in lines[k + 1 :] if x.strip()][: 4 * n]
            return np.array([_rows(rows[4 * a + 1 : 4 * a + 4]) for a in range(n)])
    return None


def _rows(lines: list[str]) -> Any:
    return np.array([[float(x) for x in line.split()] for line in lines])
