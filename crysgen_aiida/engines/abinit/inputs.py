"""The texts ABINIT, mrgddb and anaddb read; pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from crysgen_aiida.crystals.errors import BadInput

if TYPE_CHECKING:
    from pymatgen.core import Structure

BOHR = 0.529177210903  # A, CODATA 2018

#: Names of files in the folder of a run.
ABINIT_INPUT, ABINIT_OUTPUT, ABINIT_LOG, ABINIT_ERRORS = "abinit.abi", "abinit.abo", "abinit.log", "abinit.err"
MRGDDB_INPUT, MRGDDB_LOG = "mrgddb.in", "mrgddb.log"
ANADDB_INPUT, ANADDB_LOG = "anaddb.abi", "anaddb.log"
EIGENVALUES, MERGED = "out_DS1_EIG", "merged.ddb"
#: The datasets of a run.
SCF, DDK, RESPONSE = 1, 2, 3

ANADDB = f"""elaflag 3 piezoflag 3 instrflag 1 dieflag 3
chneut 1 asr 1
nph1l 1 qph1l 0 0 0 1
nph2l 1 qph2l 0 0 1 0
ddb_filepath "{MERGED}"
"""
MRGDDB = f"{MERGED}\ntotal energy, forces and second derivatives\n2\nout_DS{SCF}_DDB\nout_DS{RESPONSE}_DDB\n"


@dataclass(frozen=True)
class Parameters:
    """What ABINIT is told, beside the crystal and its pseudopotentials; names are ABINIT's where it has them.

    :param ecut: cutoff of the wave functions [Ha].
    :param ngkpt: divisions of the mesh of k-points.
    :param shiftk: its shifts.
    :param tolvrs: residual of the potential at which the self-consistent run has converged.
    :param tolwfr: residual of the derivatives of the wave functions with respect to k.
    :param tolvrs_response: residual of the first-order potential of each perturbation.
    :param nstep: most steps of each self-consistency.
    :param diemac: macroscopic dielectric constant the mixing assumes.
    :param iprcel: 0 or 45: whether the mixing computes a dielectric matrix instead.
    :param diemix: share of the mixing in the response.
    :param empty_bands: bands above the occupied ones in the self-consistent run, for the gap.
    :param tolsym: tolerance of the symmetry in reduced coordinates; None is ABINIT's own.
    :param chksymbreak: 0 accepts meshes of k-points that lack symmetry.
    """

    ecut: float
    ngkpt: tuple[int, int, int]
    shiftk: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 0.0),)
    tolvrs: float = 1e-12
    tolwfr: float = 1e-14
    tolvrs_response: float = 1e-6
    nstep: int = 60
    diemac: float = 6.0
    iprcel: int = 0
    diemix: float | None = None
    empty_bands: int = 2
    tolsym: float | None = None
    chksymbreak: int = 1

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Parameters:
        """Return parameters from plain values.

        :raises BadInput: for an unknown name, a missing one or a value out of range.
        """
        known = {f.name for f in fields(cls)}
        strange = sorted(set(held) - known)
        if strange:
            raise BadInput(f"Unknown parameters of ABINIT: {', '.join(strange)}; known are {', '.join(sorted(known))}.")
        missing = sorted({"ecut", "ngkpt"} - set(held))
        if missing:
            raise BadInput(f"The parameters of ABINIT lack {', '.join(missing)}.")
        made = dict(held)
        made["ngkpt"] = tuple(int(n) for n in held["ngkpt"])
        if "shiftk" in held:
            made["shiftk"] = tuple(tuple(float(x) for x in shift) for shift in held["shiftk"])
        parameters = cls(**made)
        if not 1 <= parameters.ecut <= 1000:
            raise BadInput(f"ecut is {parameters.ecut}; it is in hartree, and between 1 and 1000.")
        if len(parameters.ngkpt) != 3 or min(parameters.ngkpt) < 1 or not parameters.shiftk:
            raise BadInput(f"ngkpt is {parameters.ngkpt}; give three numbers above zero, and at least one shift.")
        if parameters.nstep < 1 or parameters.empty_bands < 1:
            raise BadInput("nstep and empty_bands must be at least 1.")
        return parameters

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as plain values, without those left to ABINIT."""
        held = {k: v for k, v in asdict(self).items() if v is not None}
        return {**held, "ngkpt": list(self.ngkpt), "shiftk": [list(s) for s in self.shiftk]}


def abinit_input(
    structure: Structure,
    pseudos: Mapping[str, str],
    electrons: int,
    parameters: Parameters,
    *,
    only_scf: bool = False,
    restart: bool = False,
) -> str:
    """Return the input of ABINIT: self-consistent run, derivatives with respect to k, then all perturbations.

    The cell is written as it is, so that ABINIT's cartesian axes are those of the structure.

    :param pseudos: path of the psp8 file by element, types in this order.
    :param electrons: valence electrons of the cell, an even number.
    :param only_scf: stop after the self-consistent run.
    :param restart: start from the wave functions that ``in_DS1_WFK``, ``in_DS2_1WF*`` and ``in_DS3_1WF*`` hold.
    """
    elements = list(pseudos)
    occupied, atoms = electrons // 2, len(structure)
    datasets = [SCF] if only_scf else [SCF, DDK, RESPONSE]
    lines = [
        f"ndtset {len(datasets)}",
        f"jdtset {' '.join(map(str, datasets))}",
        'indata_prefix "in"',
        'outdata_prefix "out"',
        'tmpdata_prefix "tmp"',
        f"kptopt1 1 tolvrs1 {parameters.tolvrs:.3e} nband1 {occupied + parameters.empty_bands} "
        f"nbdbuf1 {parameters.empty_bands} iprcel1 {parameters.iprcel}",
    ]
    if restart:
        lines.append("irdwfk1 1" + ("" if only_scf else " ird1wf2 1 ird1wf3 1"))
    if not only_scf:
        gamma = "nqpt{0} 1 qpt{0} 0 0 0 rfdir{0} 1 1 1 getwfk{0} 1 kptopt{0} 2 nband{0} {1} prtden{0} 0 prtpot{0} 0"
        lines += [
            gamma.format(DDK, occupied),
            f"rfelfd2 2 iscf2 -3 tolwfr2 {parameters.tolwfr:.3e}",
            gamma.format(RESPONSE, occupied),
            f"getddk3 2 rfphon3 1 rfatpol3 1 {atoms} rfelfd3 3 rfstrs3 3 tolvrs3 {parameters.tolvrs_response:.3e}",
        ]
        if parameters.diemix is not None:
            lines.append(f"diemix3 {parameters.diemix:g}")
    lines += [
        f"ecut {parameters.ecut:g}",
        f"ngkpt {' '.join(map(str, parameters.ngkpt))}",
        f"nshiftk {len(parameters.shiftk)}",
        "shiftk",
        *_rows(parameters.shiftk),
        f"chksymbreak {parameters.chksymbreak} chkprim 0",
        *([f"tolsym {parameters.tolsym:.3e}"] if parameters.tolsym is not None else []),
        f"occopt 1 nstep {parameters.nstep} diemac {parameters.diemac:g}",
        *_cell(structure, elements),
        f'pseudos "{", ".join(pseudos.values())}"',
    ]
    return "\n".join(lines) + "\n"


def _cell(structure: Structure, elements: list[str]) -> list[str]:
    """Return the lines of cell and atoms, types in the order of the elements."""
    return [
        "acell 1 1 1",
        "rprim",
        *_rows(structure.lattice.matrix / BOHR),
        f"natom {len(structure)} ntypat {len(elements)}",
        f"znucl {' '.join(str(_number(e)) for e in elements)}",
        f"typat {' '.join(str(elements.index(site.specie.symbol) + 1) for site in structure)}",
        "xred",
        *_rows(structure.frac_coords),
    ]


def _rows(values: Sequence[Sequence[float]] | np.ndarray) -> list[str]:
    return ["  " + " ".join(f"{float(x) + 0.0:.14f}" for x in row) for row in values]


def _number(element: str) -> int:
    from crysgen_aiida.data.elements import NUMBERS

    return NUMBERS[element]
