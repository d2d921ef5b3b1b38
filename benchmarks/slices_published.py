"""Encode and decode crystals with the published package ``slices``: a child of ``slices_compare.py``.

It runs under the Python of an environment that has the package and knows nothing of this project. For each line of
JSON ``{"cif": text}`` on standard input it answers one line: the string, the structure it decodes to without a
potential, and what both took [ms], as processor time with that of the ``xtb`` child processes, and by the clock.

Nothing of the package is changed. Its object is made without the potential, before the first time is taken: its own
call of the missing potential fails at once and makes it return the structure before relaxation, which is compared.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import warnings

#: Seconds of processor time after which a call is given up; counted as failed.
PATIENCE = 120


class TooLong(Exception):
    """The call did not end in time."""


def give_up(*_):
    """Handle the timer."""
    raise TooLong(f"more than {PATIENCE} s of processor time")


def processor_seconds():
    """Return what this process and its finished children used."""
    used = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        used += usage.ru_utime + usage.ru_stime
    return used


def timed(call, *arguments):
    """Return the result or None, the error or None, and processor and wall time [ms]."""
    processor, wall, result, error = processor_seconds(), time.perf_counter(), None, None
    signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        result = call(*arguments)
    except (Exception, SystemExit) as failure:
        error = f"{type(failure).__name__}: {failure}"[:200]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return result, error, [1e3 * (processor_seconds() - processor), 1e3 * (time.perf_counter() - wall)]


def decoded(backend, string):
    """Return the optimised structure: the last one when there is no potential."""
    backend.from_SLICES(string, 4, True)
    return backend.to_structures()[0][-1]


def main():
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the package prints
    warnings.simplefilter("ignore")
    from importlib.metadata import version

    from pymatgen.core import Structure
    from slices.core import SLICES

    backend = SLICES(relax_model="none")
    answers.write(
        json.dumps({name: version(name) for name in ("slices", "pymatgen", "numpy", "tensorflow-cpu")}) + "\n"
    )
    for line in sys.stdin:
        structure = Structure.from_str(json.loads(line)["cif"], fmt="cif")
        string, encode_error, encode_ms = timed(backend.structure2SLICES, structure, 4)
        answer = {"string": string, "encode_error": encode_error, "encode_ms": encode_ms}
        if string is not None:
            found, error, answer["decode_ms"] = timed(decoded, backend, string)
            answer["decode_error"] = error
            if found is not None:
                answer["lattice"] = found.lattice.matrix.tolist()
                answer["numbers"] = [int(z) for z in found.atomic_numbers]
                answer["frac_coords"] = found.frac_coords.tolist()
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
