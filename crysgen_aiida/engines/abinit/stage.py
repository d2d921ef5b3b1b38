"""Stage ``dfpt`` of the engine ``abinit``: dielectric, piezoelectric and elastic tensors, Born charges."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.data.structures import to_pymatgen
from crysgen_aiida.engines.abinit.base import AbinitDfptBaseWorkChain
from crysgen_aiida.engines.abinit.calculation import (
    EXIT_CODES,
    functional_trouble,
    headers,
    odd_electrons,
    valence_electrons,
)
from crysgen_aiida.engines.abinit.inputs import Parameters
from crysgen_aiida.engines.abinit.mesh import GAMMA, mesh_for
from crysgen_aiida.engines.abinit.pseudos import psp8_pseudos
from crysgen_aiida.engines.abinit.results import dfpt_results
from crysgen_aiida.engines.checks import unsuitable
from crysgen_aiida.engines.protocols import stage_settings
from crysgen_aiida.engines.pseudos import RYDBERG_PER_HARTREE, find_family, recommended_cutoffs
from crysgen_aiida.engines.stage import EngineStage
from crysgen_aiida.generators.contract import deep_merge

_dfpt_results: Any = dfpt_results
NOT_CONVERGED = (330, 331)
_METAL = next(status for status, (label, _) in EXIT_CODES.items() if label == "ERROR_METAL")


class AbinitDfptStage(EngineStage):
    """Response of an insulator to fields, displacements and strains; axes are those of the structure given.

    A self-consistent run comes first: a metal, or a crystal under too much stress, is refused before the response is
    paid for, and what remains of stress and forces is among the facts. Crystals with an inversion centre are computed
    too: they have no piezoelectricity, and dielectric and elastic constants all the same.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the outline."""
        super().define(spec)
        spec.outline(cls.check, cls.scf, cls.response, cls.collect)

    def check(self) -> ExitCode | None:
        """Refuse crystals that cannot be computed before anything runs; make pseudopotentials and parameters."""
        label = self.inputs.pseudo_family.value if "pseudo_family" in self.inputs else None
        family = find_family(label) if label else None
        if family is None:
            return self.refused(
                f"the profile has no family of pseudopotentials {label!r}; make one with "
                "`crysgen engine setup abinit --pseudos FOLDER`"
                if label
                else "it was given no family of pseudopotentials"
            )
        missing = [role for role in ("abinit", "mrgddb", "anaddb") if role not in self.inputs.codes]
        if missing:
            return self.refused(f"the codes {', '.join(missing)} were not given")
        structure = self.inputs.structure
        if reason := unsuitable(structure, family):
            return self.refused(reason)
        if len(structure.sites) == 1:
            return self.refused("it has one atom in its cell: no optical mode, and anaddb makes no tensors of it")
        try:
            self.ctx.pseudos = psp8_pseudos(structure, family)
            held = headers(self.ctx.pseudos)
            electrons = valence_electrons(structure, self.ctx.pseudos)
        except BadInput as error:
            return self.refused(str(error))
        if reason := functional_trouble(held) or odd_electrons(electrons) or "":
            return self.refused(reason)
        self.ctx.method = f"abinit-dfpt-{next(iter(held.values())).functional}"
        try:
            self.ctx.parameters = self.parameters(family).to_dict()
        except BadInput as error:
            return self.refused(str(error))
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings given, on top of those of the protocol ``balanced``."""
        return deep_merge(stage_settings("abinit", "dfpt"), self.inputs.settings.get_dict())

    def parameters(self, family: Any) -> Parameters:
        """Return what ABINIT is told.

        :raises BadInput: if neither the settings nor the family give a cutoff, or a setting is out of range.
        """
        settings = self.settings
        structure = to_pymatgen(self.inputs.structure)
        ecut = settings["ecut"]
        if ecut is None:
            wfc, _ = recommended_cutoffs(family, {site.specie.symbol for site in structure})
            ecut = round(wfc / RYDBERG_PER_HARTREE * settings["cutoff_factor"], 2)
        if settings["kpoints"] is None:
            ngkpt, shiftk = mesh_for(structure, settings["kpoint_density"], settings["symprec"])
        else:
            ngkpt, shiftk = settings["kpoints"], settings["shifts"] or GAMMA
        names = ("tolvrs", "tolwfr", "tolvrs_response", "nstep", "diemac", "empty_bands")
        return Parameters.from_dict(
            {"ecut": ecut, "ngkpt": ngkpt, "shiftk": shiftk, **{name: settings[name] for name in names}}
        )

    def scf(self) -> ToContext:
        """Submit the self-consistent run."""
        return ToContext(scf=self._submit("scf", {"only_scf": True}))

    def response(self) -> ToContext | ExitCode:
        """Submit the whole run, from the wave functions of the first, unless the crystal is a metal."""
        done = self.ctx.scf
        if done.exit_status == _METAL:
            return self.refused(f"it is a metal: {done.exit_message}")
        if not done.is_finished_ok:
            return self.failed(done, not_converged=NOT_CONVERGED)
        gap, least = done.outputs.output_parameters["gap_at_kpoints_ev"], self.settings["min_gap"]
        if gap < least:
            self._clean()
            return self.refused(
                f"it is a metal, or nearly: its gap at the k-points is {gap:.3f} eV, below min_gap = {least:g} eV"
            )
        stress, most = 10 * max(map(abs, done.outputs.output_parameters["stress_gpa"])), self.settings["max_stress"]
        if most is not None and stress > most:
            self._clean()
            return self.refused(
                f"a stress of {stress:.0f} kbar acts on it at these settings, above max_stress = {most:g} kbar: the "
                "cutoff is too low for these elements, or it is not at rest; raise cutoff_factor, or relax it"
            )
        last = max((n for n in done.called if isinstance(n, orm.CalcJobNode)), key=lambda n: n.pk or 0)
        more = {"parent_folder": done.outputs.remote_folder, "finished": {"1": [0]}}
        if last.base.caching.is_created_from_cache:
            more = {}  # the wave functions were deleted after the run it was taken from
        self.ctx.parameters = last.inputs.parameters.get_dict()  # with what the remedies have changed
        return ToContext(whole=self._submit("response", more))

    def collect(self) -> ExitCode | None:
        """Attach tensors and results."""
        done = self.ctx.whole
        self._clean()
        if not done.is_finished_ok:
            return self.failed(done, not_converged=NOT_CONVERGED)
        last = max((n for n in done.called if isinstance(n, orm.CalcJobNode)), key=lambda n: n.pk or 0)
        about = {
            "method": self.ctx.method,
            "settings": self.settings,
            "parameters": last.inputs.parameters.get_dict(),
            "jobs": sum(isinstance(n, orm.CalcJobNode) for c in (self.ctx.scf, done) for n in c.called),
        }
        results = _dfpt_results(
            about=orm.Dict(about),
            structure=self.inputs.structure,
            tensors=done.outputs.tensors,
            scf=self.ctx.scf.outputs.output_parameters,
            response=done.outputs.output_parameters,
            metadata={"call_link_label": "results"},
        )
        self.out("tensors", done.outputs.tensors)
        self.out("results", results)
        return None

    def _submit(self, label: str, more: dict[str, Any]) -> orm.ProcessNode:
        codes = self.inputs.codes
        inputs = {
            "structure": self.inputs.structure,
            "pseudos": self.ctx.pseudos,
            "parameters": self.ctx.parameters,
            "code": codes["abinit"],
            "mrgddb": codes["mrgddb"],
            "anaddb": codes["anaddb"],
            "metadata": {"options": dict(self.inputs.get("options") or {})},
            **more,
        }
        return self.submit(AbinitDfptBaseWorkChain, dfpt=inputs, metadata={"call_link_label": label})

    def _clean(self) -> None:
        """Delete the wave functions of the self-consistent run, which nothing needs any more."""
        for node in self.ctx.scf.called_descendants:
            if isinstance(node, orm.CalcJobNode) and "remote_folder" in node.outputs:
                try:
                    node.outputs.remote_folder._clean()
                except (OSError, KeyError) as error:
                    self.report(f"the folder of job {node.pk} could not be cleaned: {error}")
