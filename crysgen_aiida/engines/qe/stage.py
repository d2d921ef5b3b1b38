"""What the stages of the engine ``qe`` have in common."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode

from crysgen_aiida.engines.checks import unsuitable
from crysgen_aiida.engines.pseudos import find_family
from crysgen_aiida.engines.qe.crashes import MEMORY, last_words, reason_of
from crysgen_aiida.engines.qe.inputs import Crystal, crystal_of, job_metadata, pw_inputs, pw_parameters
from crysgen_aiida.engines.stage import EngineStage
from crysgen_aiida.generators.contract import deep_merge


def call(function: Any, label: str, **inputs: Any) -> Any:
    """Run a calcfunction with a call link of its own name and return its outputs."""
    return function(**inputs, metadata={"call_link_label": label})


#: Exit codes of pw.x and ph.x, and of their chains, that mean: not converged.
NOT_CONVERGED = (410, 500, 502, 510, 511, 520, 521, 710)


class QeStage(EngineStage):
    """A stage on Quantum ESPRESSO: the shared ports, with a family of pseudopotentials that is required."""

    #: Name of the stage, by which its settings are known.
    STAGE: str

    def check(self) -> ExitCode | None:
        """Refuse crystals that cannot be computed, before anything runs."""
        label = self.inputs.pseudo_family.value if "pseudo_family" in self.inputs else None
        family = find_family(label) if label else None
        if family is None:
            return self.refused(
                f"the profile has no family of pseudopotentials {label!r}; make one with "
                "`crysgen engine setup qe --pseudos FOLDER`"
                if label
                else "it was given no family of pseudopotentials"
            )
        reason = unsuitable(self.inputs.structure, family) or self.unsuitable(self.crystal)
        return self.refused(reason) if reason else None

    def unsuitable(self, crystal: Crystal) -> str:
        """Return a further reason, of this stage's own, not to compute a crystal; none by default."""
        return ""

    @property
    def crystal(self) -> Crystal:
        """The crystal with its pseudopotentials."""
        return crystal_of(self.inputs.structure, find_family(self.inputs.pseudo_family.value))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings given, on top of those of the protocol ``balanced``."""
        from crysgen_aiida.engines.protocols import stage_settings

        return deep_merge(stage_settings("qe", self.STAGE), self.inputs.settings.get_dict())

    def pw(
        self, calculation: str, label: str, *, occupations: str | None = None, changes: Any = None, **rest: Any
    ) -> Any:
        """Return the inputs of one calculation with pw.x.

        :param changes: namelists laid over the parameters.
        :param rest: ``kpoints`` or ``kpoints_distance``, and ``parent``.
        """
        crystal, settings = self.crystal, self.settings
        parameters = pw_parameters(crystal, settings, calculation, occupations=occupations)
        inputs = pw_inputs(
            crystal,
            self.inputs.codes["pw"],
            deep_merge(parameters, changes or {}),
            self.inputs.get("options"),
            label,
            **rest,
        )
        return {**inputs, "max_iterations": orm.Int(settings["max_iterations"])}

    def job_metadata(self) -> dict[str, Any]:
        """Return the metadata of a job."""
        return job_metadata(self.inputs.get("options"))

    def about(self, **facts: Any) -> orm.Dict:
        """Return what a calcfunction needs to know to label its results, beside the outputs it reads."""
        method = self.crystal.method
        if self.STAGE in ("dfpt", "phonon"):
            method = method.replace("qe-", "qe-dfpt-", 1)
        return orm.Dict({"method": method, "settings": self.settings, **facts})

    def gone_wrong(self, process: orm.ProcessNode, hint: str = "") -> ExitCode:
        """Return the exit code for a chain that failed, with what its last job said.

        :param hint: a sentence added if it did not converge.
        """
        jobs = [node for node in process.called_descendants if isinstance(node, orm.CalcJobNode)]
        last = max(jobs, key=lambda node: node.pk or 0) if jobs else None
        if last is None:
            return self.failed(process)
        words = "out of memory" if reason_of(last) == MEMORY else last_words(last) or last.exit_message
        reason = (
            f"{process.process_label}<{process.pk}> ended with {process.exit_status} after {len(jobs)} job(s); the "
            f"last said: {words or last.exit_status}"
        )
        late = {process.exit_status, last.exit_status} & set(NOT_CONVERGED)
        reason += f". {hint}" if late and hint else ""
        self.report(reason)
        codes = self.exit_codes
        return (codes.ERROR_NOT_CONVERGED if late else codes.ERROR_ENGINE_FAILED).format(reason=reason)
