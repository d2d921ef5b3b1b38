"""sample: sample sequences from a trained generator under conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crysgen_aiida.crystals.errors import BadInput, BadJob
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.worker.inputs import Inputs
from crysgen_aiida.worker.job import Job
from crysgen_aiida.worker.run import WorkerRun
from crysgen_aiida.worker.verbs.common import expect_rows, load_generator


def run(job: Job, inputs: Inputs, run: WorkerRun) -> dict[str, SequenceSet]:
    """Return the sampled sequences.

    :raises BadJob: if the number of sequences is not positive.
    :raises ImpossibleRequest: if a condition is not registered or the model was not trained with it.
    """
    info, generator, spec = load_generator(job)
    n, conditions = job.parameters["n"], job.parameters["conditions"]
    if n < 1:
        raise BadJob(f"The parameter 'n' of sample is {n}; ask for at least one sequence.")
    checkpoint = inputs.folders["generator"]
    info.check_conditions(conditions, _trained_with(checkpoint, info.name))
    sequences = generator.sample(checkpoint, n, conditions, spec, seed=job.seed, run=run)
    expect_rows(sequences, n, f"The generator {info.name}")
    return {"sequences": sequences}


def _trained_with(checkpoint: Path, name: str) -> tuple[str, ...] | None:
    """Return the conditions a checkpoint says it was trained with, None if it does not say."""
    config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    owner = config.get("generator", name)
    if owner != name:
        raise BadInput(f"The generator in the input was trained by {owner!r}, but the job names {name!r}; name it.")
    trained = config.get("conditions")
    return tuple(trained) if isinstance(trained, list | dict) else None
