"""Decoding with a potential: several geometries a string, relaxed; one of them is its crystal.

Every string gets up to ``spec.starts`` geometries. All get one energy; the ``spec.keep`` lowest are relaxed, and the
others too if none of these keeps the bonds of its string. Crystals that keep them go before those that do not; among
equals the lowest in energy per atom is the one crystal of the string. The same way a symmetrised crystal is made, with
a potential or without.
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
from crysgen_aiida.representations.slices.decoder import OPTIMISED, STARTS, Decoded, starts
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.faithful import keeps_net
from crysgen_aiida.representations.slices.nets import parse
from crysgen_aiida.representations.slices.sets import SEQUENCE, metadata_of, nothing_to_translate, records_of
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
    :ivar keeps_net: whether the relaxed crystal has the bonds of the string; None without a potential.
    :ivar symmetrised: what came of imposing the space group; None if that was not asked for.
    """

    structure: Structure | None = None
    reason: str | None = None
    start: str | None = None
    n_starts: int = 0
    relaxed: Relaxed | None = None
    keeps_net: bool | None = None
    symmetrised: Symmetrised | None = None


def refine(strings: Sequence[str], spec: SlicesSpec, relaxer: Relaxer | None, run: Run) -> list[Refined]:
    """Return the one crystal of every string, in their order.

    Without a ``relaxer`` it is that of :func:`~crysgen_aiida.representations.slices.decoder.decode`.
    """
    names = OPTIMISED if relaxer is None else STARTS
    most = 1 if relaxer is None else spec.starts
    geometries = [_geometries(string, spec, most, names) for string in strings]
    if relaxer is None:
        return [
            Refined(reason=found) if isinstance(found, str) else Refined(found[0].structure(), None, found[0].start, 1)
            for found in geometries
        ]
    ranked = _ranked(geometries, relaxer, run)
    tried: list[list[_Candidate]] = [[] for _ in strings]
    for turn in (slice(spec.keep), slice(spec.keep, None)):
        chosen = [
            (k, crystal)
            for k, crystals in enumerate(ranked)
            if not isinstance(crystals, str) and not any(c.keeps_net for c in tried[k])
            for crystal in crystals[turn]
        ]
        ended = relaxer.relax([crystal.arrays for _, crystal in chosen], run)
        for (k, crystal), relaxed in zip(chosen, ended, strict=True):
            tried[k].append(_Candidate.judged(crystal, relaxed, strings[k], spec))
    return [
        Refined(reason=crystals) if isinstance(crystals, str) else _chosen(candidates, len(found))
        for crystals, candidates, found in zip(ranked, tried, geometries, strict=True)
    ]


@dataclass(frozen=True)
class _Candidate:
    """One relaxed geometry; ``structure`` is None if the relaxation failed."""

    start: str
    relaxed: Relaxed
    structure: Structure | None
    keeps_net: bool

    @classmethod
    def judged(cls, crystal: Decoded, relaxed: Relaxed, string: str, spec: SlicesSpec) -> _Candidate:
        """Return what a relaxation made of a geometry."""
        if relaxed.cell is None or relaxed.frac is None or relaxed.energy_per_atom is None:
            return cls(crystal.start, relaxed, None, False)
        from pymatgen.core import Lattice, Structure

        structure = Structure(Lattice(relaxed.cell), crystal.numbers.tolist(), np.mod(relaxed.frac, 1.0))
        return cls(crystal.start, relaxed, structure, keeps_net(structure, parse(string, spec.strategy), spec))

    def beats(self, other: _Candidate) -> bool:
        """Whether this one, later in the order, is preferred to an earlier one."""
        if self.keeps_net != other.keeps_net:
            return self.keeps_net
        return _energy(self.relaxed) < _energy(other.relaxed) - TIE


def _geometries(string: str, spec: SlicesSpec, most: int, names: Sequence[str]) -> list[Decoded] | str:
    try:
        return starts(string, spec, most, names)
    except SlicesError as error:
        return error.reason


def _ranked(geometries: Sequence[list[Decoded] | str], relaxer: Relaxer, run: Run) -> list[list[Decoded] | str]:
    """Return for every string its geometries, lowest energy first, or why there are none."""
    flat = [crystal for found in geometries if not isinstance(found, str) for crystal in found]
    energies = iter(relaxer.energies([crystal.arrays for crystal in flat], run))
    ranked: list[list[Decoded] | str] = []
    for found in geometries:
        if isinstance(found, str):
            ranked.append(found)
            continue
        held = [next(energies) for _ in found]
        usable = [k for k, one in enumerate(held) if one.energy_per_atom is not None]
        order = sorted(usable, key=lambda k: _energy(held[k]))
        ranked.append([found[k] for k in order] or f"{NO_START}: {held[0].reason}.")
    return ranked


def _chosen(candidates: Sequence[_Candidate], n_starts: int) -> Refined:
    """Return the crystal of a string, or why there is none."""
    best: _Candidate | None = None
    for one in sorted(candidates, key=lambda c: STARTS.index(c.start)):
        if one.structure is not None and (best is None or one.beats(best)):
            best = one
    if best is None:
        return Refined(reason=f"{NO_START}: {candidates[0].relaxed.reason}.", n_starts=n_starts)
    return Refined(best.structure, None, best.start, n_starts, best.relaxed, best.keeps_net)


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

    Columns with a potential: ``energy_per_atom`` [eV/atom, its method], ``start``, ``n_starts``, ``keeps_net``,
    ``converged`` and ``n_steps``.
    With ``spec.symmetrise``: ``symmetrised``, ``symmetrise_reason``, and the space groups
    ``group_asked``, ``group_before`` and ``group_after``.
    """

    def part(rows: range) -> CrystalSet:
        run.check_time()
        records = records_of(sequences, rows, SEQUENCE)
        strings = [record[SEQUENCE] for record in records if record[SEQUENCE] is not None]
        found = refine(strings, spec, relaxer, run)
        if spec.symmetrise:
            found = impose_groups(strings, found, spec, relaxer, run)
        queue = iter(found)
        refined = [
            Refined(reason=nothing_to_translate(record)) if record[SEQUENCE] is None else next(queue)
            for record in records
        ]
        return CrystalSet.from_structures(
            [one.structure for one in refined],
            reasons=[one.reason for one in refined],
            columns=_columns(refined, spec, relaxer),
            parent_input="sequences",
            parent_rows=rows,
            metadata=metadata_of(spec),
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
            pa.field("keeps_net", pa.bool_()): [one.keeps_net for one in refined],
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


def _energy(relaxed: Relaxed) -> float:
    assert relaxed.energy_per_atom is not None
    return relaxed.energy_per_atom
