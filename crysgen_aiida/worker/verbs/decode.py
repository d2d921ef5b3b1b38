"""decode: turn sequences into crystals, a reason for each that fails."""

from __future__ import annotations

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import expect_rows, load_generator, with_parents


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, CrystalSet]:
    """Return one row a sequence: a crystal, or why there is none."""
    info, generator, spec = load_generator(job)
    sequences = inputs.sequences("sequences")
    crystals = generator.decode(sequences, spec, seed=job.seed, run=run)
    expect_rows(crystals, len(sequences), f"The generator {info.name}")
    return {"crystals": with_parents(crystals, "sequences")}
