"""Reference entries of the Materials Project, through its own client ``mp-api`` and with the user's own key.

Entries come with their run types and Hubbard U values; the corrections of 2020 are applied here, anew, so that the
scale of the reference is what it says whatever the client returns. An entry that they do not apply to (another run
type, no U where one belongs) is kept without energy.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest, NotInstalled
from crysgen_aiida.crystals.table import ReferenceSet
from crysgen_aiida.physics.potentials import MP2020
from crysgen_aiida.physics.reference_tables import TOTAL, EnergyTable, table_reference

KEY = "MP_API_KEY"
LICENSE = "CC-BY-4.0"
#: Without it the client mixes in r2SCAN energies, which are on another scale.
_ASKED: dict[str, Any] = {"additional_criteria": {"thermo_types": ["GGA_GGA+U"]}}


def fetch_entries(systems: Sequence[str]) -> tuple[list[Any], str]:
    """Fetch the entries of chemical systems, their sub-systems included, and the version of the database.

    :param systems: e.g. ``Li-Fe-O``.
    :raises BadInput: if one names no elements.
    :raises NotInstalled: if ``mp-api`` is missing; the message has the pip line.
    :raises ImpossibleRequest: if there is no key, or the Materials Project does not answer.
    """
    parts = [elements_of(system) for system in systems]
    try:
        from mp_api.client import MPRester
    except ImportError as error:
        raise NotInstalled(
            f"Entries of the Materials Project need its client, which is not installed here ({error}); run "
            "`pip install 'crysgen-aiida[mp]'`."
        ) from error
    if not (key := os.environ.get(KEY)):
        raise ImpossibleRequest(
            f"The Materials Project asks for a key of your own, and {KEY} is not set; get one at "
            f"https://materialsproject.org/api and set it: `export {KEY}=…`."
        )
    try:
        with MPRester(key) as client:
            entries = [e for elements in parts for e in client.get_entries_in_chemsys(elements, **_ASKED)]
            return entries, str(client.db_version)
    except Exception as error:  # whatever the client and the network below it raise
        raise ImpossibleRequest(
            f"The Materials Project did not give the entries of {', '.join(systems)} ({type(error).__name__}: "
            f"{error}); check the key in {KEY} and the network."
        ) from error


def elements_of(system: str) -> list[str]:
    """Return the elements of a chemical system, e.g. of ``Li-Fe-O``.

    :raises BadInput: if it names no elements.
    """
    from pymatgen.core import Element

    symbols = [part for part in system.replace(" ", "").split("-") if part]
    if not symbols or not all(Element.is_valid_symbol(s) for s in symbols):
        raise BadInput(f"{system!r} is no chemical system; write elements joined by '-', e.g. Li-Fe-O.")
    return symbols


def entries_reference(entries: Sequence[Any], *, name: str, version: str = "unknown") -> ReferenceSet:
    """Make a reference of scheme ``mp2020-compatible`` from pymatgen's ``ComputedEntry`` objects.

    :param version: of the database they are from.
    :raises EmptySet: if the corrections apply to none of them.
    """
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

    scheme = MaterialsProject2020Compatibility(check_potcar=False)
    energies = np.full(len(entries), np.nan)
    for k, entry in enumerate(entries):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peroxides are told by their formula if nothing else is known
            corrected = scheme.process_entries([entry], clean=True, inplace=False)
        if corrected:
            energies[k] = corrected[0].energy_per_atom
    table = EnergyTable(
        [entry.composition.formula for entry in entries],
        energies,
        [str(entry.entry_id) for entry in entries],
        np.full(len(entries), np.nan),
    )
    about = {"source": f"Materials Project, database {version}", "license": LICENSE}
    return table_reference(table, name=name, scheme=MP2020, kind=TOTAL, about=about)
