"""transport: compute Seebeck coefficients, conductivities and power factors from bands on a mesh of k-points."""

from __future__ import annotations

from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import expect_rows, make_settings, with_parents


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, PropertyTable]:
    """Return the transport coefficients of each crystal, or why it has none.

    :raises NotInstalled: if BoltzTraP2 is missing.
    """
    from crysgen_aiida.physics.transport import transport_set
    from crysgen_aiida.physics.transport_spec import TransportSpec

    bands = inputs.sets["bands"]
    assert isinstance(bands, PropertyTable)
    spec = make_settings(TransportSpec, job.parameters["transport"], "transport.")
    table = transport_set(bands, spec=spec, run=run)
    expect_rows(table, len(bands), "The transport coefficients")
    return {"table": with_parents(table, "bands")}
