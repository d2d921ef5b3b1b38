"""What a job that crashed says of its reason: the plug-in's parsers tell many apart, not memory and symmetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiida import orm

MEMORY, SYMMETRY = "memory", "symmetry"

#: What compilers, libraries, kernels and schedulers print when memory runs out.
_MEMORY = (
    "cannot allocate memory",
    "allocation would exceed memory limit",
    "insufficient virtual memory",
    "out of memory",
    "oom-kill",
    "oom_kill",
    "exceeded memory limit",
    "error allocating",
    "std::bad_alloc",
)
#: What pw.x and ph.x stop with when the symmetry they found does not fit grids, cell or atoms.
_SYMMETRY = (
    "lone vector",
    "not orthogonal operation",
    "incompatible fft grid",
    "fft grid incompatible with symmetry",
    "error in routine checkallsym",
    "error in routine scale_sym_ops",
    "error in routine sgama",
    "wrong representation",
)
#: What a shell or the loader prints of a program that cannot be started, now or later.
_UNFIT = (
    "command not found",
    "no such file or directory",
    "error while loading shared libraries",
    "permission denied",
    "cannot execute",
    "exec format error",
)


def reason_of(calculation: orm.CalcJobNode) -> str:
    """Return :data:`MEMORY` or :data:`SYMMETRY` if that is why a job ended early, else nothing."""
    if calculation.exit_status == 110:  # the scheduler says so itself
        return MEMORY
    text = _printed(calculation).lower()
    if any(sign in text for sign in _MEMORY):
        return MEMORY
    return SYMMETRY if any(sign in text for sign in _SYMMETRY) else ""


def last_words(calculation: orm.CalcJobNode) -> str:
    """Return the error pw.x or ph.x stopped with, in one line, empty if it printed none."""
    lines = [line.strip() for line in _printed(calculation).splitlines()]
    for k, line in enumerate(lines):
        if line.startswith("Error in routine"):
            return " ".join(part for part in lines[k : k + 2] if part and not part.startswith("%"))
    return ""


def was_killed(calculation: orm.CalcJobNode) -> bool:
    """Whether a job ended without a word of its own, and not because its program cannot be started."""
    text = _printed(calculation).lower()
    return not last_words(calculation) and not any(sign in text for sign in _UNFIT)


def _printed(calculation: orm.CalcJobNode) -> str:
    """Return the end of what a job and its scheduler printed."""
    if "retrieved" not in calculation.outputs:
        return ""
    repository = calculation.outputs.retrieved.base.repository
    names = [calculation.get_option("output_filename"), "CRASH"]
    held = [str(repository.get_object_content(n)) for n in names if n and n in repository.list_object_names()]
    return "\n".join([text[-20_000:] for text in held] + [calculation.get_scheduler_stderr() or ""])
