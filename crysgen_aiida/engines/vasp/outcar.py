"""Tables of an OUTCAR that aiida-vasp does not parse, as VASP 5.4 and VASP 6 print them.

VASP orders strains XX YY ZZ XY YZ ZX; what leaves this module is in the order xx yy zz yz xz xy of the contract.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from crysgen_aiida.crystals.errors import BadInput

#: Place of our strains xx yy zz yz xz xy among VASP's.
FROM_VASP = (0, 1, 2, 4, 5, 3)
KBAR_IN_GPA = 0.1

_NUMBERS = r"((?:\s*-?\d+\.\d+){6})"
_COLUMNS = r"[^\n]*\n\s*(?:Direction\s+)?XX\s+YY\s+ZZ\s+XY\s+YZ\s+ZX\s*\n[\s-]*\n"
_FIELD = r"\s+(?:for field in x, y, z\s+)?\(C/m\^2\)"
#: What a table is called; the last one of a file counts.
PIEZO_ELECTRONIC = r"PIEZOELECTRIC TENSOR(?: \(including local field effects\))?" + _FIELD
PIEZO_IONIC = r"PIEZOELECTRIC TENSOR IONIC CONTR" + _FIELD
ELASTIC_CLAMPED = r"SYMMETRIZED ELASTIC MODULI\s+\(kBar\)"
ELASTIC_IONIC = r"ELASTIC MODULI CONTR FROM IONIC RELAXATION\s+\(kBar\)"
ELASTIC_TOTAL = r"TOTAL ELASTIC MODULI\s+\(kBar\)"


def banner(text: str) -> str:
    """Return the first line of an OUTCAR: the version of VASP that wrote it."""
    return text.lstrip("\n").partition("\n")[0].strip()


def piezo_tensors(text: str) -> dict[str, Any]:
    """Return the piezoelectric tensors of an OUTCAR [C/m^2]: ``electronic`` and, if it is there, ``ionic``, (3, 6).

    :raises BadInput: if a table is damaged.
    """
    found = {"electronic": _table(text, PIEZO_ELECTRONIC, 3), "ionic": _table(text, PIEZO_IONIC, 3)}
    return {name: t[:, FROM_VASP] for name, t in found.items() if t is not None}


def elastic_tensors(text: str) -> dict[str, Any]:
    """Return the elastic constants of an OUTCAR [GPa]: ``clamped``, ``ionic`` and ``total`` where given, (6, 6).

    :raises BadInput: if a table is damaged.
    """
    names = {"clamped": ELASTIC_CLAMPED, "ionic": ELASTIC_IONIC, "total": ELASTIC_TOTAL}
    found = {name: _table(text, title, 6) for name, title in names.items()}
    return {n: t[np.ix_(FROM_VASP, FROM_VASP)] * KBAR_IN_GPA for n, t in found.items() if t is not None}


def _table(text: str, title: str, rows: int) -> Any:
    """Return the last table of that title, (rows, 6), None if there is none."""
    starts = [m.end() for m in re.finditer(title + _COLUMNS, text)]
    if not starts:
        return None
    lines = text[starts[-1] :].split("\n", rows)[:rows]
    matches = [re.fullmatch(r"\s*\w{1,2}" + _NUMBERS + r"\s*", line) for line in lines]
    if len(matches) < rows or None in matches:
        name = title.partition("(")[0].strip()
        raise BadInput(f"The table {name!r} of the OUTCAR is damaged or cut short; retrieve the file again.")
    return np.array([[float(x) for x in re.findall(r"-?\d+\.\d+", m[1])] for m in matches if m is not None])
