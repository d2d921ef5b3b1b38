"""AbinitDfptBaseWorkChain: the job with its remedies. A run that was broken off goes on from its whole files."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import BaseRestartWorkChain, ExitCode, ProcessHandlerReport, process_handler, while_

from crysgen_aiida.calculations.once import SubmitOnce
from crysgen_aiida.engines.abinit.calculation import EXIT_CODES, AbinitDfptCalculation

_CODES = AbinitDfptCalculation.spec().exit_codes

#: Remedies for a self-consistent run that does not converge, one after the other; each also doubles nstep.
SCF_REMEDIES: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "more steps, from its wave functions"),
    ({"iprcel": 45}, "mixing with a dielectric matrix that is computed"),
)
#: Remedies for perturbations that do not converge; each also doubles nstep.
RESPONSE_REMEDIES: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "more steps, from their first-order wave functions"),
    ({"diemix": 0.4}, "less mixing"),
)
#: ABINIT's own tolerance is 1e-5. A wider one takes atoms that are nearly symmetric as symmetric; with a narrower one
#: they are not.
SYMMETRY_REMEDIES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"tolsym": 1e-4}, "a wider tolerance of the symmetry"),
    ({"tolsym": 1e-8}, "a narrower tolerance of the symmetry"),
)
#: A run that gets no further so many times in a row will not.
STARTS_WITHOUT_PROGRESS = 3


class AbinitDfptBaseWorkChain(SubmitOnce, BaseRestartWorkChain):
    """Run :class:`AbinitDfptCalculation` until it has ended well, handling what can be handled.

    A failure without a remedy ends the chain with the job's own exit code and sentence.
    """

    _process_class = AbinitDfptCalculation

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outline and outputs from those of the job."""
        super().define(spec)
        spec.expose_inputs(AbinitDfptCalculation, namespace="dfpt")
        spec.expose_outputs(AbinitDfptCalculation, exclude=("remote_stash",))
        spec.inputs["max_iterations"].default = lambda: orm.Int(10)
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),  # type: ignore[arg-type]
            cls.results,
        )
        # the base class gives failures of the job itself the numbers 301 and 302, which are ABINIT's
        for status, (label, message) in EXIT_CODES.items():
            spec.exit_code(status, label, message=message, invalidates_cache=True)
        for label, status, message in (
            ("ERROR_SUB_PROCESS_EXCEPTED", 411, "The job excepted."),
            ("ERROR_SUB_PROCESS_KILLED", 412, "The job was killed by a person."),
        ):
            spec.exit_code(status, label, message=message, invalidates_cache=True)

    def setup(self) -> None:
        """Take the job's inputs into the context, where remedies change them."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(AbinitDfptCalculation, "dfpt"))
        self.ctx.tried = {}
        self.ctx.progress = self._files(self.ctx.inputs.get("finished"))
        self.ctx.stuck = 0

    # -- remedies -------------------------------------------------------------------------------------------------

    @process_handler(priority=600, exit_codes=[_CODES.ERROR_OUT_OF_WALLTIME, _CODES.ERROR_SCHEDULER_OUT_OF_WALLTIME])
    def handle_walltime(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """The wall-time limit came: go on from the whole files."""
        return self._resume(node, "the wall-time limit was reached")

    @process_handler(priority=590, exit_codes=[_CODES.ERROR_KILLED, _CODES.ERROR_SCHEDULER_NODE_FAILURE])
    def handle_killed(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """It was killed: go on from the whole files."""
        return self._resume(node, "it was killed")

    @process_handler(priority=580, exit_codes=[_CODES.ERROR_OUT_OF_MEMORY, _CODES.ERROR_SCHEDULER_OUT_OF_MEMORY])
    def handle_memory(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Memory ran out: only a person can help, who learns how much ABINIT needs."""
        return self._give_up(node, node.exit_message or "Memory ran out.")

    @process_handler(priority=570, exit_codes=_CODES.ERROR_SCF_NOT_CONVERGED)
    def handle_scf(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """The self-consistent run did not converge."""
        # what came after it was computed on something that is no ground state
        self.ctx.inputs["finished"] = orm.Dict({"1": [0]})
        return self._remedy(node, "scf", SCF_REMEDIES, more_steps=True)

    @process_handler(priority=560, exit_codes=_CODES.ERROR_PERTURBATION_NOT_CONVERGED)
    def handle_perturbation(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Perturbations did not converge: all start from what they have reached."""
        self.ctx.inputs["finished"] = orm.Dict(node.outputs.output_parameters["finished"])
        return self._remedy(node, "response", RESPONSE_REMEDIES, more_steps=True)

    @process_handler(priority=550, exit_codes=_CODES.ERROR_SYMMETRY)
    def handle_symmetry(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """Symmetries that make no group: another tolerance."""
        return self._remedy(node, "symmetry", SYMMETRY_REMEDIES)

    @process_handler(priority=540, exit_codes=_CODES.ERROR_MESH_SYMMETRY)
    def handle_mesh(self, node: orm.CalcJobNode) -> ProcessHandlerReport:
        """A mesh without the symmetry of the crystal: take it as it is; tensors are made symmetric afterwards."""
        return self._remedy(node, "mesh", (({"chksymbreak": 0}, "the mesh of k-points as it is"),))

    @process_handler(priority=0)
    def handle_rest(self, node: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """No remedy: end with the job's own exit code and sentence."""
        if node.is_finished_ok:
            return None
        return self._give_up(node, node.exit_message or f"exit status {node.exit_status}")

    # -- how ------------------------------------------------------------------------------------------------------

    def _remedy(
        self,
        node: orm.CalcJobNode,
        name: str,
        remedies: tuple[tuple[dict[str, Any], str], ...],
        more_steps: bool = False,
    ) -> ProcessHandlerReport:
        """Change the parameters by the next remedy of a list; give up at its end."""
        count = self.ctx.tried.get(name, 0)
        if count == len(remedies):
            said = ", then ".join(text for _, text in remedies)
            return self._give_up(node, f"{node.exit_message} Tried in vain: {said}.")
        self.ctx.tried[name] = count + 1
        changes, text = remedies[count]
        parameters = {**self.ctx.inputs.parameters.get_dict(), **changes}
        if more_steps:
            parameters["nstep"] = 2 * int(parameters.get("nstep", 60))
        self.ctx.inputs["parameters"] = orm.Dict(parameters)
        if more_steps and self._keeps_files(node):
            self.ctx.inputs["parent_folder"] = node.outputs.remote_folder
        elif more_steps:
            self.ctx.inputs.pop("finished", None)
        return self._again(node, f"{node.exit_message} Once more with {text}")

    def _resume(self, node: orm.CalcJobNode, why: str) -> ProcessHandlerReport:
        held = node.outputs.output_parameters["finished"] if "output_parameters" in node.outputs else {}
        progress = self._files(held)
        self.ctx.stuck = 0 if progress > self.ctx.progress else self.ctx.stuck + 1
        if self.ctx.stuck >= STARTS_WITHOUT_PROGRESS:
            return self._give_up(
                node,
                f"{node.exit_message} It got no further in {self.ctx.stuck} starts: a single perturbation takes longer "
                "than the job may; give it more time.",
            )
        if progress > self.ctx.progress and self._keeps_files(node):
            self.ctx.progress = progress
            self.ctx.inputs["parent_folder"] = node.outputs.remote_folder
            self.ctx.inputs["finished"] = orm.Dict(held)
        return self._again(node, f"{why}; {self.ctx.progress} first-order functions are whole")

    def _again(self, node: orm.CalcJobNode, text: str) -> ProcessHandlerReport:
        self.report(f"{self.ctx.process_name}<{node.pk}>: {text}")
        return ProcessHandlerReport(True)

    def _give_up(self, node: orm.CalcJobNode, text: str) -> ProcessHandlerReport:
        self.report(f"{self.ctx.process_name}<{node.pk}> failed for good: {text}")
        return ProcessHandlerReport(True, ExitCode(int(node.exit_status or 0), text, True))

    @staticmethod
    def _keeps_files(node: orm.CalcJobNode) -> bool:
        return "remote_folder" in node.outputs and not node.outputs.remote_folder.is_cleaned

    @staticmethod
    def _files(finished: Any) -> int:
        """Return how many files are whole."""
        held = finished.get_dict() if isinstance(finished, orm.Dict) else finished or {}
        return sum(len(numbers) for numbers in held.values())
