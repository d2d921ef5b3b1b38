"""WorkerParser: outputs first, whatever happened; then the exit code the worker wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.exceptions import ValidationError
from aiida.engine import ExitCode
from aiida.parsers import Parser

from crysgen_aiida.calculations.base import JOURNAL_FILE, LOG_FILE, OUTPUT_FOLDER, RESULT_FILE, WorkerCalculation
from crysgen_aiida.calculations.verdict import scheduler_verdict
from crysgen_aiida.crystals.errors import CrysgenError, OutOfTime
from crysgen_aiida.crystals.schema import STATUS_TIMEOUT
from crysgen_aiida.data.generator import GeneratorData
from crysgen_aiida.data.packed import PackedData


class WorkerParser(Parser):
    """Read what the worker left: sets and generators become nodes, ``result.json`` becomes the exit code.

    Schedulers do not pass exit codes on, so the worker's is in its file; no file means it was killed. What the
    scheduler says it did is believed: memory that ran out needs another remedy than a signal from nobody knows where.
    """

    CACHE_VERSION = 1

    def parse(self, retrieved_temporary_folder: str | None = None, **kwargs: Any) -> ExitCode | None:
        """Attach every whole output, then return the worker's exit code with its sentence."""
        problems: list[str] = []
        result, result_problem = self._result()
        promised = (result or {}).get("outputs", {})
        process_class = self.node.process_class
        assert issubclass(process_class, WorkerCalculation)
        for label, node_class in process_class.OUTPUTS.items():
            try:
                node = read_output(Path(retrieved_temporary_folder or "") / OUTPUT_FOLDER, label, node_class)
            except (CrysgenError, ValidationError) as error:
                problems.append(f"the output {label} is unusable: {error}")
                continue
            if node is None:
                problems.append(f"the output {label} is missing")
                continue
            stated = promised.get(label, {}).get("content_hash")
            if stated is not None and stated != node.content_hash:
                problems.append(f"the output {label} has another content hash than the worker stated")
                continue
            node.label = self.node.label  # a job that is called something calls what it makes so
            self.out(label, node)
            self._mark_timeouts(label, node)
        if result is None:
            return self._exit("ERROR_BAD_RESULT", result_problem) if result_problem else self._killed()
        for warning in result.get("warnings", []):
            self.logger.warning(str(warning))
        status = int(result["exit_code"])
        if status == OutOfTime.exit_code and self._verdict() == "ERROR_SCHEDULER_OUT_OF_MEMORY":
            return self._killed()  # it was told to stop, not why
        if status != 0:
            return self._failed(status, str(result.get("message", "")))
        if problems:
            return self._exit("ERROR_BAD_RESULT", f"The worker says it finished, but {'; '.join(problems)}.")
        return None

    def _mark_timeouts(self, label: str, node: orm.Data) -> None:
        """Rows that the clock stopped depend on the machine: such a job is never a cache source."""
        stopped = node.table.column("status").count(STATUS_TIMEOUT) if isinstance(node, PackedData) else 0
        if stopped:
            self.node.base.caching.is_valid_cache = False
            self.logger.warning(
                f"{stopped} rows of {label} were stopped by the clock: not reproducible, hence no cache source."
            )

    def _result(self) -> tuple[dict[str, Any] | None, str | None]:
        """Return the content of ``result.json``, or None and, if it is there but malformed, what is wrong."""
        try:
            text = self.retrieved.base.repository.get_object_content(RESULT_FILE, mode="r")
        except FileNotFoundError:
            return None, None
        try:
            result = json.loads(text)
            int(result["exit_code"])
        except (ValueError, TypeError, KeyError) as error:
            return None, f"{RESULT_FILE} is malformed ({type(error).__name__}: {error}); run the job again."
        return result, None

    def _killed(self) -> ExitCode:
        names = self.retrieved.base.repository.list_object_names()
        units, last = 0, ""
        if JOURNAL_FILE in names:
            units = len(self.retrieved.base.repository.get_object_content(JOURNAL_FILE, mode="r").splitlines())
        if LOG_FILE in names:
            lines = self.retrieved.base.repository.get_object_content(LOG_FILE, mode="r").strip().splitlines()
            last = f" Its last words: {lines[-1][:300]}" if lines else ""
        if units == 0 and last:
            hint = "If it never started, check the code's path and the computer's prepend text."
        else:
            hint = "Finished parts are kept and the run can be resumed."
        verdict = self._verdict()
        why = f" {getattr(self.exit_codes, verdict).message}" if verdict else ""
        message = f"The worker was killed after {units} units of work.{why} {hint}{last}"
        return self._exit(verdict or "ERROR_NO_RESULT", message)

    def _verdict(self) -> str | None:
        """Return the label of the scheduler's exit code: what AiiDA found out, else what Slurm wrote."""
        found = self.node.exit_status
        for label, code in self.exit_codes.items():
            if label.startswith("ERROR_SCHEDULER_") and code.status == found:
                return str(label)
        name = self.node.get_option("scheduler_stderr")
        if name is None or name not in self.retrieved.base.repository.list_object_names():
            return None
        return scheduler_verdict(self.retrieved.base.repository.get_object_content(name, mode="r"))

    def _failed(self, status: int, message: str) -> ExitCode:
        for code in self.exit_codes.values():
            if code.status == status:
                return ExitCode(status, message or code.message, code.invalidates_cache)
        return self._exit(
            "ERROR_BAD_RESULT", f"{RESULT_FILE} has exit code {status}, which is not documented: {message}"
        )

    def _exit(self, label: str, message: str) -> ExitCode:
        code = getattr(self.exit_codes, label)
        return ExitCode(code.status, message, code.invalidates_cache)


def read_output(folder: Path, label: str, node_class: type[orm.Data]) -> Any:
    """Return the unstored node of one output, or None if the worker did not write it.

    :raises CrysgenError: if it is corrupt.
    """
    if issubclass(node_class, GeneratorData):
        path = folder / label
        return node_class(path) if path.is_dir() else None
    assert issubclass(node_class, PackedData)
    path = folder / f"{label}.parquet"
    return node_class(node_class.TABLE_CLASS.read(path)) if path.is_file() else None
