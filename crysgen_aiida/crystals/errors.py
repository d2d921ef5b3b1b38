"""Errors with the exit code the worker reports for them.

One table serves both wings: the worker writes ``exit_code`` into ``result.json`` and the calculation
plug-ins declare the same numbers in their process specs. Codes are unique and never reused.
"""

from __future__ import annotations


class CrysgenError(Exception):
    """Base of every expected failure. The message is a sentence: what was wrong, where, what to do."""

    exit_code = 340
    label = "ERROR_INTERNAL"
    summary = "The worker failed unexpectedly; its log holds the traceback."


class BadJob(CrysgenError):
    exit_code = 302
    label = "ERROR_BAD_JOB"
    summary = "The job description is malformed or names an unknown verb, input or setting."


class BadInput(CrysgenError):
    exit_code = 310
    label = "ERROR_BAD_INPUT"
    summary = "An input file is corrupt, truncated, of the wrong kind or of an unsupported schema."


class ImpossibleRequest(CrysgenError):
    exit_code = 311
    label = "ERROR_IMPOSSIBLE_REQUEST"
    summary = "The request names a property, condition or target that this generator or table cannot serve."


class EmptySet(CrysgenError):
    exit_code = 312
    label = "ERROR_EMPTY_SET"
    summary = "A set is empty, or nothing in it is usable for this step."


class CorruptWeights(CrysgenError):
    exit_code = 313
    label = "ERROR_CORRUPT_WEIGHTS"
    summary = "The weights of a generator or potential are missing, corrupt or do not fit their configuration."


class NotInstalled(CrysgenError):
    exit_code = 314
    label = "ERROR_NOT_INSTALLED"
    summary = "A generator, potential or optional package is not installed where the worker runs."


class EnergySchemeMismatch(CrysgenError):
    exit_code = 315
    label = "ERROR_ENERGY_SCHEME_MISMATCH"
    summary = "Energies of different schemes were about to be compared, or an elemental terminal is missing."


class OutOfTime(CrysgenError):
    exit_code = 320
    label = "ERROR_OUT_OF_WALLTIME"
    summary = "The wall-time limit was near; finished parts are kept and the run can be resumed."


class OutOfMemory(CrysgenError):
    exit_code = 321
    label = "ERROR_OUT_OF_MEMORY"
    summary = "Memory ran out; finished parts are kept and the run can be resumed with a smaller batch."


class DiskFull(CrysgenError):
    exit_code = 322
    label = "ERROR_DISK_FULL"
    summary = "The disk is full; finished parts are kept and the run can be resumed once there is space."


class Diverged(CrysgenError):
    exit_code = 330
    label = "ERROR_DIVERGED"
    summary = "The training loss became not finite; lower the learning rate or check the data."


#: Every error class, in the order of its exit code: the process specs are made from this.
ALL_ERRORS: tuple[type[CrysgenError], ...] = (
    BadJob,
    BadInput,
    ImpossibleRequest,
    EmptySet,
    CorruptWeights,
    NotInstalled,
    EnergySchemeMismatch,
    OutOfTime,
    OutOfMemory,
    DiskFull,
    Diverged,
    CrysgenError,
)
