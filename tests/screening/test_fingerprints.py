"""Fingerprints are matminer's own, one row a crystal; distances are to the nearest known one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crysgen_aiida
from crysgen_aiida.crystals import symmetry, workers
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.screening import fingerprints
from crysgen_aiida.screening.fingerprints import (
    COLUMN,
    LENGTH,
    SITE,
    STATISTICS,
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


@pytest.fixture(scope="module")
def published() -> Any:
    """matminer's own fingerprint, which asks every site."""
    from matminer.featurizers.site import CrystalNNFingerprint
    from matminer.featurizers.structure import SiteStatsFingerprint

    return SiteStatsFingerprint(CrystalNNFingerprint.from_preset("ops", **SITE), stats=STATISTICS)


def assert_as_published(published: Any, structures: list[Any]) -> None:
    for structure, (values, reason) in zip(structures, fingerprints_of(structures), strict=True):
        assert values is not None, reason
        np.testing.assert_allclose(values, published.featurize(structure), atol=1e-6, err_msg=structure.formula)


def test_they_are_what_matminer_gives(zoo: dict[str, Any], table: PropertyTable, published: Any) -> None:
    for row, name in ((0, "NaCl"), (2, "ZnS"), (4, "AlN")):
        np.testing.assert_allclose(table.column(COLUMN)[row], published.featurize(zoo[name]), atol=1e-6)
    assert table.metadata["method"] == f"matminer-{matminer.__version__}"


@pytest.fixture(scope="module")
def by_system() -> dict[str, list[Any]]:
    """Small crystals of the starter set with fewer orbits than sites: up to four space groups of each system."""
    crystals = CrystalSet.read(Path(crysgen_aiida.__file__).parent / "starter" / "crystals.parquet")
    found: dict[str, dict[int, Any]] = {}
    for row, (group, n) in enumerate(zip(crystals.column("space_group"), crystals.column("n_atoms"), strict=True)):
        chosen = found.setdefault(symmetry.crystal_system(group), {})
        if 4 <= n <= 6 and group not in chosen and len(chosen) < 4:
            structure = crystals.structure(row)
            if len(fingerprints._orbits(structure)[0]) < n:
                chosen[group] = structure
    return {system: list(chosen.values()) for system, chosen in found.items()}


@pytest.mark.parametrize("system", symmetry.CRYSTAL_SYSTEMS)
def test_asking_one_site_of_each_orbit_changes_nothing(
    system: str, by_system: dict[str, list[Any]], published: Any
) -> None:
    assert by_system[system]
    assert_as_published(published, by_system[system])


def test_what_depends_on_the_order_of_neighbours_is_asked_of_every_site(published: Any) -> None:
    """The parameter ``bcc`` differs among the sites of gallium in I-43d, which are all equivalent."""
    from pymatgen.core import Lattice, Structure

    gallium = Structure.from_spacegroup("I-43d", Lattice.cubic(6.1), ["Ga"], [[0.25, 0.375, 0]])
    gallium = gallium.get_primitive_structure()
    assert len(fingerprints._orbits(gallium)[0]) == 1
    column = published.feature_labels().index("std_dev body-centered cubic CN_8")
    assert published.featurize(gallium)[column] > 1e-3
    assert_as_published(published, [gallium])


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1e-5, 1e-4, 1e-3, 1e-2]))
def test_sites_a_little_off_are_asked_singly(zoo: dict[str, Any], published: Any, seed: int, size: float) -> None:
    moved = zoo["ZnS"].copy()
    moved.make_supercell([2, 1, 1])
    assert len(fingerprints._orbits(moved)[0]) == 1  # elements do not enter: as in diamond
    shifts = np.random.default_rng(seed).normal(scale=size, size=(len(moved), 3))
    for k, shift in enumerate(shifts):
        moved.translate_sites([k], shift, frac_coords=False)
    assert len(fingerprints._orbits(moved)[0]) > 1
    assert_as_published(published, [moved])


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
