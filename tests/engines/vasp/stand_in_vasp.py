#!/usr/bin/env python
"""A program that answers like VASP but is not VASP. For recording the entries of the mock registry, nothing else.

It reads POSCAR, INCAR and KPOINTS and writes CONTCAR, OUTCAR, vasprun.xml and CHGCAR in the layout that aiida-vasp
parses. Energies, forces, stresses, relaxations and force constants are CHGNet's; bands, dielectric, piezoelectric and
elastic tensors and Born charges are ABINIT's, with far too few plane waves. Every file says so.

``STAND_IN_FAILS`` in the environment makes it fail as VASP does: ``fast`` does not converge with ALGO = Fast,
``always`` never converges, ``walltime`` stops before the end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write
from ase.units import GPa

sys.path.insert(0, str(Path(__file__).parent))
import stand_in_abinit as abinit
from stand_in_files import Run, Step, write_outcar, write_vasprun

NAME = "stand-in: CHGNet and ABINIT, not VASP"


def main() -> None:
    """Answer the files of the working directory."""
    incar = read_incar()
    atoms = read("POSCAR", format="vasp")
    fails = os.environ.get("STAND_IN_FAILS", "")
    converged = not (fails == "always" or (fails == "fast" and incar.get("ALGO", "").lower() == "fast"))
    run = Run(NAME, incar, atoms.copy(), kpoints=read_kpoints(atoms), converged=converged, finished=fails != "walltime")
    ibrion, nsw = int(incar.get("IBRION", -1)), int(incar.get("NSW", 0))
    relax(run, atoms, incar) if nsw > 1 and ibrion in (1, 2, 3) else run.steps.append(step_of(with_chgnet(atoms)))
    if ibrion in (5, 6, 7, 8):
        run.hessian = hessian(atoms)
    if nsw <= 1 and len(atoms) < 8:
        run.bands = abinit.bands(atoms, run.kpoints[0])
    field = is_true(incar, "LEPSILON")
    if not is_metal(run) and (field or (ibrion == 6 and int(incar.get("ISIF", 2)) >= 3)):
        run.response = abinit.response(atoms)
        run.show = "field" if field else "strain"
    write_outcar(run)
    write_vasprun(run)
    atoms.calc = None
    write("CONTCAR", atoms, format="vasp", direct=True)
    if is_true(incar, "LCHARG"):
        Path("CHGCAR").write_text(f"{NAME}: no density\n")
    print(f" {NAME}")


def read_incar() -> dict[str, str]:
    """Return the tags of the INCAR."""
    pairs = (line.split("=", 1) for line in Path("INCAR").read_text().splitlines() if "=" in line)
    return {key.strip().upper(): value.strip() for key, value in pairs}


def is_true(incar: dict[str, str], tag: str) -> bool:
    """Whether a logical tag is set."""
    return incar.get(tag, "F").upper().strip(".").startswith("T")


def is_metal(run: Run) -> bool:
    """Whether the bands overlap."""
    if run.bands is None:
        return False
    energies, filled = run.bands
    return bool(energies[:, filled].min() <= energies[:, filled - 1].max())


def read_kpoints(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return k-points (n, 3) and weights: a list as it is, a mesh at Gamma reduced by symmetry."""
    lines = Path("KPOINTS").read_text().splitlines()
    count = int(lines[1].split()[0])
    if count:
        rows = np.array([[float(x) for x in line.split()[:4]] for line in lines[3 : 3 + count]])
        return rows[:, :3], rows[:, 3] / rows[:, 3].sum()
    import spglib

    mesh = [int(n) for n in lines[3].split()[:3]]
    cell = (atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers)
    mapping, grid = spglib.get_ir_reciprocal_mesh(mesh, cell)
    unique, counts = np.unique(mapping, return_counts=True)
    return grid[unique] / np.array(mesh), counts / counts.sum()


def with_chgnet(atoms: Atoms) -> Atoms:
    """Return the atoms with the potential attached."""
    from chgnet.model import CHGNet, CHGNetCalculator

    if atoms.calc is None:
        atoms.calc = CHGNetCalculator(CHGNet.load(verbose=False), use_device="cpu")
    return atoms


def step_of(atoms: Atoms) -> Step:
    """Return cell, positions, energy [eV], forces [eV/A] and stress with VASP's sign [kBar]."""
    return Step(
        np.array(atoms.cell),
        atoms.get_scaled_positions(wrap=False),
        float(atoms.get_potential_energy()),
        np.array(atoms.get_forces()),
        -np.array(atoms.get_stress(voigt=False)) / GPa * 10,
    )


def relax(run: Run, atoms: Atoms, incar: dict[str, str]) -> None:
    """Relax atoms and, with ISIF 3, the cell."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    with_chgnet(atoms)
    moved = FrechetCellFilter(atoms) if int(incar.get("ISIF", 2)) >= 3 else atoms
    optimiser = BFGS(moved, logfile=None)
    optimiser.attach(lambda: run.steps.append(step_of(atoms)), interval=1)
    run.at_rest = bool(optimiser.run(fmax=abs(float(incar.get("EDIFFG", -0.02))), steps=int(incar["NSW"]) - 2))


def hessian(atoms: Atoms, distance: float = 0.02) -> np.ndarray:
    """Return minus the force constants over the masses [eV/A^2/amu], (3 n, 3 n), by central differences."""
    n = len(atoms)
    constants = np.zeros((3 * n, 3 * n))
    moved = with_chgnet(atoms.copy())
    for row in range(3 * n):
        forces = []
        for sign in (1, -1):
            moved.positions = atoms.positions
            moved.positions[row // 3, row % 3] += sign * distance
            forces.append(moved.get_forces().ravel())
        constants[row] = -(forces[0] - forces[1]) / (2 * distance)
    constants = (constants + constants.T) / 2
    blocks = constants.reshape(n, 3, n, 3)
    for i in range(n):
        blocks[i, :, i, :] -= blocks[i].sum(axis=1)
    root = np.sqrt(np.repeat(atoms.get_masses(), 3))
    return -constants / np.outer(root, root)


if __name__ == "__main__":
    main()
