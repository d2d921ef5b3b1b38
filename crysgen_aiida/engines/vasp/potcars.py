"""POTCARs: is there one for every kind of atom in the family, and if not, what to do. No file is ever opened here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from crysgen_aiida.crystals.errors import ImpossibleRequest

UPLOAD = 'aiida-vasp potcar uploadfamily --path FOLDER --name {family} --description "..."'


def check_family(family: str | None, potcars: Mapping[str, str], elements: Mapping[str, str]) -> None:
    """Check that a family of POTCARs has what a crystal needs.

    :param family: label of the family.
    :param potcars: kind of atom to name of its POTCAR.
    :param elements: kind of atom to element.
    :raises ImpossibleRequest: saying what is missing and the line that adds it.
    """
    from aiida_vasp.data.potcar import PotcarData

    if not family:
        raise ImpossibleRequest(
            "VASP needs a family of POTCARs: name it as pseudo_family. "
            f"{UPLOAD.format(family='PBE.54')} makes one from a folder that holds them."
        )
    group = PotcarData.get_potcar_group(family)
    if group is None:
        known = sorted(g.label for g in PotcarData.get_potcar_groups())
        raise ImpossibleRequest(
            f"There is no family of POTCARs {family!r} here (there are {', '.join(known) or 'none'}). "
            f"{UPLOAD.format(family=family)} makes it from a folder that holds them."
        )
    held = {node.symbol: node.element for node in group.nodes}
    for kind, name in potcars.items():
        if name in held:
            continue
        element = elements[kind]
        others = sorted(s for s, e in held.items() if e == element)
        if others:
            best = difflib.get_close_matches(name, others, n=1) or others[:1]
            raise ImpossibleRequest(
                f"The family {family} has no POTCAR {name} for {element}; it has {', '.join(others)}. Choose one in "
                f"the setting potcars, e.g. {{{element}: {best[0]}}}, or add it: {UPLOAD.format(family=family)}"
            )
        raise ImpossibleRequest(
            f"The family {family} has no POTCAR for {element} ({name} is wanted). "
            f"{UPLOAD.format(family=family)} adds it."
        )
