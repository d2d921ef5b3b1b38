"""INCAR tags, k-points and POTCAR names of a stage, from the input sets of pymatgen (those of the Materials Project).

A. Jain et al., Comput. Mater. Sci. 50, 2295 (2011): cutoffs, +U in oxides and fluorides, starting moments, POTCARs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.errors import ImpossibleRequest

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Input sets a setting ``input_set`` may name.
INPUT_SETS = ("MPRelaxSet", "MPStaticSet", "MPNonSCFSet", "MPScanRelaxSet", "MPScanStaticSet")

#: Tags of Hubbard's U go to the work chain as a map by kind: it writes them in the order of its own POSCAR.
_U_TAGS = ("LDAU", "LDAUU", "LDAUL", "LDAUJ", "LDAUTYPE", "LMAXMIX")
_ORBITALS = {1: "p", 2: "d", 3: "f"}
#: Starting moment of an element the set does not name [mu_B].
DEFAULT_MOMENT = 0.6


@dataclass(frozen=True)
class VaspInputs:
    """What VASP is told, but for atoms and potentials.

    :param incar: tags in capital letters.
    :param mesh: points of a mesh centred at Gamma, along each reciprocal vector; (1, 1, 1) where there is a path.
    :param u_values: kind of atom to orbital and Hubbard U [eV].
    :param potcars: kind of atom to the name of its POTCAR, e.g. Ga to Ga_d.
    """

    incar: dict[str, Any]
    mesh: tuple[int, int, int]
    u_values: dict[str, tuple[str, float]] = field(default_factory=dict)
    potcars: dict[str, str] = field(default_factory=dict)


def vasp_inputs(structure: Structure, kinds: list[str], settings: Mapping[str, Any], **options: Any) -> VaspInputs:
    """Return what VASP is told about a crystal.

    :param kinds: name of the kind of each site; atoms of one element can be of several kinds, e.g. Fe1 and Fe2.
    :param settings: ``input_set``, ``incar`` (tags that win over those of the set; null takes a tag out),
        ``kpoints_density`` (points for each reciprocal A^3 divided by (2 pi)^3, as pymatgen's reciprocal_density),
        ``potcars`` and ``magmom`` (by kind or element).
    :param options: further arguments of the input set, e.g. ``lepsilon``.
    :raises ImpossibleRequest: if there is no such input set, or it has no POTCAR for an element.
    """
    from pymatgen.io.vasp import sets

    name = str(settings["input_set"])
    if name not in INPUT_SETS:
        raise ImpossibleRequest(f"There is no input set {name!r} for VASP; there are {', '.join(INPUT_SETS)}.")
    magnetic = structure.copy()
    config = getattr(sets, name).CONFIG
    moments = {**config["INCAR"].get("MAGMOM", {}), **settings.get("magmom", {})}
    symbols = [site.specie.symbol for site in structure]
    magnetic.add_site_property(
        "magmom",
        [float(moments.get(k, moments.get(e, DEFAULT_MOMENT))) for k, e in zip(kinds, symbols, strict=True)],
    )
    if name in ("MPRelaxSet", "MPStaticSet"):
        density = {"reciprocal_density": settings["kpoints_density"]}
        options = {"force_gamma": True, "user_kpoints_settings": density, **options}
    made = getattr(sets, name)(magnetic, sort_structure=False, **options)
    incar = {str(k).upper(): _plain(v) for k, v in made.incar.items()}
    u_values = _u_values(incar, made.poscar.site_symbols)
    for tag, value in dict(settings.get("incar", {})).items():
        incar[str(tag).upper()] = value
    by_kind = dict(zip(kinds, symbols, strict=True))
    keep_u = incar.get("LDAU", False)
    mesh = _mesh(structure, made, incar)
    return VaspInputs(
        incar={k: v for k, v in incar.items() if v is not None and k not in (*_U_TAGS, "KSPACING", "LDAUPRINT")},
        mesh=mesh,
        u_values={kind: u_values[e] for kind, e in by_kind.items() if keep_u and e in u_values},
        potcars=_potcars(by_kind, config["POTCAR"], settings.get("potcars", {})),
    )


def functional(incar: Mapping[str, Any], titles: list[str], has_u: bool) -> str:
    """Return the name of the functional a run used, e.g. ``pbe``, ``pbesol+u``, ``r2scan``.

    :param incar: its INCAR tags, in any case.
    :param titles: titles of its POTCARs: they say PBE or LDA where the INCAR says nothing.
    """
    tags = {str(k).upper(): v for k, v in incar.items()}
    gga = str(tags.get("GGA", "")).upper()
    if tags.get("METAGGA"):
        name = str(tags["METAGGA"]).lower()
    elif tags.get("LHFCALC"):
        name = "hse06" if float(tags.get("HFSCREEN", 0.0)) > 0 else "pbe0"
    elif gga:
        known = {"PE": "pbe", "PS": "pbesol", "RP": "rpbe", "CA": "lda", "91": "pw91", "AM": "am05"}
        name = known.get(gga, f"gga-{gga.lower()}")
    else:
        name = "pbe" if all("PBE" in title for title in titles) else "lda"
    return f"{name}+u" if has_u or tags.get("LDAU") else name


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def _u_values(incar: Mapping[str, Any], symbols: list[str]) -> dict[str, tuple[str, float]]:
    if not incar.get("LDAU"):
        return {}
    rows = zip(symbols, incar["LDAUL"], incar["LDAUU"], strict=True)
    return {str(e): (_ORBITALS[int(l_)], float(u)) for e, l_, u in rows if u}


def _mesh(structure: Structure, made: Any, incar: Mapping[str, Any]) -> tuple[int, int, int]:
    spacing = incar.get("KSPACING")
    if spacing is not None:
        n, m, k = (max(1, math.ceil(b / float(spacing))) for b in structure.lattice.reciprocal_lattice.abc)
        return n, m, k
    if made.kpoints.style.name == "Line_mode":
        return 1, 1, 1
    a, b, c = (int(n) for n in made.kpoints.kpts[0])
    return a, b, c


def _potcars(by_kind: Mapping[str, str], of_set: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, element in by_kind.items():
        name = wanted.get(kind) or wanted.get(element) or of_set.get(element)
        if name is None:
            raise ImpossibleRequest(
                f"The input set has no POTCAR for {element}; name one in the setting potcars, e.g. "
                f"{{{element}: {element}}}."
            )
        found[kind] = str(name)
    return found
