"""VaspRelaxStage: atoms and cell to rest by VaspRelaxWorkChain, in one or several passes."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, ToContext, while_
from aiida.plugins import WorkflowFactory

from crysgen_aiida.engines.vasp.base import VaspStage
from crysgen_aiida.engines.vasp.results import relax_results
from crysgen_aiida.generators.contract import deep_merge

#: Tags that VaspRelaxWorkChain sets itself.
_ITS_OWN = ("IBRION", "NSW", "ISIF", "EDIFFG")


class VaspRelaxStage(VaspStage):
    """Relax a crystal; each pass ends with a static run at the relaxed cell, the last one gives the energy."""

    STAGE = "relax"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the outline."""
        super().define(spec)
        spec.outline(
            cls.check,
            while_(cls.passes_left)(cls.relax, cls.inspect),  # type: ignore[arg-type]
            cls.finish,
        )

    def passes_left(self) -> bool:
        """Whether there is a pass to do."""
        done: int = self.ctx.setdefault("done", 0)
        return done < len(self.ctx.settings["passes"])

    def relax(self) -> ToContext:
        """Submit a relaxation from where the last one ended."""
        number = self.ctx.done
        settings = deep_merge(self.ctx.settings, self.ctx.settings["passes"][number])
        structure = self.ctx.get("structure", self.inputs.structure)
        told = self.told(structure, settings)
        tags = {tag: told.incar.pop(tag) for tag in _ITS_OWN if tag in told.incar}
        inputs = {
            "structure": structure,
            "vasp": self.vasp(told),
            "relax_settings": {  # a plain mapping: the work chain completes it by its defaults
                "algo": "rd" if tags.get("IBRION") == 1 else "cg",
                "force_cutoff": abs(float(tags.get("EDIFFG", -0.03))),
                "steps": int(tags.get("NSW", 99)),
                "positions": True,
                "shape": True,
                "volume": True,
                "convergence_on": settings["until_at_rest"],
                "convergence_max_iterations": settings["max_relaxations"],
                "convergence_volume": settings["volume_change"],
            },
            "metadata": {"call_link_label": f"relax_{number + 1}"},
        }
        return ToContext(process=self.submit(WorkflowFactory("vasp.v2.relax"), inputs))

    def inspect(self) -> ExitCode | None:
        """Take the relaxed crystal, or stop."""
        if (why := self.ended(self.ctx.process)) is not None:
            return why
        self.ctx.structure = self.ctx.process.outputs["relax"]["structure"]
        self.ctx.done += 1
        return None

    def finish(self) -> None:
        """Hand out the crystal and the results of the static run at its end."""
        structure = self.ctx.structure
        found = relax_results(structure=structure, start=self.inputs.structure, **self.evidence(self.ctx.process))
        self.out("structure", structure)
        self.out("results", found["results"])
