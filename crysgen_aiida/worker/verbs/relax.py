"""relax: relax crystals with a potential, atoms and cell."""

from __future__ import annotations

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import (
    expect_rows,
    known_formulas,
    make_settings,
    potential_name,
    with_parents,
)


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, CrystalSet]:
    """Return one row a crystal: relaxed, failed with a reason, or skipped by the selection.

    :raises BadJob: if the potential is not named.
    """
    from crysgen_aiida.physics.relaxation import RelaxSpec, relax_set
    from crysgen_aiida.physics.selection import SelectionSpec

    parameters = job.parameters
    selection = parameters["selection"]
    crystals = inputs.crystals("crystals")
    relaxed = relax_set(
        crystals,
        potential=potential_name(job),
        spec=make_settings(RelaxSpec, parameters["relax"], "relax."),
        selection=None if selection is None else make_settings(SelectionSpec, selection, "selection."),
        run=run,
        known=inputs.known("known"),
        formulas=known_formulas(inputs),
        time_box_seconds=parameters["time_box_seconds"],
    )
    expect_rows(relaxed, len(crystals), "The relaxation")
    return {"crystals": with_parents(relaxed, "crystals")}
