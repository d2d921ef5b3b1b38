"""What the stages ``dfpt`` and ``phonon`` share: a self-consistent run with a gap, then ph.x on its density."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode

from crysgen_aiida.engines.qe.chains import PhChain, PwChain
from crysgen_aiida.engines.qe.crashes import SYMMETRY, reason_of
from crysgen_aiida.engines.qe.gap import Gap, band_gap
from crysgen_aiida.engines.qe.inputs import Crystal
from crysgen_aiida.engines.qe.results import energies_and_points
from crysgen_aiida.engines.qe.stage import QeStage

#: Empty bands of the self-consistent run, to see a gap.
EMPTY = 4


class QeResponseStage(QeStage):
    """Base of the stages on ph.x."""

    def unsuitable(self, crystal: Crystal) -> str:
        """Refuse magnetic crystals, whose order these stages do not treat."""
        if crystal.spins(self.settings) == 2:
            return (
                "its elements are magnetic in most compounds and this stage does not treat magnetic order; "
                "set spin: never to compute it without spin"
            )
        return ""

    def submit_scf(self, occupations: str) -> orm.ProcessNode:
        """Submit the self-consistent run, without symmetry if ph.x has found fault with it."""
        settings = self.settings
        bare = bool(self.ctx.get("without_symmetry"))
        system: dict[str, Any] = {"nosym": True, "noinv": True} if bare else {}
        if occupations == "fixed":
            system["nbnd"] = self.crystal.electrons // 2 + EMPTY
        label = f"scf_{occupations}" + ("_nosym" if bare else "")
        inputs = self.pw(
            "scf",
            label,
            occupations=occupations,
            changes={"SYSTEM": system},
            kpoints_distance=settings["kpoints_distance"],
        )
        return self.submit(PwChain, inputs)

    def submit_ph(self, label: str, *, field: bool, **points: Any) -> orm.ProcessNode:
        """Submit ph.x on the density of ``self.ctx.scf``.

        :param field: whether to compute the response to an electric field, which only insulators have.
        :param points: ``qpoints`` or ``qpoints_distance``.
        """
        settings = self.settings
        parameters = {
            "tr2_ph": settings["tr2_ph"],
            "nmix_ph": settings["nmix_ph"],
            "alpha_mix(1)": settings["alpha_mix"],
            "epsil": field,
            **settings["ph_parameters"],
        }
        inputs = {
            "ph": {
                "code": self.inputs.codes["ph"],
                "parent_folder": self.ctx.scf.outputs.remote_folder,
                "parameters": orm.Dict({"INPUTPH": parameters}),
                "metadata": self.job_metadata(),
            },
            "max_iterations": orm.Int(settings["max_iterations"]),
            "metadata": {"call_link_label": label},
            **points,
        }
        return self.submit(PhChain, inputs)

    def gap(self) -> Gap:
        """Return the gap of the self-consistent run."""
        out = self.ctx.scf.outputs
        return band_gap([energies_and_points(out.output_band)], out.output_parameters["number_of_electrons"])

    def without_symmetry_next(self, ph: orm.ProcessNode) -> bool:
        """Whether ph.x failed for the symmetry of its parent, and it has not been tried without; then it will be."""
        if ph.is_finished_ok or self.ctx.get("without_symmetry"):
            return False
        jobs = [node for node in ph.called if isinstance(node, orm.CalcJobNode)]
        if not jobs or reason_of(max(jobs, key=lambda node: node.pk or 0)) != SYMMETRY:
            return False
        self.report("ph.x finds the symmetry wrong: starting over without symmetry")
        self.ctx.without_symmetry = True
        return True

    def scf_failed(self) -> ExitCode | None:
        """Return the exit code of a self-consistent run that failed, None if it did not."""
        hint = "With fixed occupations a metal does not converge either: the stage bands tells its gap."
        return None if self.ctx.scf.is_finished_ok else self.gone_wrong(self.ctx.scf, hint)
