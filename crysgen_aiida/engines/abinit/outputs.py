"""What ABINIT and anaddb print, read; pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from crysgen_aiida.crystals.errors import BadInput

HARTREE_EV = 27.211386245988
HARTREE_THZ = 6579.683920502
HARTREE_BOHR3_GPA = 29421.02648438959

_NUMBER = re.compile(r"[-+]?\d+\.\d+(?:[ED][-+]?\d+)?")
_VERSION = re.compile(r"\.Version\s+(\S+)\s+of ABINIT")
_DATASET = re.compile(r"^== DATASET +(\d+) =+$", re.M)
_PERTURBATION = re.compile(r"^ Perturbation : (.+)$", re.M)
_IRREDUCIBLE = re.compile(r"^ +\d+\) +idir= *(\d+) +ipert= *(\d+)$", re.M)
#: What ABINIT says where a self-consistency has used up its steps.
NOT_CONVERGED = "was not enough SCF cycles to converge"
_ALL_PERTURBED = "first-order wavefunction calculations are completed"
_DONE = "Calculation completed."
_STEP = re.compile(r"^[ -]ETOT *(\d+) ", re.M)
_MESSAGE = re.compile(r"^--- !(ERROR|BUG|\w+Error)\n(.*?)^\.\.\.", re.M | re.S)


@dataclass(frozen=True)
class Run:
    """What the main output of ABINIT tells, whether it ended or not.

    :param done: the last dataset came to its end.
    :param datasets: datasets that were begun.
    :param scf_converged: None if the self-consistent run did not come to its end.
    :param unconverged: perturbations that did not converge, in ABINIT's words.
    :param finished: numbers ABINIT gives the files of perturbations that are whole, by dataset.
    :param total_energy: [eV] of the cell.
    :param stress: (6,) xx yy zz yz xz xy [GPa], positive under tension.
    :param max_force: [eV/A].
    :param memory: ABINIT's own estimate of what it needs [MB].
    :param raw_frequencies: at Gamma, before the acoustic sum rule [THz].
    :param raw_charges: (n, 3, 3) [atom, field, displacement], before charge neutrality [e].
    """

    version: str = ""
    done: bool = False
    datasets: tuple[int, ...] = ()
    scf_converged: bool | None = None
    scf_steps: int = 0
    unconverged: tuple[str, ...] = ()
    finished: dict[int, tuple[int, ...]] = field(default_factory=dict)
    total_energy: float | None = None
    stress: tuple[float, ...] | None = None
    max_force: float | None = None
    memory: float | None = None
    space_group: str = ""
    raw_frequencies: tuple[float, ...] | None = None
    raw_charges: np.ndarray | None = None


def read_run(text: str, atoms: int) -> Run:
    """Read the main output of ABINIT as far as it goes."""
    parts = _datasets(text)
    version = _VERSION.search(text)
    memory = [float(x) for x in re.findall(r"job should need less than +([\d.]+) Mbytes", text)]
    group = re.search(r"DATASET +1 : space group (.+?);", text)
    scf = parts.get(1, "")
    ended = "----iterations are completed or convergence reached----" in scf
    energy = re.search(r"^total_energy_eV *: *(\S+)\n", scf, re.M)
    finished = {n: _finished(part, atoms) for n, part in parts.items() if n != 1}
    return Run(
        version=version.group(1) if version else "",
        done=_DONE in text,
        datasets=tuple(parts),
        scf_converged=NOT_CONVERGED not in scf if ended else None,
        scf_steps=max((int(n) for n in _STEP.findall(scf)), default=0),
        unconverged=tuple(what for n, part in parts.items() if n != 1 for what in _unconverged(part)),
        finished={1: (0,) if len(parts) > 1 or _DONE in text else (), **finished},
        total_energy=float(energy.group(1)) if energy else None,
        stress=_stress(scf),
        max_force=_max_force(scf, atoms),
        memory=max(memory, default=None),
        space_group=group.group(1).strip() if group else "",
        raw_frequencies=_raw_frequencies(parts.get(3, ""), 3 * atoms),
        raw_charges=_raw_charges(parts.get(3, ""), atoms),
    )


def read_errors(log: str) -> list[str]:
    """Return the messages of ABINIT's errors in its log, each on one line."""
    found = []
    for _, body in _MESSAGE.findall(log):
        _, _, message = body.partition("message: |")
        text = " ".join((message or body).split())
        if text and text not in found:
            found.append(text)
    return found


def read_gap(text: str, occupied: int) -> float:
    """Return the gap between occupied and empty bands over all k-points of an ``EIG`` file [eV]; negative if they
    overlap.

    :raises BadInput: if the file does not hold more bands than the occupied ones.
    """
    bands: list[list[float]] = []
    for line in text.splitlines():
        if line.lstrip().startswith("kpt#"):
            bands.append([])
        elif bands:
            bands[-1] += [float(x) for x in _NUMBER.findall(line)]
    if not bands or min(len(b) for b in bands) <= occupied:
        raise BadInput("The file of eigenvalues does not hold an empty band at every k-point.")
    energies = np.array([b[: occupied + 1] for b in bands])
    return float((energies[:, occupied].min() - energies[:, occupied - 1].max()) * HARTREE_EV)


def read_anaddb(text: str, atoms: int) -> dict[str, np.ndarray]:
    """Read the tensors anaddb prints: names, shapes, units of :data:`crysgen_aiida.engines.contract.TENSORS`.

    Charge neutrality (``chneut 1``) and the acoustic sum rule (``asr 1``) are imposed by anaddb.

    :raises BadInput: naming the first tensor that is missing or broken.
    """
    return {
        "dielectric_electronic": _block(text, "Electronic dielectric tensor", 3, 3),
        "dielectric_total": _block(text, "Relaxed ion dielectric tensor", 3, 3),
        "born_charges": _charges(text, atoms),
        "piezo_electronic": _block(text, "Proper piezoelectric constants (clamped ion)", 6, 3).T,
        "piezo_total": _block(text, "Proper piezoelectric constants (relaxed ion)", 6, 3).T,
        "elastic_clamped": _block(text, "Elastic Tensor (clamped ion)", 6, 6) * 100,  # printed in units of 100 GPa
        "elastic_relaxed": _block(text, "Elastic Tensor (relaxed ion)", 6, 6) * 100,
        "gamma_frequencies": _frequencies(text, 3 * atoms),
    }


def _datasets(text: str) -> dict[int, str]:
    return {int(m.group(1)): body for m, body in _sections(_DATASET, text)}


def _sections(head: re.Pattern[str], text: str) -> list[tuple[re.Match[str], str]]:
    """Return each match with the text up to the next."""
    found = list(head.finditer(text))
    ends = [*(m.start() for m in found[1:]), len(text)]
    return [(m, text[m.end() : end]) for m, end in zip(found, ends, strict=False)]


def _finished(part: str, atoms: int) -> tuple[int, ...]:
    """Return the numbers of perturbations whose files are whole: all but the last one begun, unless all are done."""
    wanted = [int(direction) + 3 * (int(kind) - 1) for direction, kind in _IRREDUCIBLE.findall(part)]
    if _ALL_PERTURBED in part:
        return tuple(wanted)
    begun = len(_PERTURBATION.findall(part))
    return tuple(wanted[: max(0, begun - 1)])


def _unconverged(part: str) -> list[str]:
    return [" ".join(m.group(1).split()) for m, body in _sections(_PERTURBATION, part) if NOT_CONVERGED in body]


def _stress(part: str) -> tuple[float, ...] | None:
    where = part.find("Cartesian components of stress tensor (hartree/bohr^3)")
    if where < 0:
        return None
    found = dict(re.findall(r"sigma\((\d \d)\)= +(\S+E[-+]\d\d)", part[where:].split("\n\n")[0]))
    order = ("1 1", "2 2", "3 3", "3 2", "3 1", "2 1")
    return tuple(float(found[k]) * HARTREE_BOHR3_GPA for k in order) if set(order) <= set(found) else None


def _max_force(part: str, atoms: int) -> float | None:
    _, found, after = part.partition(" cartesian forces (eV/Angstrom) at end:\n")
    lines = after.split("\n")[:-1][:atoms]  # the last line may be cut
    rows = [[float(x) for x in line.split()[1:4]] for line in lines]
    if not found or len(rows) < atoms or any(len(row) != 3 for row in rows):
        return None
    return float(np.linalg.norm(np.array(rows), axis=1).max())


def _raw_frequencies(part: str, modes: int) -> tuple[float, ...] | None:
    _, found, after = part.partition("Phonon energies in Hartree :")
    numbers = [float(x) for x in _NUMBER.findall(after[: 40 * modes])][:modes] if found else []
    return tuple(x * HARTREE_THZ for x in numbers) if len(numbers) == modes else None


def _raw_charges(part: str, atoms: int) -> np.ndarray | None:
    _, found, after = part.partition("(from phonon response)")
    if not found:
        return None
    charges = np.full((atoms, 3, 3), np.nan)
    row = r"^ +(\d) +(\d+) +(\d) +(\d+) +(-?\d+\.\d+) +-?\d+\.\d+ *$"
    for a, first, b, second, value in re.findall(row, after.split("Rigid-atom")[0], re.M):
        if int(first) == atoms + 2 and int(second) <= atoms:
            charges[int(second) - 1, int(a) - 1, int(b) - 1] = float(value)
    return charges if np.isfinite(charges).all() else None


def _block(text: str, title: str, rows: int, columns: int) -> np.ndarray:
    where = text.find(title)
    if where < 0:
        raise BadInput(f"The output of anaddb has no {title!r}.")
    made: list[list[float]] = []
    for line in text[where:].split("\n")[1 : rows + 4]:
        words = line.split()
        if len(words) == columns and all(_NUMBER.fullmatch(w) for w in words):
            made.append([float(w) for w in words])
    if len(made) < rows:
        raise BadInput(f"{title!r} in the output of anaddb is broken: {len(made)} of {rows} rows can be read.")
    return np.array(made[:rows])


def _charges(text: str, atoms: int) -> np.ndarray:
    """Return (n, 3, 3) [atom, field, displacement]; a line is an atom, displacements run fastest."""
    _, found, after = text.partition(" Effectives Charges")
    rows = [[float(x) for x in _NUMBER.findall(line)] for line in after.split("\n")[1 : atoms + 1]]
    if not found or any(len(row) != 9 for row in rows):
        raise BadInput("The output of anaddb has no effective charges, or broken ones.")
    return np.array(rows).reshape(atoms, 3, 3)


def _frequencies(text: str, modes: int) -> np.ndarray:
    _, found, after = text.partition("phonon wavelength (reduced coordinates)")
    lines = after.split("\n")[2:]
    numbers: list[float] = []
    for line in lines:
        numbers += [float(x) for x in _NUMBER.findall(line)]
        if len(numbers) >= modes or not line.strip():
            break
    if not found or len(numbers) < modes:
        raise BadInput("The output of anaddb has no phonons at Gamma, or broken ones.")
    return np.array(numbers[:modes]) * HARTREE_THZ
