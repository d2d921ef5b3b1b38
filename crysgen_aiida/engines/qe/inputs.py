"""From the settings of a protocol to the inputs of the plug-in's work chains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crysgen_aiida.engines.pseudos import functional, recommended_cutoffs
from crysgen_aiida.generators.contract import deep_merge

if TYPE_CHECKING:
    from aiida import orm

#: With ``spin: auto``, crystals with these elements get two spins: d shells that are open in most of their compounds,
#: and f shells.
MAGNETIC = frozenset({"V", "Cr", "Mn", "Fe", "Co", "Ni", "U", "Np", "Pu"}) | frozenset(
    {"Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb"}
)
#: Starting magnetisation of their atoms, as a share of the valence electrons.
START = 0.5

DEFAULT_OPTIONS: dict[str, Any] = {
    "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1},
    "withmpi": False,
}


@dataclass(frozen=True)
class Crystal:
    """A crystal with what its calculation needs beside the settings.

    :param pseudos: UPF nodes by kind.
    """

    structure: orm.StructureData
    pseudos: Mapping[str, Any]
    family: Any

    @property
    def elements(self) -> set[str]:
        """Elements of the crystal."""
        return {symbol for kind in self.structure.kinds for symbol in kind.symbols}

    @property
    def electrons(self) -> int:
        """Number of valence electrons."""
        return round(sum(self.pseudos[site.kind_name].z_valence for site in self.structure.sites))

    @property
    def method(self) -> str:
        """What its values are stamped with: the engine and the functional of the pseudopotentials."""
        return "qe-" + "+".join(sorted({functional(p) for p in self.pseudos.values()}))

    def spins(self, settings: Mapping[str, Any]) -> int:
        """Return 2 if the settings, or by default its elements, ask for two spins, else 1."""
        asked = settings.get("spin", "auto")
        return 2 if asked == "always" or (asked == "auto" and self.elements & MAGNETIC) else 1


def crystal_of(structure: orm.StructureData, family: Any) -> Crystal:
    """Return a crystal with its pseudopotentials.

    :raises ValueError: if the family lacks one; ask :func:`~crysgen_aiida.engines.checks.unsuitable` first.
    """
    return Crystal(structure, family.get_pseudos(structure=structure), family)


def pw_parameters(
    crystal: Crystal, settings: Mapping[str, Any], calculation: str, *, occupations: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the namelists of pw.x.

    :param occupations: ``fixed`` or ``smearing``; by default what the settings say.
    """
    atoms = len(crystal.structure.sites)
    wfc, rho = recommended_cutoffs(crystal.family, crystal.elements)
    cutoff = settings["ecutwfc"] or settings["cutoff_factor"] * wfc
    system: dict[str, Any] = {
        "ecutwfc": float(cutoff),
        "ecutrho": float(cutoff) * (settings["ecutrho_factor"] or rho / wfc),
        "occupations": occupations or settings["occupations"],
    }
    if system["occupations"] == "smearing":
        system.update(smearing=settings["smearing"], degauss=settings["degauss"])
    if crystal.spins(settings) == 2:
        system["nspin"] = 2
        system["starting_magnetization"] = {
            kind.name: START if set(kind.symbols) & MAGNETIC else 0.0 for kind in crystal.structure.kinds
        }
    own = {
        "CONTROL": {"calculation": calculation, "tprnfor": True, "tstress": True},
        "SYSTEM": system,
        "ELECTRONS": {
            "conv_thr": settings["conv_thr_per_atom"] * atoms,
            "electron_maxstep": settings["electron_maxstep"],
            "mixing_beta": settings["mixing_beta"],
        },
    }
    if calculation in ("nscf", "bands"):
        own["CONTROL"].update(tprnfor=False, tstress=False)
    merged: dict[str, dict[str, Any]] = deep_merge(own, settings["parameters"])
    return merged


def pw_inputs(
    crystal: Crystal,
    code: orm.AbstractCode,
    parameters: Mapping[str, Any],
    options: Mapping[str, Any] | None,
    label: str,
    *,
    kpoints: orm.KpointsData | None = None,
    kpoints_distance: float | None = None,
    parent: orm.RemoteData | None = None,
) -> dict[str, Any]:
    """Return the inputs of ``PwBaseWorkChain`` for one calculation.

    :param label: label of the call link.
    """
    from aiida import orm

    pw: dict[str, Any] = {
        "code": code,
        "structure": crystal.structure,
        "pseudos": dict(crystal.pseudos),
        "parameters": orm.Dict(dict(parameters)),
        "metadata": job_metadata(options),
    }
    if parent is not None:
        pw["parent_folder"] = parent
    inputs: dict[str, Any] = {"pw": pw, "metadata": {"call_link_label": label}, "clean_workdir": orm.Bool(False)}
    if kpoints is not None:
        inputs["kpoints"] = kpoints
    else:
        inputs["kpoints_distance"] = orm.Float(kpoints_distance)
        inputs["kpoints_force_parity"] = orm.Bool(False)
    return inputs


def job_metadata(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata of a job with the options of a site."""
    return {"options": deep_merge(DEFAULT_OPTIONS, dict(options or {}))}
