"""Lattice thermal conductivity by potentials against experiment: which of them may be used for it at all.

    python benchmarks/kappa.py [--potentials chgnet nequix sevennet] [--crystals Si MgO] [--check 0.12]
        [--set mesh_lengths=40,60] [--data DATA] [--json FILE]

Each crystal is relaxed with each potential and computed with the default settings, those of ``--set`` apart. Natural
crystals at 300 K are compared with: C. Y. Ho, R. W. Powell, P. E. Liley, J. Phys. Chem. Ref. Data 1, 279 (1972) for
silicon; for the others the compilation of D. T. Morelli and G. A. Slack, "High Lattice Thermal Conductivity Solids",
in High Thermal Conductivity Materials (Springer, 2006). DATA is a folder with
``aflow_thermal_conductivity_train.csv.gz``, values of a quasi-harmonic Debye model (AFLOW-AGL) that are printed beside
them. With ``--check`` a second displacement is computed on the coarse mesh. Silicon decides: a potential off by more
than a factor of two on it may not be used.
With ``--json`` figures are added to those the file holds, since potentials may need environments of their own.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import time
import warnings
from pathlib import Path
from typing import Any

#: Space group, cubic edge to begin with [A], species, coordinates, and what was measured at 300 K [W/m/K].
CRYSTALS: dict[str, tuple[str, float, list[str], list[list[float]], float]] = {
    "Si": ("Fd-3m", 5.47, ["Si"], [[0, 0, 0]], 148.0),
    "GaAs": ("F-43m", 5.75, ["Ga", "As"], [[0, 0, 0], [0.25, 0.25, 0.25]], 45.0),
    "MgO": ("Fm-3m", 4.25, ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]], 60.0),
    "NaCl": ("Fm-3m", 5.69, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]], 7.1),
}
RELAX = {"fmax": 0.002, "max_steps": 500}


def crystal(name: str) -> Any:
    """Return the primitive cell of a crystal."""
    from pymatgen.core import Lattice, Structure

    group, edge, species, coords, _ = CRYSTALS[name]
    return Structure.from_spacegroup(group, Lattice.cubic(edge), species, coords).get_primitive_structure()


def aflow(data: Path | None) -> dict[str, float]:
    """Return the values of AFLOW for those of these crystals that it has in the same space group."""
    if data is None:
        return {}
    import pandas as pd
    from pymatgen.core import Structure
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    path = data / "aflow_thermal_conductivity_train.csv.gz"
    held = pd.read_csv(io.BytesIO(gzip.decompress(path.read_bytes())))
    found = {}
    for cif, value in zip(held["cif"], held["thermal_conductivity"], strict=True):
        name = cif.split("data_", 1)[1].split(None, 1)[0]
        if name in CRYSTALS:
            structure = Structure.from_str(cif, fmt="cif")
            like = abs(structure.volume / len(structure) / (CRYSTALS[name][1] ** 3 / 8) - 1) < 0.15  # no clathrates
            if like and SpacegroupAnalyzer(structure).get_space_group_symbol() == CRYSTALS[name][0]:
                found[name] = float(value)
    return found


def computed(name: str, potential: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the row of one crystal, with edge of its cubic cell [A] and processor time [s]."""
    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.run import InProcess
    from crysgen_aiida.physics.conductivity import conductivity_set
    from crysgen_aiida.physics.relaxation import RelaxSpec, relax_set
    from crysgen_aiida.physics.response_spec import KappaSpec

    run = InProcess()
    given = CrystalSet.from_structures([crystal(name)])
    relaxed = relax_set(given, potential=potential, spec=RelaxSpec(**RELAX), run=run)
    start = time.process_time()
    table = conductivity_set(relaxed, potential=potential, spec=KappaSpec(**settings), run=run)
    row = {**table.get(0), "method": table.metadata["method"], "seconds": time.process_time() - start}
    if relaxed.get(0)["status"] == "ok":
        row["edge"] = (relaxed.structure(0).volume / len(relaxed.structure(0)) * 8) ** (1 / 3)
    return row


def figure(value: float, unit: str, bar: str = "-", met: bool | None = None) -> dict[str, Any]:
    """Return one figure in the form all benchmarks use."""
    return {"value": round(float(value), 5), "unit": unit, "interval": None, "bar": bar, "met": met}


def figures_of(name: str, row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the figures of one crystal and potential."""
    from crysgen_aiida.physics.conductivity_table import FACTOR

    what, measured = f"{name}, {row['method']}", CRYSTALS[name][-1]
    mesh = "x".join(map(str, row["mesh_fine"]))
    within = 1 / FACTOR <= row["kappa_300k"] / measured <= FACTOR
    held = {
        f"{what}, kappa": figure(
            row["kappa_300k"], f"W/m/K ({mesh} mesh)", f"within a factor {FACTOR:g} of {measured:g}", within
        ),
        f"{what}, change from the coarse mesh": figure(row["mesh_change"], "relative"),
        f"{what}, highest mode": figure(row["phonon_max_frequency"], "THz"),
        f"{what}, cubic edge": figure(row["edge"], "A"),
        f"{what}, processor time": figure(row["seconds"], f"s ({row['n_displacements']} supercells)"),
    }
    if row["displacement_change"] is not None:
        held[f"{what}, change with the displacement"] = figure(row["displacement_change"], "relative, coarse mesh")
    return held


def setting(text: str) -> tuple[str, Any]:
    """Return a setting given as ``name=value``, several numbers separated by commas."""
    name, _, value = text.partition("=")
    parts = [float(v) if v.replace(".", "", 1).isdigit() else v for v in value.split(",")]
    return name, tuple(parts) if len(parts) > 1 else parts[0]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potentials", nargs="+", default=["chgnet", "nequix", "sevennet"])
    parser.add_argument("--crystals", nargs="+", default=["Si"], choices=list(CRYSTALS))
    parser.add_argument("--check", type=float, default=0.0, help="a second displacement [A]")
    parser.add_argument("--set", nargs="*", type=setting, default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path, help="also add the figures to those of this file")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    settings = {**dict(asked.settings), "check_displacement": asked.check}
    modelled = aflow(asked.data)
    figures: dict[str, dict[str, Any]] = {}
    for name in asked.crystals:
        print(f"{name}: {CRYSTALS[name][-1]:g} W/m/K measured; AFLOW-AGL {modelled.get(name, 'has none')}", flush=True)
        if name in modelled:
            figures[f"{name}, AFLOW-AGL"] = figure(modelled[name], "W/m/K")
        for potential in asked.potentials:
            row = computed(name, potential, settings)
            if row["status"] != "ok":
                print(f"  {potential}: {row['reason']}", flush=True)
                continue
            made = figures_of(name, row)
            for what, held in made.items():
                print(f"  {what}: {held['value']:.4g} {held['unit']}", flush=True)
            print(f"  {row['kappa_verdict']}", flush=True)
            figures.update(made)
    if asked.json:
        before = json.loads(asked.json.read_text()) if asked.json.exists() else {}
        asked.json.write_text(json.dumps({**before, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
