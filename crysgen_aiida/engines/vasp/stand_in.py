"""Who computed a number: VASP, or something that only looks like it. A stand-in is never called VASP."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from aiida import orm

from crysgen_aiida.engines.vasp.inputs import functional

#: Programs of aiida-vasp that replay recorded outputs.
REPLAYERS = ("mock-vasp", "mock-vasp-loose")
#: Extra of a code that names what it stands in with, for programs that nothing else gives away.
EXTRA = "crysgen_stand_in"
_MARKS = re.compile(r"mock|shim|stand.?in|fake|dummy", re.IGNORECASE)


def stand_in(code: orm.AbstractCode) -> str:
    """Return the name of what a code runs in place of VASP, empty if it is said to be VASP.

    A code is a stand-in if its executable is one of aiida-vasp's replayers, if its label says mock, shim, stand-in,
    fake or dummy, if it sets a variable of the mock, or if it has the extra ``crysgen_stand_in``.
    """
    path = str(getattr(code, "filepath_executable", "") or "")
    texts = f"{code.prepend_text or ''} {code.append_text or ''}"
    named = code.base.extras.get(EXTRA, None)
    if named or PurePosixPath(path).name in REPLAYERS or _MARKS.search(str(code.label)) or "MOCK_VASP" in texts:
        return named if isinstance(named, str) and named else str(code.label or PurePosixPath(path).name)
    return ""


def is_stand_in_output(banner: str) -> bool:
    """Whether the first line of an OUTCAR says that it was not VASP that wrote it."""
    return bool(_MARKS.search(banner)) or not banner.strip().lower().startswith("vasp.")


def origin_of(calculation: orm.CalcJobNode) -> dict[str, Any]:
    """Return who computed a VaspCalculation and how: method, code, functional, hashes of POTCARs, main settings."""
    inputs = calculation.inputs
    incar = {str(k).lower(): v for k, v in inputs.parameters.get_dict().items()}
    potcars = {
        kind: {key: node.base.attributes.get(key, None) for key in ("symbol", "title", "sha512")}
        for kind, node in sorted(inputs.potential.items())
    }
    name = functional(incar, [str(p["title"]) for p in potcars.values()], bool(incar.get("ldau")))
    replaced = stand_in(inputs.code)
    mesh = inputs.kpoints.base.attributes.get("mesh", None) if "kpoints" in inputs else None
    tags = ("encut", "ediff", "ediffg", "ismear", "sigma", "ispin", "ibrion", "nfree", "potim", "prec", "algo")
    return {
        "engine": "stand-in" if replaced else "vasp",
        "method": f"stand-in-{slug(replaced)}" if replaced else f"vasp-{name}",
        "code": str(inputs.code.label),
        "functional": name,
        "potcars": potcars,
        "incar": {tag.upper(): incar[tag] for tag in tags if tag in incar},
        "kpoints_mesh": mesh,
    }


def slug(text: str) -> str:
    """Return a text as letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
