"""Files in the layout of VASP 6, as little of it as aiida-vasp and phonopy read, for the stand-in."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from ase import Atoms

#: VASP's order of strains among xx yy zz yz xz xy.
VASP_ORDER = (0, 1, 2, 5, 3, 4)
STRAINS = ("XX", "YY", "ZZ", "XY", "YZ", "ZX")
RULE = "-" * 80


@dataclass
class Step:
    """One ionic step: cell [A], fractional positions, energy [eV], forces [eV/A], stress with VASP's sign [kBar]."""

    cell: np.ndarray
    positions: np.ndarray
    energy: float
    forces: np.ndarray
    stress: np.ndarray


@dataclass
class Run:
    """All a run has to say."""

    name: str
    incar: dict[str, str]
    start: Atoms
    kpoints: tuple[np.ndarray, np.ndarray]
    converged: bool = True
    finished: bool = True
    at_rest: bool = True
    steps: list[Step] = field(default_factory=list)
    bands: tuple[np.ndarray, int] | None = None
    response: dict[str, np.ndarray] | None = None
    show: str = ""
    hessian: np.ndarray | None = None


def write_outcar(run: Run) -> None:
    """Write the OUTCAR."""
    tag = run.incar.get
    nelm, nsw, points = int(tag("NELM", 60)), int(tag("NSW", 0)), len(run.kpoints[0])
    lines = [
        f" {run.name}",
        f"   number of dos      NEDOS =    301   number of ions     NIONS = {len(run.start):6d}",
        f"   k-points           NKPTS = {points:6d}   k-points in BZ     NKDIM = {points:6d}   "
        f"number of bands    NBANDS= {0 if run.bands is None else run.bands[0].shape[1]:6d}",
        f"   NELM   = {nelm:6d};   NELMIN=  2; NELMDL= -5     # of ELM steps",
        f"   NSW    = {nsw:6d}    number of steps for IOM",
        f"   IBRION = {int(tag('IBRION', -1)):6d}    ionic relax: 0-MD 1-quasi-New 2-CG",
    ]
    for i, step in enumerate(run.steps, start=1):
        cycles = (1, 2) if run.converged else range(1, nelm + 1)
        lines += [f"{'-' * 39} Iteration {i:6d}({j:4d})  {'-' * 39}" for j in cycles]
        lines.append(f"  free  energy   TOTEN  = {step.energy:18.8f} eV")
    if run.response is not None:
        lines += _response(run)
    if run.finished:
        lines += [
            "",
            " General timing and accounting informations for this job:",
            " ========================================================",
            "",
            *(f"{name:>45s}: {1.0:12.3f}" for name in ("Total CPU time used (sec)", "User time (sec)")),
            *(f"{name:>45s}: {1.0:12.3f}" for name in ("System time (sec)", "Elapsed time (sec)")),
            "",
            f"{'Maximum memory used (kb)':>45s}:      100000.",
            f"{'Average memory used (kb)':>45s}:          N/A",
        ]
    Path("OUTCAR").write_text("\n".join(lines) + "\n")


def _response(run: Run) -> list[str]:
    held = run.response or {}
    if run.show == "field":
        ionic = held["piezo_relaxed"] - held["piezo_clamped"]
        return [
            *_piezo("PIEZOELECTRIC TENSOR (including local field effects)", held["piezo_clamped"]),
            *_piezo("PIEZOELECTRIC TENSOR IONIC CONTR", ionic),
        ]
    clamped, relaxed = held["elastic_clamped"], held["elastic_relaxed"]
    return [
        *_elastic("SYMMETRIZED ELASTIC MODULI (kBar)", clamped),
        *_elastic("ELASTIC MODULI CONTR FROM IONIC RELAXATION (kBar)", relaxed - clamped),
        *_elastic("TOTAL ELASTIC MODULI (kBar)", relaxed),
    ]


def _piezo(title: str, tensor: np.ndarray) -> list[str]:
    rows = [f"  {d} " + "".join(f"{v:12.5f}" for v in row) for d, row in zip("xyz", tensor[:, VASP_ORDER], strict=True)]
    return [
        f" {title}  for field in x, y, z        (C/m^2)",
        "          " + "          ".join(STRAINS),
        RULE,
        *rows,
        "",
    ]


def _elastic(title: str, tensor: np.ndarray) -> list[str]:
    turned = tensor[np.ix_(VASP_ORDER, VASP_ORDER)]
    rows = [f" {d}     " + "".join(f"{v:12.4f}" for v in row) for d, row in zip(STRAINS, turned, strict=True)]
    return [f" {title}", " Direction    " + "          ".join(STRAINS), RULE, *rows, RULE, ""]


def write_vasprun(run: Run) -> None:
    """Write the vasprun.xml."""
    points, weights = run.kpoints
    incar = "\n".join(f'<i type="string" name="{k}">{v}</i>' for k, v in run.incar.items())
    last = run.steps[-1]
    parts = [
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>',
        f'<generator>\n<i name="program" type="string">{run.name}</i>\n<i name="version" type="string">0.0.0 </i>\n'
        "</generator>",
        f"<incar>\n{incar}\n</incar>",
        f"<kpoints>\n{_rows('kpointlist', points)}\n{_rows('weights', weights[:, None])}\n</kpoints>",
        _parameters(run),
        _atoms(run.start),
        _structure(run.steps[0].cell, run.steps[0].positions, "initialpos"),
        *(_calculation(run, step, step is last) for step in run.steps),
        _structure(last.cell, last.positions, "finalpos"),
        "</modeling>\n",
    ]
    Path("vasprun.xml").write_text("\n".join(parts))


def _rows(name: str, array: np.ndarray) -> str:
    body = "\n".join("<v>" + "".join(f" {x:16.8f}" for x in row) + " </v>" for row in array)
    return f'<varray name="{name}" >\n{body}\n</varray>'


def _structure(cell: np.ndarray, positions: np.ndarray, name: str = "") -> str:
    named = f' name="{name}"' if name else ""
    volume = f'<i name="volume"> {abs(np.linalg.det(cell)):16.8f} </i>'
    crystal = f"<crystal>\n{_rows('basis', cell)}\n{volume}\n{_rows('rec_basis', np.linalg.inv(cell).T)}\n</crystal>"
    return f"<structure{named} >\n{crystal}\n{_rows('positions', positions)}\n</structure>"


def _parameters(run: Run) -> str:
    tags = {"NELM": 60, "NSW": 0, "IBRION": -1, "ISIF": 2}
    values = {t: run.incar.get(t, d) for t, d in tags.items()}
    values |= {"ISPIN": 1, "NBANDS": 0 if run.bands is None else run.bands[0].shape[1]}
    lines = [f'<i type="int" name="{t}"> {v} </i>' for t, v in values.items()]
    return '<parameters>\n<separator name="electronic" >\n' + "\n".join(lines) + "\n</separator>\n</parameters>"


def _atoms(atoms: Atoms) -> str:
    groups = [(e, len(list(g))) for e, g in groupby(atoms.get_chemical_symbols())]
    masses = dict(zip(atoms.get_chemical_symbols(), atoms.get_masses(), strict=True))
    each = "\n".join(f"<rc><c>{e:2s}</c><c>{i:4d}</c></rc>" for i, (e, n) in enumerate(groups, 1) for _ in range(n))
    types = "\n".join(
        f"<rc><c>{n:4d}</c><c>{e:2s}</c><c>{masses[e]:16.8f}</c><c> 0.0</c><c> stand-in </c></rc>" for e, n in groups
    )
    return (
        f'<atominfo>\n<atoms> {len(atoms)} </atoms>\n<types> {len(groups)} </types>\n<array name="atoms" >\n'
        '<dimension dim="1">ion</dimension>\n<field type="string">element</field>\n<field type="int">atomtype</field>\n'
        f'<set>\n{each}\n</set>\n</array>\n<array name="atomtypes" >\n<dimension dim="1">type</dimension>\n'
        '<field type="int">atomspertype</field>\n<field type="string">element</field>\n<field>mass</field>\n'
        '<field>valence</field>\n<field type="string">pseudopotential</field>\n'
        f"<set>\n{types}\n</set>\n</array>\n</atominfo>"
    )


def _calculation(run: Run, step: Step, last: bool) -> str:
    names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
    energy = "<energy>\n" + "\n".join(f'<i name="{n}"> {step.energy:16.8f} </i>' for n in names) + "\n</energy>"
    parts = [
        f"<calculation>\n<scstep>\n{energy}\n</scstep>",
        _structure(step.cell, step.positions),
        _rows("forces", step.forces),
        _rows("stress", step.stress),
        energy,
    ]
    if last and run.bands is not None:
        parts.append(_eigenvalues(*run.bands))
    if last and run.show == "field" and run.response is not None:
        held = run.response
        born = "\n".join("<set>" + _rows("x", z).split("\n", 1)[1].rsplit("\n", 1)[0] + "</set>" for z in held["born"])
        parts += [
            _rows("epsilon", held["electronic"]),
            f'<array name="born_charges" >\n<dimension dim="1">ion</dimension>\n{born}\n</array>',
            _rows("epsilon_ion", held["total"] - held["electronic"]),
        ]
    if last and run.hessian is not None:
        values = " ".join(f"{x:14.8f}" for x in np.linalg.eigvalsh(run.hessian))
        hessian = _rows("hessian", run.hessian)
        parts.append(f'<dynmat>\n{hessian}\n<v name="eigenvalues"> {values} </v>\n</dynmat>')
    return "\n".join([*parts, "</calculation>"])


def _eigenvalues(energies: np.ndarray, filled: int) -> str:
    points = []
    for i, row in enumerate(energies, 1):
        rows = "\n".join(f"<r> {e:10.4f} {1.0 if b < filled else 0.0:8.4f} </r>" for b, e in enumerate(row))
        points.append(f'<set comment="kpoint {i}">\n{rows}\n</set>')
    body = "\n".join(points)
    dims = "\n".join(f'<dimension dim="{i}">{n}</dimension>' for i, n in enumerate(("band", "kpoint", "spin"), 1))
    fermi = (energies[:, filled - 1].max() + energies[:, filled].min()) / 2
    return (
        f"<eigenvalues>\n<array>\n{dims}\n<field>eigene</field>\n<field>occ</field>\n"
        f'<set>\n<set comment="spin 1">\n{body}\n</set>\n</set>\n</array>\n</eigenvalues>\n'
        f'<dos>\n<i name="efermi"> {fermi:10.4f} </i>\n</dos>'
    )
