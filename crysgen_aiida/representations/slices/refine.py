"""Decoding with a potential: several geometries a string, the lowest in energy is its crystal.

Every string gets up to ``spec.starts`` geometries. All get one energy; the ``spec.keep`` lowest are relaxed; of those
the lowest in energy per atom is the one crystal of the string. The same way a symmetrised crystal is made, with a
potential or without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.relaxing import Relaxed, Relaxer, Start
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.representations.slices.decoder import Decoded, starts
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.nets import parse
from crysgen_aiida.representations.slices.sets import SEQUENCE, _metadata, _unusable
from crysgen_aiida.representations.slices.spec import SlicesSpec
from crysgen_aiida.representations.slices.symmetrise import Symmetrised, symmetrise

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Rows of one part. Fixed: part boundaries must not depend on the machine. A row costs about a second.
PART_ROWS = 16
#: An energy is lower only if it is so by more than this [eV/atom]; else the earlier start stands.
TIE = 1e-4

NO_START = "The potential can use no geometry of this string"


@dataclass(frozen=True)
class Refined:
    """What became of one string: a crystal, or the reason why there is none.

    :ivar start: the name of the geometry that it came from.
    :ivar n_starts: how many geometries were looked at.
    :ivar relaxed: how its relaxation ended; None without a potential.
    :ivar symmetrised: what came of imposing the space group; None if that was not asked for.
    """

    structure: Structure | None = None
    reason: str | None = None
    start: str | None = None
    n_starts: int = 0
    relaxed: Relaxed | None = None
    symmetrised: Symmetrised | None = None


def refine(strings: Sequence[str], spec: SlicesSpec, relaxer: Relaxer | None, run: Run) -> list[Refined]:
    """Return the one crystal of every string, in their order.

    Without a ``relaxer`` it is that of :func:`~crysgen_aiida.representations.slices.decoder.decode`.
    """
    most = spec.starts if relaxer is not None else 1
    geometries = [_geometries(string, spec, most) for string in strings]
    if relaxer is None:
        return [
            Refined(reason=found) if isinstance(found, str) else Refined(found[0].structure(), None, found[0].start, 1)
            for found in geometries
        ]
    kept = _best(geometries, spec.keep, relaxer, run)
    flat = [crystal for crystals in kept if not isinstance(crystals, str) for crystal in crystals]
    relaxed = iter(relaxer.relax([_start(crystal) for crystal in flat], run))
    return [
        Refined(reason=crystals) if isinstance(crystals, str)
        else _lowest(crystals, [next(relaxed) for _ in crystals], len(found))
        for crystals, found in zip(kept, geometries, strict=True)
    ]  # fmt: skip


def _geometries(string: str, spec: SlicesSpec, most: int) -> list[Decoded] | str:
    try:
        return starts(string, spec, most)
    except SlicesError as error:
        return error.reason


def _best(
    geometries: Sequence[list[Decoded] | str], keep: int, relaxer: Relaxer, run: Run
) -> list[list[Decoded] | str]:
    """Return for every string the geometries of lowest energy, in the order they were made, or why there are none."""
    flat = [crystal for found in geometries if not isinstance(found, str) for crystal in found]
    energies = iter(relaxer.energies([_start(crystal) for crystal in flat], run))
    best: list[list[Decoded] | str] = []
    for found in geometries:
        if isinstance(found, str):
            best.append(found)
            continue
        held = [next(energies) for _ in found]
        ranked = sorted(
            (k for k, e in enumerate(held) if e.energy_per_atom is not None), key=lambda k: _energy(held[k])
        )
        best.append([found[k] for k in sorted(ranked[:keep])] or f"{NO_START}: {held[0].reason}.")
    return best


def _lowest(crystals: Sequence[Decoded], relaxed: Sequence[Relaxed], n_starts: int) -> Refined:
    """Return the crystal of lowest energy; of equal ones the first."""
    best: int | None = None
    for k, one in enumerate(relaxed):
        if one.energy_per_atom is not None and (best is None or _energy(one) < _energy(relaxed[best]) - TIE):
            best = k
    if best is None:
        return Refined(reason=f"{NO_START}: {relaxed[0].reason}.", n_starts=n_starts)
    from pymatgen.core import Lattice, Structure

    won = relaxed[best]
    assert won.cell is not None
    assert won.frac is not None
    structure = Structure(Lattice(won.cell), crystals[best].numbers.tolist(), np.mod(won.frac, 1.0))
    return Refined(structure, None, crystals[best].start, n_starts, won)


def impose_groups(
    strings: Sequence[str], refined: Sequence[Refined], spec: SlicesSpec, relaxer: Relaxer | None, run: Run
) -> list[Refined]:
    """Symmetrise the crystals where that is possible; those that change get their energies anew."""
    done = list(refined)
    changed: list[tuple[int, Start]] = []
    for k, (string, one) in enumerate(zip(strings, refined, strict=True)):
        if one.structure is None:
            continue
        found = symmetrise(one.structure, parse(string, spec.strategy), spec)
        done[k] = replace(one, structure=found.structure, symmetrised=found)
        if found.done and one.relaxed is not None:
            made = found.structure
            changed.append((k, (made.lattice.matrix, np.array(made.atomic_numbers), made.frac_coords)))
    if relaxer is not None and changed:
        energies = relaxer.energies([start for _, start in changed], run)
        for (k, _), new in zip(changed, energies, strict=True):
            old = done[k].relaxed
            done[k] = replace(done[k], relaxed=replace(new, n_steps=old.n_steps if old else None))
    return done


def refined_set(sequences: SequenceSet, spec: SlicesSpec, run: Run, relaxer: Relaxer | None = None) -> CrystalSet:
    """Return the crystal of every string, row for row, with what tells how it was found; the others say why not.

    Columns with a potential: ``energy_per_atom`` [eV/atom, its method], ``start``, ``n_starts``, ``converged`` and
    ``n_steps``. With ``spec.symmetrise``: ``symmetrised``, ``symmetrise_reason``, and the space groups
    ``group_asked``, ``group_before`` and ``group_after``.
    """

    def part(rows: range) -> CrystalSet:
        run.check_time()
        reasons = [_unusable(sequences, row, SEQUENCE) for row in rows]
        strings = [sequences.get(row)[SEQUENCE] for row, why in zip(rows, reasons, strict=True) if why is None]
        found = refine(strings, spec, relaxer, run)
        if spec.symmetrise:
            found = impose_groups(strings, found, spec, relaxer, run)
        queue = iter(found)
        refined = [next(queue) if why is None else Refined(reason=why) for why in reasons]
        return CrystalSet.from_structures(
            [one.structure for one in refined],
            reasons=[one.reason for one in refined],
            columns=_columns(refined, spec, relaxer),
            parent_input="sequences",
            parent_rows=rows,
            metadata=_metadata(spec),
        )

    decoded = run.map_rows("decode", len(sequences), part, part_rows=PART_ROWS)
    if relaxer is None:
        return decoded
    return decoded.with_metadata(method=relaxer.method, **relaxer.record())


def _columns(refined: Sequence[Refined], spec: SlicesSpec, relaxer: Relaxer | None) -> dict[pa.Field, list[Any]]:
    columns: dict[pa.Field, list[Any]] = {}
    if relaxer is not None:
        ended = [one.relaxed or Relaxed(schema.STATUS_FAILED) for one in refined]
        columns = {
            schema.property_field("energy_per_atom", relaxer.method): [r.energy_per_atom for r in ended],
            pa.field("start", pa.string()): [one.start for one in refined],
            pa.field("n_starts", pa.int32()): [one.n_starts for one in refined],
            pa.field("converged", pa.bool_()): [r.converged for r in ended],
            pa.field("n_steps", pa.int32()): [r.n_steps for r in ended],
        }
    if spec.symmetrise:
        tried = [one.symmetrised for one in refined]
        columns |= {
            pa.field("symmetrised", pa.bool_()): [s and s.done for s in tried],
            pa.field("symmetrise_reason", pa.string()): [s and s.reason for s in tried],
            pa.field("group_asked", pa.int32()): [s and s.asked for s in tried],
            pa.field("group_before", pa.int32()): [s and s.before for s in tried],
            pa.field("group_after", pa.int32()): [s and s.after for s in tried],
        }
    return columns


def _start(crystal: Decoded) -> Start:
    return crystal.lattice, crystal.numbers, crystal.frac_coords


def _energy(relaxed: Relaxed) -> float:
    assert relaxed.energy_per_atom is not None
    return relaxed.energy_per_atom
