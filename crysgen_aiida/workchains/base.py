"""WorkerBaseWorkChain: every verb with its remedies. A run that was broken off goes on from its finished parts."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import BaseRestartWorkChain, ExitCode, ProcessHandlerReport, process_handler, while_

from crysgen_aiida.calculations.base import JOURNAL_FILE, PROGRESS_FILE, WorkerCalculation
from crysgen_aiida.calculations.once import SubmitOnce
from crysgen_aiida.calculations.ports import define_exit_codes
from crysgen_aiida.calculations.verbs import (
    DecodeCalculation,
    ElasticCalculation,
    FingerprintCalculation,
    KappaCalculation,
    PhononCalculation,
    PredictCalculation,
    PrepareCalculation,
    ReferenceCalculation,
    RelaxCalculation,
    SampleCalculation,
    ScreenCalculation,
    TrainCalculation,
    TransportCalculation,
)

#: Below this share of its batches, a job that still runs out of memory will not be helped by smaller ones.
SMALLEST_BATCH_SCALE = 1.0 / 64.0

#: Times a job may be resumed: a training of weeks under a limit of a day is nothing unusual.
MOST_JOBS = 100

#: A job that reaches its limit so many times in a row without finishing anything never will.
JOBS_WITHOUT_PROGRESS = 3

#: A worker that leaves neither journal nor progress so many times in a row is not killed but cannot run.
STARTS_WITHOUT_A_SIGN = 3

#: The codes are the same for every verb.
_CODES = PrepareCalculation.spec().exit_codes


class WorkerBaseWorkChain(SubmitOnce, BaseRestartWorkChain):
    """Run one verb until it has finished, handling what can be handled.

    The inputs of the job are under the name of the verb; its outputs come out under their own names. A failure without
    a remedy ends the chain with the job's own exit code and sentence.
    """

    _process_class: type[WorkerCalculation]

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline and outputs from those of the job."""
        super().define(spec)
        verb = cls._process_class.VERB
        spec.expose_inputs(cls._process_class, namespace=verb, exclude=("parent_folder", "remote_folder"))
        spec.expose_outputs(cls._process_class, exclude=("retrieved", "remote_folder", "remote_stash"))
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),  # type: ignore[arg-type]
            cls.results,
        )
        spec.inputs["max_iterations"].default = lambda: orm.Int(MOST_JOBS)
        define_exit_codes(spec)
        # the base class gives these two the numbers 301 and 302, which are the worker's
        spec.exit_code(411, "ERROR_SUB_PROCESS_EXCEPTED", message="The job excepted.", invalidates_cache=True)
        spec.exit_code(
            412, "ERROR_SUB_PROCESS_KILLED", message="The job was killed by a person.", invalidates_cache=True
        )

    def setup(self) -> None:
        """Take the job's inputs into the context, where remedies change them."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(self._process_class, self._process_class.VERB))

    def get_outputs(self, node: orm.CalcJobNode) -> Any:
        """Return the outputs of the last job."""
        return self.exposed_outputs(node, self._process_class)

    # -- remedies -------------------------------------------------------------------------------------------------

    @process_handler(
        priority=600,
        exit_codes=[_CODES.ERROR_OUT_OF_WALLTIME, _CODES.ERROR_SCHEDULER_OUT_OF_WALLTIME],
    )
    def handle_walltime(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """The wall-time limit came: go on from the finished parts, as long as there are more of them each time."""
        reached = _reached(node)
        stuck = reached <= self.ctx.get("reached", (0, 0))
        self.ctx.stuck = self.ctx.get("stuck", 0) + 1 if stuck else 0
        self.ctx.reached = max(reached, self.ctx.get("reached", (0, 0)))
        if self.ctx.stuck >= JOBS_WITHOUT_PROGRESS:
            message = (
                f"The limit was reached {self.ctx.stuck} times without anything finished in between; give the job more "
                f"wall time (max_wallclock_seconds), or more cores. {node.exit_message}"
            )
            self.report(message)
            return ProcessHandlerReport(True, ExitCode(int(node.exit_status or 0), message, True))
        return self._resume(node, "the wall-time limit was reached")

    @process_handler(priority=590, exit_codes=[_CODES.ERROR_OUT_OF_MEMORY, _CODES.ERROR_SCHEDULER_OUT_OF_MEMORY])
    def handle_memory(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Memory ran out: go on with batches of half the size."""
        options = self.ctx.inputs.metadata.options
        scale = float(options.get("batch_scale", 1.0)) / 2
        if scale < SMALLEST_BATCH_SCALE:
            code = self.exit_codes.ERROR_OUT_OF_MEMORY
            message = (
                f"Memory runs out even with batches of {2 * scale:.3g} of their size; give the job more memory, or a "
                "smaller model or potential."
            )
            return ProcessHandlerReport(True, ExitCode(code.status, message, code.invalidates_cache))
        options["batch_scale"] = scale
        return self._resume(node, f"memory ran out: batches are now {scale:.3g} of their size")

    @process_handler(priority=580, exit_codes=[_CODES.ERROR_NO_RESULT, _CODES.ERROR_SCHEDULER_NODE_FAILURE])
    def handle_killed(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """The worker was killed: go on from the finished parts. One that never starts is not started for ever."""
        names = node.outputs.retrieved.base.repository.list_object_names() if "retrieved" in node.outputs else []
        started = JOURNAL_FILE in names or PROGRESS_FILE in names
        self.ctx.never_started = 0 if started else self.ctx.get("never_started", 0) + 1
        if self.ctx.never_started >= STARTS_WITHOUT_A_SIGN:
            message = f"The worker has left no sign of life {self.ctx.never_started} times. {node.exit_message}"
            self.report(message)
            return ProcessHandlerReport(True, ExitCode(_CODES.ERROR_NO_RESULT.status, message, True))
        return self._resume(node, "the worker was killed")

    @process_handler(priority=570, exit_codes=_CODES.ERROR_DISK_FULL)
    def handle_disk(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """The disk is full: only a person can help."""
        code = self.exit_codes.ERROR_DISK_FULL
        message = f"{node.exit_message} The finished parts are in the folder of job {node.pk}: free space, run again."
        self.report(message)
        return ProcessHandlerReport(True, ExitCode(code.status, message, code.invalidates_cache))

    @process_handler(priority=0)
    def handle_rest(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """No remedy: end with the job's own exit code and sentence, unless something else was asked for."""
        asked = self.inputs.get("on_unhandled_failure", None)
        if node.is_finished_ok or (asked is not None and asked.value != "abort"):
            return None
        self.report(f"{self.ctx.process_name}<{node.pk}> failed for good: {node.exit_message}")
        return ProcessHandlerReport(True, ExitCode(int(node.exit_status or 0), node.exit_message, True))

    def _resume(self, node: orm.CalcJobNode, why: str) -> ProcessHandlerReport:
        folder = node.outputs.remote_folder if "remote_folder" in node.outputs else None
        if folder is None or folder.is_cleaned:
            self.ctx.inputs.pop("parent_folder", None)
            self.report(f"{why}; the folder of job {node.pk} was cleaned, so the work starts over")
        else:
            self.ctx.inputs["parent_folder"] = folder
            self.report(f"{why}; going on from the finished parts of job {node.pk}")
        return ProcessHandlerReport(True)


def _reached(node: orm.CalcJobNode) -> tuple[int, int]:
    """Return how far a job came: finished parts, those it took over included, and steps of the stage it was in."""
    if "retrieved" not in node.outputs:
        return 0, 0
    held = node.outputs.retrieved.base.repository
    names = held.list_object_names()
    text = {n: held.get_object_content(n, mode="r") if n in names else "" for n in (JOURNAL_FILE, PROGRESS_FILE)}
    steps = 0
    for line in text[PROGRESS_FILE].splitlines():
        with contextlib.suppress(ValueError, TypeError, AttributeError):  # the last line may be cut short
            steps = max(steps, int(json.loads(line).get("done", 0)))
    return len(text[JOURNAL_FILE].splitlines()), steps


class PrepareBaseWorkChain(WorkerBaseWorkChain):
    """Encode a data set, with remedies."""

    _process_class = PrepareCalculation


class TrainBaseWorkChain(WorkerBaseWorkChain):
    """Train a generator, with remedies."""

    _process_class = TrainCalculation


class SampleBaseWorkChain(WorkerBaseWorkChain):
    """Sample sequences, with remedies."""

    _process_class = SampleCalculation


class DecodeBaseWorkChain(WorkerBaseWorkChain):
    """Decode sequences, with remedies."""

    _process_class = DecodeCalculation


class RelaxBaseWorkChain(WorkerBaseWorkChain):
    """Relax crystals, with remedies."""

    _process_class = RelaxCalculation


class ScreenBaseWorkChain(WorkerBaseWorkChain):
    """Judge crystals, with remedies."""

    _process_class = ScreenCalculation


class FingerprintBaseWorkChain(WorkerBaseWorkChain):
    """Make fingerprints of known crystals, with remedies."""

    _process_class = FingerprintCalculation


class PhononBaseWorkChain(WorkerBaseWorkChain):
    """Compute phonons of relaxed crystals, with remedies."""

    _process_class = PhononCalculation


class ElasticBaseWorkChain(WorkerBaseWorkChain):
    """Compute elastic constants of relaxed crystals, with remedies."""

    _process_class = ElasticCalculation


class KappaBaseWorkChain(WorkerBaseWorkChain):
    """Compute lattice thermal conductivities of relaxed crystals, with remedies."""

    _process_class = KappaCalculation


class PredictBaseWorkChain(WorkerBaseWorkChain):
    """Predict properties by surrogates, with remedies."""

    _process_class = PredictCalculation


class TransportBaseWorkChain(WorkerBaseWorkChain):
    """Compute transport coefficients from electron bands, with remedies."""

    _process_class = TransportCalculation


class ReferenceBaseWorkChain(WorkerBaseWorkChain):
    """Make reference energies, with remedies."""

    _process_class = ReferenceCalculation


#: Every chain by its verb, in the order of the line.
BY_VERB: dict[str, type[WorkerBaseWorkChain]] = {
    chain._process_class.VERB: chain
    for chain in (
        PrepareBaseWorkChain,
        TrainBaseWorkChain,
        SampleBaseWorkChain,
        DecodeBaseWorkChain,
        RelaxBaseWorkChain,
        ScreenBaseWorkChain,
        FingerprintBaseWorkChain,
        PhononBaseWorkChain,
        ElasticBaseWorkChain,
        KappaBaseWorkChain,
        PredictBaseWorkChain,
        TransportBaseWorkChain,
        ReferenceBaseWorkChain,
    )
}
