"""train: train a generator, or fine-tune one."""

from __future__ import annotations

from pathlib import Path

from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import load_generator


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, Path]:
    """Return the folder of the trained generator."""
    _, generator, spec = load_generator(job)
    checkpoint = generator.train(
        inputs.sequences("training_set"), spec, seed=job.seed, run=run, start_from=inputs.folders.get("start_from")
    )
    return {"generator": checkpoint}
