"""screen: judge crystals by a named protocol."""

from __future__ import annotations

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.table import PropertyTable, SequenceSet
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import expect_rows, known_formulas, with_parents


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, PropertyTable]:
    """Return one row of verdicts and properties a crystal, aggregates in the metadata."""
    from crysgen_aiida.screening.screen import screen_set

    unrelaxed, sequences = inputs.sets.get("unrelaxed"), inputs.sets.get("sequences")
    assert unrelaxed is None or isinstance(unrelaxed, CrystalSet)
    assert sequences is None or isinstance(sequences, SequenceSet)
    crystals = inputs.crystals("crystals")
    table = screen_set(
        crystals,
        unrelaxed=unrelaxed,
        sequences=sequences,
        reference=inputs.reference("reference"),
        known=inputs.known("known"),
        formulas=known_formulas(inputs),
        fingerprints=inputs.tables("fingerprints"),
        protocol=job.parameters["protocol"],
        requested=job.parameters["requested"],
        overrides=job.parameters["overrides"],
        run=run,
    )
    expect_rows(table, len(crystals), "The screening")
    return {"table": with_parents(table, "crystals")}
