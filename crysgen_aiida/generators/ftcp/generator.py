"""FTCP as a generator: the four verbs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.relaxing import Relaxer
from crysgen_aiida.crystals.run import Run
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.contract import Conditions, build_spec
from crysgen_aiida.generators.ftcp import preparation
from crysgen_aiida.generators.ftcp.checkpoint import Checkpoint, read_checkpoint
from crysgen_aiida.generators.ftcp.constraints import read_constraints, read_tolerances
from crysgen_aiida.generators.ftcp.info import INFO
from crysgen_aiida.generators.ftcp.preparation import compact_ids
from crysgen_aiida.generators.ftcp.sampling import NOWHERE, Designs, Sampler
from crysgen_aiida.generators.ftcp.spec import FtcpGeneratorSpec, SamplingSpec
from crysgen_aiida.generators.ftcp.training import fit_generator
from crysgen_aiida.generators.threads import threads
from crysgen_aiida.representations.ftcp.compact import Compact
from crysgen_aiida.representations.ftcp.decode import crystals_of
from crysgen_aiida.representations.ftcp.spec import FtcpSpec

#: Rows of a resumable part of decoding.
_PART_ROWS = 1024


class Ftcp:
    """A variational autoencoder of matrices, its latent space ordered by properties (Matter 5, 314, 2022)."""

    def prepare(self, crystals: CrystalSet, spec: FtcpGeneratorSpec, *, seed: int, run: Run) -> SequenceSet:
        """Keep what the matrices are made of, one row a crystal; a row that cannot be learned from has a reason.

        :raises EmptySet: if there is none to learn from.
        :raises ImpossibleRequest: if a label lacks or is constant.
        """
        return preparation.prepare(crystals, spec, seed=seed, run=run)

    def train(
        self,
        training_set: SequenceSet,
        spec: FtcpGeneratorSpec,
        *,
        seed: int,
        run: Run,
        start_from: Path | None = None,
    ) -> Path:
        """Train, or fine-tune ``start_from``, and return the checkpoint folder.

        A training state in ``run.folder`` is continued; on a CPU the result is then that of an undisturbed run, to the
        bit, for the same versions, machine kind and number of threads.

        :raises EmptySet: if nothing can be learned from.
        :raises ImpossibleRequest: if a label lacks or is constant, or the model to start from is another one.
        :raises Diverged: if the loss becomes not finite.
        :raises OutOfMemory: if a batch does not fit.
        """
        return fit_generator(training_set, spec, seed=seed, run=run, start_from=start_from)

    def sample(
        self, checkpoint: Path, n: int, conditions: Conditions, spec: FtcpGeneratorSpec, *, seed: int, run: Run
    ) -> SequenceSet:
        """Take ``n`` designs from the latent space; of ``spec`` only ``sampling`` matters, the rest is the model's.

        A condition is a value, or a list that is cycled over the rows. Training points nearest to it come first.

        :raises ImpossibleRequest: for a condition, value or constraint the model cannot serve.
        :raises CorruptWeights: if the checkpoint is damaged.
        """
        if n < 0:
            raise ImpossibleRequest(f"{n} designs cannot be drawn; ask for zero or more.")
        held = read_checkpoint(checkpoint)
        targets = _targets(held, conditions, run)
        _check_filter(held, targets, spec.sampling)
        if spec.sampling.method == "gp" and targets and not spec.sampling.filter:
            run.warn("Designs from anywhere in the latent space do not heed a target; set sampling.filter to choose.")
        with threads(run.threads):
            sampler = Sampler(held, targets, spec.sampling, seed, run.device)
            sampler.choose_scale(run)

            def part(rows: range) -> SequenceSet:
                return _pack(sampler, rows, sampler.draw(rows, run))

            return run.map_rows("sample", n, part, part_rows=spec.sampling.part_rows)

    def decode(
        self,
        sequences: SequenceSet,
        spec: FtcpGeneratorSpec,
        *,
        seed: int,
        run: Run,
        relaxer: Relaxer | None = None,
    ) -> CrystalSet:
        """Read the crystal of every design, or say why it is none.

        Of ``spec`` only ``representation`` matters; left at its defaults, designs are read as their model would.

        :raises ImpossibleRequest: if there is a ``relaxer``: among one geometry there is nothing to choose.
        :raises BadInput: if the designs were made with other sizes.
        """
        if relaxer is not None:
            raise ImpossibleRequest(
                "A design of FTCP has one geometry, among which no potential needs to choose; decode without a "
                "potential and relax the crystals with the verb relax."
            )
        return _decoded(sequences, spec, run)


def _targets(held: Checkpoint, conditions: Conditions, run: Run) -> dict[str, list[float]]:
    """Return the values asked for by label, as lists to cycle over."""
    asked = {name: value for name, value in conditions.items() if value is not None}
    known = {label.name: label for label in held.labels}
    INFO.check_conditions(asked, tuple(known))
    found: dict[str, list[float]] = {}
    for name, value in asked.items():
        values = list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]
        if not values:
            raise ImpossibleRequest(f"The condition {name} is an empty list; give a value or leave it out.")
        found[name] = [known[name].read(v) for v in values]
        for sentence in filter(None, map(known[name].warning, dict.fromkeys(found[name]))):
            run.warn(sentence)
    return found


def _check_filter(held: Checkpoint, targets: dict[str, list[float]], spec: SamplingSpec) -> None:
    """Refuse a filter that cannot reject anything, or names what the model has not learned."""
    tolerances = read_tolerances(spec.tolerances)
    known = [label.name for label in held.labels]
    for name in [*tolerances, *(bound.name for bound in read_constraints(spec.where))]:
        if name not in known:
            raise ImpossibleRequest(
                f"The sampling settings bound {name}, which this model has not learned; it knows "
                f"{', '.join(known) or 'nothing'}."
            )
    chooses = (
        spec.where or set(tolerances) & set(targets) or spec.new_formula or spec.even_electrons or spec.min_contact
    )
    if spec.filter and not chooses:
        raise ImpossibleRequest(
            "sampling.filter has nothing to choose by: give sampling.where, sampling.tolerances of what is asked, "
            "sampling.new_formula or sampling.min_contact."
        )
    if unheard := sorted(set(tolerances) - set(targets)) if spec.filter else []:
        raise ImpossibleRequest(
            f"sampling.tolerances bound {', '.join(unheard)}, of which nothing was asked; give a target, or leave the "
            "tolerance out."
        )


def _pack(sampler: Sampler, rows: range, designs: Designs) -> SequenceSet:
    held = sampler.held
    space = held.space
    ok = designs.accepted
    reason = f"None of {sampler.spec.attempts} draws was a crystal predicted to be what is asked for."
    first, second = (
        [int(space.rows[p]) if p != NOWHERE else None for p in designs.points[:, i].tolist()] for i in (0, 1)
    )
    latents = pa.array(list(designs.latents), type=pa.list_(pa.float32()))
    payload = {"latent": latents, **designs.compact.to_columns()}
    table = pa.table(
        {
            **{name: pc.if_else(pa.array(ok, type=pa.bool_()), array, None) for name, array in payload.items()},
            "training_row": pa.array(first, type=pa.int64()),
            "second_training_row": pa.array(second, type=pa.int64()),
            "training_formula": pa.array(
                [space.formulas[p] if p != NOWHERE else None for p in designs.points[:, 0].tolist()], type=pa.string()
            ),
            "attempts": pa.array(designs.attempts, type=pa.int32()),
            "status": pa.array([schema.STATUS_OK if good else schema.STATUS_FAILED for good in ok], type=pa.string()),
            "reason": pa.array([None if good else reason for good in ok], type=pa.string()),
            "content_id": pa.array(compact_ids(designs.compact, ok), type=pa.string()),
        }
    )
    for column, label in enumerate(held.labels):
        method = f"ftcp:{str(held.config['weights_sha256'])[:8]}"
        field = schema.property_field(label.name, method, column=f"predicted.{label.name}")
        table = table.append_column(field, pa.array(designs.predicted[:, column].astype(np.float64), from_pandas=True))
    for name in sampler.targets:
        field = schema.property_field(name, "requested", column=f"target.{name}")
        table = table.append_column(field, pa.array([sampler.target(row)[name] for row in rows], type=pa.float64()))
    return SequenceSet(table, _metadata(sampler))


def _metadata(sampler: Sampler) -> dict[str, Any]:
    """Return what a set of designs says of its making."""
    spec = sampler.spec
    return {
        "ftcp_mode": sampler.held.spec.mode,
        "ftcp_representation": dataclasses.asdict(sampler.held.spec.representation),
        "ftcp_method": spec.method,
        "ftcp_noise": spec.noise,
        "ftcp_scale": sampler.scale,
        "ftcp_scale_errors": {f"{scale:g}": share for scale, share in sampler.errors.items()},
        "ftcp_scale_probe": spec.probe if sampler.errors else 0,
        "ftcp_encoder_noise": spec.encoder_noise,
        "ftcp_rank_by": spec.rank_by,
        "ftcp_where": list(spec.where),
        "ftcp_predict": spec.predict,
        "ftcp_filter": _filter(spec) if spec.filter else {},
    }


def _filter(spec: SamplingSpec) -> dict[str, Any]:
    names = ("attempts", "tolerances", "new_formula", "even_electrons", "min_contact")
    return {name: getattr(spec, name) for name in names}


def _representation(sequences: SequenceSet, spec: FtcpGeneratorSpec) -> FtcpSpec:
    """Return how designs are to be read: as the spec says, or as their model does if the spec leaves that open."""
    held = sequences.metadata.get("ftcp_representation")
    if held is None or spec.representation != FtcpSpec():
        return spec.representation
    made: FtcpSpec = build_spec(FtcpSpec, json.loads(held), "ftcp_representation.")
    return made


def _decoded(sequences: SequenceSet, spec: FtcpGeneratorSpec, run: Run) -> CrystalSet:
    representation = _representation(sequences, spec)

    def part(rows: range) -> CrystalSet:
        run.check_time()
        held = sequences.slice(rows)
        why = held.column("reason")
        compact = Compact.from_columns(held.arrow, representation)
        return crystals_of(
            compact, representation, reasons=[reason and f"There is no design: {reason}" for reason in why],
            parent_input="sequences", parent_rows=rows, metadata={"ftcp_occupancy": representation.occupancy},
        )  # fmt: skip

    return run.map_rows("decode", len(sequences), part, part_rows=_PART_ROWS)
