"""Fingerprints are matminer's own, one row a crystal; distances are to the nearest known one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from crysgen_aiida.crystals import workers
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.screening.fingerprints import (
    COLUMN,
    LENGTH,
    KnownFingerprints,
    fingerprint_set,
    fingerprints_of,
)

matminer = pytest.importorskip("matminer", reason="matminer makes the fingerprints: pip install --no-deps matminer")


@pytest.fixture(scope="module")
def labelled(zoo: dict[str, Any]) -> CrystalSet:
    structures = [zoo["NaCl"], None, zoo["ZnS"], zoo["Cu"], zoo["AlN"]]
    piezo = property_field("piezo_max", "abinit")
    reasons = [None, "it was cut short", None, None, None]
    return CrystalSet.from_structures(structures, reasons=reasons, columns={piezo: [None, None, 0.2, None, 1.5]})


@pytest.fixture(scope="module")
def table(labelled: CrystalSet) -> PropertyTable:
    return fingerprint_set(labelled, run=InProcess())


def test_they_are_what_matminer_gives(zoo: dict[str, Any], table: PropertyTable) -> None:
    from matminer.featurizers.site import CrystalNNFingerprint
    from matminer.featurizers.structure import SiteStatsFingerprint

    site = CrystalNNFingerprint.from_preset("ops", distance_cutoffs=None, x_diff_weight=0)
    published = SiteStatsFingerprint(site, stats=("mean", "std_dev", "minimum", "maximum"))
    for row, name in ((0, "NaCl"), (2, "ZnS"), (4, "AlN")):
        np.testing.assert_allclose(table.column(COLUMN)[row], published.featurize(zoo[name]), atol=1e-6)
    assert table.metadata["method"] == f"matminer-{matminer.__version__}"


def test_every_row_has_one_or_a_reason(table: PropertyTable, labelled: CrystalSet) -> None:
    assert table.column("status") == ["ok", "failed", "ok", "ok", "ok"]
    assert "cut short" in table.column("reason")[1]
    assert table.column("content_id") == labelled.column("content_id")
    assert {len(v) for v in table.column(COLUMN) if v is not None} == {LENGTH}


def test_only_labelled_rows_if_asked(labelled: CrystalSet) -> None:
    found = fingerprint_set(labelled, labelled=["piezo_max"], run=InProcess())
    assert found.column("status") == ["skipped", "failed", "ok", "skipped", "ok"]
    assert found.column("reason")[0] == "it has no piezo_max, so it was not asked for"
    with pytest.raises(ImpossibleRequest, match="no labels kappa_300k; it has piezo_max"):
        fingerprint_set(labelled, labelled=["kappa_300k"], run=InProcess())


def test_the_choice_of_cell_changes_nothing_and_elements_do_not_enter(zoo: dict[str, Any]) -> None:
    doubled = zoo["NaCl"].copy()
    doubled.make_supercell([2, 1, 1])
    other = zoo["NaCl"].copy()
    other.replace_species({"Na": "Mg", "Cl": "O"})
    other.scale_lattice(other.volume * (4.21 / 5.69) ** 3)
    one, two, three = (np.array(values) for values, _ in fingerprints_of([zoo["NaCl"], doubled, other]))
    assert np.linalg.norm(one - two) < 1e-6
    assert np.linalg.norm(one - three) < 0.05


def test_processes_side_by_side_give_the_same(
    labelled: CrystalSet, table: PropertyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CHUNKS_PER_PROCESS", 1)
    assert fingerprint_set(labelled, run=InProcess(threads=2)).content_hash == table.content_hash


def test_a_crystal_that_cannot_be_fingerprinted_says_why() -> None:
    from pymatgen.core import Lattice, Structure

    dense = Structure(Lattice.cubic(0.1), ["He"], [[0, 0, 0]])
    ((values, reason), (nothing, missing)) = fingerprints_of([dense, None])
    assert values is None
    assert nothing is None
    assert "0.001 A^3 per atom is below 1" in str(reason)
    assert missing == "there is no crystal to compare"


def test_the_nearest_is_named_by_set_and_row(table: PropertyTable) -> None:
    known = KnownFingerprints({"a": table.take([0, 1]), "b": table})
    assert len(known) == 5
    distance, label, row = known.nearest(table.column(COLUMN)[2])
    assert (distance, label, row) == (0.0, "b", 2)
    everything = np.array([v for v in table.column(COLUMN) if v is not None])
    probe = everything.mean(axis=0)
    assert known.nearest(probe)[0] == pytest.approx(np.linalg.norm(everything - probe, axis=1).min())


def test_tables_that_hold_none_or_were_made_otherwise_are_refused(table: PropertyTable) -> None:
    with pytest.raises(BadInput, match="holds no fingerprints"):
        KnownFingerprints({"x": PropertyTable(pa.table({"parent_row": [0]}))})
    with pytest.raises(BadInput, match="no row with a fingerprint"):
        KnownFingerprints({"x": table.take([1])})
    with pytest.raises(BadInput, match=r"matminer-0\.1"):
        KnownFingerprints({"x": table, "y": table.with_metadata(method="matminer-0.1")})
