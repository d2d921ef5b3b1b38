"""VaspBandsStage: a static run, then the bands along a path with its density; the gap of both."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode, ToContext
from aiida.plugins import WorkflowFactory

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.engines.vasp.base import VaspStage
from crysgen_aiida.engines.vasp.inputs import VaspInputs
from crysgen_aiida.engines.vasp.results import bands_results
from crysgen_aiida.physics.band_path import BandPath, band_path


class VaspBandsStage(VaspStage):
    """Electronic bands and gap of a primitive cell."""

    STAGE = "bands"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the outline."""
        super().define(spec)
        spec.outline(cls.check, cls.static, cls.path, cls.finish)

    def check_inputs(self, told: VaspInputs) -> None:
        """Refuse a cell that has no path."""
        path_of(self.inputs.structure)

    def static(self) -> ToContext:
        """Submit the static run; its density stays where it ran."""
        told = self.told(self.inputs.structure, self.ctx.settings)
        told.incar["LCHARG"] = True
        inputs = self.vasp(told, nodes=("bands", "kpoints"), structure=self.inputs.structure)
        inputs["clean_workdir"] = orm.Bool(False)
        inputs["metadata"] = {"call_link_label": "static"}
        return ToContext(static=self.submit(WorkflowFactory("vasp.v2.vasp"), inputs))

    def path(self) -> ToContext | ExitCode:
        """Submit the run along the path."""
        if (why := self.ended(self.ctx.static)) is not None:
            return why
        kept = {k: v for k, v in self.ctx.settings["incar"].items() if k.upper() not in ("ISMEAR", "LCHARG", "MAGMOM")}
        settings = {**self.ctx.settings, "input_set": "MPNonSCFSet", "incar": {**kept, "ISMEAR": 0, "SIGMA": 0.01}}
        told = self.told(self.inputs.structure, settings, mode="line")
        inputs = self.vasp(told, nodes=("bands", "kpoints"), structure=self.inputs.structure)
        inputs["kpoints"] = path_points(
            self.inputs.structure, path_of(self.inputs.structure), self.ctx.settings["line_density"]
        )
        inputs["restart_folder"] = self.job_of(self.ctx.static).outputs.remote_folder
        inputs["metadata"] = {"call_link_label": "path"}
        return ToContext(bands=self.submit(WorkflowFactory("vasp.v2.vasp"), inputs))

    def finish(self) -> ExitCode | None:
        """Hand out bands and gap."""
        if (why := self.ended(self.ctx.bands)) is not None:
            return why
        static, along = self.job_of(self.ctx.static), self.job_of(self.ctx.bands)
        found = bands_results(
            static_bands=static.outputs.bands,
            path_bands=along.outputs.bands,
            path=along.inputs.kpoints,
            **self.evidence(self.ctx.static),
        )
        self.out("bands", found["bands"])
        self.out("mesh_bands", static.outputs.bands)
        self.out("results", found["results"])
        with contextlib.suppress(OSError):  # the density has done its work
            static.outputs.remote_folder._clean()
        return None


def path_of(structure: orm.StructureData) -> BandPath:
    """Return the path of a cell.

    :raises ImpossibleRequest: if the cell is not primitive.
    """
    crystal = structure.get_pymatgen()
    try:
        return band_path(crystal.lattice.matrix, crystal.frac_coords, np.array([s.specie.Z for s in crystal]))
    except ValueError as error:
        raise ImpossibleRequest(f"There is no path of bands: {error}. Give a primitive cell.") from error


def path_points(structure: orm.StructureData, path: BandPath, density: float) -> orm.KpointsData:
    """Return the points of a path with their labels.

    :param density: points for each 1/A, 2 pi included.
    """
    reciprocal = 2 * np.pi * np.linalg.inv(np.array(structure.cell)).T
    points: list[Any] = []
    labels: list[tuple[int, str]] = []
    for first, last in path.segments:
        start, end = path.points[first], path.points[last]
        n = max(2, int(np.ceil(np.linalg.norm((end - start) @ reciprocal) * density)) + 1)
        joined = bool(labels) and labels[-1][1] == first
        labels += [] if joined else [(len(points), first)]
        points += [start + (end - start) * i / (n - 1) for i in range(1 if joined else 0, n)]
        labels.append((len(points) - 1, last))
    made = orm.KpointsData()
    made.set_cell_from_structure(structure)
    made.set_kpoints(points, labels=labels)
    return made
