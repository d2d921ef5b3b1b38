"""Element substitution on known crystals: the baseline a trained generator has to beat, behind the same contract."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import CorruptWeights, EmptySet, ImpossibleRequest
from crysgen_aiida.crystals.relaxing import Relaxer
from crysgen_aiida.crystals.run import Run, keyed_rng
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.contract import Conditions
from crysgen_aiida.generators.substitution.info import INFO
from crysgen_aiida.generators.substitution.proposals import in_words, propose
from crysgen_aiida.generators.substitution.prototypes import Choice, Prototype, exchanged, oxidation_states
from crysgen_aiida.generators.substitution.spec import DataSpec, SubstitutionSpec

if TYPE_CHECKING:
    from pymatgen.core import Structure

PART_ROWS = 256
_NO_IONS = "no whole oxidation states, one an element, make {} neutral"


class Substitution:
    """Exchange the ions of known crystals for others that crystals are found to exchange, and scale the cell."""

    def prepare(self, crystals: CrystalSet, spec: SubstitutionSpec, *, seed: int, run: Run) -> SequenceSet:
        """Write every usable crystal as a prototype; the others keep a row with the reason.

        A prototype has whole oxidation states, one an element, that make it neutral.

        :raises EmptySet: if there is none.
        """
        left_out = spec.data.keep.reasons(crystals)

        def part(rows: range) -> SequenceSet:
            run.check_time()
            return _prototypes(crystals, rows, left_out, spec.data)

        found = run.map_rows("prepare", len(crystals), part, part_rows=PART_ROWS)
        if not found.ok.any():
            reasons = [r for r in found.column("reason") if r]
            raise EmptySet(f"None of the {len(crystals)} crystals is a prototype; the first reason is: {reasons[0]}.")
        return found

    def train(
        self, training_set: SequenceSet, spec: SubstitutionSpec, *, seed: int, run: Run, start_from: Path | None = None
    ) -> Path:
        """Write the table of prototypes as a checkpoint; there is nothing to learn.

        :raises ImpossibleRequest: for ``start_from``: a table is not fine-tuned.
        """
        from safetensors.numpy import save_file

        if start_from is not None:
            raise ImpossibleRequest("Element substitution cannot start from a checkpoint: prepare the whole set anew.")
        kept = np.flatnonzero(training_set.ok)
        names = [name for name in spec.data.conditions if name in training_set.columns]
        labels = {name: training_set.values(name)[kept] for name in names}
        folder = run.folder / "checkpoint"
        folder.mkdir(parents=True, exist_ok=True)
        rows = np.array(training_set.column("parent_row"), dtype=np.int64)[kept]
        save_file({"row": rows, **{f"label.{k}": v for k, v in labels.items()}}, folder / "weights.safetensors")
        config = {
            "generator": INFO.name,
            "generator_version": INFO.version,
            "conditions": [name for name, values in labels.items() if np.isfinite(values).any()],
            "spec": dataclasses.asdict(spec),
            "seed": seed,
        }
        held = [training_set.column("sequence")[k] for k in kept]
        formulas = [training_set.column("reduced_formula")[k] for k in kept]
        vocabulary = {"prototypes": held, "formulas": formulas}
        (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True), encoding="utf-8")
        (folder / "vocabulary.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        (folder / "history.jsonl").write_text(json.dumps({"prototypes": len(kept)}) + "\n", encoding="utf-8")
        run.progress("train", len(kept), len(kept))
        return folder

    def sample(
        self, checkpoint: Path, n: int, conditions: Conditions, spec: SubstitutionSpec, *, seed: int, run: Run
    ) -> SequenceSet:
        """Make ``n`` proposals; prototypes are drawn by how near their labels are to what is asked for.

        :raises ImpossibleRequest: if no prototype has all the labels that are asked for, or a value is no number.
        """
        table = _Table.read(checkpoint, spec)
        asked = _targets(conditions, n)
        weights: dict[tuple[float, ...], np.ndarray] = {}
        names = sorted(asked)
        for values in set(zip(*(asked[name] for name in names), strict=True)) or {()}:
            weights[values] = table.choice.weights(dict(zip(names, values, strict=True)))

        def part(rows: range) -> SequenceSet:
            run.check_time()
            keys = [tuple(asked[name][row] for name in names) for row in rows]
            records = [table.proposal(row, weights[key], seed) for row, key in zip(rows, keys, strict=True)]
            return _proposals(records, {name: [asked[name][row] for row in rows] for name in names})

        return run.map_rows("sample", n, part, part_rows=PART_ROWS)

    def decode(
        self,
        sequences: SequenceSet,
        spec: SubstitutionSpec,
        *,
        seed: int,
        run: Run,
        relaxer: Relaxer | None = None,
    ) -> CrystalSet:
        """Exchange the elements of every proposal and scale its cell by the radii, or say why that cannot be done.

        :raises ImpossibleRequest: if there is a ``relaxer``: among one geometry there is nothing to choose.
        """
        if relaxer is not None:
            raise ImpossibleRequest(
                "A proposal of the substitution generator has one geometry, among which no potential needs to choose; "
                "decode without a potential and relax the crystals with the verb relax."
            )

        def part(rows: range) -> CrystalSet:
            run.check_time()
            structures: list[Structure | None] = []
            reasons: list[str | None] = []
            for row in rows:
                structure, why = _decoded(sequences.get(row))
                structures.append(structure)
                reasons.append(why)
            return CrystalSet.from_structures(structures, reasons=reasons, parent_input="sequences", parent_rows=rows)

        return run.map_rows("decode", len(sequences), part, part_rows=PART_ROWS)


@dataclasses.dataclass(frozen=True)
class _Table:
    """The prototypes of a checkpoint and what to draw them by."""

    prototypes: list[Prototype]
    formulas: list[str]
    rows: np.ndarray  # (m,) rows of the data set
    choice: Choice
    spec: SubstitutionSpec

    @classmethod
    def read(cls, checkpoint: Path, spec: SubstitutionSpec) -> _Table:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(checkpoint / "weights.safetensors")
            held = json.loads((checkpoint / "vocabulary.json").read_text(encoding="utf-8"))
            config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
            prototypes = [Prototype.from_text(text)[0] for text in held["prototypes"]]
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise CorruptWeights(f"The table of prototypes cannot be read ({error}); copy it again.") from error
        labels = {k.removeprefix("label."): v for k, v in tensors.items() if k.startswith("label.")}
        log1p = config["spec"]["data"]["log1p"]
        choice = Choice(labels, log1p, spec.sampling.bandwidth, len(prototypes))
        return cls(prototypes, held["formulas"], tensors["row"], choice, spec)

    def proposal(self, row: int, weights: np.ndarray, seed: int) -> dict[str, Any]:
        """Return the proposal of one row; its random numbers are its own."""
        rng = keyed_rng(seed, "sample", row)
        which = int(rng.choice(len(weights), p=weights))
        prototype = self.prototypes[which]
        base = {"prototype_row": int(self.rows[which]), "prototype": self.formulas[which]}
        swap = propose(prototype, self.spec.sampling, rng)
        if swap is None:
            tries = self.spec.sampling.attempts
            why = f"no neutral, plausible exchange for {self.formulas[which]} in {tries} draws"
            return {**base, "status": schema.STATUS_FAILED, "reason": why}
        text = prototype.to_text(swap)
        return {**base, "sequence": text, "swap": in_words(swap, prototype), "content_id": _digest(text)}


def _prototypes(crystals: CrystalSet, rows: range, left_out: list[str | None], spec: DataSpec) -> SequenceSet:
    records = [_prototype(crystals.get(row), left_out[row], spec) for row in rows]
    table = _pack(records, ("sequence", "reduced_formula", "status", "reason", "content_id", "split"))
    table = table.append_column("parent_input", pa.array(["crystals"] * len(rows), type=pa.string()))
    table = table.append_column("parent_row", pa.array(rows, type=pa.int64()))
    packed = SequenceSet(table)
    labels: dict[pa.Field, Any] = {}
    for name in spec.conditions:
        if name in crystals.columns:
            values = crystals.values(name)[rows.start : rows.stop].copy()
            values[_discredited(crystals, rows, name, spec.distrust)] = np.nan
            labels[crystals.arrow.schema.field(name)] = values
    return packed.with_columns(labels)


def _prototype(record: dict[str, Any], left_out: str | None, spec: DataSpec) -> dict[str, Any]:
    base = {"reduced_formula": record["reduced_formula"], "split": "train"}
    if record["status"] != schema.STATUS_OK or record["lattice"] is None:
        return {**base, "status": schema.STATUS_FAILED, "reason": f"there is no crystal: {record['reason']}"}
    why = left_out or (
        f"{record['n_atoms']} atoms, more than {spec.max_atoms}" if record["n_atoms"] > spec.max_atoms else None
    )
    if why is not None:
        return {**base, "status": schema.STATUS_SKIPPED, "reason": why}
    charges = oxidation_states(record["reduced_formula"])
    if charges is None:
        why = _NO_IONS.format(record["reduced_formula"])
        return {**base, "status": schema.STATUS_FAILED, "reason": why}
    text = Prototype(
        tuple(record["lattice"]), tuple(record["numbers"]), tuple(record["frac_coords"]), charges
    ).to_text()
    return {**base, "sequence": text, "content_id": _digest(text)}


def _discredited(crystals: CrystalSet, rows: range, label: str, distrust: Iterable[str]) -> list[int]:
    """Return the positions in ``rows`` whose flags discredit a label."""
    bad = {flag for flag, _, name in (pair.partition(":") for pair in distrust) if name == label}
    if not bad or "flags" not in crystals.columns:
        return []
    flags = crystals.column("flags")
    return [k for k, row in enumerate(rows) if bad & set((flags[row] or "").split(","))]


def _targets(conditions: Conditions, n: int) -> dict[str, list[float]]:
    """Return the value asked of each row: a list is cycled over.

    :raises ImpossibleRequest: for a value that is no number.
    """
    found: dict[str, list[float]] = {}
    for name, wanted in conditions.items():
        if wanted is None:
            continue
        values = list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]
        if not values or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            raise ImpossibleRequest(f"{name} = {wanted!r} is no number; give one, or a list of numbers to cycle over.")
        found[name] = [float(values[row % len(values)]) for row in range(n)]
    return found


def _proposals(records: list[dict[str, Any]], targets: dict[str, list[float]]) -> SequenceSet:
    names = ("sequence", "prototype", "swap", "status", "reason", "content_id")
    table = _pack(records, names)
    rows = pa.array([r["prototype_row"] for r in records], type=pa.int64())
    table = table.append_column("prototype_row", rows)
    for name, values in targets.items():
        field = schema.property_field(name, "requested", column=f"target.{name}")
        table = table.append_column(field, pa.array(values, type=pa.float64()))
    return SequenceSet(table)


def _pack(records: list[dict[str, Any]], names: Iterable[str]) -> pa.Table:
    default = {"status": schema.STATUS_OK}
    return pa.table({k: pa.array([r.get(k, default.get(k)) for r in records], type=pa.string()) for k in names})


def _decoded(record: dict[str, Any]) -> tuple[Structure | None, str | None]:
    if record["sequence"] is None:
        return None, f"there is no proposal: {record['reason']}"
    prototype, swap = Prototype.from_text(record["sequence"])
    try:
        return exchanged(prototype, swap), None
    except ValueError as error:
        return None, f"the cell cannot be scaled: {error}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
