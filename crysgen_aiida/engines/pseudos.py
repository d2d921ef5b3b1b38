"""Families of pseudopotentials from a folder of UPF files, with cutoffs, for every engine that needs them.

The files are the user's: nothing is shipped and nothing is downloaded. aiida-pseudo keeps them in the profile.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest, NotInstalled

#: The table of cutoffs that is used unless another is named; see cutoffs.yaml for its source.
DEFAULT_TABLE = "pseudo-dojo-0.4-pbe-standard"
#: Cutoff of the wave functions for elements the table does not name [Ha]: that of its hardest common elements.
DEFAULT_CUTOFF = 45.0
#: Norm-conserving potentials: the density has twice the largest wave vector of the wave functions.
RHO_FACTOR = 4.0
RYDBERG_PER_HARTREE = 2.0
STRINGENCY = "normal"

_FUNCTIONAL = re.compile(rb'functional\s*=\s*"\s*([^"]+?)\s*"')
#: What UPF files call a functional, to what methods are stamped with.
_FUNCTIONALS = {
    "PBE": "pbe",
    "SLA PW PBX PBC": "pbe",
    "PBESOL": "pbesol",
    "SLA PW PSX PSC": "pbesol",
    "PZ": "lda",
    "PW": "lda",
    "SLA PW NOGX NOGC": "lda",
    "SLA PZ NOGX NOGC": "lda",
}


def cutoff_tables() -> dict[str, dict[str, float]]:
    """Return the known tables: name to element to cutoff of the wave functions [Ha]."""
    held = yaml.safe_load((files("crysgen_aiida.engines") / "cutoffs.yaml").read_text(encoding="utf-8"))
    return {name: {element: float(cut) for element, cut in table.items()} for name, table in held.items()}


def install_family(folder: Path, label: str, *, table: str | None = DEFAULT_TABLE) -> tuple[Any, bool]:
    """Make a family with cutoffs of the UPF files in a folder, one an element, and return it and whether it was made.

    A family of that label that holds the same files is kept.

    :param table: name of a table of cutoffs; elements it lacks, or all without one, get :data:`DEFAULT_CUTOFF`.
    :raises BadInput: if the folder is not one of UPF files, or a family of that label holds other files.
    :raises ImpossibleRequest: if there is no such table.
    """
    from aiida.plugins import DataFactory, GroupFactory

    tables = cutoff_tables()
    if table is not None and table not in tables:
        raise ImpossibleRequest(f"There is no table of cutoffs {table!r}; there are {', '.join(tables)}.")
    found = sorted(folder.glob("*.[uU][pP][fF]")) if folder.is_dir() else []
    if not found:
        raise BadInput(f"{folder} holds no UPF files; name the folder that holds one `Element.upf` for each element.")
    held = find_family(label)
    if held is not None:
        ours = {hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in found}
        if {node.md5 for node in held.pseudos.values()} != ours:
            raise BadInput(f"The profile has a family {label!r} of other files than {folder}; name another label.")
        return held, False
    kind: Any = GroupFactory("pseudo.family.cutoffs")
    try:
        family = kind.create_from_folder(folder, label, pseudo_type=DataFactory("pseudo.upf"))
    except ValueError as error:
        raise BadInput(f"No family can be made of {folder}: {error}. It must hold UPF files only.") from error
    known: Mapping[str, float] = tables[table] if table else {}
    wanted = {element: known.get(element, DEFAULT_CUTOFF) * RYDBERG_PER_HARTREE for element in family.elements}
    cutoffs = {element: {"cutoff_wfc": cut, "cutoff_rho": RHO_FACTOR * cut} for element, cut in wanted.items()}
    family.set_cutoffs(cutoffs, STRINGENCY, unit="Ry")
    return family, True


def find_family(label: str) -> Any | None:
    """Return the family of that label in the loaded profile, None if there is none."""
    from aiida import orm
    from aiida.plugins import GroupFactory

    query = orm.QueryBuilder().append(GroupFactory("pseudo.family"), filters={"label": label})
    return query.first(flat=True)


def families(extension: str = "upf") -> list[Any]:
    """Return the families of the loaded profile whose files are of a kind, largest first."""
    from aiida import orm
    from aiida.plugins import GroupFactory

    held = orm.QueryBuilder().append(GroupFactory("pseudo.family")).all(flat=True)
    fitting = [f for f in held if f.count() and str(f.pseudo_type).endswith(extension)]
    return sorted(fitting, key=lambda f: (-f.count(), f.label))


def load_family(label: str) -> Any:
    """Return the family of that label.

    :raises NotInstalled: if there is none; the message says how to make it.
    """
    family = find_family(label)
    if family is None:
        there = ", ".join(f.label for f in families()) or "none"
        raise NotInstalled(
            f"The profile has no family of pseudopotentials {label!r}; it has {there}. Make one with "
            "`crysgen engine setup qe --pseudos FOLDER`."
        )
    return family


def missing_elements(family: Any, elements: Iterable[str]) -> list[str]:
    """Return the elements for which a family has no pseudopotential, sorted."""
    return sorted(set(elements) - set(family.elements))


def covers(family: Any, elements: Iterable[str]) -> bool:
    """Whether a family has a pseudopotential for each of the elements."""
    return not missing_elements(family, elements)


def why_not_covered(family: Any, elements: Iterable[str]) -> str:
    """Return a sentence that names the elements without pseudopotential, empty if there is none."""
    absent = missing_elements(family, elements)
    if not absent:
        return ""
    return f"the family {family.label} has no pseudopotential for {', '.join(absent)}"


def recommended_cutoffs(family: Any, elements: Iterable[str]) -> tuple[float, float]:
    """Return the cutoffs [Ry] of wave functions and density for these elements together: the largest ones.

    :raises BadInput: if the family was made without cutoffs.
    """
    try:
        wfc, rho = family.get_recommended_cutoffs(elements=tuple(sorted(set(elements))), unit="Ry")
    except (AttributeError, ValueError) as error:
        raise BadInput(
            f"The family {family.label} recommends no cutoffs ({error}); make it with `crysgen engine setup`, "
            "or set them with `aiida-pseudo family cutoffs set`."
        ) from error
    return float(wfc), float(rho)


def functional(pseudo: Any) -> str:
    """Return the name of the functional a UPF node was made for, as methods are stamped with it: ``pbe``, ``lda``."""
    with pseudo.open(mode="rb") as handle:
        found = _FUNCTIONAL.search(handle.read(20_000))
    name = " ".join(found.group(1).decode().upper().split()) if found else ""
    return _FUNCTIONALS.get(name, name.lower().replace(" ", "-") or "unknown")
