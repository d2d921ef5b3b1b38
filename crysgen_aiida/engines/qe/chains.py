"""The plug-in's restart chains with handlers for what they do not handle: memory, symmetry, kills, QE's own limits.

Everything else is aiida-quantumespresso's: k-points, restarts, walltime, diagonalisation, ionic convergence.
"""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessHandlerReport, process_handler
from aiida_quantumespresso.calculations.ph import PhCalculation
from aiida_quantumespresso.calculations.pw import PwCalculation
from aiida_quantumespresso.common.types import RestartType
from aiida_quantumespresso.workflows.ph.base import PhBaseWorkChain
from aiida_quantumespresso.workflows.pw.base import PwBaseWorkChain
from aiida_quantumespresso.workflows.pw.relax import PwRelaxWorkChain

from crysgen_aiida.calculations.once import SubmitOnce
from crysgen_aiida.engines.qe.calculation import QePhCalculation
from crysgen_aiida.engines.qe.crashes import MEMORY, SYMMETRY, last_words, reason_of, was_killed
from crysgen_aiida.engines.qe.results import missing_matrices

#: Exit codes of a pw.x or ph.x that ended before it was done, whatever the reason; 110: AiiDA's out of memory.
PW_CRASHED = [
    PwCalculation.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY,
    PwCalculation.exit_codes.ERROR_SCHEDULER_NODE_FAILURE,
    PwCalculation.exit_codes.ERROR_OUTPUT_STDOUT_INCOMPLETE,
    PwCalculation.exit_codes.ERROR_OUTPUT_STDOUT_MISSING,
    PwCalculation.exit_codes.ERROR_OUTPUT_XML_MISSING,
    PwCalculation.exit_codes.ERROR_OUTPUT_FILES,
    PwCalculation.exit_codes.ERROR_UNEXPECTED_PARSER_EXCEPTION,
    PwCalculation.exit_codes.ERROR_SYMMETRY_NON_ORTHOGONAL_OPERATION,
]
PH_CRASHED = [
    PhCalculation.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY,
    PhCalculation.exit_codes.ERROR_SCHEDULER_NODE_FAILURE,
    PhCalculation.exit_codes.ERROR_OUTPUT_STDOUT_INCOMPLETE,
    PhCalculation.exit_codes.ERROR_OUTPUT_STDOUT_MISSING,
    PhCalculation.exit_codes.ERROR_UNEXPECTED_PARSER_EXCEPTION,
    PhCalculation.exit_codes.ERROR_WRONG_REPRESENTATION,
]
#: How often a job that ended without a word is started again: a node that failed, a machine that was switched off.
KILLS = 3
#: More electronic steps, and a smaller share of the new density, at each failure to converge.
MORE_STEPS, LESS_MIXING = 2, 0.5
#: What takes less memory, the mildest first; each on top of those before it.
LESS_MEMORY: tuple[dict[str, dict[str, Any]], ...] = (
    {"CONTROL": {"disk_io": "medium"}, "ELECTRONS": {"diago_david_ndim": 2, "mixing_ndim": 4}},
    {"ELECTRONS": {"diagonalization": "cg"}},
)
#: ph.x of QE 6 stops at more mixed iterations than this.
NMIX_PH = 5
LEAST_ALPHA = 0.1


class PwChain(SubmitOnce, PwBaseWorkChain):
    """``PwBaseWorkChain`` that also survives memory limits, wrong symmetries and kills by the scheduler."""

    @process_handler(priority=410, exit_codes=[PwCalculation.exit_codes.ERROR_ELECTRONIC_CONVERGENCE_NOT_REACHED])
    def handle_electronic_convergence_not_reached(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport:
        """Continue from the density with more steps and less mixing."""
        electrons = self.ctx.inputs.parameters["ELECTRONS"]
        electrons["electron_maxstep"] = MORE_STEPS * electrons.get("electron_maxstep", 100)
        electrons["mixing_beta"] = LESS_MIXING * electrons.get("mixing_beta", 0.7)
        self.set_restart_type(RestartType.FROM_CHARGE_DENSITY, calculation.outputs.remote_folder)
        self.report_error_handled(
            calculation,
            f"from its density, with up to {electrons['electron_maxstep']} steps and mixing_beta "
            f"{electrons['mixing_beta']:.3g}",
        )
        return ProcessHandlerReport(True)

    @process_handler(priority=700, exit_codes=PW_CRASHED)
    def handle_crash(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Ask for less memory, or leave out symmetry, if that is what it stopped for."""
        reason = reason_of(calculation)
        if reason == MEMORY:
            return self._with_less_memory(calculation)
        if reason == SYMMETRY and not self.ctx.inputs.parameters["SYSTEM"].get("nosym", False):
            self.ctx.inputs.parameters["SYSTEM"].update(nosym=True, noinv=True)
            return self._again(calculation, "the symmetry found does not fit: once more without symmetry")
        if not _may_be_repeated(self, calculation):
            return None
        if self.ctx.kills > 1:  # not by accident: kernels kill what takes too much memory, too
            return self._with_less_memory(calculation)
        return self._again(calculation, "killed, and nothing says why: once more")

    @process_handler(
        priority=690,
        exit_codes=[
            PwCalculation.exit_codes.ERROR_SCHEDULER_OUT_OF_WALLTIME,
            PwCalculation.exit_codes.ERROR_OUT_OF_WALLTIME_INTERRUPTED,
        ],
    )
    def handle_killed_at_walltime(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport:
        """Stop earlier the next time, so that there is something to continue from."""
        control = self.ctx.inputs.parameters["CONTROL"]
        control["max_seconds"] = control.get("max_seconds", 2.0e7) / 2
        return self._again(calculation, f"killed before it could stop: max_seconds {control['max_seconds']:.0f}")

    def _with_less_memory(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport:
        step = self.ctx.get("memory_steps", 0)
        if step == len(LESS_MEMORY):
            self.report_error_handled(calculation, "out of memory with the least that can be asked for: giving up")
            return ProcessHandlerReport(True, self.exit_codes.ERROR_KNOWN_UNRECOVERABLE_FAILURE)
        for namelist, values in LESS_MEMORY[step].items():
            self.ctx.inputs.parameters[namelist].update(values)
        if "parallelization" in self.ctx.inputs:  # pools share k-points, each with everything else for itself
            self.ctx.inputs.parallelization = orm.Dict({**self.ctx.inputs.parallelization.get_dict(), "npool": 1})
        self.ctx.memory_steps = step + 1
        return self._again(calculation, f"out of memory: once more with {LESS_MEMORY[step]} and one pool")

    def _again(self, calculation: orm.CalcJobNode, action: str) -> ProcessHandlerReport:
        """Start over, from the last structure if there is one; bands keep the density they start from."""
        parameters = self.ctx.inputs.parameters
        if "output_structure" in calculation.outputs:
            self.ctx.inputs.structure = calculation.outputs.output_structure
        if parameters["CONTROL"].get("calculation") not in ("nscf", "bands"):
            self.set_restart_type(RestartType.FROM_SCRATCH)
        self.report_error_handled(calculation, action)
        return ProcessHandlerReport(True)


class RelaxChain(SubmitOnce, PwRelaxWorkChain):
    """``PwRelaxWorkChain`` whose steps are :class:`PwChain`."""

    def submit(self, process: Any, inputs: Any = None, **kwargs: Any) -> Any:
        """Submit a step as :class:`PwChain`, whose ports are those of ``PwBaseWorkChain``."""
        return super().submit(PwChain if process is PwBaseWorkChain else process, inputs, **kwargs)


class PhChain(SubmitOnce, PhBaseWorkChain):
    """``PhBaseWorkChain`` that keeps to what ph.x of QE 6 accepts and says why it gives up."""

    _process_class = QePhCalculation

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define that its outputs are those of the jobs it runs."""
        super().define(spec)
        spec.expose_outputs(QePhCalculation)

    @process_handler(priority=420, exit_codes=ExitCode(0))
    def handle_silent_end(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Continue where ph.x says that its job is done but has left no matrix: the field did not converge."""
        return self._mix_less(node) if missing_matrices(node.outputs.retrieved) else None

    @process_handler(priority=410, exit_codes=PhCalculation.exit_codes.ERROR_CONVERGENCE_NOT_REACHED)
    def handle_convergence_not_reached(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Mix less; the plug-in would ask for eight mixed iterations first, which ph.x 6 refuses."""
        return self._mix_less(node)

    def _mix_less(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        asked = self.ctx.inputs.parameters["INPUTPH"]
        asked["nmix_ph"] = min(NMIX_PH, asked.get("nmix_ph", NMIX_PH))
        asked["alpha_mix(1)"] = LESS_MIXING * asked.get("alpha_mix(1)", self.defaults.alpha_mix)
        asked["niter_ph"] = MORE_STEPS * asked.get("niter_ph", 100)
        if asked["alpha_mix(1)"] < LEAST_ALPHA:
            self.report_error_handled(node, "it does not converge with little mixing either: giving up")
            return ProcessHandlerReport(True, self.exit_codes.ERROR_UNRECOVERABLE_FAILURE)
        self.ctx.restart_calc = node
        self.report_error_handled(node, f"continuing with alpha_mix {asked['alpha_mix(1)']:.3g}")
        return ProcessHandlerReport(True)

    @process_handler(priority=700, exit_codes=PH_CRASHED)
    def handle_crash(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Leave out the analysis of representations if it fails; give up at once where nothing helps."""
        asked = self.ctx.inputs.parameters["INPUTPH"]
        reason = reason_of(calculation)
        if reason == SYMMETRY and asked.get("search_sym", True):
            asked["search_sym"] = False
            self.report_error_handled(calculation, "once more without the symmetry analysis of the modes")
            return ProcessHandlerReport(True)
        if reason == MEMORY or last_words(calculation):
            self.report_error_handled(calculation, last_words(calculation) or "out of memory: nothing to ask less of")
            return ProcessHandlerReport(True, self.exit_codes.ERROR_UNRECOVERABLE_FAILURE)
        if _may_be_repeated(self, calculation):  # its files may be half written: not a place to go on from
            self.report_error_handled(calculation, "killed, and nothing says why: once more")
            return ProcessHandlerReport(True)
        return None

    def create_merged_output(self) -> ExitCode | None:
        """Merge what the jobs found, without those that crashed: they started over, and their q-points count once."""
        every = self.ctx.children
        crashed = {code.status for code in PH_CRASHED}
        self.ctx.children = [job for job in every if job.exit_status not in crashed]
        try:
            return super().create_merged_output()  # type: ignore[no-any-return]
        finally:
            self.ctx.children = every


def _may_be_repeated(chain: PwChain | PhChain, calculation: orm.CalcJobNode) -> bool:
    """Whether a job was killed, no more than :data:`KILLS` times in this chain."""
    if not was_killed(calculation):
        return False
    chain.ctx.kills = chain.ctx.get("kills", 0) + 1
    return bool(chain.ctx.kills <= KILLS)
