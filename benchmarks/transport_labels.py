"""What the power factors of thermoelectric_prop.csv are: the same quantities from bands of our own, beside the labels.

    crysgen dataset import FOLDER --file-format poscar        # primitive cells of the crystals
    crysgen verify SET:0 --stages bands,transport --engine bands=qe --set bands.mesh_distance=0.1
    python benchmarks/transport_labels.py thermoelectric_prop.csv.gz mp-149=PK mp-2534=PK … [--json FILE]
    python benchmarks/transport_labels.py thermoelectric_prop.csv.gz --gaps mp_part.csv.gz

PK is that of a finished verification of one crystal whose bands were computed on a mesh, in the loaded profile. From
these bands Boltzmann's equation is solved for carriers, dopings and temperatures that the label could mean. Each is
compared with the label by the ratio of the magnitudes of S, which needs no unit, and of S^2 sigma/tau to the label
in 1e11 uW/cm/K^2/s: at what fits, all ratios of S are near 1, and the ratios of the power factor are near one another
and, if the label's unit is a usual one, near a power of ten. Values are means over the axes. What fits best is
repeated on a finer grid.

``--gaps``: the labels' Seebeck coefficients against the gap. Carriers excited across a gap E spoil the Seebeck
coefficient of holes where E is a few times 2 k T, so that the gap below which labels are small, or negative, tells
the temperature without any computation.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from mattergpt import figure
from mattergpt_results import print_table

from crysgen_aiida.crystals.electron_bands import ElectronBands, bands_of
from crysgen_aiida.crystals.files import write_text
from crysgen_aiida.physics.forces import Refused
from crysgen_aiida.physics.transport import transport_at
from crysgen_aiida.physics.transport_spec import TransportSpec

UNIT = 1e11  # uW/cm/K^2/s
SPEC = TransportSpec(doping=(1e17, 1e18, 3e18, 1e19, 1e20), grid_length=400.0)
TEMPERATURES = (300.0, 400.0, 500.0, 600.0, 700.0, 800.0)
FINER = 600.0
BINS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 20.0)  # eV

Case = tuple[str, float, float]  # carriers, doping [1/cm^3], temperature [K]
Pair = tuple[float, float]  # S^2 sigma/tau [1e11 uW/cm/K^2/s], |S| [uV/K]


def labels(table: Path) -> dict[str, Pair]:
    """Return power factor and Seebeck coefficient by id, where both are known."""
    with gzip.open(table, "rt") as stream:
        rows = [row for row in csv.DictReader(stream) if row["Powerfactor"] and row["Seebeck"]]
    return {row["mp_id"]: (float(row["Powerfactor"]), float(row["Seebeck"])) for row in rows}


def mesh_bands(verification: str) -> ElectronBands:
    """Return the bands on the mesh that a verification of one crystal made its transport of."""
    from aiida import orm

    made = orm.load_node(verification).outputs.made
    table = next(made[name].table for name in made if name.endswith("boltztrap"))
    return bands_of(table.creator.inputs.bands.table.get(0))


def computed(bands: ElectronBands, spec: TransportSpec) -> dict[Case, Pair]:
    """Return S^2 sigma/tau and |S| by carriers, doping and temperature."""
    found = transport_at(bands, spec, TEMPERATURES)
    if isinstance(found, Refused):
        raise SystemExit(f"No transport: {found.reason}")
    return {
        (kind, doping, temperature): (
            float(held.power_factor[at].mean()) / UNIT, float(abs(held.seebeck[at].mean()))
        )
        for temperature, transport in zip(TEMPERATURES, found, strict=True)
        for kind, held in transport.carriers.items()
        for at, doping in enumerate(spec.doping)
    }  # fmt: skip


def compare(table: Path, cases: dict[str, str]) -> dict[str, Any]:
    """Return the ratios of every case, best first, and those of each crystal for the best."""
    told = labels(table)
    bands = {name: mesh_bands(verification) for name, verification in cases.items()}
    values = {name: computed(held, SPEC) for name, held in bands.items()}
    every = next(iter(values.values()))
    ratios = {case: np.array([np.divide(values[name][case], told[name]) for name in bands]) for case in every}
    order = sorted(ratios, key=lambda case: float(np.abs(np.log(ratios[case][:, 1])).mean()))
    figures: dict[str, Any] = {}
    for place, name in enumerate(bands):
        finer = computed(bands[name], replace(SPEC, grid_length=FINER))[order[0]]
        for what, at, unit in (("S^2 sigma/tau", 0, "1e11 uW/cm/K^2/s"), ("|S|", 1, "uV/K")):
            ours = values[name][order[0]][at]
            title = f"{name}, {said(order[0])}: {what}"
            figures[title] = figure(ours, unit)
            figures[f"{title} over the label"] = figure(float(ratios[order[0]][place, at]), "times")
            figures[f"{title}, change on the finer grid"] = figure(100 * (finer[at] / ours - 1), "%")
    for case in order:
        for what, at in (("|S|", 1), ("S^2 sigma/tau", 0)):
            column = ratios[case][:, at]
            title = f"{said(case)}: {what} over the label, median (least, greatest)"
            figures[title] = figure(float(np.median(column)), "times", (float(column.min()), float(column.max())))
    return figures


def said(case: Case) -> str:
    """Return a case in words."""
    return f"{case[0]} {case[1]:.0e} per cm^3 {case[2]:.0f} K"


def against_gaps(table: Path, data: Path) -> dict[str, Any]:
    """Return median and tenths of the labels' Seebeck coefficients in bins of the gap."""
    csv.field_size_limit(1 << 30)
    told = labels(table)
    with gzip.open(data, "rt") as stream:
        gaps = {row["material_id"]: float(row["band_gap"] or "nan") for row in csv.DictReader(stream)}
    known = [(gaps[name], s) for name, (_, s) in told.items() if np.isfinite(gaps.get(name, np.nan))]
    gap, seebeck = np.array(known).T
    figures: dict[str, Any] = {}
    for low, high in pairwise(BINS):
        inside = seebeck[(gap > low) & (gap <= high)]
        tenths = (float(np.percentile(inside, 10)), float(np.percentile(inside, 90)))
        title = f"gap {low:g} to {high:g} eV: S of {len(inside)} labels, median (10 %, 90 %)"
        figures[title] = figure(float(np.median(inside)), "uV/K", tenths)
        figures[f"gap {low:g} to {high:g} eV: labels with S below 0"] = figure(int((inside < 0).sum()), "labels")
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, metavar="TABLE")
    parser.add_argument("cases", nargs="*", metavar="ID=PK")
    parser.add_argument("--gaps", type=Path, metavar="CSV")
    parser.add_argument("--profile")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    table: dict[str, Any] = {}
    if asked.cases:
        from aiida import load_profile

        load_profile(asked.profile, allow_switch=True)
        table |= compare(asked.table, dict(case.split("=") for case in asked.cases))
    if asked.gaps:
        table |= against_gaps(asked.table, asked.gaps)
    print_table(table)
    if asked.json:
        write_text(asked.json, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
