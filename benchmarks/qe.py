#!/usr/bin/env python
"""Quantum ESPRESSO through the daemon: relaxation, bands and dielectric response of silicon and zincblende AlN.

    crysgen setup; crysgen engine setup qe --pseudos FOLDER; crysgen daemon start
    python benchmarks/qe.py [--family LABEL] [--full] [--json FILE]

Each case is submitted to the running daemon of the loaded profile and awaited; its time is that of the whole work
chain, what AiiDA takes included, and says little where the machine is busy (load_average). The bars are values found
with the same pseudopotentials and settings without this program's chains (AlN: 50 Ry, 4x4x4 points), or follow from
physics; --full adds AlN with the protocol `balanced`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

#: Lattice parameter of zincblende AlN relaxed at 50 Ry [A]: too few plane waves, but the same ones.
RELAXED = 4.314
ROUGH = {"ecutwfc": 50.0, "kpoints_distance": 0.7}


def run(
    stage: str, structure: Any, family: str, overrides: dict[str, Any], protocol: str = "fast"
) -> tuple[Any, float]:
    """Submit a stage, wait for it, and return its node and the seconds it took."""
    from aiida.engine import submit
    from aiida.plugins import WorkflowFactory

    from crysgen_aiida.engines.contract import get_engine
    from crysgen_aiida.engines.protocols import stage_settings
    from crysgen_aiida.engines.site import load_site

    site = load_site()
    began = time.monotonic()
    node = submit(
        WorkflowFactory(get_engine("qe").stage(stage).work_chain),
        structure=structure,
        codes=site.codes("qe", stage),
        settings=stage_settings("qe", stage, protocol, overrides),
        pseudo_family=family,
        options=site.options("qe", stage),
    )
    while not node.is_terminated:
        time.sleep(0.5)
    took = time.monotonic() - began
    if not node.is_finished_ok:
        raise SystemExit(f"{stage} of {structure.get_formula()} ended with {node.exit_status}: {node.exit_message}")
    return node, took


def measure(family: str, full: bool, file: Path | None) -> dict[str, dict[str, Any]]:
    """Run every case and return the figures."""
    import numpy as np
    from aiida import orm
    from ase.build import bulk

    figures: dict[str, dict[str, Any]] = {}

    def note(name: str, value: float, unit: str, bar: float | None = None, within: float | None = None) -> None:
        met = None if bar is None or within is None else bool(abs(value - bar) <= within)
        figures[name] = {"value": round(float(value), 4), "unit": unit, "bar": bar, "within": within, "met": met}
        if file is not None:
            file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        print(f"{name:<38}{value:>12.4f} {unit:<8} bar {bar} +- {within}: {met}", flush=True)

    note("load_average", os.getloadavg()[0], f"of {os.cpu_count()}")
    nitride = orm.StructureData(ase=bulk("AlN", "zincblende", a=RELAXED)).store()
    for name, settings, protocol in (("50ry_4x4x4", ROUGH, "fast"), ("balanced", {}, "balanced"))[: 1 + full]:
        node, took = run("dfpt", nitride, family, settings, protocol)
        held = node.outputs.results.get_dict()
        tensors = node.outputs.tensors
        rough = name != "balanced"
        note(f"aln_dfpt_wall_{name}", took, "s")
        note(
            f"aln_eps_electronic_{name}", held["values"]["dielectric_electronic"], "1", *((5.12, 0.05) if rough else ())
        )
        note(f"aln_eps_total_{name}", held["values"]["dielectric_total"], "1")
        charge = float(np.trace(tensors.get_array("born_charges")[0]) / 3)
        note(f"aln_born_al_neutral_{name}", charge, "e", *((2.605, 0.03) if rough else ()))
        note(f"aln_charge_violation_{name}", held["facts"]["charge_neutrality_violation"], "e")
        to = held["values"]["phonon_min_frequency_gamma"] * 33.35641
        note(f"aln_transverse_optical_{name}", to, "1/cm", *((701.0, 8.0) if rough else ()))
        # Lyddane, Sachs and Teller: eps_total / eps_electronic = (LO / TO)^2, an identity of one polar mode
        ratio = held["values"]["dielectric_total"] / held["values"]["dielectric_electronic"]
        note(f"aln_longitudinal_optical_{name}", to * ratio**0.5, "1/cm")
    silicon = orm.StructureData(ase=bulk("Si", "diamond", a=5.47)).store()
    node, took = run("relax", silicon, family, {"ecutwfc": 20.0})
    note("si_relax_wall", took, "s")
    rest = node.outputs.structure
    note("si_lattice_parameter", (4 * rest.get_cell_volume()) ** (1 / 3), "A", 5.47, 0.03)
    note("si_max_stress", node.outputs.results["values"]["max_stress"], "GPa", 0.0, 0.06)
    node, took = run("bands", rest, family, {"mesh_distance": 0.4}, "balanced")
    note("si_bands_wall", took, "s")
    note("si_gap", node.outputs.results["values"]["band_gap"], "eV", 0.61, 0.05)
    note("si_mesh_points", len(node.outputs.mesh_bands.get_kpoints()), "1")

    stretched = orm.StructureData(ase=bulk("AlN", "zincblende", a=4.40)).store()
    node, took = run("relax", stretched, family, {"ecutwfc": 50.0})
    note("aln_relax_wall", took, "s")
    rest = node.outputs.structure
    note("aln_lattice_parameter_50ry", (4 * rest.get_cell_volume()) ** (1 / 3), "A", RELAXED, 0.02)
    return figures


def main() -> None:
    """Load the profile, measure, print, and write the figures if asked to."""
    from aiida import load_profile

    from crysgen_aiida.engines.site import load_site

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", help="Label of the family of pseudopotentials; the largest by default.")
    parser.add_argument("--full", action="store_true", help="Also the converged case, which takes minutes.")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    load_profile()
    measure(asked.family or load_site().pseudo_family("qe") or "", asked.full, asked.json)


if __name__ == "__main__":
    main()
