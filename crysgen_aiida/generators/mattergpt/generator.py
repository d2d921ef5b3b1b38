"""MatterGPT as a generator: the four verbs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.relaxing import Relaxer
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.contract import Conditions
from crysgen_aiida.generators.mattergpt import preparation
from crysgen_aiida.generators.mattergpt.checkpoint import Checkpoint, read_checkpoint
from crysgen_aiida.generators.mattergpt.conditions import CATEGORIES, CONSTRAINTS, as_list, request_matrix
from crysgen_aiida.generators.mattergpt.grammar import Constraint, Grammar
from crysgen_aiida.generators.mattergpt.info import INFO
from crysgen_aiida.generators.mattergpt.preparation import sequence_id
from crysgen_aiida.generators.mattergpt.sampling import Drawn, Sampler
from crysgen_aiida.generators.mattergpt.spec import MatterGPTSpec
from crysgen_aiida.generators.mattergpt.training import Alone, fit_generator
from crysgen_aiida.generators.threads import threads
from crysgen_aiida.representations.slices.checker import check

#: The longest space-group prefix has 18 tokens.
_LONGEST_PREFIX = 18
_TEXT = ("crystal_system", "elements", "composition")


class MatterGPT:
    """A transformer that writes crystals as SLICES strings (arXiv:2408.07608; Appl. Phys. Lett. 126, 111901, 2025)."""

    def prepare(self, crystals: CrystalSet, spec: MatterGPTSpec, *, seed: int, run: Run) -> SequenceSet:
        """Spell crystals; those that cannot be spelt keep a row with the reason.

        Kept are three-dimensional nets of elements up to radon with up to ``spec.slices.max_atoms`` atoms and bonds
        that cross at most one cell along each axis.

        :raises EmptySet: if nothing can be spelt.
        """
        return preparation.prepare(crystals, spec, seed=seed, run=run)

    def train(
        self,
        training_set: SequenceSet,
        spec: MatterGPTSpec,
        *,
        seed: int,
        run: Run,
        start_from: Path | None = None,
    ) -> Path:
        """Train, or fine-tune ``start_from``, and return the checkpoint folder.

        A training state in ``run.folder`` is continued; on a CPU the result is then that of an undisturbed run, to the
        bit, for the same versions, machine kind and number of threads.

        :raises EmptySet: if nothing can be learned from.
        :raises Diverged: if the loss becomes not finite.
        :raises OutOfMemory: if a batch does not fit.
        """
        if spec.training.processes > 1:
            from crysgen_aiida.generators.mattergpt.distributed import launch

            return launch(training_set, spec, seed=seed, run=run, start_from=start_from)
        return fit_generator(training_set, spec, Alone(run.device), seed=seed, run=run, start_from=start_from)

    def sample(
        self, checkpoint: Path, n: int, conditions: Conditions, spec: MatterGPTSpec, *, seed: int, run: Run
    ) -> SequenceSet:
        """Draw ``n`` strings; of ``spec`` only ``sampling`` matters, the rest is the checkpoint's.

        Without the grammar a string may be no net: its row is then ``failed``, with the checker's reason.

        Besides what the model was trained with, every model serves ``elements`` (exactly these) and ``composition``
        (any multiple of this formula), which the grammar imposes.

        :raises ImpossibleRequest: for a condition or a value the model cannot serve.
        :raises CorruptWeights: if the checkpoint is damaged.
        """
        if n < 0:
            raise ImpossibleRequest(f"{n} strings cannot be drawn; ask for zero or more.")
        held = read_checkpoint(checkpoint)
        conditions = {name: value for name, value in conditions.items() if value is not None}
        INFO.check_conditions(conditions, tuple(c.name for c in held.conditions))
        values, spelled, warnings = request_matrix(held.conditions, conditions, n)
        constraints = _constraints(held, conditions, n, spelled, spec)
        for warning in warnings:
            run.warn(warning)
        grammar = Grammar(held.tokenizer, prefix=held.spec.slices.prefix) if spec.sampling.grammar else None
        with threads(run.threads):
            sampler = Sampler(held.model, held.tokenizer, spec.sampling, grammar, run.device)

            def part(rows: range) -> SequenceSet:
                which = slice(rows.start, rows.stop)
                drawn = sampler.draw(rows, values[which], constraints[which], seed=seed, run=run)
                targets = {k: v[which] for k, v in spelled.items()}
                return _pack(drawn, held, targets, sampler.max_tokens, masked=grammar is not None)

            return run.map_rows("sample", n, part, part_rows=spec.sampling.part_rows)

    def decode(
        self,
        sequences: SequenceSet,
        spec: MatterGPTSpec,
        *,
        seed: int,
        run: Run,
        relaxer: Relaxer | None = None,
    ) -> CrystalSet:
        """Turn every string into a crystal, or say why it is none.

        With a ``relaxer`` several geometries of each string are relaxed and the lowest in energy is its crystal.
        """
        from crysgen_aiida.representations.slices.refine import refined_set
        from crysgen_aiida.representations.slices.sets import decode_set

        if relaxer is None and not spec.slices.symmetrise:
            return decode_set(sequences, spec.slices, run=run)
        return refined_set(sequences, spec.slices, run, relaxer)


def _constraints(
    held: Checkpoint, conditions: Conditions, n: int, spelled: dict[str, list[Any]], spec: MatterGPTSpec
) -> list[Constraint | None]:
    """Return what the grammar must impose on each row; adds the requested values to ``spelled``."""
    asked = {name: conditions[name] for name in CONSTRAINTS if name in conditions}
    if not asked:
        return [None] * n
    if not spec.sampling.grammar:
        raise ImpossibleRequest(
            f"{' and '.join(asked)} can only be imposed by the grammar; leave sampling.grammar on to ask for them."
        )
    elements = _element_lists(asked.get("elements"))
    compositions = as_list(asked["composition"], "composition") if "composition" in asked else [None]
    max_atoms = held.tokenizer.max_atoms
    known: dict[tuple[tuple[str, ...], str | None], Constraint] = {}
    rows: list[Constraint | None] = []
    for i in range(n):
        key = (elements[i % len(elements)], compositions[i % len(compositions)])
        if key not in known:
            known[key] = Constraint.read(*key, max_atoms)
            _check_room(known[key], held, spec)
        rows.append(known[key])
    if "elements" in asked:
        spelled["elements"] = [" ".join(elements[i % len(elements)]) for i in range(n)]
    if "composition" in asked:
        spelled["composition"] = [compositions[i % len(compositions)] for i in range(n)]
    return rows


def _element_lists(value: Any) -> list[tuple[str, ...]]:
    """Return the element sets to cycle over: one list of symbols is one set, a list of lists is several."""
    if value is None:
        return [()]
    if isinstance(value, str):
        return [tuple(value.replace("-", " ").split())]
    values = as_list(value, "elements")
    if all(isinstance(v, str) for v in values):
        return [tuple(values)]
    return [tuple(v) for v in values]


def _check_room(constraint: Constraint, held: Checkpoint, spec: MatterGPTSpec) -> None:
    atoms = max(len(constraint.elements), sum(count for _, count in constraint.composition), 1)
    most = min(spec.sampling.max_tokens or held.spec.model.block_size, held.spec.model.block_size)
    needed = (_LONGEST_PREFIX if held.spec.slices.prefix else 0) + atoms + 3 * (atoms + 2) + 1
    if needed > most:
        raise ImpossibleRequest(
            f"A net of {atoms} atoms may need {needed} tokens, but a string may have {most} here; raise "
            "sampling.max_tokens, or ask for fewer atoms."
        )


def _why_not(drawn: Drawn, string: str, max_tokens: int, masked: bool) -> str | None:
    """Return why a string is not grammatical, None if it is; what the grammar let through needs no check."""
    if not drawn.ended:
        return f"The string has no end within {max_tokens} tokens."
    return None if masked else check(string).reason


def _pack(
    drawn: list[Drawn], held: Checkpoint, spelled: Mapping[str, list[Any]], max_tokens: int, *, masked: bool
) -> SequenceSet:
    strings = [held.tokenizer.decode(d.ids) for d in drawn]
    reasons = [_why_not(d, s, max_tokens, masked) for d, s in zip(drawn, strings, strict=True)]
    status = [schema.STATUS_OK if why is None else schema.STATUS_FAILED for why in reasons]
    table = pa.table(
        {
            "sequence": pa.array(strings, type=pa.string()),
            "n_tokens": pa.array([len(d.ids) for d in drawn], type=pa.int32()),
            "log_probability": pa.array([d.log_probability for d in drawn], type=pa.float64()),
            "status": pa.array(status, type=pa.string()),
            "reason": pa.array(reasons, type=pa.string()),
            "content_id": pa.array([sequence_id(s) for s in strings], type=pa.string()),
        }
    )
    for name, values in spelled.items():
        table = table.append_column(_target_field(name), pa.array(values, type=_target_field(name).type))
    return SequenceSet(table)


def _target_field(name: str) -> pa.Field:
    column = f"target.{name}"
    if name in _TEXT:
        return pa.field(column, pa.string())
    if name in CATEGORIES:
        return pa.field(column, pa.int32())
    return schema.property_field(name, "requested", column=column)
