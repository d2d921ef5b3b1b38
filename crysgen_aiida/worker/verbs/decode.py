"""decode: turn sequences into crystals, a reason for each that fails."""

from __future__ import annotations

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadJob
from crysgen_aiida.crystals.relaxing import Relaxer
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import expect_rows, load_generator, make_settings, potential_name, with_parents


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, CrystalSet]:
    """Return one row a sequence: a crystal, or why there is none.

    :raises BadJob: if a potential is asked for, but not by name.
    """
    info, generator, spec = load_generator(job)
    sequences = inputs.sequences("sequences")
    relaxer = _relaxer(job, run)
    crystals = generator.decode(sequences, spec, seed=job.seed, run=run, relaxer=relaxer)
    expect_rows(crystals, len(sequences), f"The generator {info.name}")
    return {"crystals": with_parents(crystals, "sequences")}


def _relaxer(job: Job, run: WorkerRun) -> Relaxer | None:
    """Return the potential that chooses among the geometries of a sequence, None if none is asked for."""
    potential, relax = job.parameters["potential"], job.parameters["relax"]
    if potential is None:
        if relax:
            raise BadJob("The parameter 'relax' of decode needs a 'potential', e.g. {\"name\": \"chgnet\"}.")
        return None
    from crysgen_aiida.physics.relaxation import RelaxSpec
    from crysgen_aiida.physics.relaxer import PotentialRelaxer

    return PotentialRelaxer(potential_name(job), make_settings(RelaxSpec, relax, "relax."), run.device)
