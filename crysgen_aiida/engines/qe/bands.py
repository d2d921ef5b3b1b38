"""Stage ``bands``: the gap, bands along a path and, if asked for, on a mesh for transport."""

from __future__ import annotations

import math
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext

from crysgen_aiida.engines.qe.chains import PwChain
from crysgen_aiida.engines.qe.paths import find_path, path_kpoints
from crysgen_aiida.engines.qe.results import bands_results
from crysgen_aiida.engines.qe.stage import QeStage, call

#: Least number of empty bands.
EMPTY = 4


class QeBandsWorkChain(QeStage):
    """A self-consistent run, then bands from its density.

    The gap is that of everything sampled: the path, the mesh (``mesh_distance``, which is what BoltzTraP2 wants) and
    the self-consistent points. A cell that is not primitive has no path of its own: it gets a mesh instead.
    """

    STAGE = "bands"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the outline."""
        super().define(spec)
        spec.outline(cls.check, cls.scf, cls.bands, cls.collect)

    def scf(self) -> ToContext:
        """Submit the self-consistent run."""
        inputs = self.pw("scf", "scf", kpoints_distance=self.settings["kpoints_distance"])
        return ToContext(scf=self.submit(PwChain, inputs))

    def bands(self) -> ToContext | ExitCode:
        """Submit the bands along the path and on the mesh."""
        if not self.ctx.scf.is_finished_ok:
            return self.gone_wrong(self.ctx.scf)
        settings = self.settings
        occupied = math.ceil(self.crystal.electrons / 2)
        changes: dict[str, dict[str, Any]] = {
            "SYSTEM": {"nbnd": max(math.ceil(settings["bands_factor"] * occupied), occupied + EMPTY)}
        }
        parent = self.ctx.scf.outputs.remote_folder
        # what the density could only be computed without, its bands cannot either
        system = parent.creator.inputs.parameters["SYSTEM"]
        changes["SYSTEM"].update({name: system[name] for name in ("nosym", "noinv") if name in system})
        submitted: dict[str, Any] = {}
        mesh = settings["mesh_distance"]
        try:
            find_path(self.inputs.structure)
        except ValueError as error:
            self.ctx.facts = {"path": f"none: {error}"}
            mesh = mesh or settings["kpoints_distance"]
        else:
            points = call(
                path_kpoints, "path", structure=self.inputs.structure, distance=orm.Float(settings["path_distance"])
            )
            inputs = self.pw("bands", "bands", changes=changes, kpoints=points, parent=parent)
            submitted["path"] = self.submit(PwChain, inputs)
        if mesh:
            full = {**changes, "ELECTRONS": {"diago_full_acc": True}}
            inputs = self.pw("nscf", "mesh", changes=full, kpoints_distance=mesh, parent=parent)
            submitted["mesh"] = self.submit(PwChain, inputs)
        return ToContext(**submitted)

    def collect(self) -> ExitCode | None:
        """Attach bands and results."""
        bands = {"scf": self.ctx.scf.outputs.output_band}
        for name, port in (("path", "bands"), ("mesh", "mesh_bands")):
            done = self.ctx.get(name)
            if done is None:
                continue
            if not done.is_finished_ok:
                return self.gone_wrong(done)
            bands[name] = done.outputs.output_band
            self.out(port, bands[name])
        results = call(
            bands_results,
            "results",
            about=self.about(facts=self.ctx.get("facts", {})),
            parameters=self.ctx.scf.outputs.output_parameters,
            **bands,
        )
        self.out("results", results)
        return None
