"""Why a scheduler ended a job, from its own words: its accounting is often absent, and the worker cannot tell."""

from __future__ import annotations

import re

#: Labels of AiiDA's exit codes, and what Slurm writes into a job's standard error when that has happened. AiiDA looks
#: at the first line alone and does not know the words of the kernel's memory limits.
SIGNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("ERROR_SCHEDULER_OUT_OF_MEMORY", re.compile(r"exceeded .*memory limit|oom.kill", re.IGNORECASE)),
    ("ERROR_SCHEDULER_OUT_OF_WALLTIME", re.compile(r"due to time limit", re.IGNORECASE)),
    ("ERROR_SCHEDULER_NODE_FAILURE", re.compile(r"due to node failure", re.IGNORECASE)),
)

#: Slurm's own words, in the job's standard error; whatever else is there is the job's.
_OWN = re.compile(r"^(slurmstepd|srun|slurmd)\b", re.IGNORECASE)


def scheduler_verdict(stderr: str) -> str | None:
    """Return the label of the exit code for what Slurm says it did to the job, None if it says nothing."""
    said = "\n".join(line for line in stderr.splitlines() if _OWN.match(line))
    return next((label for label, sign in SIGNS if sign.search(said)), None)
