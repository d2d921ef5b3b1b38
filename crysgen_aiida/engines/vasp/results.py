"""Results of the stages, by calcfunctions from the nodes that aiida-vasp leaves. The same ones serve imported runs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from crysgen_aiida.engines.results import stage_results
from crysgen_aiida.engines.vasp.gap import band_gap
from crysgen_aiida.engines.vasp.outcar import banner, elastic_tensors, piezo_tensors
from crysgen_aiida.engines.vasp.stand_in import is_stand_in_output, slug
from crysgen_aiida.physics.tensors import tensor_properties

#: Tolerance of positions in the search for the symmetry that tensors are fitted to [A].
SYMPREC = 0.01
KBAR_IN_GPA = 0.1
#: sqrt(eV/A^2/amu) / 2 pi [THz].
EV_TO_THZ = 15.633302
#: Modes nearest to zero at Gamma are the acoustic ones.
ACOUSTIC = 3


@calcfunction
def relax_results(
    structure: orm.StructureData, start: orm.StructureData, misc: orm.Dict, retrieved: orm.FolderData, origin: orm.Dict
) -> dict[str, orm.Data]:
    """Return the results of a relaxation: the static run at its end is what is read."""
    held = misc.get_dict()
    n = len(structure.sites)
    values = {
        "energy_per_atom": held["total_energies"]["energy_extrapolated"] / n,
        "volume_per_atom": structure.get_cell_volume() / n,
        "density": float(structure.get_pymatgen().density),
        "max_force": float(np.linalg.norm(np.array(held["forces"]), axis=1).max()),
    }
    if held.get("stress") is not None:
        values["max_stress"] = float(np.abs(np.array(held["stress"])).max()) * KBAR_IN_GPA
    change = structure.get_cell_volume() / start.get_cell_volume() - 1
    return {"results": _results("relax", values, {"volume_change": change}, misc, retrieved, origin)}


@calcfunction
def bands_results(
    static_bands: orm.BandsData,
    path_bands: orm.BandsData,
    path: orm.KpointsData,
    misc: orm.Dict,
    retrieved: orm.FolderData,
    origin: orm.Dict,
) -> dict[str, orm.Data]:
    """Return gap and bands of a static run and a run along a path with its density."""
    energies, filled = static_bands.get_bands(also_occupations=True)
    along = path_bands.get_bands()
    weights = static_bands.get_kpoints(also_weights=True)[1]
    gap = band_gap(energies, filled, weights, along)
    labelled = orm.BandsData()
    labelled.set_kpointsdata(path)
    labelled.set_bands(along, units="eV")
    facts = {"direct": gap.direct, "vbm": gap.vbm, "cbm": gap.cbm, "metal": bool(gap.why_metal)}
    verdict = f"The crystal is a metal: {gap.why_metal}." if gap.why_metal else ""
    return {
        "results": _results("bands", {"band_gap": gap.gap}, facts, misc, retrieved, origin, verdict),
        "bands": labelled,
    }


@calcfunction
def dfpt_results(
    structure: orm.StructureData,
    misc: orm.Dict,
    retrieved: orm.FolderData,
    origin: orm.Dict,
    **arrays: orm.ArrayData,
) -> dict[str, orm.Data]:
    """Return the tensors of a run with LEPSILON.

    :param arrays: aiida-vasp's ``dielectrics``, ``born_charges`` and ``hessian``, as far as there are.
    """
    tensors: dict[str, Any] = {}
    if "dielectrics" in arrays:
        held = arrays["dielectrics"]
        tensors["dielectric_electronic"] = held.get_array("epsilon")
        if "epsilon_ion" in held.get_arraynames():
            tensors["dielectric_total"] = held.get_array("epsilon") + held.get_array("epsilon_ion")
    if "born_charges" in arrays:
        tensors["born_charges"] = arrays["born_charges"].get_array("born_charges")
    piezo = piezo_tensors(_outcar(retrieved))
    if "electronic" in piezo:
        tensors["piezo_electronic"] = piezo["electronic"]
        if "ionic" in piezo:
            tensors["piezo_total"] = piezo["electronic"] + piezo["ionic"]
    if "hessian" in arrays:
        tensors["gamma_frequencies"] = frequencies(structure, force_constants(retrieved))
    return _with_tensors("dfpt", structure, tensors, misc, retrieved, origin)


@calcfunction
def elastic_results(
    structure: orm.StructureData, misc: orm.Dict, retrieved: orm.FolderData, origin: orm.Dict
) -> dict[str, orm.Data]:
    """Return the elastic constants of a run with IBRION 6 and ISIF 3."""
    found = elastic_tensors(_outcar(retrieved))
    names = {"clamped": "elastic_clamped", "total": "elastic_relaxed"}
    tensors = {ours: found[theirs] for theirs, ours in names.items() if theirs in found}
    return _with_tensors("elastic", structure, tensors, misc, retrieved, origin)


@calcfunction
def phonon_results(
    structure: orm.StructureData,
    supercell: orm.StructureData,
    repeats: orm.List,
    misc: orm.Dict,
    retrieved: orm.FolderData,
    origin: orm.Dict,
    tolerance: orm.Float,
) -> dict[str, orm.Data]:
    """Return the frequencies at the wave vectors that fit a supercell, from the Hessian VASP made of it."""
    constants = force_constants(retrieved)
    every = frequencies(supercell, constants)
    gamma = frequencies(structure, folded(constants, int(np.prod(repeats.get_list()))))
    optical = _optical(gamma)
    lowest = _optical(every)
    values = {"phonon_min_frequency_commensurate": float(lowest[0])} if len(lowest) else {}
    if len(optical):
        values["phonon_min_frequency_gamma"] = float(optical[0])
    soft = len(lowest) > 0 and lowest[0] < -tolerance.value
    facts = {
        "supercell": repeats.get_list(),
        "sum_rule": float(np.abs(constants.sum(axis=1)).max()),
        "acoustic_gamma": float(np.sort(np.abs(gamma))[:ACOUSTIC].max()),
        "real": not soft,
        "tolerance": tolerance.value,
    }
    verdict = f"A mode that fits the supercell is imaginary: {lowest[0]:.2f} THz." if soft else ""
    made = orm.ArrayData({"gamma_frequencies": gamma})
    return {
        "results": _results("phonon", values, facts, misc, retrieved, origin, verdict),
        "tensors": made,
        "force_constants": orm.ArrayData({"force_constants": constants}),
    }


def force_constants(retrieved: orm.FolderData) -> Any:
    """Return the force constants of a retrieved vasprun.xml [eV/A^2], (n, n, 3, 3), as phonopy reads them.

    VASP divides by the masses, and VASP 6 changes the unit; phonopy undoes both (its VASP interface).
    """
    from phonopy.interface.vasp import Vasprun

    content = retrieved.base.repository.get_object_content("vasprun.xml", "rb")
    return Vasprun(io.BytesIO(content)).read_force_constants()[0]


def folded(constants: Any, cells: int) -> Any:
    """Return force constants at Gamma of the unit cell, (n, n, 3, 3), of a supercell that lists images of an atom
    one after the other.
    """
    n = constants.shape[0] // cells
    return constants[::cells].reshape(n, n, cells, 3, 3).sum(axis=2)


def frequencies(structure: orm.StructureData, constants: Any) -> Any:
    """Return the frequencies [THz] of force constants at Gamma, ascending, imaginary ones negative."""
    masses = np.array([float(site.specie.atomic_mass) for site in structure.get_pymatgen()])
    n = len(masses)
    scaled = constants / np.sqrt(masses[:, None] * masses[None, :])[:, :, None, None]
    matrix = scaled.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    squares = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    return np.sign(squares) * np.sqrt(np.abs(squares)) * EV_TO_THZ


def _optical(found: Any) -> Any:
    return np.sort(found[np.argsort(np.abs(found), kind="stable")[ACOUSTIC:]])


def _with_tensors(
    stage: str,
    structure: orm.StructureData,
    tensors: dict[str, Any],
    misc: orm.Dict,
    retrieved: orm.FolderData,
    origin: orm.Dict,
) -> dict[str, orm.Data]:
    if not tensors:
        facts = {"missing": "the run left no tensor; look at its OUTCAR"}
        return {"results": _results(stage, {}, facts, misc, retrieved, origin, "The run left no tensor.")}
    values, facts = tensor_properties(structure.get_pymatgen(), tensors, SYMPREC)
    made = orm.ArrayData({name: np.asarray(t, dtype=float) for name, t in tensors.items()})
    return {"results": _results(stage, values, facts, misc, retrieved, origin), "tensors": made}


def _results(
    stage: str,
    values: dict[str, float],
    facts: dict[str, Any],
    misc: orm.Dict,
    retrieved: orm.FolderData,
    origin: orm.Dict,
    verdict: str = "",
) -> orm.Dict:
    who = origin.get_dict()
    engine, method, first = who.pop("engine"), who.pop("method"), banner(_outcar(retrieved))
    if engine == "vasp" and is_stand_in_output(first):
        engine, method = "stand-in", f"stand-in-{slug(first)[:40]}"
    known = {**who, "program": first, "version": misc.get_dict().get("version"), **facts}
    return orm.Dict(
        stage_results(engine=engine, stage=stage, method=method, values=values, facts=known, verdict=verdict)
    )


def _outcar(retrieved: orm.FolderData) -> str:
    return str(retrieved.base.repository.get_object_content("OUTCAR", "r"))
