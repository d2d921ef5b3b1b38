"""Lattice thermal conductivity of crystals with a potential: three-phonon scattering, solved by phono3py.

Displacements, force constants of second and third order, scattering rates and the Boltzmann equation are phono3py's
(A. Togo, L. Chaput, I. Tanaka, Phys. Rev. B 91, 094306 (2015); A. Togo et al., J. Phys.: Condens. Matter 35, 353001
(2023)); the forces on all displaced supercells are evaluated together. The conductivity depends on the square of the
third derivatives, which few potentials have right: what one gives for silicon says whether to believe it
(:mod:`crysgen_aiida.physics.conductivity_table`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, NotInstalled
from crysgen_aiida.crystals.relaxing import Start
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.symmetry import conventional, symmetry
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.batch import Floats
from crysgen_aiida.physics.conductivity_table import conductivity_table
from crysgen_aiida.physics.forces import CellForces, Refused, forces_of, or_refused, refusal, response_set, start_cell
from crysgen_aiida.physics.potentials import LoadedPotential
from crysgen_aiida.physics.response_spec import ROOM, KappaSpec
from crysgen_aiida.physics.supercells import multiples

if TYPE_CHECKING:
    from pymatgen.core import Structure

T = TypeVar("T")

#: A ``phono3py.Phono3py``. To a type checker its attributes may be None: they are until what makes them has run.
Phono3py = Any

#: Rows of one finished part. Fixed: a resumed run must cut the set at the same places.
PART_ROWS = 1
#: Modes below it have no lifetime: those at Gamma, and imaginary ones within the tolerance [THz].
CUTOFF = 1e-2


@dataclass(frozen=True)
class Mesh:
    """Conductivity on one mesh of q-points.

    :param numbers: points along the axes of the primitive cell.
    :param tensors: [W/m/K] in the order xx yy zz yz xz xy, one for each temperature, (T, 6).
    :param frequencies: of the cumulative conductivity [THz], (F,).
    :param cumulative: isotropic conductivity at 300 K of the modes up to each frequency [W/m/K], (F,); in the
        relaxation-time approximation, also where the Boltzmann equation is solved.
    """

    numbers: tuple[int, int, int]
    tensors: Floats
    frequencies: Floats
    cumulative: Floats


@dataclass(frozen=True)
class Conductivity:
    """Lattice thermal conductivity of one crystal.

    :param n_displacements: supercells that forces were evaluated on.
    :param fc3_supercell: multiples of the conventional cell, ``fc3_atoms`` its atoms; the same for ``fc2``.
    :param min_frequency: lowest mode of the fine mesh but the acoustic ones at Gamma [THz].
    :param max_frequency: highest mode of it [THz].
    :param other: isotropic conductivity at 300 K on the coarse mesh with the displacement of the check [W/m/K].
    """

    n_displacements: int
    fc3_supercell: tuple[int, int, int]
    fc3_atoms: int
    fc2_supercell: tuple[int, int, int]
    fc2_atoms: int
    min_frequency: float
    max_frequency: float
    temperatures: tuple[float, ...]
    coarse: Mesh
    fine: Mesh
    other: float | None = None

    @property
    def kappa(self) -> float:
        """A third of the trace at 300 K on the fine mesh [W/m/K]."""
        return _isotropic(self.fine, self.temperatures)

    @property
    def tensor(self) -> Floats:
        """At 300 K on the fine mesh, (6,) in Voigt order [W/m/K]."""
        return np.array(self.fine.tensors[self.temperatures.index(ROOM)])

    @property
    def kappa_coarse(self) -> float:
        """A third of the trace at 300 K on the coarse mesh [W/m/K]."""
        return _isotropic(self.coarse, self.temperatures)

    @property
    def mesh_change(self) -> float:
        """Relative change from the coarse to the fine mesh."""
        return abs(self.kappa - self.kappa_coarse) / self.kappa

    @property
    def displacement_change(self) -> float | None:
        """Relative change on the coarse mesh with the displacement of the check, None without one."""
        return None if self.other is None else abs(self.other - self.kappa_coarse) / self.kappa_coarse


class _Stop(Exception):
    """A crystal has no conductivity, for the reason it holds."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.reason)
        self.refused = refused


def conductivity_set(
    crystals: CrystalSet, *, potential: str = "chgnet", spec: KappaSpec | None = None, run: Run
) -> PropertyTable:
    """Return the lattice thermal conductivities of a set, one row a crystal; rows without one say why.

    :returns: see :func:`~crysgen_aiida.physics.conductivity_table.conductivity_table`; the metadata records
        potential, checkpoint hash and settings.
    :raises ImpossibleRequest: if the potential is not registered, or not conservative.
    :raises NotInstalled: if its package or phono3py is missing.
    :raises OutOfMemory: if a batch does not fit; a smaller ``batch_scale`` of the run helps.
    """
    spec = spec or KappaSpec()
    _module()

    def made(
        rows: range, records: list[dict[str, Any]], structures: list[Structure | Refused], loaded: LoadedPotential
    ) -> PropertyTable:
        found = conductivities_of(structures, loaded, spec, run)
        return conductivity_table(rows, records, found, spec, loaded.info.method)

    table = response_set(crystals, potential, run, made, stage="conductivity", part_rows=PART_ROWS)
    return table.with_metadata(kappa_spec=asdict(spec))


def conductivities_of(
    structures: Sequence[Structure | Refused], loaded: LoadedPotential, spec: KappaSpec, run: Run
) -> list[Conductivity | Refused]:
    """Return the conductivities of crystals, in their order, or why they have none."""
    return [s if isinstance(s, Refused) else _conductivity(s, loaded, spec, run) for s in structures]


def _conductivity(structure: Structure, loaded: LoadedPotential, spec: KappaSpec, run: Run) -> Conductivity | Refused:
    again: list[Mesh] = []
    try:
        made, (lowest, highest), (coarse, fine) = _solved(structure, spec, spec.mesh_lengths, loaded, run)
        if spec.check_displacement:
            other = replace(spec, displacement=spec.check_displacement, check_displacement=0.0)
            _, _, again = _solved(structure, other, spec.mesh_lengths[:1], loaded, run)
    except _Stop as stop:
        return stop.refused
    return Conductivity(
        n_displacements=_count(made) * (1 + len(again)),
        fc3_supercell=_multiples(made.supercell_matrix),
        fc3_atoms=len(made.supercell),
        fc2_supercell=_multiples(made.phonon_supercell_matrix),
        fc2_atoms=len(made.phonon_supercell),
        min_frequency=lowest,
        max_frequency=highest,
        temperatures=spec.temperatures,
        coarse=coarse,
        fine=fine,
        other=_isotropic(again[0], spec.temperatures) if again else None,
    )


def _solved(
    structure: Structure, spec: KappaSpec, lengths: Sequence[float], loaded: LoadedPotential, run: Run
) -> tuple[Phono3py, tuple[float, float], list[Mesh]]:
    """Return the displaced crystal, its lowest and highest mode [THz], and its conductivity on meshes.

    :raises _Stop: if it has none.
    """
    made = _must(partial(_prepare, structure, spec))
    (rest,) = forces_of([_start(made.primitive)], loaded, run)
    if (why := refusal(rest, spec)) is not None:
        raise _Stop(why)
    made.phonon_forces = _responses(made.phonon_supercells_with_displacements, made.phonon_primitive, rest, loaded, run)
    extremes = _must(partial(_harmonic, made, lengths[-1], spec.tolerance))
    # nothing of third order is evaluated before the crystal is known to have lifetimes
    made.forces = _responses(made.supercells_with_displacements, made.primitive, rest, loaded, run)
    _must(partial(_third_order, made))
    meshes = []
    for length in lengths:
        run.check_time()
        meshes.append(_must(partial(_solve, made, length, spec)))
    return made, extremes, meshes


def _must(work: Callable[[], T | Refused]) -> T:
    """Return what ``work`` returns unless it is why there is nothing; one odd crystal must not stop a set."""
    found = or_refused("phono3py", work)
    if isinstance(found, Refused):
        raise _Stop(found)
    return found


def _isotropic(mesh: Mesh, temperatures: Sequence[float]) -> float:
    return float(mesh.tensors[temperatures.index(ROOM), :3].mean())


# -- the crystal, and its force constants -----------------------------------------------------------------------------


def _module() -> Any:
    try:
        import phono3py
    except ImportError as error:
        raise NotInstalled(
            f"Thermal conductivity needs phono3py, which cannot be imported here ({error}); run "
            "`pip install 'crysgen-aiida[kappa]'` where the worker runs."
        ) from error
    return phono3py


def _prepare(structure: Structure, spec: KappaSpec) -> Phono3py | Refused:
    """Return the crystal in spglib's standard setting with its supercells displaced, or why that is too much."""
    from phonopy.structure.atoms import PhonopyAtoms

    try:
        group = symmetry(structure, spec.symprec)
        cell = conventional(structure, spec.symprec, idealize=True)
    except BadInput as error:
        return Refused(str(error))
    lengths = (spec.fc3_min_length, spec.fc2_min_length)
    fc3, fc2 = (multiples(np.array(cell.lattice.matrix), group.crystal_system, least) for least in lengths)
    atoms = max(int(np.prod(fc3)), int(np.prod(fc2))) * len(cell)
    if atoms > spec.max_atoms:
        return Refused(
            f"a supercell would have {atoms} atoms for images {lengths[0]:g} A (third order) and {lengths[1]:g} A "
            f"(second order) apart, more than max_atoms = {spec.max_atoms}; raise it or lower fc3_min_length or "
            "fc2_min_length",
            schema.STATUS_SKIPPED,
        )
    lattice, kinds, frac = start_cell(cell)
    made = _module().Phono3py(
        PhonopyAtoms(numbers=kinds, scaled_positions=frac, cell=lattice),
        supercell_matrix=np.diag(fc3),
        phonon_supercell_matrix=np.diag(fc2),
        primitive_matrix=group.symbol[0],  # P, F, I, A, C or R: spglib's standard cells are phonopy's
        cutoff_frequency=CUTOFF,
    )
    made.generate_displacements(distance=spec.displacement)
    if (count := _count(made)) > spec.max_displacements:
        return Refused(
            f"it needs forces on {count} displaced supercells, more than max_displacements = {spec.max_displacements}; "
            "raise it, or lower fc3_min_length",
            schema.STATUS_SKIPPED,
        )
    return made


def _count(phono3py: Phono3py) -> int:
    return len(phono3py.supercells_with_displacements) + len(phono3py.phonon_supercells_with_displacements)


def _multiples(matrix: Any) -> tuple[int, int, int]:
    a, b, c = (int(n) for n in np.diag(matrix))
    return a, b, c


def _start(atoms: Any) -> Start:
    return np.array(atoms.cell), np.array(atoms.numbers, dtype=np.int64), np.array(atoms.scaled_positions)


def _responses(cells: Sequence[Any], primitive: Any, rest: CellForces, loaded: LoadedPotential, run: Run) -> Floats:
    """Return the forces on displaced supercells [eV/A], (displacements, atoms, 3).

    What is left of the forces at rest is no answer to a displacement, and is subtracted.
    """
    owner = [primitive.p2p_map[s] for s in primitive.s2p_map]  # atom of the primitive cell, for each of the supercell
    forces = np.array([f.forces for f in forces_of([_start(cell) for cell in cells], loaded, run)]) - rest.forces[owner]
    if not np.isfinite(forces).all():
        raise _Stop(Refused("the forces on a displaced supercell are not finite"))
    return forces


# -- phonons and their scattering -------------------------------------------------------------------------------------


def _harmonic(phono3py: Phono3py, length: float, tolerance: float) -> tuple[float, float] | Refused:
    """Set the constants of second order; return lowest and highest mode of a mesh [THz] if none is imaginary.

    The three modes at Gamma nearest zero are the acoustic ones, and are left out.
    """
    phono3py.produce_fc2()
    phono3py.symmetrize_fc2()
    phono3py.mesh_numbers = length
    phono3py.init_phph_interaction()
    phono3py.run_phonon_solver()
    frequencies = np.array(phono3py.get_phonon_data()[0])
    gamma = phono3py.grid.gp_Gamma
    nearest_zero = np.argsort(np.abs(frequencies[gamma]), kind="stable")
    counted = np.concatenate([np.delete(frequencies, gamma, axis=0).ravel(), frequencies[gamma][nearest_zero[3:]]])
    lowest, highest = float(counted.min()), float(counted.max())
    if lowest >= -tolerance:
        return lowest, highest
    mesh = "x".join(str(int(n)) for n in phono3py.mesh_numbers)
    return Refused(
        f"it has imaginary modes: the lowest of the {mesh} mesh is {lowest:.3g} THz, below -{tolerance:g} THz; a "
        "crystal that is not at a minimum has no phonon lifetimes"
    )


def _third_order(phono3py: Phono3py) -> None:
    """Set the constants of third order, translations and permutations imposed."""
    phono3py.produce_fc3()
    phono3py.symmetrize_fc3()


def _solve(phono3py: Phono3py, length: float, spec: KappaSpec) -> Mesh | Refused:
    """Return the conductivity on one mesh."""
    exact, room = spec.method == "lbte", spec.temperatures.index(ROOM)
    phono3py.mesh_numbers = length
    phono3py.init_phph_interaction(symmetrize_fc3q=exact)
    phono3py.run_thermal_conductivity(is_LBTE=exact, temperatures=list(spec.temperatures), is_isotope=spec.isotopes)
    solved = phono3py.thermal_conductivity
    tensors = np.array(solved.kappa)[0]
    if not np.isfinite(tensors).all() or tensors[room, :3].mean() <= 0:
        return Refused("its thermal conductivity is not a positive number: the force constants mean nothing")
    x, y, z = (int(n) for n in phono3py.mesh_numbers)
    by_mode = np.array(solved.mode_kappa_RTA if exact else solved.mode_kappa)[0, room]  # (q, bands, 6), stars summed
    frequencies = np.array(solved.frequencies).ravel()
    order = np.argsort(frequencies, kind="stable")
    running = np.concatenate([[0.0], np.cumsum(by_mode[..., :3].mean(axis=-1).ravel()[order])]) / (x * y * z)
    points = np.linspace(0.0, float(frequencies.max()), spec.cumulative_points)
    return Mesh((x, y, z), tensors, points, running[np.searchsorted(frequencies[order], points, side="right")])
