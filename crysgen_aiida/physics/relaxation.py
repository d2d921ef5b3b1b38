"""Relaxation of many crystals, atoms and cell, several in each evaluation of the potential.

Crystals enter a batch as room appears and leave it when they are done, so a slow one does not hold the others. Each
carries its own optimiser: its path depends on the batch it shares only through single-precision round-off. What ends
a relaxation are counts and geometry; the clock is a safety net whose rows are marked not reproducible.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, OutOfMemory
from crysgen_aiida.crystals.relaxing import Relaxed, Start
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.physics.batch import EV_PER_A3_IN_GPA, CellBatch, Evaluation, Floats
from crysgen_aiida.physics.descent import Descent
from crysgen_aiida.physics.fire import Fire
from crysgen_aiida.physics.fixed_symmetry import FixedSymmetry
from crysgen_aiida.physics.lbfgs import Lbfgs
from crysgen_aiida.physics.potentials import LoadedPotential, load_potential
from crysgen_aiida.physics.relax_spec import RelaxSpec as RelaxSpec
from crysgen_aiida.physics.selection import Refusal, SelectionSpec, select_rows

#: Rows of one finished part. Fixed: a resumed run must cut the set at the same places.
PART_ROWS = 32
#: Atoms evaluated together, per thread of a CPU and on a GPU.
BATCH_ATOMS = {"cpu": 96, "cuda": 8192}
_OPTIMIZERS: dict[str, type[Descent]] = {"fire": Fire, "lbfgs": Lbfgs}


def relax_set(
    crystals: CrystalSet,
    *,
    potential: str = "chgnet",
    spec: RelaxSpec | None = None,
    selection: SelectionSpec | None = None,
    run: Run,
    known: Mapping[str, CrystalSet] | None = None,
    formulas: Mapping[str, frozenset[str]] | None = None,
    time_box_seconds: float | None = None,
) -> CrystalSet:
    """Relax a set of crystals, row for row.

    :param selection: which rows to relax; the others get status ``skipped`` and the rule as reason.
    :param known: sets that the selection may ask crystals to be new against, by label.
    :param formulas: reduced formulas that it may ask them to be new against as well, by label.
    :param time_box_seconds: seconds after which the rows that are left get status ``timeout``: a safety net, since
        what it cuts off depends on the machine.
    :returns: relaxed crystals with ``energy_per_atom``, ``max_force``, ``max_stress``, ``converged``, ``n_steps``,
        ``volume_change`` and, of skipped rows, ``gate``: that of the selection, or ``choice``; the metadata
        records potential, checkpoint hash and settings, the gates in their order among them.
    :raises ImpossibleRequest: if the potential is not registered.
    :raises NotInstalled: if its package is missing.
    :raises OutOfMemory: if a batch does not fit; a smaller ``batch_scale`` of the run helps.
    """
    spec = spec or RelaxSpec()
    deadline = None if time_box_seconds is None else time.monotonic() + time_box_seconds
    loaded = load_potential(potential, run.device)
    refusals: list[Refusal | None] = [None] * len(crystals)
    with single_threaded(run):
        if selection is not None:
            refusals = select_rows(crystals, selection, loaded, run, known, formulas)

        def part(rows: range) -> CrystalSet:
            return _relax_part(crystals, rows, refusals, loaded, spec, run, deadline)

        relaxed = run.map_rows("relax", len(crystals), part, part_rows=PART_ROWS)
    left = relaxed.column("status").count(schema.STATUS_TIMEOUT)
    if left:
        run.warn(f"The time box ended with {left} crystals not relaxed: this set is not reproducible.")
    return relaxed.with_metadata(
        method=loaded.info.method,
        potential=loaded.record(),
        relax_spec=spec.record(),
        selection={**asdict(selection), "gates": selection.gates} if selection is not None else "none",
    )


def relax_many(
    starts: Sequence[Start], loaded: LoadedPotential, spec: RelaxSpec, run: Run, deadline: float | None = None
) -> list[Relaxed]:
    """Relax crystals given as arrays, in their order.

    On a CPU, ``run.threads`` threads share the work by position (k, k + threads, …), so that the result does not
    depend on which of them is faster.
    """
    budget = batch_atoms(run)
    lanes = 1 if run.device == "cuda" else max(1, min(run.threads, len(starts)))
    indices = [list(range(lane, len(starts), lanes)) for lane in range(lanes)]

    def work(mine: list[int]) -> list[Relaxed]:
        return _Lane(starts, mine, loaded, spec, run, deadline, budget).run()

    if lanes == 1:
        return work(indices[0])
    with ThreadPoolExecutor(lanes) as pool:
        found = list(pool.map(work, indices))
    ordered: list[Relaxed] = [found[k % lanes][k // lanes] for k in range(len(starts))]
    return ordered


class single_threaded:  # noqa: N801 - a context manager
    """Evaluate each batch with one torch thread: batches run side by side instead."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        import torch

        torch.set_num_threads(self.before)


class _Lane:
    """One thread's share: a queue, the crystals under way, and their results."""

    def __init__(
        self,
        starts: Sequence[Start],
        mine: list[int],
        loaded: LoadedPotential,
        spec: RelaxSpec,
        run: Run,
        deadline: float | None,
        budget: int,
    ) -> None:
        self.starts, self.mine, self.loaded, self.spec = starts, mine, loaded, spec
        self.job, self.deadline, self.budget = run, deadline, budget
        self.queue = deque(mine)
        self.active: dict[int, Descent] = {}
        self.done: dict[int, Relaxed] = {}

    def run(self) -> list[Relaxed]:
        while self.queue or self.active:
            self.job.check_time()
            if self.deadline is not None and time.monotonic() > self.deadline:
                for index in [*self.active, *self.queue]:
                    self.done[index] = Relaxed(
                        schema.STATUS_TIMEOUT,
                        "the time box ended before this crystal was relaxed; this is not reproducible: relax it again",
                    )
                self.loaded.compute.forget(list(self.active))
                break
            self._admit()
            self._advance()
        return [self.done[index] for index in self.mine]

    def _admit(self) -> None:
        room = self.budget - sum(d.n for d in self.active.values())
        while self.queue and (not self.active or len(self.starts[self.queue[0]][1]) <= room):
            index = self.queue.popleft()
            try:
                descent = begin(self.starts[index], self.spec)
            except BadInput as error:
                self.done[index] = Relaxed(schema.STATUS_FAILED, f"its symmetry cannot be kept: {error}")
                continue
            self.active[index] = descent
            room -= descent.n

    def _advance(self) -> None:
        """Evaluate all crystals under way once; take out those that ended and move the others."""
        keys = tuple(self.active)
        descents = [self.active[k] for k in keys]
        if not keys:
            return
        batch = CellBatch(
            numbers=np.concatenate([d.numbers for d in descents]),
            positions=np.concatenate([d.positions for d in descents]),
            cells=np.stack([d.cell for d in descents]),
            counts=np.array([d.n for d in descents], dtype=np.int64),
            keys=keys,
        )
        found = evaluate(self.loaded, batch)
        for b, (key, descent) in enumerate(zip(keys, descents, strict=True)):
            ended = self._ended(descent, key, b, batch, found)
            if ended is not None:
                self.done[key] = ended
                del self.active[key]
                self.loaded.compute.forget([key])

    def _ended(self, descent: Descent, key: int, b: int, batch: CellBatch, found: Evaluation) -> Relaxed | None:
        """Return how a crystal, number ``b`` of the batch, ended; move it and return None if it goes on."""
        forces = found.forces[batch.starts[b] : batch.starts[b + 1]]
        energy, stress = float(found.energies[b]), found.stresses[b]
        first_volume = abs(float(np.linalg.det(self.starts[key][0])))
        ratio = float(batch.volumes[b]) / first_volume
        lost = self._lost(descent, energy, forces, stress, ratio, float(found.shortest[b]), int(found.isolated[b]))
        if lost is not None:
            return lost
        total = descent.generalised_forces(forces, stress)
        worst = float(np.sqrt((total * total).sum(axis=1).max()))
        if worst > self.spec.fmax and descent.n_steps < self.spec.max_steps:
            descent.step(total)
            return None
        return Relaxed(
            status=schema.STATUS_OK,
            cell=descent.cell,
            frac=descent.positions @ np.linalg.inv(descent.cell),
            energy_per_atom=energy / descent.n,
            max_force=float(np.sqrt((forces * forces).sum(axis=1).max())),
            max_stress=float(np.abs(stress).max()) * EV_PER_A3_IN_GPA,
            converged=worst <= self.spec.fmax,
            n_steps=descent.n_steps,
            volume_change=ratio - 1.0,
        )

    def _lost(
        self,
        descent: Descent,
        energy: float,
        forces: Floats,
        stress: Floats,
        ratio: float,
        shortest: float,
        isolated: int,
    ) -> Relaxed | None:
        """Return the failure of a crystal that is beyond relaxing, None if it may go on."""
        spec = self.spec
        reason = None
        if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(stress).all()):
            reason = "energy, forces or stress are not finite"
        elif ratio > spec.max_volume_ratio:
            reason = f"the cell exploded to {ratio:.2f} times its first volume"
        elif ratio < spec.min_volume_ratio:
            reason = f"the cell collapsed to {ratio:.2f} times its first volume"
        elif shortest < spec.min_distance:
            reason = f"two atoms came within {shortest:.2f} A of each other"
        elif isolated:
            reason = f"{isolated} of {descent.n} atoms have no neighbour within reach of the potential (isolated atoms)"
        if reason is None:
            return None
        return Relaxed(schema.STATUS_FAILED, f"{reason} after {descent.n_steps} steps", n_steps=descent.n_steps)


def begin(start: Start, spec: RelaxSpec) -> Descent:
    """Return a crystal about to go down.

    :raises BadInput: if it shall keep its symmetry and spglib finds none.
    """
    project = None
    if spec.fix_symmetry:
        fixed, start = FixedSymmetry.of(start, spec.symprec)
        project = fixed.project
    cell, numbers, frac = start
    return _OPTIMIZERS[spec.optimizer](numbers, cell.copy(), frac, spec.relax_cell, spec.max_step, project)


def batch_atoms(run: Run) -> int:
    """Return how many atoms are evaluated together in one batch of a run."""
    return int(max(1, BATCH_ATOMS["cuda" if run.device == "cuda" else "cpu"] * run.batch_scale))


def evaluate(loaded: LoadedPotential, batch: CellBatch) -> Evaluation:
    """Return what a potential says of a batch.

    :raises OutOfMemory: if it does not fit.
    """
    try:
        return loaded.compute.evaluate(batch)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
            raise OutOfMemory(
                f"{len(batch.numbers)} atoms in one evaluation do not fit into memory; use a smaller batch_scale."
            ) from error
        raise


def _relax_part(
    crystals: CrystalSet,
    rows: range,
    refusals: list[Refusal | None],
    loaded: LoadedPotential,
    spec: RelaxSpec,
    run: Run,
    deadline: float | None,
) -> CrystalSet:
    results: dict[int, Relaxed] = {}
    starts: list[Start] = []
    chosen: list[int] = []
    for row in rows:
        record = crystals.get(row)
        if record["status"] != schema.STATUS_OK or record["lattice"] is None:
            results[row] = Relaxed(schema.STATUS_FAILED, f"there is no crystal to relax: {record['reason']}")
        elif (refusal := refusals[row]) is not None:
            results[row] = Relaxed(schema.STATUS_SKIPPED, refusal.reason, gate=refusal.gate)
        elif not loaded.info.covers(record["numbers"]):
            results[row] = Relaxed(
                schema.STATUS_FAILED, f"{loaded.info.method} does not cover all elements of {record['reduced_formula']}"
            )
        else:
            start = start_of(record)
            if isinstance(start, str):
                results[row] = Relaxed(schema.STATUS_FAILED, start)
            else:
                starts.append(start)
                chosen.append(row)
    if starts:
        results.update(zip(chosen, relax_many(starts, loaded, spec, run, deadline), strict=True))
    return _pack(crystals, rows, [results[row] for row in rows], loaded.info.method)


def start_of(record: dict[str, Any]) -> Start | str:
    """Return the crystal of a row as arrays, or why it is none that a potential could be asked about."""
    cell = np.array(record["lattice"], dtype=float).reshape(3, 3)
    frac = np.array(record["frac_coords"], dtype=float).reshape(-1, 3)
    if not (np.isfinite(cell).all() and np.isfinite(frac).all()):
        return "a coordinate is not a finite number"
    if len(frac) == 0 or len(frac) != len(record["numbers"]):
        return f"it has {len(record['numbers'])} atoms but {len(frac)} positions"
    if abs(float(np.linalg.det(cell))) < 0.1 * len(frac):
        return "the cell is flat: its volume is below 0.1 A^3 per atom"
    return cell, np.array(record["numbers"], dtype=np.int64), frac


def _pack(crystals: CrystalSet, rows: range, results: list[Relaxed], method: str) -> CrystalSet:
    from pymatgen.core import Lattice, Structure

    structures = [
        Structure(Lattice(r.cell), crystals.get(row)["numbers"], np.mod(r.frac, 1.0))
        if r.cell is not None and r.frac is not None
        else None
        for row, r in zip(rows, results, strict=True)
    ]
    packed = CrystalSet.from_structures(
        structures,
        reasons=[r.reason for r in results],
        parent_input="crystals",
        parent_rows=rows,
        columns={
            schema.property_field("energy_per_atom", method): [r.energy_per_atom for r in results],
            schema.property_field("max_force", method): [r.max_force for r in results],
            schema.property_field("max_stress", method): [r.max_stress for r in results],
            pa.field("converged", pa.bool_()): [r.converged for r in results],
            pa.field("n_steps", pa.int32()): [r.n_steps for r in results],
            pa.field("volume_change", pa.float64()): [r.volume_change for r in results],
            pa.field("gate", pa.string()): [r.gate for r in results],
        },
    )
    status = pa.array([r.status for r in results], type=pa.string())
    return packed.with_columns({pa.field("status", pa.string(), nullable=False): status})
