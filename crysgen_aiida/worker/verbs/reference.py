"""reference: make a set of reference energies from relaxed crystals."""

from __future__ import annotations

from crysgen_aiida.crystals.table import ReferenceSet
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, ReferenceSet]:
    """Return the reference energies."""
    from crysgen_aiida.physics.reference import build_reference

    reference = build_reference(
        inputs.crystals("crystals"), name=job.parameters["name"], scheme=job.parameters["scheme"], run=run
    )
    return {"reference": reference}
