"""Runs of VASP done elsewhere: into the graph by aiida-vasp, then the same results as of a stage run here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import run_get_node

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.engines.vasp.potcars import UPLOAD
from crysgen_aiida.engines.vasp.response import ARRAYS
from crysgen_aiida.engines.vasp.results import (
    bands_results,
    dfpt_results,
    elastic_results,
    phonon_results,
    relax_results,
)
from crysgen_aiida.engines.vasp.stand_in import origin_of

#: What the parser of aiida-vasp must be told so that a stage finds its nodes; missing minor files are forgiven.
_NODES = {"bands": ["bands", "kpoints"]}
#: A mode below minus this [THz] is imaginary.
TOLERANCE = 0.05


def import_run(
    folder: str,
    code: orm.AbstractCode,
    stage: str,
    *,
    pseudo_family: str | None = None,
    potcars: Mapping[str, str] | None = None,
    stdout: str = "vasp_output",
) -> orm.CalcJobNode:
    """Import a finished run of VASP and return its VaspCalculation, inputs and outputs attached.

    :param folder: absolute path on the code's computer, with INCAR, POSCAR, KPOINTS, OUTCAR, vasprun.xml, CONTCAR and,
        if no family is given, POTCAR. aiida-vasp copies the standard output to ``vasp_output`` there.
    :param code: the code that was used; what it says it is names the method, so a stand-in stays one.
    :param stage: what the run is read as: ``relax``, ``bands``, ``dfpt``, ``phonon`` or ``elastic``.
    :param potcars: element to name of its POTCAR in the family, the element's own name by default.
    :raises ImpossibleRequest: if there is no POTCAR, neither in the folder nor in a family.
    """
    from aiida.common.exceptions import InputValidationError, NotExistent
    from aiida_vasp.calcs.immigrant import VaspCalcImporter

    settings = {
        "parser_settings": {
            "include_node": _NODES.get(stage, []),
            "check_completeness": False,
            "check_ionic_convergence": stage == "relax",
        }
    }
    try:
        builder = VaspCalcImporter.get_builder_from_folder(
            code=code,
            remote_path=str(folder),
            settings=settings,
            potential_family=pseudo_family,
            potential_mapping=dict(potcars) if potcars else None,
            stdout_file_name=stdout,
            dummy_resources={"num_machines": 1, "tot_num_mpiprocs": 1},
        )
    except (InputValidationError, NotExistent, ValueError) as error:
        family = pseudo_family or "PBE.54"
        raise ImpossibleRequest(
            f"The run in {folder} cannot be imported: {error}. It needs its POTCAR, or a family that has one for each "
            f"element: {UPLOAD.format(family=family)}"
        ) from error
    if builder.parameters.get_dict().get("icharg") in (1, 11):
        # the plug-in wants to know where the density came from: it is in the folder itself
        builder.restart_folder = builder.remote_folder
    node = run_get_node(builder)[1]
    assert isinstance(node, orm.CalcJobNode)
    return node


def results_of(job: orm.CalcJobNode, stage: str, path: orm.CalcJobNode | None = None) -> dict[str, Any]:
    """Return the nodes a stage would have put out, made by its calcfunction from an imported VaspCalculation.

    :param job: as :func:`import_run` or ``aiida-vasp import`` leave it.
    :param path: for ``bands`` alone: the run along the path, imported too; ``job`` is the static one.
    :raises ImpossibleRequest: if the run failed, is not of that stage, or lacks what the stage reads.
    """
    if not job.is_finished_ok:
        raise ImpossibleRequest(f"VaspCalculation<{job.pk}> ended with {job.exit_status}: {job.exit_message}")
    try:
        found: dict[str, Any] = _read(job, stage, path)
    except (KeyError, AttributeError) as error:
        raise ImpossibleRequest(
            f"VaspCalculation<{job.pk}> lacks what the stage {stage} reads: {error}. Import it with stage={stage!r}."
        ) from error
    return found


def _read(job: orm.CalcJobNode, stage: str, path: orm.CalcJobNode | None) -> Any:
    out = job.outputs
    held: dict[str, Any] = {"misc": out.misc, "retrieved": out.retrieved, "origin": orm.Dict(origin_of(job))}
    crystal = job.inputs.structure
    if stage == "relax":
        return relax_results(structure=out.structure if "structure" in out else crystal, start=crystal, **held)
    if stage == "bands":
        if path is None:
            raise ImpossibleRequest("Bands need two runs: the static one and, as path, the one along the path.")
        return bands_results(static_bands=out.bands, path_bands=path.outputs.bands, path=path.inputs.kpoints, **held)
    if stage == "dfpt":
        return dfpt_results(structure=crystal, **held, **{name: out[name] for name in ARRAYS if name in out})
    if stage == "elastic":
        return elastic_results(structure=crystal, **held)
    if stage == "phonon":
        return phonon_results(
            structure=crystal, supercell=crystal, repeats=orm.List([1, 1, 1]), tolerance=orm.Float(TOLERANCE), **held
        )
    raise ImpossibleRequest(f"There is no stage {stage!r} to read a run of VASP as.")
