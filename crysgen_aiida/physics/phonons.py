"""Phonons of many crystals by finite displacements with a potential.

Symmetry, displacements, force constants and everything that follows from them are phonopy's (A. Togo, J. Phys. Soc.
Jpn. 92, 012001 (2023)); the forces on all displaced supercells of several crystals are evaluated together. Whatever
the verdict, it is one on the potential's energy surface: a potential that is too soft calls crystals unstable that
are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.relaxing import Start
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.symmetry import conventional, symmetry
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.band_path import band_path
from crysgen_aiida.physics.batch import Floats
from crysgen_aiida.physics.forces import (
    CellForces,
    Refused,
    at_rest,
    forces_of,
    or_refused,
    response_set,
    start_cell,
)
from crysgen_aiida.physics.phonon_table import phonon_table
from crysgen_aiida.physics.polar import Born, phonopy_nac
from crysgen_aiida.physics.potentials import LoadedPotential
from crysgen_aiida.physics.response_spec import PhononSpec
from crysgen_aiida.physics.supercells import multiples

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: A ``phonopy.Phonopy``. To a type checker its attributes may be None: they are until what makes them has run.
Phonopy = Any

#: Rows of one finished part. Fixed: a resumed run must cut the set at the same places.
PART_ROWS = 2
#: Rounds of translational and permutation symmetry imposed on the force constants.
SYMMETRISATIONS = 3
EV_IN_KJ_PER_MOL = 96.48533212331


@dataclass(frozen=True)
class Bands:
    """Frequencies along the path of seekpath (Y. Hinuma et al., Comput. Mater. Sci. 128, 140 (2017)).

    :param lattice: vectors of the primitive cell as rows [A], (3, 3).
    :param labels: first and last point of each segment.
    :param lengths: points of each segment, which join to Q.
    :param qpoints: in the basis of the primitive cell, (Q, 3).
    :param frequencies: [THz], imaginary ones negative, (Q, 3 n).
    """

    lattice: Floats
    labels: list[tuple[str, str]]
    lengths: list[int]
    qpoints: Floats
    frequencies: Floats


@dataclass(frozen=True)
class Phonons:
    """Phonons of one crystal; frequencies in THz, imaginary ones negative; energies and the like per atom.

    :param min_frequency: on the mesh, acoustic modes at Gamma left out; ``min_qpoint`` is where.
    :param min_frequency_gamma: lowest optical mode at Gamma, None with one atom in the primitive cell.
    :param min_frequency_commensurate: lowest at wave vectors of the supercell, Gamma's acoustic modes left out.
    :param acoustic_gamma: largest magnitude of an acoustic mode at Gamma, zero but for errors.
    :param asr_before: largest violation of the acoustic sum rule by the force constants as they came [eV/A^2];
        ``asr_after`` when translations and permutations had been imposed.
    :param thermal: zero-point energy [eV/atom], heat capacity [J/K/mol], entropy [J/K/mol] and free energy
        [eV/atom] at 300 K; none if a mode is imaginary.
    """

    n_atoms: int
    n_displacements: int
    supercell: tuple[int, int, int]
    supercell_atoms: int
    mesh: tuple[int, int, int]
    min_frequency: float
    min_qpoint: Floats
    min_frequency_gamma: float | None
    min_frequency_commensurate: float | None
    max_frequency: float
    acoustic_gamma: float
    asr_before: float
    asr_after: float
    thermal: dict[str, float]
    bands: Bands
    dos: tuple[Floats, Floats] = field(repr=False)

    def stable(self, tolerance: float) -> bool:
        """Whether no mode on the mesh nor at a wave vector of the supercell lies below ``-tolerance`` [THz]."""
        return _real(self.min_frequency, self.min_frequency_commensurate, tolerance)

    def stable_gamma(self, tolerance: float) -> bool:
        """Whether no optical mode at Gamma lies below ``-tolerance`` [THz]."""
        return self.min_frequency_gamma is None or self.min_frequency_gamma >= -tolerance


def phonon_set(
    crystals: CrystalSet, *, potential: str = "chgnet", spec: PhononSpec | None = None, run: Run
) -> PropertyTable:
    """Return the phonons of a set, one row a crystal; rows without them say why.

    :returns: see :func:`~crysgen_aiida.physics.phonon_table.phonon_table`; the metadata records potential,
        checkpoint hash and settings.
    :raises ImpossibleRequest: if the potential is not registered, or not conservative.
    :raises NotInstalled: if its package is missing.
    :raises OutOfMemory: if a batch does not fit; a smaller ``batch_scale`` of the run helps.
    """
    spec = spec or PhononSpec()

    def made(
        rows: range, records: list[dict[str, Any]], structures: list[Structure | Refused], loaded: LoadedPotential
    ) -> PropertyTable:
        return phonon_table(rows, records, phonons_of(structures, loaded, spec, run), spec, loaded.info.method)

    table = response_set(crystals, potential, run, made, stage="phonons", part_rows=PART_ROWS)
    return table.with_metadata(phonon_spec=asdict(spec))


def phonons_of(
    structures: Sequence[Structure | Refused],
    loaded: LoadedPotential,
    spec: PhononSpec,
    run: Run,
    born: Sequence[Born | None] | None = None,
) -> list[Phonons | Refused]:
    """Return the phonons of crystals, in their order, or why they have none.

    :param born: Born charges and dielectric tensors of crystals, for the splitting of longitudinal and transverse
        modes (non-analytic correction); none if absent.
    """
    charges = list(born) if born is not None else [None] * len(structures)

    def prepare(k: int, asked: PhononSpec) -> Phonopy | Refused:
        structure = structures[k]
        return structure if isinstance(structure, Refused) else _prepare(structure, asked, charges[k])

    ready, refused = at_rest(structures, spec, prepare, lambda p: _start(p.primitive), loaded, run, who="phonopy")
    results: dict[int, Phonons | Refused] = dict(refused)
    for phonopy, _, _ in ready.values():
        phonopy.generate_displacements(distance=spec.displacement)
    displaced = {k: [_start(cell) for cell in p.supercells_with_displacements] for k, (p, _, _) in ready.items()}
    forces = iter(forces_of([cell for cells in displaced.values() for cell in cells], loaded, run))
    for k, (phonopy, asked, rest) in ready.items():
        run.check_time()
        mine = [next(forces) for _ in displaced[k]]
        results[k] = or_refused("phonopy", partial(_finish, phonopy, rest, mine, asked))
    return [results[k] for k in range(len(structures))]


def _prepare(structure: Structure, spec: PhononSpec, born: Born | None) -> Phonopy | Refused:
    try:
        group = symmetry(structure, spec.symprec)
        cell = conventional(structure, spec.symprec, idealize=True)
    except BadInput as error:
        return Refused(str(error))
    repeats = multiples(np.array(cell.lattice.matrix), group.crystal_system, spec.min_length)
    atoms = int(np.prod(repeats)) * len(cell)
    if atoms > spec.max_atoms:
        return Refused(
            f"its supercell would have {atoms} atoms for images {spec.min_length:g} A apart, more than max_atoms = "
            f"{spec.max_atoms}; raise it or lower min_length",
            schema.STATUS_SKIPPED,
        )
    import phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    lattice, kinds, frac = start_cell(cell)
    unit = PhonopyAtoms(numbers=kinds, scaled_positions=frac, cell=lattice)
    centring: Any = group.symbol[0]  # P, F, I, A, C or R: spglib's standard cells are phonopy's
    made: Phonopy = phonopy.Phonopy(unit, supercell_matrix=np.diag(repeats), primitive_matrix=centring)
    if born is not None:
        made.nac_params = phonopy_nac(structure, born, made, spec.symprec)
    return made


def _finish(phonopy: Phonopy, rest: CellForces, forces: list[CellForces], spec: PhononSpec) -> Phonons | Refused:
    primitive = phonopy.primitive
    owner = [primitive.p2p_map[s] for s in primitive.s2p_map]  # atom of the primitive cell, for each of the supercell
    # what is left of the forces at rest is no answer to a displacement
    phonopy.forces = np.array([f.forces - rest.forces[owner] for f in forces])
    if not np.isfinite(phonopy.forces).all():
        return Refused("the forces on a displaced supercell are not finite")
    phonopy.produce_force_constants(show_drift=False)
    before = _sum_rule(phonopy.force_constants)
    phonopy.symmetrize_force_constants(level=SYMMETRISATIONS, show_drift=False)
    after = _sum_rule(phonopy.force_constants)
    optical, acoustic = _at_gamma(phonopy)
    phonopy.run_mesh(spec.mesh_length, is_gamma_center=True)
    mesh = phonopy.get_mesh_dict()
    lowest, where = _lowest(phonopy, mesh["qpoints"], mesh["frequencies"], optical)
    commensurate = _commensurate(phonopy, optical)
    highest = float(mesh["frequencies"].max())
    a, b, c = (int(n) for n in np.diag(phonopy.supercell_matrix))
    x, y, z = (int(n) for n in phonopy.mesh_numbers)
    return Phonons(
        n_atoms=len(primitive),
        n_displacements=len(forces),
        supercell=(a, b, c),
        supercell_atoms=len(phonopy.supercell),
        mesh=(x, y, z),
        min_frequency=lowest,
        min_qpoint=where,
        min_frequency_gamma=float(optical.min()) if len(optical) else None,
        min_frequency_commensurate=commensurate,
        max_frequency=highest,
        acoustic_gamma=float(np.abs(acoustic).max()),
        asr_before=before,
        asr_after=after,
        thermal=_thermal(phonopy, spec.tolerance) if _real(lowest, commensurate, spec.tolerance) else {},
        bands=_bands(phonopy, spec.band_points),
        dos=_dos(phonopy, lowest, highest, spec.dos_points),
    )


def _real(lowest: float, commensurate: float | None, tolerance: float) -> bool:
    return lowest >= -tolerance and (commensurate is None or commensurate >= -tolerance)


def _start(atoms: Any) -> Start:
    return np.array(atoms.cell), np.array(atoms.numbers, dtype=np.int64), np.array(atoms.scaled_positions)


def _sum_rule(constants: Floats) -> float:
    """Return the largest force for each A that all atoms are shifted by, or sum of forces for one atom [eV/A^2]."""
    return max(float(np.abs(constants.sum(axis=axis)).max()) for axis in (0, 1))


def _at_gamma(phonopy: Phonopy) -> tuple[Floats, Floats]:
    """Return optical and acoustic frequencies at Gamma: the three nearest zero are the acoustic ones."""
    phonopy.run_qpoints([[0.0, 0.0, 0.0]])
    found = np.array(phonopy.get_qpoints_dict()["frequencies"][0])
    order = np.argsort(np.abs(found), kind="stable")
    return np.sort(found[order[3:]]), found[order[:3]]


def _lowest(phonopy: Phonopy, qpoints: Floats, frequencies: Floats, optical: Floats) -> tuple[float, Floats]:
    """Return the lowest frequency and its wave vector, of the optical modes alone at Gamma."""
    least = np.array(frequencies).min(axis=1)
    gamma = np.abs(qpoints - np.rint(qpoints)).max(axis=1) < 1e-8
    least[gamma] = optical.min() if len(optical) else np.inf
    k = int(np.argmin(least))
    return float(least[k]), np.array(qpoints[k])


def _commensurate(phonopy: Phonopy, optical: Floats) -> float | None:
    """Return the lowest frequency at the wave vectors that fit the supercell, None if there is none."""
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

    fit = np.linalg.inv(phonopy.primitive.primitive_matrix) @ phonopy.supercell_matrix
    points = get_commensurate_points(np.rint(fit).astype(int))
    phonopy.run_qpoints(points)
    found, _ = _lowest(phonopy, np.array(points), np.array(phonopy.get_qpoints_dict()["frequencies"]), optical)
    return found if np.isfinite(found) else None


def _thermal(phonopy: Phonopy, cutoff: float) -> dict[str, float]:
    phonopy.run_thermal_properties(temperatures=[0.0, 300.0], cutoff_frequency=cutoff)
    held = phonopy.get_thermal_properties_dict()
    n = len(phonopy.primitive)
    return {
        "zero_point_energy": float(held["free_energy"][0]) / EV_IN_KJ_PER_MOL / n,
        "heat_capacity_300k": float(held["heat_capacity"][1]) / n,
        "vibrational_entropy_300k": float(held["entropy"][1]) / n,
        "vibrational_free_energy_300k": float(held["free_energy"][1]) / EV_IN_KJ_PER_MOL / n,
    }


def _dos(phonopy: Phonopy, lowest: float, highest: float, points: int) -> tuple[Floats, Floats]:
    first, last = min(0.0, 1.05 * lowest), max(0.1, 1.05 * highest)
    phonopy.run_total_dos(freq_min=first, freq_max=last, freq_pitch=(last - first) / (points - 1))
    held = phonopy.get_total_dos_dict()
    return np.array(held["frequency_points"])[:points], np.array(held["total_dos"])[:points]


def _bands(phonopy: Phonopy, points: int) -> Bands:
    cell = phonopy.primitive
    path = band_path(cell.cell, cell.scaled_positions, cell.numbers)
    reciprocal = np.linalg.inv(np.array(cell.cell)).T
    ends = [(path.points[a], path.points[b]) for a, b in path.segments]
    spans = [float(np.linalg.norm((b - a) @ reciprocal)) for a, b in ends]
    lengths = [max(2, round(points * span / max(spans))) for span in spans]
    paths = [a + np.linspace(0.0, 1.0, n)[:, None] * (b - a) for (a, b), n in zip(ends, lengths, strict=True)]
    phonopy.run_band_structure(paths)
    bands = phonopy.get_band_structure_dict()
    return Bands(
        lattice=np.array(cell.cell),
        labels=path.segments,
        lengths=lengths,
        qpoints=np.concatenate(paths),
        frequencies=np.concatenate(bands["frequencies"]),
    )
