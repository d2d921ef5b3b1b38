"""EngineStage: the ports that every stage of every engine shares."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, WorkChain

from crysgen_aiida.calculations.once import SubmitOnce


class EngineStage(SubmitOnce, WorkChain):
    """One stage of a verification on one crystal.

    A subclass says how; what goes in and what comes out is the same for all, so that a verification does not know
    which engine it drives. ``results`` is made by a calcfunction from the outputs of the engine's own processes
    (:func:`crysgen_aiida.engines.results.stage_results` writes its content), so a number leads back to them.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the ports and the exit codes."""
        super().define(spec)
        spec.input("structure", valid_type=orm.StructureData, help="The crystal.")
        spec.input_namespace("codes", valid_type=orm.AbstractCode, help="Codes by role.")
        spec.input(
            "settings",
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            serializer=orm.to_aiida_type,
            help="Physics: the settings of the stage, as a protocol of the engine gives them.",
        )
        spec.input(
            "pseudo_family",
            valid_type=orm.Str,
            required=False,
            serializer=orm.to_aiida_type,
            help="Label of the family of pseudopotentials.",
        )
        spec.input(
            "options",
            valid_type=dict,
            non_db=True,
            required=False,
            help="Site: metadata.options of every job; nothing here changes a result.",
        )
        spec.output("results", valid_type=orm.Dict, help="Values, facts and verdict; see engines/results.py.")
        spec.output("structure", valid_type=orm.StructureData, required=False, help="The crystal at rest.")
        spec.output("tensors", valid_type=orm.ArrayData, required=False, help="Tensors; see engines/contract.py.")
        spec.output("bands", valid_type=orm.BandsData, required=False, help="Electronic bands along a path [eV].")
        spec.output("mesh_bands", valid_type=orm.BandsData, required=False, help="Electronic bands on a mesh [eV].")
        spec.output("phonon_bands", valid_type=orm.BandsData, required=False, help="Phonon bands [THz].")
        spec.output("dos", valid_type=orm.XyData, required=False, help="Density of states.")
        spec.exit_code(500, "ERROR_NOT_SUITABLE", message="The crystal is not one this stage can compute: {reason}")
        spec.exit_code(
            501, "ERROR_NOT_CONVERGED", invalidates_cache=True, message="The calculation did not converge: {reason}"
        )
        spec.exit_code(502, "ERROR_ENGINE_FAILED", invalidates_cache=True, message="The engine failed: {reason}")

    def refused(self, reason: str) -> ExitCode:
        """Return the exit code of a crystal this stage cannot compute, with the reason."""
        self.report(reason)
        return self.exit_codes.ERROR_NOT_SUITABLE.format(reason=reason)

    def failed(self, process: orm.ProcessNode, *, not_converged: tuple[int, ...] = ()) -> ExitCode:
        """Return the exit code for a process that did not end well, with its sentence.

        :param not_converged: exit statuses of the process that mean it did not converge.
        """
        reason = f"{process.process_label}<{process.pk}> ended with {process.exit_status}: " + (
            process.exit_message or str(process.process_state)
        )
        self.report(reason)
        code = (
            self.exit_codes.ERROR_NOT_CONVERGED
            if process.exit_status in not_converged
            else self.exit_codes.ERROR_ENGINE_FAILED
        )
        return code.format(reason=reason)
