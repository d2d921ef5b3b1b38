"""Elastic constants of many crystals from the stress of strained cells, with a potential.

Each of the six Voigt strains is applied with both signs and several amplitudes; C_IJ is the slope of stress I against
strain J by least squares, once with atoms that follow the strain only (clamped) and once with atoms relaxed in each
strained cell. At zero pressure these are the elastic constants of every definition. Symmetry is imposed afterwards,
and what it changed is reported. Averages and axes are pymatgen's (M. de Jong et al., Sci. Data 2, 150009 (2015)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.relaxing import Relaxed, Start
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.symmetry import primitive
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.batch import EV_PER_A3_IN_GPA, Floats
from crysgen_aiida.physics.elastic_table import elastic_table
from crysgen_aiida.physics.forces import (
    CellForces,
    Refused,
    at_rest,
    forces_of,
    or_refused,
    response_set,
    start_cell,
)
from crysgen_aiida.physics.potentials import LoadedPotential
from crysgen_aiida.physics.relaxation import RelaxSpec, relax_many
from crysgen_aiida.physics.response_spec import ElasticSpec
from crysgen_aiida.physics.tensors import KELVIN, elastic_properties, ieee_axes, standard_tensor

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Rows of one finished part. Fixed: a resumed run must cut the set at the same places.
PART_ROWS = 8
#: Rows and columns of the six Voigt components: xx yy zz yz xz xy.
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class Elastic:
    """Elastic constants of one crystal [GPa], Voigt order xx yy zz yz xz xy, axes of the IEEE standard of 1987.

    :param tensor: with relaxed atoms, symmetry imposed, (6, 6).
    :param clamped: the same with atoms that follow the strain only.
    :param asymmetry: largest |C_IJ - C_JI| / 2 before symmetry was imposed [GPa].
    :param residual: largest change of a component when the point group was imposed [GPa].
    :param nonlinearity: largest difference of a component from that of one amplitude alone [GPa].
    :param eigenvalues: of the tensor in Kelvin's notation, ascending, (6,) [GPa].
    :param averages: registered properties by name; none if the crystal is unstable, where Reuss averages mean nothing.
    """

    tensor: Floats
    clamped: Floats
    asymmetry: float
    residual: float
    nonlinearity: float
    eigenvalues: Floats
    averages: dict[str, float]
    n_strains: int
    n_atoms: int

    @property
    def stable(self) -> bool:
        """Born's criterion: every strain costs energy (F. Mouhat and F.-X. Coudert, Phys. Rev. B 90, 224104 (2014))."""
        return bool(self.eigenvalues[0] > 0)


def elastic_set(
    crystals: CrystalSet, *, potential: str = "chgnet", spec: ElasticSpec | None = None, run: Run
) -> PropertyTable:
    """Return the elastic constants of a set, one row a crystal; rows without them say why.

    :returns: see :func:`~crysgen_aiida.physics.elastic_table.elastic_table`; the metadata records potential,
        checkpoint hash and settings.
    :raises ImpossibleRequest: if the potential is not registered, or not conservative.
    :raises NotInstalled: if its package is missing.
    :raises OutOfMemory: if a batch does not fit; a smaller ``batch_scale`` of the run helps.
    """
    spec = spec or ElasticSpec()

    def made(
        rows: range, records: list[dict[str, Any]], structures: list[Structure | Refused], loaded: LoadedPotential
    ) -> PropertyTable:
        return elastic_table(rows, records, elastic_of(structures, loaded, spec, run), loaded.info.method)

    table = response_set(crystals, potential, run, made, stage="elastic", part_rows=PART_ROWS)
    return table.with_metadata(elastic_spec=asdict(spec))


def elastic_of(
    structures: Sequence[Structure | Refused], loaded: LoadedPotential, spec: ElasticSpec, run: Run
) -> list[Elastic | Refused]:
    """Return the elastic constants of crystals, in their order, or why they have none."""

    def prepare(k: int, asked: ElasticSpec) -> Structure | Refused:
        structure = structures[k]
        return structure if isinstance(structure, Refused) else _prepare(structure, asked)

    ready, refused = at_rest(structures, spec, prepare, start_cell, loaded, run, who="spglib")
    results: dict[int, Elastic | Refused] = dict(refused)
    strains = voigt_strains(spec)
    cells = {k: [strained(start_cell(s), strain) for strain in strains] for k, (s, _, _) in ready.items()}
    flat = [cell for many in cells.values() for cell in many]
    clamped = iter(forces_of(flat, loaded, run))
    settings = RelaxSpec(fmax=spec.fmax, max_steps=spec.max_steps, relax_cell=False, max_step=0.05)
    relaxed = relax_many(flat, loaded, settings, run) if flat else []
    ends = [_end(cell, r) for cell, r in zip(flat, relaxed, strict=True)]
    free = iter(zip(relaxed, forces_of(ends, loaded, run), strict=True))
    for k, (structure, asked, _) in ready.items():
        run.check_time()
        clamps = [next(clamped) for _ in strains]
        followed = [next(free) for _ in strains]
        results[k] = or_refused("pymatgen", partial(_finish, structure, strains, clamps, followed, asked))
    return [results[k] for k in range(len(structures))]


def voigt_strains(spec: ElasticSpec) -> Floats:
    """Return the strains in Voigt notation (engineering shears), with both signs, (6 * 2 * amplitudes, 6)."""
    signed = [sign * amplitude for amplitude in spec.strains for sign in (1.0, -1.0)]
    return np.array([np.eye(6)[component] * size for component in range(6) for size in signed])


def strained(cell: Start, strain: Floats) -> Start:
    """Return a crystal under a strain given in Voigt notation, (6,); atoms follow, axes are not turned."""
    lattice, numbers, frac = cell
    deform = np.eye(3)
    for value, (i, j) in zip(strain, VOIGT, strict=True):
        deform[i, j] += value if i == j else value / 2
        if i != j:
            deform[j, i] += value / 2
    return lattice @ deform, numbers, frac


def fitted(strains: Floats, stresses: Floats) -> tuple[Floats, float]:
    """Return C_IJ and by how much one from a single amplitude differs at most, both in the unit of the stresses.

    :param strains: in Voigt notation, one component each, (S, 6).
    :param stresses: in Voigt notation, (S, 6).
    """
    constants = np.zeros((6, 6))
    worst = 0.0
    for component in range(6):
        mine = strains[:, component] != 0
        x = strains[mine, component]
        line = np.stack([np.ones_like(x), x], axis=1)
        solution, *_ = np.linalg.lstsq(line, stresses[mine], rcond=None)
        constants[:, component] = solution[1]
        for size in x[x > 0]:  # even terms cancel between the signs
            slope = (stresses[mine][x == size][0] - stresses[mine][x == -size][0]) / (2 * size)
            worst = max(worst, float(np.abs(slope - solution[1]).max()))
    return constants, worst


def _prepare(structure: Structure, spec: ElasticSpec) -> Structure | Refused:
    try:
        cell = primitive(structure, spec.symprec, idealize=True)
    except BadInput as error:
        return Refused(str(error))
    if len(cell) > spec.max_atoms:
        return Refused(
            f"its primitive cell has {len(cell)} atoms, more than max_atoms = {spec.max_atoms}; raise it",
            schema.STATUS_SKIPPED,
        )
    return cell


def _end(cell: Start, relaxed: Relaxed) -> Start:
    """Return a strained cell with its atoms where the relaxation left them."""
    lattice, numbers, frac = cell
    return lattice, numbers, frac if relaxed.frac is None else relaxed.frac


def _finish(
    structure: Structure,
    strains: Floats,
    clamped: list[CellForces],
    followed: list[tuple[Relaxed, CellForces]],
    spec: ElasticSpec,
) -> Elastic | Refused:
    lost = [r for r, _ in followed if r.status != schema.STATUS_OK]
    if lost:
        return Refused(f"{len(lost)} of {len(strains)} strained cells could not be relaxed: {lost[0].reason}")
    slow = sum(not r.converged for r, _ in followed)
    if slow:
        return Refused(
            f"the atoms of {slow} of {len(strains)} strained cells did not come to rest below {spec.fmax:g} eV/A in "
            f"{spec.max_steps} steps; raise max_steps"
        )
    raw, nonlinearity = fitted(strains, np.array([_voigt(f.stress) for _, f in followed]))
    still, _ = fitted(strains, np.array([_voigt(f.stress) for f in clamped]))
    turn = ieee_axes(structure)
    tensor, residual = standard_tensor((raw + raw.T) / 2, structure, turn, spec.symprec)
    fixed, _ = standard_tensor((still + still.T) / 2, structure, turn, spec.symprec)
    values = np.linalg.eigvalsh(tensor * KELVIN)
    scalars = elastic_properties(tensor)
    scalars.pop("elastic_min_eigenvalue")
    return Elastic(
        tensor=tensor,
        clamped=fixed,
        asymmetry=float(np.abs(raw - raw.T).max()) / 2,
        residual=residual,
        nonlinearity=nonlinearity,
        eigenvalues=values,
        averages=scalars,
        n_strains=len(strains),
        n_atoms=len(structure),
    )


def _voigt(stress: Floats) -> Floats:
    return np.array([stress[i, j] for i, j in VOIGT]) * EV_PER_A3_IN_GPA
