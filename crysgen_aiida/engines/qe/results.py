"""From the plug-in's output nodes to the results of a stage, by calcfunctions: a number leads back to its job."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from crysgen_aiida.data.structures import to_pymatgen
from crysgen_aiida.engines.qe.dynmat import DynamicalMatrix, read_dynamical_matrix
from crysgen_aiida.engines.qe.gap import Gap, band_gap
from crysgen_aiida.engines.results import stage_results
from crysgen_aiida.physics.harmonic import density_of_states, thermal_properties
from crysgen_aiida.physics.ionic import gamma_modes, lattice_dielectric, neutral
from crysgen_aiida.physics.tensors import tensor_properties

#: Where ph.x leaves its dynamical matrices among the retrieved files.
MATRICES = "DYN_MAT"
PREFIX = "dynamical-matrix-"
DOS_POINTS = 201
#: Born charges whose sum is more than this per atom [e] are worth a warning.
MAX_CHARGE = 0.1


@calcfunction
def relax_results(
    about: orm.Dict,
    parameters: orm.Dict,
    trajectory: orm.TrajectoryData,
    before: orm.StructureData,
    after: orm.StructureData,
) -> orm.Dict:
    """Return energy, residual force and stress of a relaxation."""
    held = parameters.get_dict()
    atoms = len(after.sites)
    values = {"energy_per_atom": held["energy"] / atoms}
    names = trajectory.get_arraynames()
    if "forces" in names:
        forces = trajectory.get_array("forces")[-1]
        values["max_force"] = float(np.linalg.norm(forces, axis=1).max())
    if "stress" in names:
        values["max_stress"] = float(np.abs(trajectory.get_array("stress")[-1]).max())
    facts = {
        **run_facts(held),
        "jobs": about["jobs"],
        "volume_change": after.get_cell_volume() / before.get_cell_volume() - 1.0,
    }
    return _results(about, "relax", values, facts)


@calcfunction
def bands_results(about: orm.Dict, parameters: orm.Dict, **bands: orm.BandsData) -> orm.Dict:
    """Return the gap over all bands given: along a path, on a mesh, of the self-consistent run."""
    held = parameters.get_dict()
    gap = band_gap([energies_and_points(node) for node in bands.values()], held["number_of_electrons"])
    facts = {
        **run_facts(held),
        **gap_facts(gap),
        # of an insulator the top of the valence bands: where the smeared level lies in the gap means nothing
        "fermi_energy": held["fermi_energy"] if gap.metal and "fermi_energy" in held else gap.valence_top,
        "sampled": sorted(bands),
        **about.get_dict().get("facts", {}),
    }
    verdict = "it is a metal: occupied and empty bands overlap" if gap.metal else ""
    return _results(about, "bands", {"band_gap": 0.0 if gap.metal else gap.fundamental}, facts, verdict)


@calcfunction
def dfpt_results(
    about: orm.Dict,
    structure: orm.StructureData,
    parameters: orm.Dict,
    bands: orm.BandsData,
    response: orm.FolderData,
) -> dict[str, Any]:
    """Return dielectric tensors, Born charges and modes at Gamma from the files of ph.x.

    The lattice's share is computed from Born charges made neutral and force constants with the acoustic sum rule; by
    how much both were violated is among the facts.
    """
    held = parameters.get_dict()
    matrix = matrices(response)[0]
    if matrix.dielectric is None or matrix.charges is None:
        raise ValueError("ph.x gave no dielectric tensor or no Born charges")
    modes = gamma_modes(matrix.force_constants.real, matrix.masses)
    charges, excess = neutral(matrix.charges)
    tensors = {
        "dielectric_electronic": matrix.dielectric,
        "born_charges": charges,
        "gamma_frequencies": modes.frequencies,
    }
    said = []
    try:
        lattice = lattice_dielectric(modes, charges, matrix.masses, matrix.volume)
        tensors["dielectric_total"] = matrix.dielectric + lattice
    except ValueError as error:
        said.append(f"no static dielectric constant: {error}")
    if excess > MAX_CHARGE * len(charges):
        said.append(
            f"Born charges sum to {excess:.2f} e before they are made neutral: too few k-points or too low a cutoff"
        )
    values, tensor_facts = tensor_properties(to_pymatgen(structure), tensors, about["settings"]["symprec"])
    said += tensor_facts["doubts"]
    gap = band_gap([energies_and_points(bands)], held["number_of_electrons"])
    facts = {
        **run_facts(held),
        **gap_facts(gap),
        **tensor_facts,
        "charge_neutrality_violation": excess,
        "acoustic_sum_rule_violation": modes.violation,
        "acoustic_before_sum_rule": modes.acoustic,
    }
    return {"results": _results(about, "dfpt", values, facts, "; ".join(said)), "tensors": array_data(tensors)}


@calcfunction
def phonon_results(
    about: orm.Dict, parameters: orm.Dict, response: orm.FolderData, mesh: orm.BandsData
) -> dict[str, Any]:
    """Return what phonons on a mesh tell: lowest frequencies, density of states, thermal properties."""
    asked = about.get_dict()
    tolerance = asked["settings"]["tolerance"]
    computed = matrices(response)
    gamma = next(m for m in computed if m.at_gamma)
    modes = gamma_modes(gamma.force_constants.real, gamma.masses)
    frequencies = mesh.get_bands()
    points = mesh.get_kpoints()
    optical = _without_acoustic(frequencies, points)
    lowest = int(np.argmin(np.nanmin(optical, axis=1)))
    least = float(np.nanmin(optical))
    grid = [float(m.frequencies.min()) for m in computed if not m.at_gamma]
    values = {"phonon_min_frequency": least, "phonon_max_frequency": float(frequencies.max())}
    if len(modes.optical):
        grid.append(float(modes.optical.min()))
        values["phonon_min_frequency_gamma"] = float(modes.optical.min())
    if grid:
        values["phonon_min_frequency_commensurate"] = min(grid)
    stable = min(least, *grid) >= -tolerance
    if stable:
        values.update(thermal_properties(optical, len(gamma.masses)))
    where = ", ".join(f"{x:.3g}" for x in points[lowest])
    verdict = f"the lowest mode of the mesh is {least:.3g} THz at q = ({where}): " + (
        f"none below -{tolerance:g} THz" if stable else f"below -{tolerance:g} THz, here or on the grid computed"
    )
    facts = {
        **run_facts(parameters.get_dict()),
        "stable": stable,
        "grid_points": len(computed),
        "mesh_points": len(points),
        "acoustic_sum_rule_violation": modes.violation,
        "acoustic_before_sum_rule": modes.acoustic,
        **asked.get("facts", {}),
    }
    first, second = density_of_states(frequencies, DOS_POINTS)
    dos = orm.XyData()
    dos.set_x(first, "frequency", "THz")
    dos.set_y(second, "dos", "states/THz/cell")
    return {"results": _results(about, "phonon", values, facts, verdict), "dos": dos}


def matrices(response: orm.FolderData) -> list[DynamicalMatrix]:
    """Return the dynamical matrices ph.x has left, in its order; the first is Gamma's."""
    return [read_dynamical_matrix(text) for text in _matrix_files(response)]


def missing_matrices(response: orm.FolderData) -> bool:
    """Whether ph.x has left no matrix or, opened and never written, an empty one."""
    found = _matrix_files(response)
    return not found or not all(found)


def _matrix_files(response: orm.FolderData) -> list[str]:
    repository = response.base.repository
    names = [n for n in repository.list_object_names(MATRICES) if n.startswith(PREFIX)]
    numbers = sorted(int(n.removeprefix(PREFIX)) for n in names)
    return [repository.get_object_content(f"{MATRICES}/{PREFIX}{k}", mode="r") for k in numbers if k > 0]


def array_data(tensors: dict[str, Any]) -> orm.ArrayData:
    """Return tensors as one node, each under its name in :data:`~crysgen_aiida.engines.contract.TENSORS`."""
    node = orm.ArrayData()
    for name, tensor in tensors.items():
        node.set_array(name, np.asarray(tensor, dtype=float))
    return node


def energies_and_points(node: orm.BandsData) -> tuple[Any, Any]:
    """Return energies [eV] and wave vectors of bands."""
    return node.get_bands(), node.get_kpoints()


def run_facts(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what is worth keeping of the output of pw.x."""
    names = {
        "creator_version": "version",
        "wfc_cutoff": "wfc_cutoff_ev",
        "rho_cutoff": "rho_cutoff_ev",
        "number_of_electrons": "number_of_electrons",
        "number_of_k_points": "kpoints",
        "number_of_bands": "bands",
        "number_of_symmetries": "symmetries",
        "total_magnetization": "total_magnetization",
        "absolute_magnetization": "absolute_magnetization",
        "dft_exchange_correlation": "functional",
        "wall_time_seconds": "wall_time_s",
    }
    return {ours: parameters[theirs] for theirs, ours in names.items() if parameters.get(theirs) is not None}


def gap_facts(gap: Gap) -> dict[str, Any]:
    """Return the facts of a gap."""
    return {
        "metal": gap.metal,
        "gap_fundamental_ev": gap.fundamental,
        "gap_direct_ev": gap.direct,
        "gap_is_direct": gap.is_direct,
        "valence_top_ev": gap.valence_top,
        "conduction_bottom_ev": gap.conduction_bottom,
        "valence_at": list(gap.valence_at),
        "conduction_at": list(gap.conduction_at),
    }


def _without_acoustic(frequencies: Any, points: Any) -> Any:
    """Return frequencies with the three nearest zero at Gamma replaced by NaN."""
    held = np.array(frequencies, dtype=float)
    for k in np.flatnonzero(np.abs(points - np.rint(points)).max(axis=1) < 1e-8):
        held[k, np.argsort(np.abs(held[k]), kind="stable")[:3]] = np.nan
    return held


def _results(
    about: orm.Dict, stage: str, values: dict[str, float], facts: dict[str, Any], verdict: str = ""
) -> orm.Dict:
    method = about["method"]
    return orm.Dict(stage_results(engine="qe", stage=stage, method=method, values=values, facts=facts, verdict=verdict))
