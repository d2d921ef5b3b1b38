"""Stage ``relax``: atoms and cell at rest."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext

from crysgen_aiida.engines.qe.chains import RelaxChain
from crysgen_aiida.engines.qe.results import relax_results
from crysgen_aiida.engines.qe.stage import QeStage, call


class QeRelaxWorkChain(QeStage):
    """Relax atoms, and by default the cell, with ``PwRelaxWorkChain``.

    The cell is relaxed again until its basis of plane waves no longer changes with it (``meta_convergence``).
    """

    STAGE = "relax"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the outline."""
        super().define(spec)
        spec.outline(cls.check, cls.relax, cls.collect)

    def relax(self) -> ToContext:
        """Submit the relaxation."""
        settings = self.settings
        kind = "vc-relax" if settings["cell"] else "relax"
        atoms = len(self.inputs.structure.sites)
        changes: dict[str, Any] = {
            "CONTROL": {
                "forc_conv_thr": settings["forc_conv_thr"],
                "etot_conv_thr": settings["etot_conv_thr_per_atom"] * atoms,
            }
        }
        if settings["cell"]:
            changes["CELL"] = {"press_conv_thr": settings["press_conv_thr"], "cell_dofree": "all"}
        base = self.pw(kind, "relax", changes=changes, kpoints_distance=settings["kpoints_distance"])
        for name in ("clean_workdir", "metadata"):
            del base[name]
        del base["pw"]["structure"]
        inputs = {
            "structure": self.inputs.structure,
            "base_relax": base,
            "meta_convergence": orm.Bool(settings["meta_convergence"]),
            "metadata": {"call_link_label": "relax"},
        }
        return ToContext(relax=self.submit(RelaxChain, **inputs))

    def collect(self) -> ExitCode | None:
        """Attach structure and results."""
        done = self.ctx.relax
        if not done.is_finished_ok:
            return self.gone_wrong(done)
        out = done.outputs
        jobs = sum(isinstance(node, orm.CalcJobNode) for node in done.called_descendants)
        self.out("structure", out.output_structure)
        results = call(
            relax_results,
            "results",
            about=self.about(jobs=jobs),
            parameters=out.output_parameters,
            trajectory=out.output_trajectory,
            before=self.inputs.structure,
            after=out.output_structure,
        )
        self.out("results", results)
        return None
