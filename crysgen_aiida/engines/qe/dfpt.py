"""Stage ``dfpt``: response of an insulator to electric fields and to displacements of its atoms."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext, while_

from crysgen_aiida.engines.qe.inputs import Crystal
from crysgen_aiida.engines.qe.response import QeResponseStage
from crysgen_aiida.engines.qe.results import dfpt_results
from crysgen_aiida.engines.qe.stage import call


class QeDfptWorkChain(QeResponseStage):
    """Dielectric tensors, Born charges and modes at Gamma by density-functional perturbation theory.

    Axes are those of the structure given. There is no piezoelectric tensor: ph.x computes no response to strain.
    """

    STAGE = "dfpt"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the outline."""
        super().define(spec)
        spec.outline(
            cls.check,
            while_(cls.unfinished)(cls.scf, cls.ph),  # type: ignore[arg-type]
            cls.collect,
        )

    def unsuitable(self, crystal: Crystal) -> str:
        """Refuse what has no such response: one atom, an odd number of electrons, magnetic order."""
        if len(crystal.structure.sites) == 1:
            return "a cell of one atom has no optical modes and no Born charges: there is nothing to compute"
        if crystal.electrons % 2:
            return f"it is a metal: {crystal.electrons} valence electrons cannot fill bands, and a metal screens fields"
        return super().unsuitable(crystal)

    def unfinished(self) -> bool:
        """Whether ph.x is still to be run, or to be run again without symmetry."""
        return "ph" not in self.ctx or self.without_symmetry_next(self.ctx.ph)

    def scf(self) -> ToContext:
        """Submit the self-consistent run."""
        return ToContext(scf=self.submit_scf("fixed"))

    def ph(self) -> ToContext | ExitCode:
        """Submit ph.x at Gamma, unless the crystal is a metal."""
        if (failure := self.scf_failed()) is not None:
            return failure
        gap, least = self.gap().fundamental, self.settings["min_gap"]
        if gap < least:
            return self.refused(f"it is a metal, or nearly: its gap is {gap:.3f} eV, below min_gap = {least:g} eV")
        gamma = orm.KpointsData()
        gamma.set_kpoints_mesh([1, 1, 1])
        label = "ph_nosym" if self.ctx.get("without_symmetry") else "ph"
        return ToContext(ph=self.submit_ph(label, field=True, qpoints=gamma))

    def collect(self) -> ExitCode | None:
        """Attach tensors and results."""
        done = self.ctx.ph
        if not done.is_finished_ok:
            return self.gone_wrong(done)
        made = call(
            dfpt_results,
            "results",
            about=self.about(),
            structure=self.inputs.structure,
            parameters=self.ctx.scf.outputs.output_parameters,
            bands=self.ctx.scf.outputs.output_band,
            response=done.outputs.retrieved,
        )
        self.out_many(made)
        return None
