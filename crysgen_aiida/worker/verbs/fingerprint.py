"""fingerprint: make site fingerprints of known crystals, for how unlike them others are."""

from __future__ import annotations

from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import expect_rows, with_parents


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, PropertyTable]:
    """Return one fingerprint a crystal, or why there is none."""
    from crysgen_aiida.screening.fingerprints import fingerprint_set

    crystals = inputs.crystals("crystals")
    table = fingerprint_set(crystals, labelled=job.parameters["labelled"], run=run)
    expect_rows(table, len(crystals), "The fingerprints")
    return {"table": with_parents(table, "crystals")}
