"""ABINIT's part of the stand-in: bands at given k-points, and the tensors of linear response. Crude on purpose."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree

#: Pseudopotentials of Debian's abinit-data [PBE, psp8].
PSEUDOS = Path(os.environ.get("STAND_IN_PSP8", "/usr/share/abinit/psp"))
CUTOFF, MESH, EMPTY = 20, "2 2 2", 4

_RESPONSE = """ndtset 3
kptopt1 1 tolvrs1 1e-10
getwfk2 1 kptopt2 2 rfelfd2 2 rfdir2 1 1 1 nqpt2 1 qpt2 0 0 0 iscf2 -3 tolwfr2 1e-14
getwfk3 1 getddk3 2 kptopt3 2 nqpt3 1 qpt3 0 0 0 rfphon3 1 rfatpol3 1 {atoms} rfelfd3 3 rfstrs3 3 rfdir3 1 1 1
tolvrs3 1e-6
"""
_ANADDB = """elaflag 3 piezoflag 3 instrflag 1 dieflag 3 chneut 1 asr 1
ngqpt 1 1 1 nph1l 1 qph1l 0 0 0 1 nph2l 1 qph2l 0 0 1 0
ddb_filepath "m.ddb"
"""


def bands(atoms: Atoms, kpoints: np.ndarray) -> tuple[np.ndarray, int]:
    """Return energies [eV], (k-points, bands), and the number of filled bands."""
    filled = _filled(atoms)
    # an odd number of electrons is a metal's
    smeared = "occopt 3 tsmear 0.02" if _electrons(atoms) % 2 else ""
    points = "\n".join(" ".join(f"{x:.8f}" for x in k) for k in kpoints)
    more = f"""ndtset 2
{smeared}
toldfe1 1e-9 kptopt1 1 nband1 {filled + EMPTY}
getden2 1 iscf2 -2 kptopt2 0 tolwfr2 1e-10 nband2 {filled + EMPTY} nkpt2 {len(kpoints)} nbdbuf2 2
kpt2 {points}
enunit 0 prteig 1
"""
    with tempfile.TemporaryDirectory() as folder:
        _abinit(Path(folder), _cell(atoms) + more)
        text = Path(folder, "ro_DS2_EIG").read_text()
    blocks = re.split(r"kpt#.*\n", text)[1:]
    return np.array([[float(x) for x in block.split()] for block in blocks]) * Hartree, filled


def response(atoms: Atoms) -> dict[str, np.ndarray]:
    """Return dielectric, Born, piezoelectric [C/m^2] and elastic tensors [kBar], strains xx yy zz yz xz xy."""
    n = len(atoms)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _abinit(folder, _cell(atoms) + _RESPONSE.format(atoms=n) + f"nband {_filled(atoms)}\n")
        _run(folder, ["mrgddb"], "m.ddb\nx\n2\nro_DS1_DDB\nro_DS3_DDB\n")
        (folder / "a.abi").write_text(_ANADDB)
        text = _run(folder, ["anaddb", "a.abi"])
    at = text.index("Effectives Charges")
    charges = [[float(x) for x in line.split()[2:]] for line in text[at:].split("\n")[1 : n + 1]]
    if len(charges[0]) == 3:  # one line a direction
        charges = [[float(x) for x in line.split()[-3:]] for line in text[at:].split("\n")[1 : 3 * n + 1]]
    return {
        "electronic": _block(text, "Electronic dielectric tensor", 3, 3),
        "total": _block(text, "Relaxed ion dielectric tensor", 3, 3),
        "born": np.array(charges).reshape(n, 3, 3),
        "piezo_clamped": _block(text, "Proper piezoelectric constants (clamped ion)", 6, 3).T,
        "piezo_relaxed": _block(text, "Proper piezoelectric constants (relaxed ion)", 6, 3).T,
        "elastic_clamped": _block(text, "Elastic Tensor (clamped ion)", 6, 6) * 1000,
        "elastic_relaxed": _block(text, "Elastic Tensor (relaxed ion)", 6, 6) * 1000,
    }


def _cell(atoms: Atoms) -> str:
    symbols = atoms.get_chemical_symbols()
    kinds = list(dict.fromkeys(symbols))
    vectors = "\n".join(" ".join(f"{x:.10f}" for x in row) for row in atoms.cell[:] / Bohr)
    places = "\n".join(" ".join(f"{x:.10f}" for x in row) for row in atoms.get_scaled_positions())
    numbers = dict(zip(symbols, atoms.numbers, strict=True))
    return f"""acell 1 1 1
rprim {vectors}
natom {len(atoms)} ntypat {len(kinds)}
znucl {" ".join(str(numbers[e]) for e in kinds)}
typat {" ".join(str(kinds.index(e) + 1) for e in symbols)}
xred {places}
ecut {CUTOFF} ngkpt {MESH} nshiftk 1 shiftk 0 0 0 chksymbreak 0 nstep 60 diemac 6
pp_dirpath "{PSEUDOS}"
pseudos "{", ".join(f"{e}.psp8" for e in kinds)}"
"""


def _electrons(atoms: Atoms) -> int:
    lines = {e: (PSEUDOS / f"{e}.psp8").read_text().split("\n")[1] for e in set(atoms.get_chemical_symbols())}
    return int(sum(float(lines[e].split()[1]) for e in atoms.get_chemical_symbols()))


def _filled(atoms: Atoms) -> int:
    return _electrons(atoms) // 2


def _abinit(folder: Path, text: str) -> None:
    (folder / "r.abi").write_text(text)
    _run(folder, ["abinit", "r.abi"])


def _run(folder: Path, command: list[str], given: str | None = None) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, input=given, text=True, capture_output=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout[-2000:]}")
    return done.stdout


def _block(text: str, title: str, rows: int, columns: int) -> np.ndarray:
    found: list[list[float]] = []
    for line in text[text.index(title) :].split("\n")[1:]:
        numbers = re.findall(r"-?\d+\.\d+(?:[ED][+-]\d+)?", line)
        if len(numbers) == columns and not line.strip().startswith("("):
            found.append([float(x) for x in numbers])
        if len(found) == rows:
            break
    return np.array(found)
