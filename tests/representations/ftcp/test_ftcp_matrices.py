"""Crystals become matrices row by row as published; what cannot says why."""

from __future__ import annotations

from pathlib import Path

import ftcp_crystals as made
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pymatgen.core import DummySpecies, Lattice, Structure

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.crystals.formats import pack_rows
from crysgen_aiida.crystals.readers import guarded
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.representations.ftcp import Compact, FtcpSpec, cells, compact_of, kpoints, matrices
from crysgen_aiida.representations.ftcp.atom_vectors import BINS, atom_vectors
from crysgen_aiida.representations.ftcp.compact import COLUMNS
from crysgen_aiida.representations.ftcp.layout import layout


def test_sizes_are_the_published_ones() -> None:
    assert (FtcpSpec().rows, FtcpSpec().columns) == (240, 62)
    large = FtcpSpec(max_sites=40, max_elements=4)
    assert (large.rows, large.columns) == (280, 63)
    assert FtcpSpec(max_elements=1).columns == 62
    assert FtcpSpec(reciprocal=False).columns == 3
    assert FtcpSpec(reciprocal=False).rows == 240


@pytest.mark.parametrize(
    "setting",
    [
        {"max_sites": 0}, {"max_elements": 0}, {"max_elements": 104}, {"n_kpoints": 0}, {"kpoints": "sum"},
        {"site_order": "random"}, {"occupancy": "both"}, {"threshold": 0.0}, {"threshold": 1.0},
        {"min_distance": -0.1}, {"min_distance": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_settings_without_sense_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ImpossibleRequest, match=next(iter(setting))):
        FtcpSpec(**setting)  # type: ignore[arg-type]


def test_every_row_of_a_perovskite() -> None:
    spec = FtcpSpec(max_sites=6, max_elements=4)
    compact, reasons = compact_of(made.packed(made.perovskite()), spec)
    assert reasons == [None]
    matrix, at, vectors = matrices(compact, spec)[0], layout(spec), atom_vectors()
    assert matrix.dtype == np.float32
    assert matrix.shape == (212, 63)
    assert np.argwhere(matrix[:103, :4]).tolist() == [[7, 2], [21, 1], [37, 0]]
    assert matrix[103, :4].tolist() == pytest.approx([3.91, 3.91, 3.91, 0])
    assert matrix[104, :4].tolist() == pytest.approx([90, 90, 90, 0])
    assert matrix[105:111, :4].tolist() == [
        [0, 0, 0, 0], [0.5, 0.5, 0.5, 0], [0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 0]
    ]  # fmt: skip
    assert matrix[111:117, :4].argmax(axis=1).tolist() == [0, 1, 2, 2, 2, 0]
    assert matrix[111:117, :4].sum(axis=1).tolist() == [1, 1, 1, 1, 1, 0]
    assert not matrix[117, :4].any()
    assert np.array_equal(matrix[118:210, :4].T, [vectors[38], vectors[22], vectors[8], np.zeros(92)])
    assert not matrix[210:].any()  # the padding
    assert not matrix[:117, 4:].any()  # nothing of the reciprocal block above its distances
    # (100) is 1/a from the origin; the plane shift of the five atoms is 0, 1/2, 1/2, 1/2 and 0
    hkl, g = kpoints.nearest(compact.lattices, 59)
    assert hkl[0, 0].tolist() == [1, 0, 0]
    assert matrix[at.distance, 4] == pytest.approx(1 / 3.91)
    expected = np.pi / 2 * (vectors[22] + 2 * vectors[8])
    assert matrix[at.properties, 4] == pytest.approx(expected)
    assert np.allclose(matrix[at.distance, 4:], g[0])


def test_property_vectors_are_those_of_cgcnn() -> None:
    try:
        published = made.published().atom_init()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert sum(BINS.values()) == 92
    vectors = atom_vectors()
    assert {number: vectors[number].tolist() for number in range(1, 101)} == {
        number: vector.tolist() for number, vector in published.items()
    }
    assert not vectors[0].any()
    assert not vectors[101:].any()


@given(made.crystals())
def test_the_paper_mode_is_the_published_algorithm(crystal: made.Arrays) -> None:
    reference = made.published()
    try:
        vectors = reference.atom_init()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    spec = FtcpSpec(max_sites=8, kpoints="paper")
    compact, reasons = compact_of(made.packed(crystal), spec)
    lattice, numbers, coords = crystal
    if np.linalg.det(lattice) < 0:  # a CIF cannot be left-handed
        lattice, coords = -lattice, -coords
    structure = Structure(Lattice(lattice), numbers, coords, to_unit_cell=True)
    try:
        expected = reference.matrix_of(structure, vectors, 3, 8)
    except ValueError:
        assert reasons[0] is not None
        assert "Fewer than 59 k-points" in reasons[0]
        assert not compact.filled.any()
        return
    assert reasons == [None]
    ours = matrices(compact, spec)[0]
    assert np.allclose(ours[: len(expected)], expected, rtol=1e-6, atol=3e-5)


def test_the_paper_mode_on_real_crystals(shared_data: Path) -> None:
    reference = made.published()
    try:
        vectors = reference.atom_init()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    spec = FtcpSpec(max_elements=7, kpoints="paper")
    cifs = [row["cif"] for row in made.real_rows(shared_data, 60)]
    structures = [Structure.from_str(cif, fmt="cif") for cif in cifs]
    compact, reasons = compact_of(made.packed(*structures), spec)
    assert reasons == [None] * 60
    expected = [reference.matrix_of_cif(cif, vectors, 7, 20) for cif in cifs]
    assert np.allclose(matrices(compact, spec)[:, :238], expected, rtol=1e-6, atol=3e-5)


def test_small_cells_are_refused_by_the_published_choice_only() -> None:
    hydrogen = Structure(Lattice.cubic(1.5), ["H"], [[0, 0, 0]])  # 4/3 pi (1.4 * 1.5)^3 = 39 points
    with pytest.raises(ValueError, match="points within"):
        made.published().points(hydrogen)
    compact, reasons = compact_of(made.packed(hydrogen), FtcpSpec(kpoints="paper"))
    assert reasons == ["Fewer than 59 k-points lie within 1.4 1/A (kpoints: paper); kpoints: length has no limit."]
    assert not compact.filled[0]
    compact, reasons = compact_of(made.packed(hydrogen), FtcpSpec())
    assert reasons == [None]
    assert np.isfinite(matrices(compact, FtcpSpec())).all()
    with pytest.raises(BadInput, match="kpoints: length"):
        matrices(compact, FtcpSpec(kpoints="paper"))


@given(made.crystals(), st.integers(1, 130))
def test_nearest_points_are_the_nearest(crystal: made.Arrays, n: int) -> None:
    compact, _ = compact_of(made.packed(crystal), FtcpSpec(max_sites=8))
    hkl, g = kpoints.nearest(compact.lattices, n)
    assert len(np.unique(hkl[0], axis=0)) == n
    assert hkl[0].any(axis=1).all()
    reciprocal = np.linalg.inv(np.asarray(crystal[0])).T
    assert np.allclose(np.linalg.norm(hkl[0] @ reciprocal, axis=1), g[0], rtol=1e-9)
    # all others are as far as the last: every point of a larger sphere, as pymatgen finds them
    sphere = Lattice(reciprocal).get_points_in_sphere([[0, 0, 0]], [0, 0, 0], g[0].max() * 1.05, zip_results=False)
    assert np.allclose(np.sort(sphere[1])[1 : n + 1], np.sort(g[0]), atol=2 * kpoints.TIE)


@given(made.crystals(), st.lists(st.tuples(st.permutations(range(3)), st.integers(-2, 2)), max_size=4))
def test_lengths_do_not_depend_on_the_choice_of_cell(crystal: made.Arrays, shears: list[tuple[list[int], int]]) -> None:
    lattice = np.asarray(crystal[0])
    skewed = lattice.copy()
    for (one, other, _), times in shears:
        skewed[one] += times * skewed[other]
    both = cells.parameters([lattice, skewed])
    assume(cells.possible(both).all())
    _, g = kpoints.nearest(both, 59)
    assert np.allclose(np.sort(g[0]), np.sort(g[1]), rtol=1e-6, atol=2 * kpoints.TIE)


def test_equal_lengths_are_ordered_by_their_indices() -> None:
    cubic = np.array([[4.0, 4, 4, 90, 90, 90]])
    noisy = cubic + np.array([[1e-7, -1e-7, 2e-7, 1e-6, -1e-6, 0]])
    hkl, _ = kpoints.nearest(cubic, 59)
    assert hkl[0, :6].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1], [0, -1, 0], [-1, 0, 0]]
    assert np.array_equal(hkl, kpoints.nearest(noisy, 59)[0])


def test_company_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crystals are worked on in groups; a crystal has the same matrix alone."""
    rng = np.random.default_rng(5)
    lattices = np.column_stack([rng.uniform(2, 40, (40, 3)), rng.uniform(70, 110, (40, 3))])
    together = kpoints.nearest(lattices, 59)
    monkeypatch.setattr(kpoints, "CHUNK", 1)
    for row, lattice in enumerate(lattices):
        alone = kpoints.nearest(lattice[None], 59)
        assert np.array_equal(alone[0][0], together[0][row])
        assert np.array_equal(alone[1][0], together[1][row])
    both = kpoints.published(lattices, 59), [kpoints.published(lattice[None], 59) for lattice in lattices]
    assert all(np.array_equal(one[0][0], both[0][0][row]) for row, one in enumerate(both[1]))


def test_every_row_without_a_matrix_says_why() -> None:
    cube, half = 4 * np.eye(3), np.full((1, 3), 0.5)
    many = (9 * np.eye(3), np.full(21, 14), np.arange(63).reshape(21, 3) / 64)
    crystals = made.packed(
        made.cesium_chloride(), None, many, (cube, np.array([1, 2, 3, 4]), np.zeros((4, 3))),
        (cube, np.array([101]), half), (np.ones((3, 3)), np.array([1]), half),
        (np.diag([0.1, 4, 4]), np.array([1]), half),
    )  # fmt: skip
    compact, reasons = compact_of(crystals, FtcpSpec())
    words = (
        None, "Gone.", "More sites than the representation holds (max_sites is 20)", "max_elements is 3",
        "beyond Z = 100", "flat", "edge of the cell",
    )  # fmt: skip
    for word, reason in zip(words, reasons, strict=True):
        assert (reason is None) == (word is None)
        assert word is None or word in str(reason)
    assert compact.filled.tolist() == [True] + [False] * 6
    found = matrices(compact, FtcpSpec())
    assert found[0].any()
    assert not found[1:].any()


def test_elements_without_a_vector_fit_where_none_is_needed() -> None:
    crystals = made.packed((4 * np.eye(3), np.array([103]), np.zeros((1, 3))))
    compact, reasons = compact_of(crystals, FtcpSpec(reciprocal=False))
    assert reasons == [None]
    assert matrices(compact, FtcpSpec(reciprocal=False))[0, 102, 0] == 1


def test_broken_numbers_of_a_set_have_reasons() -> None:
    table = made.packed(*[made.cesium_chloride()] * 6).arrow
    lattice, coords = table["lattice"].to_pylist(), table["frac_coords"].to_pylist()
    numbers = table["numbers"].to_pylist()
    numbers[3], numbers[4] = [0, 17], [55, 104]
    lattice[0][4] = float("nan")
    coords[1][2], coords[2] = float("inf"), coords[2][:4]
    for name, values in (("lattice", lattice), ("frac_coords", coords), ("numbers", numbers)):
        position = table.column_names.index(name)
        table = table.set_column(position, table.schema.field(name), pa.array(values, type=table[name].type))
    _, reasons = compact_of(CrystalSet(table), FtcpSpec())
    assert [reason and reason.split(";")[0] for reason in reasons] == [
        "A number of the lattice or the coordinates is not finite.",
        "A number of the lattice or the coordinates is not finite.",
        "The row does not hold three coordinates an atom.",
        "An atomic number is not that of an element from 1 to 103.",
        "An atomic number is not that of an element from 1 to 103.",
        None,
    ]


def test_crystals_that_no_set_can_hold_keep_their_reason() -> None:
    half = Structure(Lattice.cubic(4), [{"Fe": 0.5, "Co": 0.5}], [[0, 0, 0]])
    dummy = Structure(Lattice.cubic(4), [DummySpecies("X")], [[0, 0, 0]])
    read = [guarded(lambda structure=structure: structure) for structure in (half, dummy, made.perovskite())]
    _, reasons = compact_of(pack_rows(read), FtcpSpec())
    assert "partially occupied" in str(reasons[0])
    assert "unknown element" in str(reasons[1])
    assert reasons[2] is None


def test_rows_that_are_not_ok_have_no_matrix_even_with_a_crystal() -> None:
    table = made.packed(made.cesium_chloride()).arrow
    for name, value in (("status", "timeout"), ("reason", "Too slow.")):
        position = table.column_names.index(name)
        table = table.set_column(position, table.schema.field(name), pa.array([value]))
    _, reasons = compact_of(CrystalSet(table), FtcpSpec())
    assert "Too slow." in str(reasons[0])


def test_columns_give_the_same_crystals_back() -> None:
    spec = FtcpSpec(max_sites=6)
    compact, _ = compact_of(made.packed(made.perovskite(), None, made.hydride()), spec)
    table = pa.table(compact.to_columns())
    assert table["lattice"].null_count == 1
    for columns in (table, table.slice(0, 3), compact.to_columns()):
        again = Compact.from_columns(columns, spec)
        for name in ("numbers", "lattices", "coords", "occupancy"):
            one, other = getattr(compact, name), getattr(again, name)
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
    assert np.array_equal(Compact.from_columns(table.slice(2, 1), spec).numbers, compact.numbers[2:])
    assert len(Compact.from_columns(table.slice(0, 0), spec)) == 0
    assert len(Compact.from_columns(pa.table(Compact.empty(0, spec).to_columns()), spec)) == 0


def test_columns_survive_a_file(tmp_path: Path) -> None:
    spec = FtcpSpec(max_sites=6)
    compact, reasons = compact_of(made.packed(made.perovskite(), None), spec)
    status = ["ok" if reason is None else "failed" for reason in reasons]
    table = pa.table({"status": status, "reason": pa.array(reasons, pa.string()), **compact.to_columns()})
    SequenceSet(table).write(tmp_path / "set.parquet")
    read = SequenceSet.read(tmp_path / "set.parquet")
    assert {name: str(read.arrow.schema.field(name).type).replace("element", "item") for name in COLUMNS} == {
        name: kind.replace("<", "<item: ") for name, kind in COLUMNS.items()
    }
    assert np.array_equal(matrices(Compact.from_columns(read.arrow, spec), spec), matrices(compact, spec))


def test_columns_of_another_spec_are_refused() -> None:
    compact, _ = compact_of(made.packed(made.perovskite()), FtcpSpec(max_sites=6))
    with pytest.raises(BadInput, match="'coordinates' holds 18 numbers, but the representation has 60"):
        Compact.from_columns(compact.to_columns(), FtcpSpec())
    with pytest.raises(BadInput, match="no column 'lattice'"):
        Compact.from_columns({"atomic_numbers": pa.array([[1, 2, 3]])}, FtcpSpec())
    whole = compact.to_columns()
    with pytest.raises(BadInput, match="must be list<int16>, not string"):
        Compact.from_columns({**whole, "atomic_numbers": pa.array(["SrTiO3"])}, FtcpSpec(max_sites=6))
    with pytest.raises(BadInput, match="nulls in them"):
        Compact.from_columns({**whole, "lattice": pa.array([[1.0, None, 1, 90, 90, 90]])}, FtcpSpec(max_sites=6))
    with pytest.raises(BadInput, match="packed for 6 sites"):
        matrices(compact, FtcpSpec())


def test_a_part_of_a_set_is_read_as_the_whole() -> None:
    whole = made.packed(made.calcite(), None, made.perovskite(), made.cesium_chloride(), made.hydride())
    spec = FtcpSpec(max_sites=30)
    compact, reasons = compact_of(whole, spec)
    part, of_part = compact_of(whole.slice(range(1, 4)), spec)
    assert of_part == reasons[1:4]
    assert np.array_equal(matrices(part, spec), matrices(compact, spec)[1:4])


def test_an_empty_set_is_no_special_case() -> None:
    compact, reasons = compact_of(made.packed(), FtcpSpec())
    assert reasons == []
    assert matrices(compact, FtcpSpec()).shape == (0, 240, 62)
