"""Matrices become the crystals they were made of; what is no crystal says why."""

from __future__ import annotations

from pathlib import Path

import ftcp_crystals as made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.representations.ftcp import (
    Compact,
    FtcpSpec,
    cells,
    compact_of,
    crystals_of,
    matrices,
    read_matrices,
)
from crysgen_aiida.representations.ftcp.layout import layout
from crysgen_aiida.representations.ftcp.overlaps import overlapping


def through(crystals: made.CrystalSet, spec: FtcpSpec) -> made.CrystalSet:
    compact, reasons = compact_of(crystals, spec)
    return crystals_of(read_matrices(matrices(compact, spec), spec), spec, reasons=reasons)


def one_row(
    spec: FtcpSpec, numbers: list[int], columns: list[int | None], lattice: list[float] | None = None
) -> Compact:
    """Return a design whose sites lie on the diagonal, each in the element column given."""
    compact = Compact.empty(1, spec)
    compact.numbers[0] = numbers
    compact.lattices[0] = lattice or [6, 6, 6, 90, 90, 90]
    for site, column in enumerate(columns):
        compact.coords[0, site] = site / len(columns)
        if column is not None:
            compact.occupancy[0, site, column] = 0.6
    return compact


@given(made.crystals())
def test_decoding_inverts_encoding(crystal: made.Arrays) -> None:
    spec = FtcpSpec(max_sites=8, min_distance=0)
    decoded = through(made.packed(crystal), spec).get(0)
    lattice, numbers, coords = crystal
    if np.linalg.det(lattice) < 0:  # the same crystal in the cell of opposite vectors
        lattice, coords = -lattice, -coords
    again, frac = np.array(decoded["lattice"]).reshape(3, 3), np.array(decoded["frac_coords"]).reshape(-1, 3)
    assert decoded["numbers"] == numbers.tolist()
    assert np.allclose(cells.parameters([again]), cells.parameters([lattice]), rtol=1e-6, atol=0)
    assert np.abs((frac - coords) - np.round(frac - coords)).max() < 1e-6
    assert ((frac >= 0) & (frac < 1)).all()
    # what turns one into the other is a rotation: a chiral crystal keeps its hand
    rotation = np.linalg.inv(lattice) @ again
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4)
    assert np.linalg.det(rotation) > 0


def test_real_crystals_come_back(shared_data: Path) -> None:
    spec = FtcpSpec(max_elements=4)
    structures = [Structure.from_str(row["cif"], fmt="cif") for row in made.real_rows(shared_data, 150)]
    structures = [s for s in structures if len(s.composition) <= 4]
    decoded = through(made.packed(*structures), spec).structures()
    matcher = StructureMatcher()
    for one, other in zip(structures, decoded, strict=True):
        assert other is not None
        assert other.lattice.parameters == pytest.approx(one.lattice.parameters, rel=1e-6)
        assert np.abs((one.frac_coords - other.frac_coords + 0.5) % 1 - 0.5).max() < 1e-6
        assert matcher.fit(one, other)


def test_cells_are_those_of_pymatgen() -> None:
    rng = np.random.default_rng(3)
    lattices = np.column_stack([rng.uniform(2, 20, (50, 3)), rng.uniform(60, 119, (50, 3))])
    matrices_ = cells.matrices(lattices)
    assert np.allclose(cells.parameters(matrices_), lattices, rtol=1e-12)
    for lattice, matrix in zip(lattices, matrices_, strict=True):
        assert np.allclose(Lattice.from_parameters(*lattice).matrix, matrix, atol=1e-10)
    assert np.allclose(cells.metrics(lattices), matrices_ @ matrices_.swapaxes(1, 2))
    assert cells.volume_ratios(lattices) * lattices[:, :3].prod(axis=1) == pytest.approx(np.linalg.det(matrices_))


def test_empty_sites_are_removed_and_hydrogen_stays() -> None:
    spec = FtcpSpec(max_sites=6)
    holes = one_row(spec, [1, 3, 0], [0, None, 1, None, 0, None])
    found = crystals_of(holes, spec).get(0)
    assert found["numbers"] == [1, 3, 1]
    assert np.reshape(found["frac_coords"], (3, 3))[:, 0] == pytest.approx([0, 2 / 6, 4 / 6])
    assert through(made.packed(made.hydride()), spec).get(0)["numbers"] == [1, 3, 1]


def test_the_published_decoding_takes_empty_sites_for_hydrogen() -> None:
    spec = FtcpSpec(max_sites=6, occupancy="paper")
    assert crystals_of(one_row(spec, [11, 17, 0], [0, None, 1, None]), spec).get(0)["numbers"] == [11, 1, 17]
    assert crystals_of(one_row(spec, [1, 3, 0], [0, None, 1, None, 0]), spec).get(0)["numbers"] == [1, 1, 3]
    assert crystals_of(one_row(spec, [11, 17, 0], [None, None]), spec).get(0)["numbers"] == [1]
    assert through(made.packed(made.hydride()), spec).get(0)["numbers"] == [1, 3]


@given(st.integers(0, 2**32 - 1))
def test_the_published_decoding_site_by_site(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = FtcpSpec(max_sites=5, occupancy="paper", min_distance=0)
    values = np.zeros((1, spec.rows, spec.columns), np.float32)
    at = layout(spec)
    values[0, at.elements, at.species] = rng.uniform(0, 1, (103, 3)) * (rng.random((103, 3)) < 0.03)
    values[0, at.occupancy, at.species] = rng.uniform(0, 0.4, (5, 3)) ** rng.choice([1, 3])
    values[0, at.lengths, :3], values[0, at.angles, :3] = 5, 90
    # the published steps: all but the largest of a row to zero, small ones too, the rest to one; then the index
    index = values[0, :103, :3].argmax(axis=0)
    expected = []
    for row in values[0, at.occupancy, :3]:
        kept = np.where(row < row.max(), 0, row)
        kept = np.ceil(np.where(kept < 0.05, 0, kept))
        expected.append(int(kept @ index))
    last = max((site for site, value in enumerate(expected) if value > 0), default=0)
    found = crystals_of(read_matrices(values, spec), spec).get(0)
    assert found["numbers"] == [value + 1 for value in expected[: last + 1]]


def test_an_unused_column_adds_no_element() -> None:
    spec = FtcpSpec(max_sites=4)
    assert crystals_of(one_row(spec, [11, 17, 92], [0, 1]), spec).get(0)["reduced_formula"] == "NaCl"


def test_elements_are_the_highest_scores() -> None:
    spec = FtcpSpec(max_sites=2)
    compact, _ = compact_of(made.packed(made.cesium_chloride()), spec)
    values = matrices(compact, spec)
    values[0, :103, :2] *= 0.3
    values[0, 10, :2] = 0.2
    values[0, 90, 2] = 0.01  # the third column names an element that no site uses
    values[0, layout(spec).occupancy, 2] = 0.04
    read = read_matrices(values, spec)
    assert read.numbers.tolist() == [[55, 17, 91]]
    assert crystals_of(read, spec).get(0)["reduced_formula"] == "CsCl"


def test_every_design_that_is_no_crystal_says_why() -> None:
    spec = FtcpSpec(max_sites=4)
    good = [5.0, 5, 5, 90, 90, 90]
    broken = [one_row(spec, [11, 17, 0], [0, 1], good) for _ in range(5)]
    broken[0].coords[0, 1, 2] = np.nan
    broken[1].lattices[0, 3] = np.inf
    broken[2].occupancy[0, 3, 0] = np.nan
    broken[3].numbers[0, 2] = -1
    broken[4].coords[0, 1] = 0.02
    rows = [
        (one_row(spec, [11, 17, 0], [0, 1]), None),
        (Compact.empty(1, spec), "The set had none."),
        *[(row, "not finite") for row in broken[:4]],
        (broken[4], "Atoms overlap: two are nearer than 0.5 A."),
        (one_row(spec, [11, 17, 0], [None, None]), "No site is occupied: every score is below 0.05."),
        (one_row(spec, [11, 17, 0], [0, 2]), "names no element"),
        (one_row(spec, [11, 17, 200], [0, 2]), "names no element"),
        (one_row(spec, [11, 17, 0], [0, 1], [5, 5, 5, 60, 60, 121]), "The angles make no cell."),
        (one_row(spec, [11, 17, 0], [0, 1], [5, 5, 5, 180, 90, 90]), "The angles make no cell."),
        (one_row(spec, [11, 17, 0], [0, 1], [5, 5, 5, 0, 90, 90]), "The angles make no cell."),
        (one_row(spec, [11, 17, 0], [0, 1], [5, 0, 5, 90, 90, 90]), "An edge of the cell"),
        (one_row(spec, [11, 17, 0], [0, 1], [5, 5, -5, 90, 90, 90]), "An edge of the cell"),
        (one_row(spec, [11, 17, 0], [0, 1], [5, 5, 5000, 90, 90, 90]), "An edge of the cell"),
    ]
    told = [None, "The set had none.", *[None] * (len(rows) - 2)]
    found = crystals_of(Compact.concat([row for row, _ in rows]), spec, reasons=told, parent_input="sequences",
                        parent_rows=range(len(rows)), metadata={"who": "test"})  # fmt: skip
    for (_, word), reason, status in zip(rows, found.column("reason"), found.column("status"), strict=True):
        assert (status == "ok") == (word is None)
        assert word is None or word in reason
    assert found.column("parent_row") == list(range(len(rows)))
    assert set(found.column("parent_input")) == {"sequences"}
    assert found.metadata["who"] == "test"


def test_scores_that_are_not_finite_are_found() -> None:
    spec = FtcpSpec(max_sites=2)
    compact, _ = compact_of(made.packed(*[made.cesium_chloride()] * 3), spec)
    values = matrices(compact, spec)
    values[0, 50, 0] = np.nan
    values[1, 50, 0] = np.inf
    reasons = crystals_of(read_matrices(values, spec), spec).column("reason")
    assert reasons == ["A number of the design is not finite."] * 2 + [None]
    for mode in ("corrected", "paper"):
        random = np.full_like(values, np.nan)
        decoded = crystals_of(read_matrices(random, spec), FtcpSpec(max_sites=2, occupancy=mode))
        assert set(decoded.column("reason")) == {"A number of the design is not finite."}


def test_overlap_is_a_setting() -> None:
    close = one_row(FtcpSpec(max_sites=2), [11, 17, 0], [0, 1])
    close.coords[0, 1] = [0.9, 0, 0]  # 0.6 A from the first, across the border of the cell
    assert crystals_of(close, FtcpSpec(max_sites=2)).ok.tolist() == [True]
    assert crystals_of(close, FtcpSpec(max_sites=2, min_distance=0.7)).ok.tolist() == [False]
    close.coords[0, 1] = 0
    assert crystals_of(close, FtcpSpec(max_sites=2)).ok.tolist() == [False]
    assert crystals_of(close, FtcpSpec(max_sites=2, min_distance=0)).ok.tolist() == [True]


@given(made.crystals(), st.floats(0.1, 3))
def test_overlaps_are_those_of_all_images(crystal: made.Arrays, distance: float) -> None:
    lattice, numbers, coords = crystal
    cell = Lattice(lattice)
    near = any(len(cell.get_points_in_sphere(coords, center, distance)) > 1 for center in coords @ lattice)
    padded = np.zeros((1, 9, 3)), np.zeros((1, 9), dtype=np.int64)
    padded[0][0, 1 : 1 + len(coords)], padded[1][0, 1 : 1 + len(coords)] = coords, numbers
    assert overlapping(lattice[None], *padded, distance).tolist() == [near]


def test_an_atom_on_its_own_image_overlaps_in_a_skewed_cell() -> None:
    lattice = cells.matrices([[3.0, 3.0, 8.0, 90, 90, 5.0]])  # a - b is 0.26 A long
    assert overlapping(lattice, np.zeros((1, 1, 3)), np.ones((1, 1), dtype=np.int64), 0.5).tolist() == [True]
    assert overlapping(lattice, np.zeros((1, 1, 3)), np.ones((1, 1), dtype=np.int64), 0.2).tolist() == [False]


def test_matrices_of_another_size_are_refused() -> None:
    with pytest.raises(BadInput, match="240 rows and 62 columns"):
        read_matrices(np.zeros((2, 240, 63), np.float32), FtcpSpec())
    assert len(crystals_of(read_matrices(np.zeros((0, 240, 62)), FtcpSpec()), FtcpSpec())) == 0
