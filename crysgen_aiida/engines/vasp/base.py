"""VaspStage: what the stages share. Settings and POTCARs are checked before anything is submitted."""

from __future__ import annotations

from typing import Any, ClassVar

from aiida import orm
from aiida.engine import ExitCode

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.engines.protocols import stage_settings
from crysgen_aiida.engines.stage import EngineStage
from crysgen_aiida.engines.vasp.inputs import VaspInputs, vasp_inputs
from crysgen_aiida.engines.vasp.potcars import check_family
from crysgen_aiida.engines.vasp.stand_in import origin_of
from crysgen_aiida.generators.contract import deep_merge

#: Exit statuses of VaspWorkChain and VaspRelaxWorkChain that mean that something did not converge: iterations used up,
#: electronic and ionic convergence, a relaxation that does not come to rest, forces left at its end.
NOT_CONVERGED = (401, 503, 504, 505, 600, 601)
#: Elements with f electrons, whose +U needs a larger LMAXMIX.
_F_ELEMENTS = range(57, 104)


class VaspStage(EngineStage):
    """A stage that runs aiida-vasp's work chains. Subclasses name their stage."""

    STAGE: ClassVar[str]

    def check(self) -> ExitCode | None:
        """Complete the settings by those of the default protocol; refuse what cannot be done, with a remedy."""
        try:
            self.ctx.settings = stage_settings("vasp", self.STAGE, overrides=self.inputs.settings.get_dict())
            told = self.told(self.inputs.structure, self.ctx.settings)
            elements = {k.name: k.symbol for k in self.inputs.structure.kinds}
            family = self.inputs.pseudo_family.value if "pseudo_family" in self.inputs else None
            check_family(family, told.potcars, elements)
            self.check_inputs(told)
        except ImpossibleRequest as error:
            return self.refused(str(error))
        if "vasp" not in self.inputs.codes:
            return self.refused("The stage needs a code in the role vasp.")
        return None

    def check_inputs(self, told: VaspInputs) -> None:
        """Raise ImpossibleRequest for what this very stage cannot do."""

    def told(self, structure: orm.StructureData, settings: dict[str, Any], **options: Any) -> VaspInputs:
        """Return what VASP is told about a structure."""
        kinds = [site.kind_name for site in structure.sites]
        return vasp_inputs(structure.get_pymatgen(), kinds, settings, **options)

    def vasp(self, told: VaspInputs, *, nodes: tuple[str, ...] = (), structure: Any = None) -> dict[str, Any]:
        """Return the inputs of a VaspWorkChain.

        :param nodes: outputs of the parser that it leaves out unless asked.
        :param structure: the crystal, left out for chains that take it elsewhere.
        """
        kpoints = orm.KpointsData()
        kpoints.set_kpoints_mesh(list(told.mesh))
        mapped = structure or self.inputs.structure
        inputs: dict[str, Any] = {
            "code": self.inputs.codes["vasp"],
            "parameters": orm.Dict({"incar": {tag.lower(): value for tag, value in told.incar.items()}}),
            "kpoints": kpoints,
            "potential_family": self.inputs.pseudo_family,
            "potential_mapping": orm.Dict(dict(told.potcars)),
            "max_iterations": orm.Int(self.ctx.settings["max_iterations"]),
            "settings": orm.Dict({"parser_settings": {"include_node": list(nodes)}}),
            "calc": {"metadata": {"options": self.options()}},
        }
        if told.u_values:
            elements = {kind.name: kind.symbol for kind in mapped.kinds}
            inputs["ldau_mapping"] = orm.Dict(
                {
                    "mapping": {kind: list(value) for kind, value in told.u_values.items()},
                    "felec": any(atomic_number(elements[kind]) in _F_ELEMENTS for kind in told.u_values),
                }
            )
        if structure is not None:
            inputs["structure"] = structure
        return inputs

    def options(self) -> dict[str, Any]:
        """Return the options of a job: those of the site over one process on one machine."""
        given = dict(self.inputs.get("options", {}))
        return deep_merge({"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}}, given)

    def job_of(self, process: orm.ProcessNode) -> orm.CalcJobNode:
        """Return the last VASP job of a process, whose outputs the process passes on."""
        jobs = [node for node in process.called_descendants if isinstance(node, orm.CalcJobNode)]
        return max(jobs, key=lambda node: (node.ctime, node.pk))

    def evidence(self, process: orm.ProcessNode) -> dict[str, Any]:
        """Return what every calcfunction of results is given: what was parsed, what was retrieved, who computed it."""
        job = self.job_of(process)
        return {"misc": job.outputs.misc, "retrieved": job.outputs.retrieved, "origin": orm.Dict(origin_of(job))}

    def ended(self, process: orm.ProcessNode) -> ExitCode | None:
        """Return None for a process that ended well, else the exit code that says why not."""
        return None if process.is_finished_ok else self.failed(process, not_converged=NOT_CONVERGED)


def atomic_number(symbol: str) -> int:
    """Return the atomic number of an element."""
    from aiida.common.constants import elements

    return next(number for number, held in elements.items() if held["symbol"] == symbol)
