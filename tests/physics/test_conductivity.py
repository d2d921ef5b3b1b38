"""Thermal conductivity: a smooth anharmonic crystal, phono3py driven by hand, and a reason for every refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import anharmonic as toy
import numpy as np
import pytest
import springs
from physics_crystals import Resuming

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest, NotInstalled
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.physics import conductivity as module
from crysgen_aiida.physics import conductivity_table as table_module
from crysgen_aiida.physics import forces
from crysgen_aiida.physics.conductivity import Conductivity, conductivities_of, conductivity_set
from crysgen_aiida.physics.conductivity_table import conductivity_table, trust, verdict
from crysgen_aiida.physics.forces import Refused
from crysgen_aiida.physics.response_spec import KappaSpec

pytest.importorskip("phono3py", reason="phono3py is not installed: pip install 'crysgen-aiida[kappa]'")

LENGTH = 4.0 / np.sqrt(2)
#: Small enough for seconds: supercells of 32 atoms, meshes of a few points.
SMALL = KappaSpec(
    fc3_min_length=7.0, fc2_min_length=7.0, mesh_lengths=(10.0, 16.0), temperatures=(300.0, 600.0), isotopes=False,
    cumulative_points=21, mesh_tolerance=0.3,
)  # fmt: skip


@cache
def lattice(kind: str = "fcc") -> Any:
    from pymatgen.core import Lattice, Structure

    if kind == "fcc":
        cell = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.0), ["Al"], [[0, 0, 0]])
        return cell.get_primitive_structure()
    if kind == "bcc":
        return Structure.from_spacegroup("Im-3m", Lattice.cubic(3.0), ["Al"], [[0, 0, 0]]).get_primitive_structure()
    a = LENGTH  # hexagonal close packing: all twelve neighbours at one length
    hcp = Lattice.hexagonal(a, a * np.sqrt(8 / 3))
    return Structure.from_spacegroup("P6_3/mmc", hcp, ["Al"], [[1 / 3, 2 / 3, 0.25]])


def morse(**how: Any) -> Any:
    return toy.potential(LENGTH, reach=3.4, **how)


def one(structure: Any, potential: Any, spec: KappaSpec = SMALL) -> Conductivity:
    (found,) = conductivities_of([structure], potential, spec, InProcess())
    assert isinstance(found, Conductivity), found
    return found


@pytest.fixture(scope="module")
def fcc() -> Conductivity:
    return one(lattice(), morse())


# -- the numbers ------------------------------------------------------------------------------------------------------


def test_it_is_what_phono3py_gives_when_it_is_driven_by_hand(fcc: Conductivity) -> None:
    """The whole conventional cell, full force constants, no forces at rest: another way to the same number."""
    from ase import Atoms
    from phono3py import Phono3py
    from phonopy.structure.atoms import PhonopyAtoms

    edge = 4.0
    cell = PhonopyAtoms(
        symbols=["Al"] * 4,
        cell=np.eye(3) * edge,
        scaled_positions=[[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]],
    )
    by_hand = Phono3py(cell, supercell_matrix=[2, 2, 2], primitive_matrix="F", cutoff_frequency=module.CUTOFF)
    by_hand.generate_displacements(distance=SMALL.displacement)
    calculator = toy.Morse(LENGTH, 3.4, 1.5, 1.0)
    found = []
    for moved in by_hand.supercells_with_displacements:
        atoms = Atoms(moved.symbols, cell=moved.cell, scaled_positions=moved.scaled_positions, pbc=True)
        atoms.calc = calculator
        found.append(atoms.get_forces())
    by_hand.forces = np.array(found)
    by_hand.produce_fc3(is_compact_fc=False)
    by_hand.symmetrize_fc3()
    by_hand.symmetrize_fc2()
    by_hand.mesh_numbers = fcc.fine.numbers
    by_hand.init_phph_interaction()
    by_hand.run_thermal_conductivity(temperatures=list(SMALL.temperatures))
    np.testing.assert_allclose(fcc.fine.tensors, by_hand.thermal_conductivity.kappa[0], rtol=0.01, atol=1e-3)


def test_a_cubic_crystal_conducts_alike_everywhere_and_worse_when_hot(fcc: Conductivity) -> None:
    xx, yy, zz, *shear = fcc.tensor
    assert xx == pytest.approx(yy, rel=1e-6)
    assert xx == pytest.approx(zz, rel=1e-6)
    np.testing.assert_allclose(shear, 0.0, atol=1e-6 * xx)
    cold, hot = fcc.fine.tensors[:, 0]
    assert 1.5 < cold / hot < 2.1, "three-phonon scattering grows with temperature, once all modes are awake in step"
    assert 0 < fcc.min_frequency < fcc.max_frequency


def test_a_hexagonal_crystal_has_one_axis_of_its_own() -> None:
    found = one(lattice("hcp"), morse(), replace(SMALL, fc3_min_length=5.6, fc2_min_length=5.6))
    xx, yy, zz, *shear = found.tensor
    assert xx == pytest.approx(yy, rel=1e-3)
    assert abs(zz / xx - 1) > 0.01
    np.testing.assert_allclose(shear, 0.0, atol=1e-3 * xx)


def test_conductivity_falls_with_the_square_of_the_anharmonicity(fcc: Conductivity) -> None:
    """A Morse well twice as narrow and a quarter as deep has the same springs and twice their third derivatives."""
    sharper = one(lattice(), morse(width=3.0, depth=0.25))
    assert sharper.max_frequency == pytest.approx(fcc.max_frequency, rel=0.01)
    assert fcc.kappa / sharper.kappa == pytest.approx(4.0, rel=0.1)


def test_the_cumulative_conductivity_rises_to_the_whole(fcc: Conductivity) -> None:
    for mesh in (fcc.coarse, fcc.fine):
        assert (np.diff(mesh.cumulative) >= 0).all()
        assert mesh.cumulative[0] == 0
        assert mesh.cumulative[-1] == pytest.approx(mesh.tensors[0, :3].mean(), rel=1e-6)
    assert fcc.fine.frequencies[-1] == pytest.approx(fcc.max_frequency, rel=0.01)


def test_isotopes_resist_and_the_full_solution_is_near_the_approximate_one(fcc: Conductivity) -> None:
    from pymatgen.core import Structure

    copper = Structure(lattice().lattice, ["Cu"], [[0, 0, 0]])  # aluminium has one isotope
    spec = replace(SMALL, mesh_lengths=(8.0, 10.0))
    pure, natural = (one(copper, morse(), replace(spec, isotopes=yes)) for yes in (False, True))
    assert natural.kappa < 0.999 * pure.kappa
    exact = one(copper, morse(), replace(spec, method="lbte"))
    assert exact.kappa == pytest.approx(pure.kappa, rel=0.5)
    assert exact.kappa > pure.kappa * 0.99, "normal processes resist less than the approximation has it"


def test_a_smooth_potential_does_not_care_about_the_displacement() -> None:
    spec = replace(SMALL, mesh_lengths=(8.0, 10.0), displacement=0.02, check_displacement=0.04)
    found = one(lattice(), morse(), spec)
    assert found.displacement_change is not None
    assert found.displacement_change < 0.05
    assert "instead of 0.02 A" in verdict(found, spec, "morse-1")
    without = one(lattice(), morse(), replace(spec, check_displacement=0.0))
    assert found.n_displacements == 2 * without.n_displacements
    assert found.kappa == pytest.approx(without.kappa, rel=1e-9)


def test_choice_of_cell_and_orientation_change_nothing(fcc: Conductivity) -> None:
    from pymatgen.core import SymmOp

    other = lattice().copy()
    other.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    other.apply_operation(SymmOp.from_axis_angle_and_translation([1, 2, 3], 33))
    assert one(other, morse()).kappa == pytest.approx(fcc.kappa, rel=1e-3)


# -- verdicts ---------------------------------------------------------------------------------------------------------


def test_a_verdict_says_whether_the_mesh_suffices_and_what_the_potential_is_worth(
    fcc: Conductivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "MEASURED", {"good-1": 120.0, "bad-1": 3.4, "high-1": 500.0})
    loose, tight = replace(SMALL, mesh_tolerance=10.0), replace(SMALL, mesh_tolerance=1e-6)
    assert verdict(fcc, loose, "good-1").startswith("converged: it changes by")
    said = verdict(fcc, tight, "bad-1")
    assert said.startswith("not converged: it changes by")
    assert said.endswith("it may not be used for kappa.")
    assert "within a factor of 2" in trust("good-1")
    assert "may not be used" in trust("high-1")
    assert "is not known here" in trust("new-1")


def test_what_is_known_of_potentials_is_what_was_measured() -> None:
    held = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "kappa.json").read_text())
    for method, value in table_module.MEASURED.items():
        assert held[f"Si, {method}, kappa"]["value"] == pytest.approx(value, rel=0.01)
        assert held[f"Si, {method}, kappa"]["met"] is ("may not be used" not in trust(method))


# -- refusals and tables ----------------------------------------------------------------------------------------------


def test_every_row_has_a_conductivity_or_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from pymatgen.core import Lattice, Structure

    pushed = {3.0 * np.sqrt(0.75): 2.0, 3.0: -0.5}  # the second spring pushes away: bcc is unstable
    monkeypatch.setattr(forces, "load_potential", lambda *_: springs.potential({LENGTH: 2.0, **pushed}))
    stretched = lattice().copy()
    stretched.scale_lattice(stretched.volume * 1.1)
    large = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.0), ["Al"], [[0, 0, 0]])
    large.make_supercell([3, 3, 1])
    large.replace(0, "Si")
    given = [lattice(), None, stretched, lattice("bcc"), large]
    crystals = CrystalSet.from_structures(given, reasons=[None, "cut short", None, None, None])
    spec = replace(SMALL, mesh_lengths=(6.0, 8.0), max_atoms=54)
    table = conductivity_set(crystals, spec=spec, run=InProcess())
    assert table.column("status") == ["ok", "failed", "failed", "failed", "skipped"]
    assert table.column("parent_row") == list(range(5))
    reasons = table.column("reason")
    assert "cut short" in reasons[1]
    assert "not relaxed with this potential" in reasons[2]
    assert "imaginary modes" in reasons[3]
    assert "no phonon lifetimes" in reasons[3]
    assert "more than max_atoms = 54" in reasons[4]
    row = table.get(0)
    assert row["kappa_300k"] == pytest.approx(sum(row["kappa_tensor"][:3]) / 3)
    assert row["kappa"][row["temperatures"].index(300.0)] == pytest.approx(row["kappa_300k"])
    assert len(row["kappa_tensors"]) == 6 * len(row["temperatures"])
    assert len(row["cumulative_kappa"]) == len(row["cumulative_frequencies"]) == spec.cumulative_points
    assert row["fc3_supercell"] == [2, 2, 2]
    assert row["fc3_atoms"] == 32
    assert row["n_displacements"] > 1
    assert row["kappa_solver"] == "rta"
    assert table.method("kappa_300k") == "springs-1"


def test_too_many_displacements_are_not_computed() -> None:
    (found,) = conductivities_of([lattice()], morse(), replace(SMALL, max_displacements=3), InProcess())
    assert isinstance(found, Refused)
    assert found.status == "skipped"
    assert "more than max_displacements = 3" in found.reason


def test_nothing_of_third_order_is_computed_for_an_unstable_crystal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    known = module.forces_of

    def counted(cells: Any, *rest: Any) -> Any:
        asked.append(len(cells))
        return known(cells, *rest)

    monkeypatch.setattr(module, "forces_of", counted)
    bcc = {3.0 * np.sqrt(0.75): 2.0, 3.0: -0.5}
    (found,) = conductivities_of([lattice("bcc")], springs.potential(bcc), SMALL, InProcess())
    assert isinstance(found, Refused)
    assert asked == [1, 1], "the cell at rest, and one displacement of second order"


def test_a_resumed_run_computes_each_crystal_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forces, "load_potential", lambda *_: morse())
    crystals = CrystalSet.from_structures([None, lattice(), None], reasons=["cut short", None, "cut short"])
    spec = replace(SMALL, mesh_lengths=(6.0, 8.0))
    whole = conductivity_set(crystals, spec=spec, run=InProcess())
    run = Resuming()
    run.stop_before = 2
    with pytest.raises(KeyboardInterrupt):
        conductivity_set(crystals, spec=spec, run=run)
    run.stop_before = None
    resumed = conductivity_set(crystals, spec=spec, run=run)
    assert run.computed == 3, "one crystal is one part"
    np.testing.assert_allclose(resumed.values("kappa_300k"), whole.values("kappa_300k"), rtol=1e-9)


def test_potentials_whose_forces_are_no_derivatives_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forces, "load_potential", lambda *_: morse(conservative=False))
    with pytest.raises(ImpossibleRequest, match="so second derivatives of it mean nothing"):
        conductivity_set(CrystalSet.from_structures([lattice()]), run=InProcess())


def test_without_phono3py_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "phono3py", None)
    with pytest.raises(NotInstalled, match=r"crysgen-aiida\[kappa\]"):
        conductivity_set(CrystalSet.from_structures([lattice()]), run=InProcess())


def test_a_table_of_refusals_alone_is_a_table() -> None:
    crystals = CrystalSet.from_structures([lattice()])
    table = conductivity_table(range(1), [crystals.get(0)], [Refused("no")], SMALL, "x-1")
    assert table.column("reason") == ["no"]
    assert table.column("kappa_converged") == [None]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"displacement": 0.5}, "more than 0.2 A"),
        ({"check_displacement": 0.03}, "give another one"),
        ({"method": "exact"}, "rta or lbte"),
        ({"mesh_lengths": (30.0,)}, "a coarse and a fine one"),
        ({"temperatures": (200.0,)}, "300 among them"),
        ({"temperatures": (0.0, 300.0)}, "positive ones"),
        ({"fc3_min_length": 0.0}, "positive"),
        ({"tolerance": -1.0}, "0 or more"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KappaSpec(**values)
