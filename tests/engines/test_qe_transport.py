"""Silicon by Quantum ESPRESSO: the path from its bands to transport against BoltzTraP2's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from crysgen_aiida.crystals.electron_bands import ElectronBands
from crysgen_aiida.physics.transport import Transport, transport_of
from crysgen_aiida.physics.transport_spec import TransportSpec

pytest.importorskip("BoltzTraP2", reason="BoltzTraP2 is not installed: pip install 'crysgen-aiida[transport]'")

PSEUDO = Path("/usr/share/espresso/pseudo/Si.pz-vbc.UPF")  # of Debian's quantum-espresso-data
BOHR, HARTREE = 0.529177210903, 27.211386245988

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("pw.x") is None or not PSEUDO.is_file(),
        reason="pw.x or its silicon is not here: apt-get install quantum-espresso quantum-espresso-data",
    ),
]

INPUT = """&control
 calculation = '{calculation}', prefix = 'si', outdir = '.', pseudo_dir = '{pseudo}', verbosity = 'low'
/
&system
 ibrav = 2, celldm(1) = 10.2, nat = 2, ntyp = 1, ecutwfc = 12.0, nbnd = 8
/
&electrons
 conv_thr = 1d-8
/
ATOMIC_SPECIES
 Si 28.086 {name}
ATOMIC_POSITIONS crystal
 Si 0.00 0.00 0.00
 Si 0.25 0.25 0.25
K_POINTS automatic
 {mesh} 0 0 0
"""
SPEC = TransportSpec(doping=(1e20, 1e21), multiplier=40.0)


@pytest.fixture(scope="module")
def silicon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished scf and nscf run."""
    folder = tmp_path_factory.mktemp("silicon")
    for calculation, mesh in (("scf", "3 3 3"), ("nscf", "8 8 8")):
        (folder / "in").write_text(
            INPUT.format(calculation=calculation, mesh=mesh, pseudo=PSEUDO.parent, name=PSEUDO.name)
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            ["pw.x", "-in", "in"], cwd=folder, capture_output=True, text=True, timeout=600, env=environment, check=False
        )
        assert "JOB DONE" in done.stdout, done.stdout[-2000:]
    return folder


@pytest.fixture(scope="module")
def bands(silicon: Path) -> ElectronBands:
    tree = ElementTree.parse(next(silicon.glob("*.xml")))
    crystal = tree.find("./output/atomic_structure")
    assert crystal is not None
    cell = np.array([_numbers(crystal.find(f"./cell/a{k}")) for k in (1, 2, 3)])  # Bohr
    places = np.array([_numbers(atom) for atom in crystal.iter("atom")]) @ np.linalg.inv(cell)
    solved = list(tree.iter("ks_energies"))
    kpoints = np.array([_numbers(one.find("k_point")) for one in solved])  # 2 pi / alat
    found = tree.find("./output/band_structure/highestOccupiedLevel")
    return ElectronBands(
        lattice=cell * BOHR,
        numbers=np.array([14, 14]),
        frac_coords=places,
        kpoints=kpoints @ cell.T / float(crystal.attrib["alat"]),
        energies=np.array([_numbers(one.find("eigenvalues")) for one in solved]) * HARTREE,
        fermi_energy=_numbers(found)[0] * HARTREE,
        n_electrons=8.0,
    )


def _numbers(element: Any) -> list[float]:
    return [float(x) for x in element.text.split()]


def by_boltztrap2(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return fermi level [eV], Seebeck coefficient [uV/K] and conductivity over tau [S/m/s] along x, of holes.

    From the files of the calculation, by BoltzTraP2's loader, its own grid and its own densities of states.
    """
    from BoltzTraP2 import bandlib, fite, sphere
    from BoltzTraP2.dft import DFTData
    from BoltzTraP2.units import Angstrom, eV

    data = DFTData(str(folder))
    stars = sphere.get_equivalences(data.atoms, data.magmom, len(data.kpoints) * 40)
    coefficients = fite.fitde3D(data, stars)
    energies, squares, _ = fite.getBTPbands(stars, coefficients, data.get_lattvec())
    epsilon, dos, transport, _ = bandlib.BTPDOS(energies, squares, npts=8000)
    volume = data.atoms.get_volume()
    t = np.array([300.0])
    level = np.array(
        [
            bandlib.solve_for_mu(epsilon, dos, data.nelect - n * volume * 1e-24, 300.0, data.dosweight, refine=True)
            for n in SPEC.doping
        ]
    )
    _, *moments, _ = bandlib.fermiintegrals(epsilon, dos, transport, level, t, data.dosweight)
    sigma, seebeck, _, _ = bandlib.calc_Onsager_coefficients(*moments, level, t, volume * Angstrom**3)
    return level / eV, seebeck[0, :, 0, 0] * 1e6, sigma[0, :, 0, 0]


@pytest.fixture(scope="module")
def found(bands: ElectronBands) -> Transport:
    made = transport_of(bands, SPEC)
    assert isinstance(made, Transport), made
    return made


def test_holes_in_silicon_are_those_of_boltztrap2(silicon: Path, bands: ElectronBands, found: Transport) -> None:
    assert found.gap == pytest.approx(0.5, abs=0.15), "of the local density approximation"
    assert found.n_irreducible == len(bands.kpoints) == 29
    assert found.misfit < 1e-6
    level, seebeck, conductivity = by_boltztrap2(silicon)
    holes = found.carriers["p"]
    np.testing.assert_allclose(holes.seebeck[:, 0], seebeck, rtol=0.1)  # its grid is the coarsest there is
    np.testing.assert_allclose(holes.conductivity[:, 0], conductivity, rtol=0.1)
    np.testing.assert_allclose(np.diff(holes.fermi_level), np.diff(level), atol=0.01)


def test_silicon_conducts_alike_along_all_axes(found: Transport) -> None:
    for carriers in found.carriers.values():
        for values in (carriers.seebeck, carriers.conductivity):
            np.testing.assert_allclose(values, values[:, :1] * np.ones(3), rtol=0.02)
