"""elastic: compute elastic constants of relaxed crystals with a potential."""

from __future__ import annotations

from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import expect_rows, make_settings, potential_name, with_parents


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, PropertyTable]:
    """Return the elastic constants of each crystal, or why it has none.

    :raises BadJob: if the potential is not named.
    """
    from crysgen_aiida.physics.elasticity import elastic_set
    from crysgen_aiida.physics.response_spec import ElasticSpec

    crystals = inputs.crystals("crystals")
    spec = make_settings(ElasticSpec, job.parameters["elastic"], "elastic.")
    table = elastic_set(crystals, potential=potential_name(job), spec=spec, run=run)
    expect_rows(table, len(crystals), "The elastic constants")
    return {"table": with_parents(table, "crystals")}
