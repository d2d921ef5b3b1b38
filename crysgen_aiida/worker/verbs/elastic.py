"""elastic: compute elastic constants of relaxed crystals with a potential."""

from __future__ import annotations

from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import of_potential


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, PropertyTable]:
    """Return the elastic constants of each crystal, or why it has none.

    :raises BadJob: if the potential is not named.
    """
    from crysgen_aiida.physics.elasticity import elastic_set
    from crysgen_aiida.physics.response_spec import ElasticSpec

    return of_potential(job, inputs, run, elastic_set, ElasticSpec, "The elastic constants")
