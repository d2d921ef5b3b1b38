"""Rows to learn from: the paper's rules, each with its reason, and the default that keeps all."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.core import Lattice, Structure
from small_models import make_spec

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.generators.contract import build_spec
from crysgen_aiida.generators.mattergpt.generator import MatterGPT
from crysgen_aiida.generators.row_filter import RowFilter

PAPER = {
    "labelled": ["piezo_max"],
    "refuse_flags": ["piezo_above_20"],
    "min_band_gap": 0.1,
    "max_z": 86,
    "dimensionality": 3,
}


@pytest.fixture(scope="module")
def mixed() -> CrystalSet:
    """Zinc blende six times, then graphite-like boron nitride, uranium nitride and a row without a crystal."""
    zns = Structure.from_spacegroup("F-43m", Lattice.cubic(5.4), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    layers = Structure(Lattice.hexagonal(2.5, 9.0), ["B", "N"], [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]])
    heavy = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.9), ["U", "N"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    nan = float("nan")
    return CrystalSet.from_structures(
        [zns.get_primitive_structure()] * 6 + [layers, heavy.get_primitive_structure(), None],
        reasons=[None] * 8 + ["cut"],
        columns={
            property_field("piezo_max", "dfpt"): [0.5, nan, 0.5, 0.5, 0.5, 25.0, 0.5, 0.5, nan],
            property_field("band_gap", "pbe-mp-legacy"): [2.0, 2.0, 0.05, nan, 2.0, 2.0, 2.0, 2.0, nan],
            pa.field("flags", pa.string()): [None, None, None, None, "", "x,piezo_above_20", None, None, None],
        },
    )


def test_each_rule_of_the_paper_gives_its_reason(mixed: CrystalSet) -> None:
    reasons = build_spec(RowFilter, PAPER).reasons(mixed)
    assert [reasons[row] for row in (0, 4, 8)] == [None, None, None]
    assert reasons[1] == "it has no piezo_max"
    assert reasons[2] == "its gap of 0.05 eV is not above 0.1 eV"
    assert reasons[3] == "it has no band gap label"
    assert reasons[5] == "it is flagged piezo_above_20"
    assert reasons[6] == "its bonds go on in 2 directions only"
    assert reasons[7] == "Z = 92 is above 86"


def test_the_default_keeps_all_and_needs_no_column(mixed: CrystalSet) -> None:
    assert RowFilter().keeps_all
    assert RowFilter().reasons(mixed) == [None] * 9
    with pytest.raises(ImpossibleRequest, match="chosen by kappa_300k"):
        RowFilter(labelled=("kappa_300k",)).reasons(mixed)


def test_a_training_set_keeps_a_row_for_what_it_leaves_out(mixed: CrystalSet) -> None:
    spec = make_spec(data={"keep": PAPER, "conditions": ["piezo_max"], "val_fraction": 0.0})
    found = MatterGPT().prepare(mixed, spec, seed=0, run=InProcess())
    assert found.column("status") == ["ok", "skipped", "skipped", "skipped", "ok", *["skipped"] * 3, "failed"]
    assert found.column("reason")[1] == "it has no piezo_max"
    assert np.isfinite(found.values("piezo_max")[[0, 4]]).all()
