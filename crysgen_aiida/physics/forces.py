"""Forces and stresses of many cells at once, and which crystals may be asked for derivatives of their energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet, structure_of
from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.relaxing import Start
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.physics.batch import EV_PER_A3_IN_GPA, CellBatch, Floats
from crysgen_aiida.physics.potentials import LoadedPotential, load_potential
from crysgen_aiida.physics.relaxation import batch_atoms, evaluate, single_threaded, start_of

if TYPE_CHECKING:
    from pymatgen.core import Structure

T = TypeVar("T")
S = TypeVar("S", bound="RelaxedEnough")

#: Atoms closer than this are on top of each other [A].
MIN_DISTANCE = 0.5


#: Shares of the tolerance at which symmetry is imposed: where that moves a crystal off its minimum, the next is tried.
TIGHTER = (1.0, 0.1, 0.01)


class RelaxedEnough(Protocol):
    """The settings that say when a crystal is near enough to its minimum, and within what its symmetry is imposed."""

    @property
    def symprec(self) -> float:
        """Tolerance of the symmetry [A]."""

    @property
    def max_force(self) -> float:
        """Largest force on an atom [eV/A]."""

    @property
    def max_stress(self) -> float:
        """Largest component of the stress [GPa]."""


@dataclass(frozen=True)
class Refused:
    """A crystal that is not computed, and why."""

    reason: str
    status: str = schema.STATUS_FAILED


def or_refused(who: str, work: Callable[[], T]) -> T | Refused:
    """Return what ``work`` returns, or that ``who`` cannot handle the crystal: one odd crystal must not stop a set.

    Nothing that evaluates the potential or asks for the time belongs inside.
    """
    try:
        return work()
    # symmetry finders and fits fail in many ways on odd cells
    except (ValueError, ArithmeticError, LookupError, TypeError, RuntimeError) as error:
        text = (str(error).strip().splitlines() or ["no message"])[0]
        return Refused(f"{who} cannot handle it ({type(error).__name__}: {text[:80]})")


@dataclass(frozen=True)
class CellForces:
    """What a potential says of one cell.

    :param forces: on the atoms [eV/A], (n, 3).
    :param stress: dE/d(strain)/V [eV/A^3], negative under compression, (3, 3).
    :param isolated: atoms without a neighbour inside the cutoff.
    :param shortest: shortest interatomic distance [A].
    """

    energy: float
    forces: Floats
    stress: Floats
    isolated: int
    shortest: float


def response_set(
    crystals: CrystalSet,
    potential: str,
    run: Run,
    made: Callable[[range, list[dict[str, Any]], list[Structure | Refused], LoadedPotential], PropertyTable],
    *,
    stage: str,
    part_rows: int,
) -> PropertyTable:
    """Return a table made of a set of crystals with a potential, part by part; its metadata records the potential.

    :param made: the table of some rows, from their numbers, records and crystals (or why there are none).
    :param stage: what the parts are called, e.g. ``phonons``.
    :raises ImpossibleRequest: if the potential is not registered, or not conservative.
    :raises NotInstalled: if its package is missing.
    """
    loaded = load_potential(potential, run.device)
    if not loaded.info.conservative:
        raise ImpossibleRequest(
            f"The forces of {loaded.info.method} are not derivatives of its energy, so second derivatives of it mean "
            "nothing; use a conservative potential, e.g. chgnet."
        )

    def part(rows: range) -> PropertyTable:
        records = [crystals.get(row) for row in rows]
        return made(rows, records, [structure_or_refusal(record, loaded) for record in records], loaded)

    with single_threaded(run):
        table = run.map_rows(stage, len(crystals), part, part_rows=part_rows)
    return table.with_metadata(method=loaded.info.method, potential=loaded.record())


def forces_of(cells: Sequence[Start], loaded: LoadedPotential, run: Run) -> list[CellForces]:
    """Return energy, forces and stress of cells, in their order.

    Cells are laid together up to the memory budget of a batch and shared among the threads of the run by position; a
    cell's forces depend on the others only through round-off.
    """
    batches: list[list[int]] = []
    room = 0
    for k, (_, numbers, _) in enumerate(cells):
        if not batches or len(numbers) > room:
            batches.append([])
            room = batch_atoms(run)
        batches[-1].append(k)
        room -= len(numbers)

    def work(mine: list[int]) -> list[CellForces]:
        run.check_time()
        return _evaluate([cells[k] for k in mine], mine, loaded)

    if run.device == "cuda" or run.threads <= 1 or len(batches) <= 1:
        found = [work(mine) for mine in batches]
    else:
        with ThreadPoolExecutor(run.threads) as pool:
            found = list(pool.map(work, batches))
    return [one for many in found for one in many]


def structure_or_refusal(record: dict[str, Any], loaded: LoadedPotential) -> Structure | Refused:
    """Return the crystal of a row, or why it is none the potential could be asked about.

    :param record: a row of a set of crystals.
    """
    if record["status"] != schema.STATUS_OK or record["lattice"] is None:
        return Refused(f"there is no crystal: {record['reason']}")
    start = start_of(record)
    if isinstance(start, str):
        return Refused(start)
    if not loaded.info.covers(record["numbers"]):
        return Refused(f"{loaded.info.method} does not cover all elements of {record['reduced_formula']}")
    return structure_of(record["lattice"], record["numbers"], record["frac_coords"])


def start_cell(structure: Structure) -> Start:
    """Return a crystal as arrays: cell [A], atomic numbers, fractional coordinates."""
    numbers = np.array([site.specie.Z for site in structure], dtype=np.int64)
    return np.array(structure.lattice.matrix, dtype=float), numbers, np.array(structure.frac_coords, dtype=float)


def refusal(found: CellForces, spec: RelaxedEnough) -> Refused | None:
    """Return why a crystal is not at a minimum of its energy with the potential, None if it is near enough."""
    if not (np.isfinite(found.energy) and np.isfinite(found.forces).all() and np.isfinite(found.stress).all()):
        return Refused("energy, forces or stress are not finite")
    if found.shortest < MIN_DISTANCE:
        return Refused(f"two atoms are within {found.shortest:.2f} A of each other")
    if found.isolated:
        return Refused(
            f"{found.isolated} of {len(found.forces)} atoms have no neighbour within reach of the potential "
            "(isolated atoms)"
        )
    force = float(np.sqrt((found.forces**2).sum(axis=1).max()))
    stress = float(np.abs(found.stress).max()) * EV_PER_A3_IN_GPA
    if force > spec.max_force or stress > spec.max_stress:
        return Refused(
            f"it is not relaxed with this potential: the largest force is {force:.3g} eV/A (at most "
            f"{spec.max_force:g}) and the largest stress {stress:.3g} GPa (at most {spec.max_stress:g}); relax "
            "it first, e.g. with fmax 0.005"
        )
    return None


def at_rest(
    structures: Sequence[Structure | Refused],
    spec: S,
    prepare: Callable[[int, S], T | Refused],
    cell_of: Callable[[T], Start],
    loaded: LoadedPotential,
    run: Run,
    *,
    who: str,
) -> tuple[dict[int, tuple[T, S, CellForces]], dict[int, Refused]]:
    """Return what is prepared of each crystal that is at its minimum with its symmetry imposed, and the refusals.

    A symmetry found within the tolerance may be none: imposing it then moves the crystal off its minimum. A tighter
    tolerance is tried before such a crystal is refused.

    :param prepare: imposes the symmetry within ``symprec`` of the settings it is given on the crystal at a position;
        it may refuse.
    :param cell_of: the cell of what it made.
    :param who: prepares, for the reason if it fails.
    :returns: by position: what was made, the settings with the tolerance that was good, and what the potential says of
        the cell; and the refusals by position.
    """
    made: dict[int, tuple[T, S, CellForces]] = {}
    refused = {k: s for k, s in enumerate(structures) if isinstance(s, Refused)}
    waiting = [k for k in range(len(structures)) if k not in refused]
    for share in TIGHTER:
        asked = replace(spec, symprec=spec.symprec * share)  # type: ignore[type-var]
        ready: dict[int, T] = {}
        for k in waiting:
            one = or_refused(who, partial(prepare, k, asked))
            if isinstance(one, Refused):
                refused[k] = one
            else:
                ready[k] = one
        found = forces_of([cell_of(one) for one in ready.values()], loaded, run)
        for (k, one), forces in zip(ready.items(), found, strict=True):
            why = refusal(forces, spec)
            if why is None:
                made[k] = (one, asked, forces)
                refused.pop(k, None)
            else:
                refused[k] = why
        waiting = [k for k in ready if k not in made]
    return dict(sorted(made.items())), refused


def refusal_columns(
    rows: range, records: Sequence[dict[str, Any]], found: Sequence[object], parent: str = "crystals"
) -> pa.Table:
    """Return what every table made from a set of crystals begins with: which crystal, and whether and why it failed.

    :param records: the rows of the set.
    :param found: what was computed of each, or a :class:`Refused`.
    :param parent: link label of the set.
    """
    refused = [f if isinstance(f, Refused) else None for f in found]
    text = pa.string()
    return pa.table(
        {
            "content_id": pa.array([r["content_id"] for r in records], type=text),
            "status": pa.array([schema.STATUS_OK if r is None else r.status for r in refused], type=text),
            "reason": pa.array([None if r is None else r.reason for r in refused], type=text),
            "parent_input": pa.array([parent] * len(rows), type=text),
            "parent_row": pa.array(rows, type=pa.int64()),
            "reduced_formula": pa.array([r.get("reduced_formula") for r in records], type=text),
        }
    )


def _evaluate(cells: list[Start], keys: list[int], loaded: LoadedPotential) -> list[CellForces]:
    lattices, numbers, frac = zip(*cells, strict=True)
    batch = CellBatch.build(numbers, frac, np.stack(lattices), keys)
    found = evaluate(loaded, batch)
    loaded.compute.forget(keys)
    starts = batch.starts
    return [
        CellForces(
            energy=float(found.energies[b]),
            forces=np.array(found.forces[starts[b] : starts[b + 1]]),
            stress=np.array(found.stresses[b]),
            isolated=int(found.isolated[b]),
            shortest=float(found.shortest[b]),
        )
        for b in range(len(cells))
    ]
