"""phonon: compute phonons of relaxed crystals with a potential, and say which are at a minimum."""

from __future__ import annotations

from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import of_potential


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, PropertyTable]:
    """Return the phonons of each crystal, or why it has none.

    :raises BadJob: if the potential is not named.
    """
    from crysgen_aiida.physics.phonons import phonon_set
    from crysgen_aiida.physics.response_spec import PhononSpec

    return of_potential(job, inputs, run, phonon_set, PhononSpec, "The phonons")
