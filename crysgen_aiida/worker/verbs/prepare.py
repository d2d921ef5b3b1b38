"""prepare: make the training set of a generator from a set of crystals."""

from __future__ import annotations

from crysgen_aiida.crystals.errors import CrysgenError, EmptySet
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import load_generator


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, SequenceSet]:
    """Return the training set.

    :raises EmptySet: if not one crystal could be encoded.
    """
    info, generator, spec = load_generator(job)
    training_set = generator.prepare(inputs.crystals("crystals"), spec, seed=job.seed, run=run)
    if "split" not in training_set.columns:
        raise CrysgenError(f"The training set of {info.name} has no column 'split'; that is an error in its code.")
    if not training_set.ok.any():
        raise EmptySet(
            f"{info.name} could encode none of the {len(inputs.crystals('crystals'))} crystals; see the reasons that "
            "its limits give, and choose crystals within them or widen the limits in its spec."
        )
    return {"training_set": training_set}
