"""Exit codes: one number one meaning, the worker's and ours the same, failures never a cache source."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

pytestmark = pytest.mark.usefixtures("aiida_profile")


def processes():
    for group in ("aiida.calculations", "aiida.workflows"):
        for entry in entry_points(group=group):
            if entry.name.startswith("crysgen."):
                yield entry.load()


def of_worker():
    """Yield the processes that run the worker, and lines of them; engines have programs and numbers of their own."""
    for process in processes():
        if "ERROR_BAD_JOB" in process.spec().exit_codes:
            yield process


def inherited(process, what):
    """Return what a process has from a plug-in that it extends: names of exit codes or of inputs."""
    bases = [base for base in process.__mro__[1:] if base.__module__.split(".")[0].startswith("aiida_")]
    return {name for base in bases if hasattr(base, "spec") for name in getattr(base.spec(), what)}


def test_jobs_chains_and_lines_of_the_worker_are_those_that_declare_its_errors():
    names = {process.__name__ for process in of_worker()}
    assert {"RelaxCalculation", "RelaxBaseWorkChain", "TrainGeneratorWorkChain", "InverseDesignWorkChain"} <= names
    others = {process.__name__ for process in processes()} - names
    assert not {name for name in others if name.endswith("BaseWorkChain") and "Abinit" not in name}


def test_a_number_has_one_meaning_over_all_processes():
    meanings: dict[int, set[str]] = {}
    for process in of_worker():
        codes = process.spec().exit_codes
        assert len({c.status for c in codes.values()}) == len(codes), process
        for label, code in codes.items():
            if code.status >= 300:
                meanings.setdefault(code.status, set()).add(label)
    assert len(meanings) > 12
    assert {n: m for n, m in meanings.items() if len(m) > 1} == {}


def test_every_error_of_the_worker_is_declared_by_every_job():
    from crysgen_aiida.crystals.errors import ALL_ERRORS

    for process in of_worker():
        codes = process.spec().exit_codes
        for error in ALL_ERRORS:
            assert codes[error.label].status == error.exit_code
            assert codes[error.label].message == error.summary


def test_no_failure_is_repeated_from_the_cache():
    for process in processes():
        for label, code in process.spec().exit_codes.items():
            if 300 <= code.status < 400 and label not in inherited(process, "exit_codes"):
                assert code.invalidates_cache, (process, label)


def test_every_port_says_what_it_is():
    for process in processes():
        for name, port in process.spec().inputs.items():
            told = port.help or hasattr(port, "items") or name in inherited(process, "inputs")
            assert told, (process, name)
