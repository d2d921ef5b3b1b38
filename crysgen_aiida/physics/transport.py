"""Electronic transport from bands by Boltzmann's equation with a constant relaxation time.

Interpolation of the bands, integrals over them and the coefficients are BoltzTraP2's (G. K. H. Madsen, J. Carrete,
M. J. Verstraete, Comput. Phys. Commun. 231, 140 (2018)). Conductivity, electronic thermal conductivity and power factor
come out divided by the relaxation time, which nothing here computes; the power factor itself is theirs times a stated
constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from crysgen_aiida.crystals.electron_bands import ElectronBands, bands_of
from crysgen_aiida.crystals.errors import BadInput, NotInstalled
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.batch import Floats
from crysgen_aiida.physics.forces import Refused, or_refused
from crysgen_aiida.physics.kpoints import irreducible
from crysgen_aiida.physics.transport_spec import TransportSpec
from crysgen_aiida.physics.transport_table import transport_table

#: Rows of one finished part. Fixed: a resumed run must cut the set at the same places.
PART_ROWS = 1
#: Carriers and the sign of their charge: electrons of n doping, holes of p doping.
CARRIERS = {"n": 1.0, "p": -1.0}
ANGSTROM3_IN_CM3 = 1e-24


@dataclass(frozen=True)
class Coefficients:
    """Transport of one kind of carriers at D concentrations, along the Cartesian axes x, y, z of the crystal.

    :param fermi_level: chemical potential above the middle of the gap, or the Fermi level of a metal [eV], (D,).
    :param seebeck: [uV/K], (D, 3).
    :param conductivity: over the relaxation time [S/m/s], (D, 3).
    :param thermal: electronic thermal conductivity at zero current, over the relaxation time [W/m/K/s], (D, 3).
    """

    fermi_level: Floats
    seebeck: Floats
    conductivity: Floats
    thermal: Floats

    @property
    def power_factor(self) -> Floats:
        """Over the relaxation time [uW/cm/K^2/s], (D, 3)."""
        return np.array((self.seebeck * 1e-6) ** 2 * self.conductivity * 1e4)


@dataclass(frozen=True)
class Transport:
    """Transport coefficients of one crystal.

    :param gap: between the bands as given, on their k-points [eV]; 0 for a metal.
    :param grid: points along the axes that the bands were interpolated on.
    :param misfit: largest difference of the interpolated bands from the given ones on their k-points [eV].
    :param carriers: by kind, ``n`` and ``p``.
    """

    gap: float
    n_irreducible: int
    grid: tuple[int, int, int]
    misfit: float
    carriers: dict[str, Coefficients]

    @property
    def best(self) -> tuple[str, int, int]:
        """Carriers, index of the doping and of the axis of the greatest power factor."""
        return max(
            ((kind, int(d), int(x)) for kind, c in self.carriers.items() for d, x in np.ndindex(c.seebeck.shape)),
            key=lambda at: float(self.carriers[at[0]].power_factor[at[1], at[2]]),
        )


def transport_set(bands: PropertyTable, *, spec: TransportSpec | None = None, run: Run) -> PropertyTable:
    """Return the transport coefficients of a table of bands, one row a crystal; rows without them say why.

    :param bands: see :func:`~crysgen_aiida.crystals.electron_bands.bands_table`.
    :returns: see :func:`~crysgen_aiida.physics.transport_table.transport_table`.
    :raises NotInstalled: if BoltzTraP2 is missing.
    """
    spec = spec or TransportSpec()
    _module()
    method = f"{bands.metadata.get('method', 'unknown')}-boltztrap2"

    def part(rows: range) -> PropertyTable:
        records = [bands.get(row) for row in rows]
        return transport_table(rows, records, [_of_record(r, spec, run) for r in records], spec, method)

    table = run.map_rows("transport", len(bands), part, part_rows=PART_ROWS)
    return table.with_metadata(method=method, transport_spec=asdict(spec))


def _of_record(record: dict[str, Any], spec: TransportSpec, run: Run) -> Transport | Refused:
    run.check_time()
    try:
        bands = bands_of(record)
    except BadInput as error:
        return Refused(str(error))
    return transport_of(bands, spec)


def transport_of(bands: ElectronBands, spec: TransportSpec) -> Transport | Refused:
    """Return the transport coefficients of a crystal, or why it has none.

    :raises NotInstalled: if BoltzTraP2 is missing.
    """
    found = transport_at(bands, spec, (spec.temperature,))
    return found if isinstance(found, Refused) else found[0]


def transport_at(bands: ElectronBands, spec: TransportSpec, temperatures: Sequence[float]) -> list[Transport] | Refused:
    """Return the transport coefficients at several temperatures [K], from one interpolation of the bands.

    :raises NotInstalled: if BoltzTraP2 is missing.
    """
    _module()
    return or_refused("BoltzTraP2", partial(_transport, bands, spec, temperatures))


def _module() -> Any:
    try:
        import BoltzTraP2
    except ImportError as error:
        raise NotInstalled(
            f"Transport needs BoltzTraP2, which cannot be imported here ({error}); run `apt-get install libgtest-dev "
            "libgmock-dev` (or what your system calls them), then `pip install 'crysgen-aiida[transport]'` where the "
            "worker runs."
        ) from error
    return BoltzTraP2


def _transport(bands: ElectronBands, spec: TransportSpec, temperatures: Sequence[float]) -> list[Transport] | Refused:
    top, bottom = _edges(bands)
    if not np.isfinite(bottom):
        return Refused("there is no band above the electrons; compute more bands")
    middle = bands.fermi_energy if bottom <= top else (top + bottom) / 2
    reduced = irreducible(bands, spec.symprec, spec.max_mismatch)
    if isinstance(reduced, str):
        return Refused(reduced)
    kpoints, energies = reduced
    near = (energies.max(axis=0) > min(top, middle) - spec.window) & (
        energies.min(axis=0) < max(bottom, middle) + spec.window
    )
    filled = int(np.sum(~near & (energies.max(axis=0) < middle)))
    fitted = _Fitted(bands, kpoints, energies[:, near], spec)
    states = fitted.states(spec.bin_width)
    electrons = bands.n_electrons - bands.spin_degeneracy * filled
    volume = abs(float(np.linalg.det(bands.lattice)))
    transports = []
    for temperature in temperatures:
        carriers = {}
        for kind, sign in CARRIERS.items():
            wanted = electrons + sign * np.array(spec.doping) * volume * ANGSTROM3_IN_CM3
            found = _coefficients(states, wanted, volume, bands.spin_degeneracy, temperature)
            if isinstance(found, Refused):
                return found
            found.fermi_level[:] -= middle
            carriers[kind] = found
        transports.append(Transport(max(0.0, bottom - top), len(kpoints), fitted.grid, fitted.misfit, carriers))
    return transports


def _edges(bands: ElectronBands) -> tuple[float, float]:
    """Return the top of the filled and the bottom of the empty bands [eV]; a metal's bottom is not above its top."""
    filled = bands.n_electrons / bands.spin_degeneracy
    whole = int(np.floor(filled + 1e-6))
    levels = np.sort(bands.energies, axis=1)
    top = float(levels[:, whole - 1].max()) if whole else -np.inf
    bottom = float(levels[:, whole].min()) if whole < levels.shape[1] else np.inf
    if filled - whole > 1e-6:  # a band is filled in part
        top = max(top, bands.fermi_energy)
        bottom = min(bottom, bands.fermi_energy)
    return top, bottom


@dataclass(frozen=True)
class _States:
    """Densities on bins of energy: of states, and of v v (atomic units)."""

    energies: Floats  # [Hartree], (bins,)
    dos: Floats  # (bins,)
    transport: Floats  # (3, 3, bins)


class _Fitted:
    """Bands as BoltzTraP2 interpolates them."""

    def __init__(self, bands: ElectronBands, kpoints: Floats, energies: Floats, spec: TransportSpec) -> None:
        from ase import Atoms
        from BoltzTraP2 import fite, sphere
        from BoltzTraP2.units import Angstrom, eV

        self._eV = eV
        atoms = Atoms(bands.numbers, cell=bands.lattice, scaled_positions=bands.frac_coords, pbc=True)
        self._lattice = np.array(bands.lattice).T * Angstrom  # vectors as columns
        self._stars = sphere.get_equivalences(atoms, None, int(np.ceil(len(kpoints) * spec.multiplier)))
        data = _Data(kpoints, energies.T * eV, self._lattice)
        self._weights = fite.fitde3D(data, self._stars)
        vectors = np.vstack(self._stars)
        self._shifts = vectors @ self._lattice.T
        needed = 2 * np.abs(vectors).max(axis=0) + 1
        wanted = np.ceil(spec.grid_length * np.linalg.norm(np.linalg.inv(bands.lattice), axis=0)).astype(int)
        x, y, z = (int(n) for n in np.maximum(needed, wanted))
        self.grid = x, y, z
        given = fite.getBands(kpoints, self._stars, self._lattice, self._weights)[0]
        self.misfit = float(np.abs(given.real - data.ebands).max() / eV)

    def states(self, width: float) -> _States:
        """Return the densities of states on bins of ``width`` [eV].

        A point of the grid stands for the cell around it, whose energies spread with the velocity: it fills as many
        bins as a box of the same variance. Else the shells of a regular grid would leave combs.
        """
        from BoltzTraP2.fite import FFTev

        step = width * self._eV
        # change of energy across a cell of the grid, by axis: 2 pi v b_i / N_i
        across = 2 * np.pi * np.linalg.inv(self._lattice) / np.array(self.grid)[:, None]
        bands = []
        for weights in self._weights:  # one by one: a band on a fine grid is large
            energy, velocity = FFTev(self._stars, weights, self._shifts, self.grid)
            spread = np.sqrt(((across @ velocity) ** 2).sum(axis=0))
            filled = np.maximum(1, np.rint(spread / step).astype(np.int64))  # bins
            first = np.rint(energy / step - filled / 2).astype(np.int64)
            low = int(first.min())
            pairs = np.stack([[_boxes(first - low, filled, v * w) for w in velocity] for v in velocity])
            bands.append((low, _boxes(first - low, filled, np.ones_like(energy)), pairs))
        low = min(low for low, _, _ in bands)
        bins = max(low_of + len(dos) for low_of, dos, _ in bands) - low
        dos, transport = np.zeros(bins), np.zeros((3, 3, bins))
        for low_of, one, pairs in bands:
            here = slice(low_of - low, low_of - low + len(one))
            dos[here] += one
            transport[..., here] += pairs
        each = float(np.prod(self.grid)) * step
        return _States(step * (np.arange(low, low + bins) + 0.5), dos / each, transport / each)


def _boxes(first: npt.NDArray[np.int64], filled: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Return the sum of boxes: each weight spread evenly over ``filled`` bins from ``first`` on."""
    bins = int((first + filled).max()) + 1
    share = weights / filled
    edges = np.bincount(first, share, bins) - np.bincount(first + filled, share, bins)
    return np.array(np.cumsum(edges)[:-1])


@dataclass(frozen=True)
class _Data:
    """What BoltzTraP2 reads of a calculation: k-points, energies [Hartree], (B, K), lattice as columns [Bohr]."""

    kpoints: Floats
    ebands: Floats
    lattice: Floats
    mommat: None = None

    def get_lattvec(self) -> Floats:
        """Return the lattice vectors as columns [Bohr]."""
        return self.lattice


def _coefficients(
    states: _States, wanted: Floats, volume: float, degeneracy: int, temperature: float
) -> Coefficients | Refused:
    """Return the coefficients for numbers of electrons in the cell, (D,)."""
    from BoltzTraP2 import bandlib
    from BoltzTraP2.units import BOLTZMANN, Angstrom, eV
    from scipy.optimize import brentq

    def excess(mu: float, electrons: float) -> float:
        held: float = -bandlib.calc_N(states.energies, states.dos, mu, temperature, float(degeneracy))
        return held - electrons

    margin = 9.0 * BOLTZMANN * temperature
    low, high = float(states.energies[0] - margin), float(states.energies[-1] - margin)
    levels = []
    for electrons in wanted:
        if low >= high or excess(low, electrons) > 0 or excess(high, electrons) < 0:
            return Refused("a doping cannot be reached with these bands; compute more bands or leave it out")
        levels.append(brentq(excess, low, high, args=(float(electrons),), xtol=1e-10))
    mu, t = np.array(levels), np.array([temperature])
    _, l0, l1, l2, _ = bandlib.fermiintegrals(states.energies, states.dos, states.transport, mu, t, float(degeneracy))
    sigma, seebeck, thermal, _ = bandlib.calc_Onsager_coefficients(l0, l1, l2, mu, t, volume * Angstrom**3)
    along = np.arange(3)
    return Coefficients(
        fermi_level=mu / eV,
        seebeck=np.array(seebeck[0][:, along, along]) * 1e6,
        conductivity=np.array(sigma[0][:, along, along]),
        thermal=np.array(thermal[0][:, along, along]),
    )
