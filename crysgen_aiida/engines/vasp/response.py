"""Stages of one VASP run that differentiates: DFPT with a field, elastic constants, force constants of a supercell."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from aiida import orm
from aiida.engine import ExitCode, ToContext, calcfunction
from aiida.plugins import WorkflowFactory

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.symmetry import symmetry
from crysgen_aiida.engines.vasp.base import VaspStage
from crysgen_aiida.engines.vasp.gap import band_gap
from crysgen_aiida.engines.vasp.inputs import VaspInputs
from crysgen_aiida.engines.vasp.results import dfpt_results, elastic_results, phonon_results
from crysgen_aiida.physics.supercells import multiples

#: Outputs of aiida-vasp a DFPT run may have.
ARRAYS = ("dielectrics", "born_charges", "hessian")
_LINEAR_RESPONSE = (7, 8)


class _ResponseStage(VaspStage):
    """One VaspWorkChain, whose single ionic step is not to be judged as a relaxation."""

    _options: ClassVar[dict[str, Any]] = {}  #: further arguments of the input set
    _nodes: ClassVar[tuple[str, ...]] = ()  #: outputs of the parser that it leaves out unless asked

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the outline."""
        super().define(spec)
        spec.outline(cls.check, cls.respond, cls.finish)

    def check_inputs(self, told: VaspInputs) -> None:
        """Refuse functionals that VASP has no linear response for."""
        tags = told.incar
        if int(tags.get("IBRION", -1)) in _LINEAR_RESPONSE and (tags.get("METAGGA") or tags.get("LHFCALC")):
            raise ImpossibleRequest(
                "VASP's linear response (IBRION 7 and 8) knows semilocal functionals only; take IBRION 6 for a "
                "meta-GGA or a hybrid."
            )

    def respond(self) -> ToContext:
        """Submit the run."""
        structure = self.crystal()
        told = self.told(structure, self.ctx.settings, **self._options)
        inputs = self.vasp(told, structure=structure)
        parser = {"check_ionic_convergence": False, "include_node": list(self._nodes)}
        inputs["settings"] = orm.Dict({"parser_settings": parser, "CHECK_IONIC_CONVERGENCE": False})
        # a run cut short cannot go on from its last geometry, as a relaxation would: once more, then give up
        inputs["handler_overrides"] = orm.Dict({"handler_unfinished_calc_ionic": {"enabled": False}})
        inputs["metadata"] = {"call_link_label": self.STAGE}
        return ToContext(process=self.submit(WorkflowFactory("vasp.v2.vasp"), inputs))

    def crystal(self) -> orm.StructureData:
        """Return the crystal to compute."""
        return self.inputs.structure

    def finish(self) -> ExitCode | None:
        """Hand out the tensors."""
        if (why := self.ended(self.ctx.process)) is not None:
            return why
        found = self.found()
        for name in ("results", "tensors", "force_constants"):
            if name in found:
                self.out(name, found[name])
        return self.doubt(found["results"].get_dict())

    @abstractmethod
    def found(self) -> dict[str, orm.Data]:
        """Return the outputs."""

    def doubt(self, results: dict[str, Any]) -> ExitCode | None:
        """Return an exit code if nothing came out."""
        if not results["values"]:
            return self.exit_codes.ERROR_ENGINE_FAILED.format(reason=results["verdict"] or "no value came out")
        return None


class VaspDfptStage(_ResponseStage):
    """Dielectric tensors, Born charges, piezoelectric tensor and modes at Gamma by linear response."""

    STAGE = "dfpt"
    _options: ClassVar[dict[str, Any]] = {"lepsilon": True}
    _nodes = ("bands", "kpoints")

    def finish(self) -> ExitCode | None:
        """Refuse a metal, else hand out the tensors."""
        if (why := self.ended(self.ctx.process)) is not None:
            return why
        bands, least = self.job_of(self.ctx.process).outputs.bands, self.ctx.settings["min_gap"]
        energies, filled = bands.get_bands(also_occupations=True)
        found = band_gap(energies, filled, bands.get_kpoints(also_weights=True)[1])
        if found.gap < least:
            return self.refused(f"its gap of {found.gap:.3f} eV is below min_gap = {least} eV: no response to a field")
        return super().finish()

    def found(self) -> dict[str, orm.Data]:
        """Return the outputs."""
        job = self.job_of(self.ctx.process)
        arrays = {name: job.outputs[name] for name in ARRAYS if name in job.outputs}
        made: dict[str, orm.Data] = dfpt_results(
            structure=self.inputs.structure, **self.evidence(self.ctx.process), **arrays
        )
        return made


class VaspElasticStage(_ResponseStage):
    """Elastic constants by strains and displacements."""

    STAGE = "elastic"

    def found(self) -> dict[str, orm.Data]:
        """Return the outputs."""
        made: dict[str, orm.Data] = elastic_results(structure=self.inputs.structure, **self.evidence(self.ctx.process))
        return made


class VaspPhononStage(_ResponseStage):
    """Force constants of a supercell, and the frequencies at the wave vectors that fit it."""

    STAGE = "phonon"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the further output."""
        super().define(spec)
        spec.output(
            "force_constants", valid_type=orm.ArrayData, required=False, help="Of the supercell [eV/A^2], (n, n, 3, 3)."
        )

    def check_inputs(self, told: VaspInputs) -> None:
        """Refuse supercells that are too large."""
        super().check_inputs(told)
        crystal = self.inputs.structure.get_pymatgen()
        settings = self.ctx.settings
        group = symmetry(crystal, 0.01)
        # along the vectors of a centred cell equal multiples alone keep its symmetry
        system = group.crystal_system if group.symbol[0] == "P" else "cubic"
        repeats = [int(n) for n in multiples(np.array(crystal.lattice.matrix), system, settings["min_length"])]
        atoms = int(np.prod(repeats)) * len(crystal)
        if atoms > settings["max_atoms"]:
            raise ImpossibleRequest(
                f"The supercell would have {atoms} atoms, more than max_atoms = {settings['max_atoms']}; raise it or "
                "lower min_length."
            )
        self.ctx.repeats = repeats

    def crystal(self) -> orm.StructureData:
        """Return the supercell."""
        self.ctx.repeats_node = orm.List(self.ctx.repeats).store()
        self.ctx.supercell = repeated(self.inputs.structure, self.ctx.repeats_node)
        return self.ctx.supercell

    def found(self) -> dict[str, orm.Data]:
        """Return the outputs."""
        made: dict[str, orm.Data] = phonon_results(
            structure=self.inputs.structure,
            supercell=self.ctx.supercell,
            repeats=self.ctx.repeats_node,
            tolerance=orm.Float(self.ctx.settings["tolerance"]),
            **self.evidence(self.ctx.process),
        )
        return made


@calcfunction
def repeated(structure: orm.StructureData, repeats: orm.List) -> orm.StructureData:
    """Return a supercell that lists the images of an atom one after the other."""
    n = repeats.get_list()
    cell = np.array(structure.cell)
    made = orm.StructureData(cell=(cell * np.array(n)[:, None]).tolist(), pbc=structure.pbc)
    for kind in structure.kinds:
        made.append_kind(kind)
    shifts = [np.array(s) @ cell for s in np.ndindex(*n)]
    for site in structure.sites:
        for shift in shifts:
            made.append_site(orm.Site(kind_name=site.kind_name, position=tuple(np.array(site.position) + shift)))
    return made
