"""Stage ``phonon``: phonons on a grid of wave vectors, interpolated along a path and on a mesh."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext, while_
from aiida_quantumespresso.calculations.functions.create_kpoints_from_distance import create_kpoints_from_distance
from aiida_quantumespresso.workflows.matdyn.base import MatdynBaseWorkChain
from aiida_quantumespresso.workflows.q2r.base import Q2rBaseWorkChain

from crysgen_aiida.engines.qe.paths import find_path, path_kpoints
from crysgen_aiida.engines.qe.response import QeResponseStage
from crysgen_aiida.engines.qe.results import phonon_results
from crysgen_aiida.engines.qe.stage import call

#: Sum rule imposed on force constants and Born charges: translations, kept while least changing the constants.
SUM_RULE = "crystal"


class QePhononWorkChain(QeResponseStage):
    """Phonons by perturbation theory with ph.x, q2r.x and matdyn.x.

    Insulators are computed with fixed occupations and their longitudinal shift. A crystal without gap, or with an odd
    number of electrons, or whose run with fixed occupations fails, is computed as a metal.
    """

    STAGE = "phonon"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the outline."""
        super().define(spec)
        spec.outline(
            cls.check,
            while_(cls.unfinished)(cls.scf, cls.scf_as_metal, cls.ph),  # type: ignore[arg-type]
            cls.q2r,
            cls.matdyn,
            cls.collect,
        )

    def unfinished(self) -> bool:
        """Whether ph.x is still to be run, or to be run again without symmetry."""
        return "ph" not in self.ctx or self.without_symmetry_next(self.ctx.ph)

    def scf(self) -> ToContext:
        """Submit the self-consistent run, of an insulator if it can be one."""
        self.ctx.insulator = self.crystal.electrons % 2 == 0
        return ToContext(scf=self.submit_scf("fixed" if self.ctx.insulator else "smearing"))

    def scf_as_metal(self) -> ToContext | None:
        """Submit it again with smearing if it turned out to be a metal."""
        if not self.ctx.insulator:
            return None
        if self.ctx.scf.is_finished_ok and self.gap().fundamental >= self.settings["min_gap"]:
            return None
        self.ctx.insulator = False
        self.report("no gap with fixed occupations: once more as a metal")
        return ToContext(scf=self.submit_scf("smearing"))

    def ph(self) -> ToContext | ExitCode:
        """Submit ph.x on the grid."""
        if (failure := self.scf_failed()) is not None:
            return failure
        label = "ph_nosym" if self.ctx.get("without_symmetry") else "ph"
        distance = orm.Float(self.settings["qpoints_distance"])
        return ToContext(ph=self.submit_ph(label, field=self.ctx.insulator, qpoints_distance=distance))

    def q2r(self) -> ToContext | ExitCode:
        """Submit the transformation to force constants in real space."""
        if not self.ctx.ph.is_finished_ok:
            return self.gone_wrong(self.ctx.ph)
        inputs = {
            "q2r": {
                "code": self.inputs.codes["q2r"],
                "parent_folder": self.ctx.ph.outputs.remote_folder,
                "parameters": orm.Dict({"INPUT": {"zasr": SUM_RULE}}),
                "metadata": self.job_metadata(),
            },
            "metadata": {"call_link_label": "q2r"},
        }
        return ToContext(q2r=self.submit(Q2rBaseWorkChain, inputs))

    def matdyn(self) -> ToContext | ExitCode:
        """Submit the interpolations along the path and on the mesh."""
        if not self.ctx.q2r.is_finished_ok:
            return self.gone_wrong(self.ctx.q2r)
        settings = self.settings
        mesh = call(
            create_kpoints_from_distance,
            "mesh",
            structure=self.inputs.structure,
            distance=orm.Float(settings["mesh_distance"]),
            force_parity=orm.Bool(False),
        )
        submitted = {"mesh": self._matdyn("matdyn_mesh", mesh)}
        try:
            find_path(self.inputs.structure)
        except ValueError as error:
            self.ctx.facts = {"path": f"none: {error}"}
        else:
            distance = orm.Float(settings["path_distance"])
            path = call(path_kpoints, "path", structure=self.inputs.structure, distance=distance)
            submitted["path"] = self._matdyn("matdyn_path", path)
        return ToContext(**submitted)

    def _matdyn(self, label: str, kpoints: orm.KpointsData) -> orm.ProcessNode:
        inputs = {
            "matdyn": {
                "code": self.inputs.codes["matdyn"],
                "force_constants": self.ctx.q2r.outputs.force_constants,
                "kpoints": kpoints,
                "parameters": orm.Dict({"INPUT": {"asr": SUM_RULE}}),
                "metadata": self.job_metadata(),
            },
            "metadata": {"call_link_label": label},
        }
        return self.submit(MatdynBaseWorkChain, inputs)

    def collect(self) -> ExitCode | None:
        """Attach bands, density of states and results."""
        for name in ("mesh", "path"):
            if name in self.ctx and not self.ctx[name].is_finished_ok:
                return self.gone_wrong(self.ctx[name])
        if "path" in self.ctx:
            self.out("phonon_bands", self.ctx.path.outputs.output_phonon_bands)
        facts = {"metal": not self.ctx.insulator, **self.ctx.get("facts", {})}
        made = call(
            phonon_results,
            "results",
            about=self.about(facts=facts),
            parameters=self.ctx.scf.outputs.output_parameters,
            response=self.ctx.ph.outputs.retrieved,
            mesh=self.ctx.mesh.outputs.output_phonon_bands,
        )
        self.out_many(made)
        return None
