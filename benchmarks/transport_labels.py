"""What the power factors of thermoelectric_prop.csv are: the same quantities from bands of our own, beside the labels.

    crysgen dataset import FOLDER --file-format poscar        # primitive cells of the crystals
    crysgen verify SET:0 --stages bands,transport --engine bands=qe --set bands.mesh_distance=0.1
    python benchmarks/transport_labels.py thermoelectric_prop.csv.gz mp-149=PK mp-2534=PK … [--json FILE]

PK is that of a finished verification of one crystal whose bands were computed on a mesh, in the loaded profile. From
these bands Boltzmann's equation is solved for carriers, dopings and temperatures that the label could mean; each is
compared with the label: the ratio of S^2 sigma/tau to the label times 1e11 uW/cm/K^2/s, and of the magnitude of S to
the Seebeck coefficient beside it. The values are means over the axes. What fits is what has both ratios near 1 in
all crystals. The first hypothesis is repeated on twice the interpolation grid and with thrice the lattice vectors.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from mattergpt import figure
from mattergpt_results import print_table

from crysgen_aiida.crystals.electron_bands import ElectronBands, bands_of
from crysgen_aiida.crystals.files import write_text
from crysgen_aiida.physics.forces import Refused
from crysgen_aiida.physics.transport import transport_of
from crysgen_aiida.physics.transport_spec import TransportSpec

UNIT = 1e11  # uW/cm/K^2/s
SPEC = TransportSpec(doping=(1e17, 1e18, 1e19, 1e20), grid_length=600.0)
CARRIERS, TEMPERATURES = ("p", "n"), (300.0, 600.0)
FIRST = ("p", 1e18, 300.0)
FINER = {"twice the grid": {"grid_length": 1200.0}, "thrice the lattice vectors": {"multiplier": 30.0}}


def labels(table: Path, names: list[str]) -> dict[str, tuple[float, float]]:
    """Return power factor [1e11 uW/cm/K^2/s, supposedly] and Seebeck coefficient [uV/K] by id."""
    with gzip.open(table, "rt") as stream:
        rows = {row["mp_id"]: row for row in csv.DictReader(stream)}
    return {name: (float(rows[name]["Powerfactor"]), float(rows[name]["Seebeck"])) for name in names}


def mesh_bands(verification: str) -> ElectronBands:
    """Return the bands on the mesh that a verification of one crystal made its transport of."""
    from aiida import orm

    made = orm.load_node(verification).outputs.made
    table = next(made[name].table for name in made if name.endswith("boltztrap"))
    bands = table.creator.inputs.bands.table
    return bands_of(bands.get(0))


def computed(bands: ElectronBands, spec: TransportSpec) -> dict[tuple[str, float, float], tuple[float, float]]:
    """Return S^2 sigma/tau [uW/cm/K^2/s] and |S| [uV/K] by carriers, doping and temperature."""
    found = transport_of(bands, spec)
    if isinstance(found, Refused):
        raise SystemExit(f"No transport: {found.reason}")
    return {
        (kind, doping, spec.temperature): (float(held.power_factor[at].mean()), float(abs(held.seebeck[at].mean())))
        for kind, held in found.carriers.items()
        for at, doping in enumerate(spec.doping)
    }


def compare(table: Path, cases: dict[str, str]) -> dict[str, Any]:
    """Return all ratios and their spread."""
    told = labels(table, list(cases))
    ratios: dict[tuple[str, float, float], list[tuple[float, float]]] = {}
    figures: dict[str, Any] = {}
    for name, verification in cases.items():
        bands = mesh_bands(verification)
        values: dict[tuple[str, float, float], tuple[float, float]] = {}
        for temperature in TEMPERATURES:
            values |= computed(bands, replace(SPEC, temperature=temperature))
        factor, seebeck = told[name]
        for what, (ours, s) in values.items():
            ratios.setdefault(what, []).append((ours / (factor * UNIT), s / seebeck))
        ours, s = values[FIRST]
        figures[f"{name}, holes 1e18, 300 K: S^2 sigma/tau"] = figure(ours / UNIT, "1e11 uW/cm/K^2/s")
        figures[f"{name}, holes 1e18, 300 K: S^2 sigma/tau over label"] = figure(ours / (factor * UNIT), "times 1e11")
        figures[f"{name}, holes 1e18, 300 K: |S|"] = figure(s, "uV/K")
        figures[f"{name}, holes 1e18, 300 K: |S| over label"] = figure(s / seebeck, "times")
        for title, change in FINER.items():
            again = computed(bands, replace(SPEC, temperature=FIRST[2], **change))[FIRST]
            figures[f"{name}, {title}: change of S^2 sigma/tau"] = figure(100 * (again[0] / ours - 1), "%")
            figures[f"{name}, {title}: change of |S|"] = figure(100 * (again[1] / s - 1), "%")
    for (kind, doping, temperature), pairs in sorted(ratios.items(), key=lambda item: spread(item[1])):
        both = np.array(pairs)
        title = f"{kind} {doping:.0e} per cm^3, {temperature:.0f} K"
        figures[f"{title}: S^2 sigma/tau over label, median (least, greatest)"] = around(both[:, 0])
        figures[f"{title}: |S| over label, median (least, greatest)"] = around(both[:, 1])
    return figures


def spread(pairs: list[tuple[float, float]]) -> float:
    """Return the mean distance of the logarithms of both ratios from 0."""
    return float(np.abs(np.log(np.array(pairs))).mean())


def around(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    """Return median and range."""
    return figure(float(np.median(values)), "times", (float(values.min()), float(values.max())))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, metavar="TABLE")
    parser.add_argument("cases", nargs="+", metavar="ID=PK")
    parser.add_argument("--profile", default=None)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    from aiida import load_profile

    load_profile(asked.profile, allow_switch=True)
    table = compare(asked.table, dict(case.split("=") for case in asked.cases))
    print_table(table)
    if asked.json:
        write_text(asked.json, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
