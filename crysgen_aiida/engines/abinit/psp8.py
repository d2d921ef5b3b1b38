"""From UPF 2 to psp8, the format of Hamann's ONCVPSP potentials that ABINIT reads; pure functions, no AiiDA.

ABINIT 9 refuses UPF 2. An ONCVPSP potential holds the same numbers in both formats, in other units and conventions:
UPF in Rydberg with projectors r*beta that are not normalised, psp8 in Hartree with normalised ones and their
energies. References: D. R. Hamann, Phys. Rev. B 88, 085117 (2013); the description of ``pspcod 8`` in ABINIT's
documentation; the UPF 2 schema of Quantum ESPRESSO.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import make_interp_spline

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.data.elements import NUMBERS

#: Functionals as UPF calls them (short names as upper case, dashes between words) to ABINIT's ``ixc``.
FUNCTIONALS: dict[str, int] = {
    "PBE": 11,
    "SLA-PW-PBX-PBC": 11,
    "PBESOL": -116133,
    "SLA-PW-PSX-PSC": -116133,
    "LDA": -1012,
    "PW": -1012,
    "PZ": 2,
    "SLA-PW-NOGX-NOGC": -1012,
}
#: Names of those functionals, for the method stamped on a result.
FUNCTIONAL_NAMES: dict[int, str] = {11: "pbe", -116133: "pbesol", -1012: "lda", 2: "lda", 7: "lda"}

_MAX_L = 4
_RYDBERG = 0.5  # Hartree
_LEAST_REACH = 6.0  # bohr, as the official psp8 files have it
_NEGLIGIBLE = 2e-5  # in atomic units; UPF prints potentials to ten digits, so r V is known to 1e-5


@dataclass(frozen=True)
class Psp8Header:
    """What the head of a psp8 file says.

    :param atomic_number: of the element.
    :param valence: number of valence electrons.
    :param ixc: ABINIT's number of the functional it was made with.
    """

    atomic_number: int
    valence: float
    ixc: int

    @property
    def functional(self) -> str:
        """Return the name of the functional, e.g. ``pbe``; ``ixc<number>`` if it has no short one."""
        return FUNCTIONAL_NAMES.get(self.ixc, f"ixc{self.ixc}")


def read_psp8_header(text: str, name: str = "psp8") -> Psp8Header:
    """Read the head of a psp8 file.

    :param name: what to call it in messages.
    :raises BadInput: if it is none, or holds spin-orbit terms.
    """
    lines = text.splitlines()[:6]
    try:
        charge, valence = (float(x) for x in lines[1].split()[:2])
        code, ixc = (int(x) for x in lines[2].split()[:2])
        extension = int(lines[5].split()[0])
    except (IndexError, ValueError):
        raise BadInput(f"{name} is no psp8 pseudopotential: its first six lines do not parse.") from None
    if code != 8:
        raise BadInput(f"{name} is a pseudopotential of ABINIT's kind {code}, not 8; give a psp8 file.")
    if extension in (2, 3):
        raise BadInput(f"{name} holds spin-orbit terms; give the scalar-relativistic potential.")
    return Psp8Header(round(charge), valence, ixc)


def upf_to_psp8(text: str, name: str = "UPF") -> str:
    """Return a norm-conserving UPF 2 potential as the text of a psp8 file.

    :param text: content of the UPF file.
    :param name: what to call it in messages and in the title line.
    :raises BadInput: for anything that is no scalar-relativistic, norm-conserving UPF 2 on a linear mesh starting at
        zero with a diagonal non-local part and a functional of :data:`FUNCTIONALS`; the message says which.
    """
    root, header = _parse(text, name)
    _check(header, name)
    symbol = header["element"]
    r = _numbers(root, "PP_MESH/PP_R", name)
    _check_mesh(r, name)
    valence = float(header["z_valence"])
    v_local = _numbers(root, "PP_LOCAL", name)[: len(r)] * _RYDBERG
    projectors = _projectors(root, int(header["number_of_proj"]), r, name)
    has_core = _true(header.get("core_correction", "F"))
    core = _core(_numbers(root, "PP_NLCC", name)[: len(r)], r) if has_core else np.zeros((5, len(r)))
    n = _reach(r, [r * v_local + valence, core[0], *(beta for held in projectors.values() for _, beta in held)])
    r = r[:n]
    lmax = max(projectors, default=0)
    functional = _functional(header["functional"])
    lines = [
        f"{symbol}    converted from {name} ({header['functional']})",
        f"{NUMBERS[symbol]:10.4f} {valence:11.4f}      {_date(header)}    zatom,zion,pspd",
        f"8 {FUNCTIONALS[functional]:5d} {lmax} {_MAX_L} {n} 0    pspcod,pspxc,lmax,lloc,mmax,r2well",
        f"{r[-1]:.8f} {float(has_core):.8f} 0.00000000    rchrg fchrg qchrg",
        " ".join(str(len(projectors.get(channel, []))) for channel in range(5)) + "    nproj",
        "0    extension_switch",
    ]
    for channel in range(lmax + 1):
        held = projectors.get(channel, [])
        lines.append(f"{channel}    " + " ".join(f"{energy:.13E}" for energy, _ in held))
        lines += _table(r, [beta for _, beta in held])
    lines.append(str(_MAX_L))
    lines += _table(r, [v_local])
    if has_core:
        lines += _table(r, list(core))
    return "\n".join(lines) + "\n"


def _parse(text: str, name: str) -> tuple[ET.Element, dict[str, str]]:
    if not re.search(r"<UPF\s+version\s*=\s*[\"']2", text[:2000]):
        raise BadInput(f"{name} is no UPF 2 file; convert it with upfconv of Quantum ESPRESSO first.")
    # the free text there holds raw '&' and '<', which no XML reader takes
    text = re.sub(r"<PP_INFO>.*?</PP_INFO>", "", text, flags=re.S)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadInput(f"{name} declares XML entities, which no pseudopotential needs; it is not read.")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise BadInput(f"{name} is damaged: {error}.") from None
    found = root.find("PP_HEADER")
    if found is None:
        raise BadInput(f"{name} has no PP_HEADER; it is truncated or no UPF 2 file.")
    header = {key: value.strip() for key, value in found.attrib.items()}
    missing = [k for k in ("element", "pseudo_type", "functional", "z_valence", "number_of_proj") if k not in header]
    if missing:
        raise BadInput(f"The header of {name} lacks {', '.join(missing)}.")
    return root, header


def _check(header: dict[str, str], name: str) -> None:
    kind = header["pseudo_type"].upper()
    if kind != "NC" or _true(header.get("is_ultrasoft", "F")) or _true(header.get("is_paw", "F")):
        what = {"PAW": "a PAW data set", "US": "ultrasoft", "USPP": "ultrasoft", "1/R": "a bare Coulomb potential"}
        raise BadInput(
            f"{name} is {what.get(kind, kind)}; only norm-conserving potentials (ONCVPSP: PseudoDojo, SG15) are psp8."
        )
    if _true(header.get("has_so", "F")):
        raise BadInput(f"{name} holds spin-orbit terms; give the scalar-relativistic potential of the same table.")
    if header["element"] not in NUMBERS:
        raise BadInput(f"{name} is for {header['element']!r}, which is no chemical element.")
    if _functional(header["functional"]) not in FUNCTIONALS:
        raise BadInput(
            f"{name} was made with the functional {header['functional']!r}, which has no known number in ABINIT here; "
            f"known are {', '.join(FUNCTIONALS)}."
        )


def _check_mesh(r: np.ndarray, name: str) -> None:
    if len(r) < 10 or abs(r[0]) > 1e-12 or not np.allclose(np.diff(r), r[1] - r[0], rtol=0, atol=1e-8):
        raise BadInput(
            f"The radial mesh of {name} is not linear from zero, as psp8 needs it; take the potential from ONCVPSP."
        )


def _reach(r: np.ndarray, short_ranged: list[np.ndarray]) -> int:
    """Return how many mesh points, an even number, hold all that is not the Coulomb tail; at least 6 bohr of them.

    ABINIT continues the potential as -Z/r, and puts the core charge on points of the cell within the radius stated.
    """
    far = max((int(np.flatnonzero(np.abs(f[: len(r)]) > _NEGLIGIBLE).max(initial=0)) for f in short_ranged), default=0)
    n = min(len(r), max(far + 2, int(np.searchsorted(r, _LEAST_REACH))))
    return n - n % 2


def _projectors(root: ET.Element, count: int, r: np.ndarray, name: str) -> dict[int, list[tuple[float, np.ndarray]]]:
    """Return by angular momentum the projectors (n,), int p^2 dr = 1, each with its energy [Ha]."""
    if not count:
        return {}
    strengths = _numbers(root, "PP_NONLOCAL/PP_DIJ", name).reshape(count, count)
    off = strengths - np.diag(np.diag(strengths))
    if np.abs(off).max() > 1e-10 * np.abs(strengths).max():
        raise BadInput(f"{name} couples different projectors; psp8 holds diagonal ones only.")
    held: dict[int, list[tuple[float, np.ndarray]]] = {}
    for i in range(count):
        path = f"PP_NONLOCAL/PP_BETA.{i + 1}"
        beta = _numbers(root, path, name)[: len(r)]
        element = root.find(path)
        channel = int(element.attrib["angular_momentum"]) if element is not None else 0
        norm, strength = float(np.trapezoid(beta * beta, r)), float(strengths[i, i]) * _RYDBERG
        if norm > 0 and strength != 0:
            held.setdefault(channel, []).append((strength * norm, beta / math.sqrt(norm)))
    if max(held, default=0) >= _MAX_L or any(len(p) > 2 for p in held.values()):
        raise BadInput(f"{name} has projectors beyond l = 3 or more than two a channel, which psp8 does not hold.")
    return held


def _core(density: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return 4 pi times the model core density and its first four derivatives, (5, n); even about the nucleus."""
    rho = 4 * np.pi * density
    spline = make_interp_spline(np.concatenate([-r[:0:-1], r]), np.concatenate([rho[:0:-1], rho]), k=7)
    return np.array([rho, *(spline.derivative(k)(r) for k in range(1, 5))])


def _table(r: np.ndarray, columns: list[np.ndarray]) -> list[str]:
    return [
        f"{i + 1:6d} {x:.13E} " + " ".join(f"{column[i]:.13E}" for column in columns) for i, x in enumerate(r.tolist())
    ]


def _numbers(root: ET.Element, path: str, name: str) -> np.ndarray:
    element = root.find(path)
    if element is None or not element.text:
        raise BadInput(f"{name} has no {path.rsplit('/', 1)[-1]}; it is truncated or no norm-conserving potential.")
    try:
        return np.array(element.text.split(), dtype=float)
    except ValueError as error:
        raise BadInput(f"{path.rsplit('/', 1)[-1]} of {name} holds something that is no number: {error}.") from None


def _functional(name: str) -> str:
    return "-".join(name.upper().replace("-", " ").split())


def _date(header: dict[str, str]) -> str:
    digits = header.get("date", "")
    return digits if re.fullmatch(r"\d{6}", digits) else "000000"


def _true(flag: str) -> bool:
    return flag.strip(". ").upper().startswith("T")
