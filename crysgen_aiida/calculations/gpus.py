"""Ask a scheduler for GPUs and cores, in the words of each scheduler."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: What the header line of each scheduler starts with, and the line that asks for ``{gpus}`` GPUs on the one node used.
#: PBS Pro has none: there the request belongs into the one ``select`` chunk.
DIRECTIVES: dict[str, tuple[str, str | None]] = {
    "core.slurm": ("#SBATCH", "#SBATCH --gpus-per-node={gpus}"),
    "core.pbspro": ("#PBS", None),
    "core.lsf": ("#BSUB", '#BSUB -gpu "num={gpus}"'),
    "core.sge": ("#$", "#$ -l gpu={gpus}"),
}

#: No scheduler hands out GPUs here: jobs take declared slots when they run.
SLOTS = "core.direct"

#: Property of a computer that overrides the line above, for sites with another name for their GPUs.
DIRECTIVE_PROPERTY = "crysgen_gpu_directive"

#: Property of a computer: ``{"directory": "…", "count": 2}``, its GPU slots for jobs without a scheduler.
SLOTS_PROPERTY = "crysgen_gpu_slots"

_SELECT = re.compile(r"^(#PBS -l select=\S+)$", re.MULTILINE)


def refuse_gpus(scheduler: str, gpus: int, slots: Mapping[str, Any] | None, directive: str | None) -> str | None:
    """Return a sentence if ``gpus`` cannot be asked for on a computer with this scheduler, else None."""
    if gpus == 0:
        return None
    if scheduler == SLOTS:
        if slots is None:
            return (
                "GPUs without a scheduler are shared through slots: give `metadata.options.gpu_slots` a "
                f"{{'directory': …, 'count': …}}, or set it once as the computer's property {SLOTS_PROPERTY!r}."
            )
        count = int(slots.get("count", 0))
        return f"{gpus} GPUs are asked for, but only {count} slots are declared." if gpus > count else None
    if scheduler not in DIRECTIVES and directive is None:
        return (
            f"It is not known how to ask the scheduler {scheduler} for GPUs: set the computer's property "
            f"{DIRECTIVE_PROPERTY!r} to the line that does, with {{gpus}} for the number."
        )
    return None


def add_gpus(script: str, scheduler: str, gpus: int, directive: str | None = None) -> str:
    """Return the submit script with a request for ``gpus`` GPUs in its header.

    The script is edited rather than ``custom_scheduler_commands``, because that option is part of the cache hash and
    the number of GPUs does not change what is computed.
    """
    if gpus == 0 or scheduler == SLOTS:
        return script
    prefix, line = DIRECTIVES.get(scheduler, (None, None))
    line = directive or line
    if line is None:
        return _SELECT.sub(rf"\1:ngpus={gpus}", script, count=1)
    return _add_line(script, prefix or line.split(maxsplit=1)[0], line.format(gpus=gpus))


def add_cores(script: str, scheduler: str, threads: int) -> str:
    """Return the submit script with a request for a core a thread, unless it has one for cores already.

    Slurm and PBS Pro give a process one core if not asked: all threads would share it. The script is edited because
    `resources` are part of the cache hash and the number of threads is not.
    """
    if threads == 1:
        return script
    if scheduler == "core.slurm" and "#SBATCH --cpus-per-task=" not in script:
        return _add_line(script, "#SBATCH", f"#SBATCH --cpus-per-task={threads}")
    if scheduler == "core.pbspro" and ":ncpus=" not in script:
        return _SELECT.sub(rf"\1:ncpus={threads}", script, count=1)
    return script


def _add_line(script: str, prefix: str, line: str) -> str:
    lines = script.splitlines(keepends=True)
    header = [i for i, text in enumerate(lines) if text.startswith(prefix)]
    lines.insert(header[-1] + 1 if header else 1, f"{line}\n")
    return "".join(lines)
