"""kappa: compute the lattice thermal conductivity of relaxed crystals with a potential."""

from __future__ import annotations

from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import expect_rows, make_settings, potential_name, with_parents


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, PropertyTable]:
    """Return the thermal conductivity of each crystal, or why it has none.

    :raises BadJob: if the potential is not named.
    :raises NotInstalled: if phono3py is missing.
    """
    from crysgen_aiida.physics.conductivity import conductivity_set
    from crysgen_aiida.physics.response_spec import KappaSpec

    crystals = inputs.crystals("crystals")
    spec = make_settings(KappaSpec, job.parameters["kappa"], "kappa.")
    table = conductivity_set(crystals, potential=potential_name(job), spec=spec, run=run)
    expect_rows(table, len(crystals), "The thermal conductivity")
    return {"table": with_parents(table, "crystals")}
