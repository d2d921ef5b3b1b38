"""Elastic constants: springs in closed form, pymatgen's own route, finite differences of the pressure, refusals."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import springs as toy
from hypothesis import given, settings
from hypothesis import strategies as st
from physics_crystals import Resuming

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.physics import elasticity as module
from crysgen_aiida.physics import forces
from crysgen_aiida.physics.batch import EV_PER_A3_IN_GPA
from crysgen_aiida.physics.elastic_table import verdict
from crysgen_aiida.physics.elasticity import Elastic, elastic_of, elastic_set, fitted, strained, voigt_strains
from crysgen_aiida.physics.forces import forces_of, start_cell
from crysgen_aiida.physics.relaxation import RelaxSpec, relax_many
from crysgen_aiida.physics.response_spec import ElasticSpec

FCC = {4.0 / np.sqrt(2): 2.0}  # cubic edge 4 A
BCC = {3.0 * np.sqrt(0.75): 2.0, 3.0: -0.2}  # cubic edge 3 A; the second spring pushes away
QUICK = ElasticSpec(strains=(0.005,), fmax=0.004)


@cache
def lattice(kind: str) -> Any:
    from pymatgen.core import Lattice, Structure

    edge, group = {"fcc": (4.0, "Fm-3m"), "bcc": (3.0, "Im-3m")}[kind]
    return Structure.from_spacegroup(group, Lattice.cubic(edge), ["Al"], [[0, 0, 0]]).get_primitive_structure()


def one(structure: Any, potential: Any, spec: ElasticSpec = QUICK, **run: Any) -> Elastic:
    (found,) = elastic_of([structure], potential, spec, InProcess(**run))
    assert isinstance(found, Elastic), found
    return found


@pytest.fixture(scope="module")
def at_rest(chgnet: Any, structures: dict[str, Any]) -> dict[str, Any]:
    """Si and wurtzite AlN at their minima with CHGNet."""
    from pymatgen.core import Structure

    held = {name: structures[name] for name in ("Si", "AlN")}
    ended = relax_many([start_cell(s) for s in held.values()], chgnet, RelaxSpec(0.002), InProcess())
    return {name: Structure(r.cell, held[name].species, r.frac) for name, r in zip(held, ended, strict=True)}


# -- springs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "springs"), [("fcc", FCC), ("bcc", BCC)])
def test_springs_have_the_constants_of_the_textbook(kind: str, springs: dict[float, float]) -> None:
    cubic = lattice(kind).to_conventional()
    exact = toy.elastic(np.array(lattice(kind).lattice.matrix), springs)
    found = one(cubic, toy.potential(springs), ElasticSpec(strains=(0.001, 0.002)))
    np.testing.assert_allclose(found.tensor, exact, atol=0.003 * exact.max())
    np.testing.assert_allclose(found.clamped, found.tensor, atol=1e-6)
    assert found.tensor[0, 1] == pytest.approx(found.tensor[3, 3], rel=0.01), "Cauchy: C12 = C44 for central forces"
    assert found.asymmetry < 0.01 * exact.max()


def test_nearest_neighbours_alone_give_two_to_one_to_one() -> None:
    found = one(lattice("fcc"), toy.potential(FCC), ElasticSpec(strains=(0.001,)))
    unit = 2.0 / 4.0 * EV_PER_A3_IN_GPA  # k / a
    assert found.tensor[0, 0] == pytest.approx(2 * unit, rel=0.01)
    assert found.tensor[0, 1] == pytest.approx(unit, rel=0.01)


def test_a_crystal_that_a_strain_relaxes_is_called_unstable_and_has_no_averages() -> None:
    found = one(lattice("bcc"), toy.potential(BCC))
    assert not found.stable
    assert found.eigenvalues[0] < -1
    assert found.averages == {}
    assert "a strain lowers the energy" in verdict(found)


def test_choice_of_cell_and_orientation_change_nothing() -> None:
    from pymatgen.core import SymmOp

    other = lattice("fcc").copy()
    other.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    other.apply_operation(SymmOp.from_axis_angle_and_translation([1, 2, 3], 33))
    straight, turned = (one(s, toy.potential(FCC)) for s in (lattice("fcc"), other))
    np.testing.assert_allclose(turned.tensor, straight.tensor, atol=1e-4 * straight.tensor.max())


# -- CHGNet -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(chgnet: Any, at_rest: dict[str, Any]) -> dict[str, Elastic]:
    found = elastic_of(list(at_rest.values()), chgnet, QUICK, InProcess())
    return {name: e for name, e in zip(at_rest, found, strict=True) if isinstance(e, Elastic)}


def test_the_tensor_has_the_symmetry_of_the_crystal(known: dict[str, Elastic]) -> None:
    for name, found in known.items():
        c = found.tensor
        np.testing.assert_allclose(c, c.T, atol=1e-8, err_msg=name)
        assert c[0, 0] == pytest.approx(c[1, 1]), name
        assert c[3, 3] == pytest.approx(c[4, 4]), name
        assert np.abs(c[:3, 3:]).max() < 1e-6, name
        assert found.stable, name
    hexagonal = known["AlN"].tensor
    assert hexagonal[5, 5] == pytest.approx((hexagonal[0, 0] - hexagonal[0, 1]) / 2)
    assert known["AlN"].residual > 0, "what symmetry changed is reported"


def test_a_hexagonal_crystal_may_be_turned_and_given_in_another_cell(
    chgnet: Any, at_rest: dict[str, Any], known: dict[str, Elastic]
) -> None:
    from pymatgen.core import SymmOp

    other = at_rest["AlN"].copy()
    other.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    other.apply_operation(SymmOp.from_axis_angle_and_translation([1, 2, 3], 70))
    turned, straight = one(other, chgnet), known["AlN"]
    np.testing.assert_allclose(turned.tensor, straight.tensor, atol=3.0)  # GPa: CHGNet is single precision and rough
    for name in ("bulk_modulus_vrh", "shear_modulus_vrh"):
        assert turned.averages[name] == pytest.approx(straight.averages[name], rel=0.01)


def test_atoms_that_may_move_make_a_crystal_softer(known: dict[str, Elastic]) -> None:
    silicon = known["Si"]
    assert silicon.tensor[0, 0] == pytest.approx(silicon.clamped[0, 0], rel=0.01), "no internal strain along an axis"
    assert silicon.tensor[3, 3] < 0.9 * silicon.clamped[3, 3]


def test_averages_are_those_of_the_constants(known: dict[str, Elastic]) -> None:
    """Voigt-Reuss-Hill by the formulas for cubic crystals, and pymatgen for the others."""
    from pymatgen.analysis.elasticity import ElasticTensor

    silicon = known["Si"]
    c11, c12, c44 = silicon.tensor[0, 0], silicon.tensor[0, 1], silicon.tensor[3, 3]
    bulk = (c11 + 2 * c12) / 3
    voigt, reuss = (c11 - c12 + 3 * c44) / 5, 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    shear = (voigt + reuss) / 2
    assert silicon.averages["bulk_modulus_vrh"] == pytest.approx(bulk)
    assert silicon.averages["shear_modulus_vrh"] == pytest.approx(shear)
    assert silicon.averages["young_modulus_vrh"] == pytest.approx(9 * bulk * shear / (3 * bulk + shear))
    assert silicon.averages["poisson_ratio"] == pytest.approx((3 * bulk - 2 * shear) / (6 * bulk + 2 * shear))
    assert silicon.averages["universal_anisotropy"] == pytest.approx(5 * voigt / reuss - 5)
    for found in known.values():
        tensor = ElasticTensor.from_voigt(found.tensor)
        assert found.averages["young_modulus_vrh"] == pytest.approx(tensor.y_mod * 1e-9)
        assert found.averages["universal_anisotropy"] == pytest.approx(tensor.universal_anisotropy)


def test_the_bulk_modulus_is_the_slope_of_the_pressure(chgnet: Any, at_rest: dict[str, Any]) -> None:
    lattices, numbers, frac = start_cell(at_rest["Si"])
    # small, for CHGNet is not: at a strain of 0.003 its bulk modulus is 64 GPa, at one of 0.01 it is 89
    found = one(at_rest["Si"], chgnet, ElasticSpec(strains=(0.0005,)))
    cells = [(lattices * (1 + s) ** (1 / 3), numbers, frac) for s in (0.0015, -0.0015)]
    wide, narrow = (np.trace(f.stress) / 3 * EV_PER_A3_IN_GPA for f in forces_of(cells, chgnet, InProcess()))
    assert found.averages["bulk_modulus_vrh"] == pytest.approx((wide - narrow) / 0.003, rel=0.02)


def test_how_far_from_linear_the_stresses_are_is_said(chgnet: Any, at_rest: dict[str, Any]) -> None:
    found = one(at_rest["Si"], chgnet, ElasticSpec(strains=(0.0005, 0.01)))
    assert found.nonlinearity > 10, "C11 falls from 158 to 117 GPa between these strains"
    assert one(at_rest["Si"], chgnet).nonlinearity < 1e-9, "one amplitude cannot tell"


def test_pymatgen_s_own_route_gives_the_same(chgnet: Any, at_rest: dict[str, Any], known: dict[str, Elastic]) -> None:
    """Green-Lagrange strains of pymatgen, its fit of independent strains, atoms clamped."""
    from pymatgen.analysis.elasticity import DeformedStructureSet, ElasticTensor, Strain, Stress

    amplitudes = (-0.005, 0.005)
    made = DeformedStructureSet(at_rest["Si"], norm_strains=amplitudes, shear_strains=amplitudes)
    found = forces_of([start_cell(s) for s in made], chgnet, InProcess())
    strains = [Strain.from_deformation(d) for d in made.deformations]
    stresses = [
        Stress(f.stress * EV_PER_A3_IN_GPA).piola_kirchoff_2(d) for f, d in zip(found, made.deformations, strict=True)
    ]
    theirs = ElasticTensor.from_independent_strains(strains, stresses).fit_to_structure(at_rest["Si"])
    theirs = theirs.convert_to_ieee(at_rest["Si"])
    np.testing.assert_allclose(known["Si"].clamped, theirs.voigt, atol=1.0)


def test_batches_and_threads_change_round_off_only(chgnet: Any, at_rest: dict[str, Any]) -> None:
    alone = one(at_rest["Si"], chgnet, batch_scale=0.01)
    shared = one(at_rest["Si"], chgnet, batch_scale=10.0, threads=2)
    np.testing.assert_allclose(alone.tensor, shared.tensor, atol=0.5)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_every_row_has_constants_or_a_reason(at_rest: dict[str, Any]) -> None:
    squeezed = at_rest["Si"].copy()
    squeezed.scale_lattice(squeezed.volume * 0.9)
    crystals = CrystalSet.from_structures(
        [at_rest["Si"], squeezed, None, at_rest["AlN"]], reasons=[None, None, "cut short", None]
    )
    spec = ElasticSpec(strains=(0.005,), fmax=0.004, max_atoms=3)
    table = elastic_set(crystals, spec=spec, run=InProcess())
    assert table.column("status") == ["ok", "failed", "failed", "skipped"]
    reasons = table.column("reason")
    assert "not relaxed with this potential" in reasons[1]
    assert "cut short" in reasons[2]
    assert "4 atoms, more than max_atoms = 3" in reasons[3]
    row = table.get(0)
    assert row["elastic_stable"] is True
    assert len(row["elastic_tensor"]) == 36
    assert table.method("bulk_modulus_vrh") == "chgnet-0.3.0"
    assert table.get(1)["elastic_tensor"] is None


def test_atoms_that_do_not_come_to_rest_are_a_reason(chgnet: Any, at_rest: dict[str, Any]) -> None:
    (found,) = elastic_of([at_rest["AlN"]], chgnet, ElasticSpec((0.01,), fmax=1e-4, max_steps=1), InProcess())
    assert not isinstance(found, Elastic)
    assert "did not come to rest below 0.0001 eV/A in 1 steps; raise max_steps" in found.reason


def test_a_resumed_run_gives_the_same_table(at_rest: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_ROWS", 1)
    crystals = CrystalSet.from_structures([at_rest["Si"], None, at_rest["Si"]], reasons=[None, "cut short", None])
    whole = elastic_set(crystals, spec=QUICK, run=InProcess())
    run = Resuming()
    run.stop_before = 2
    with pytest.raises(KeyboardInterrupt):
        elastic_set(crystals, spec=QUICK, run=run)
    run.stop_before = None
    resumed = elastic_set(crystals, spec=QUICK, run=run)
    assert run.computed == 3
    assert resumed.content_hash == whole.content_hash


def test_potentials_whose_forces_are_no_derivatives_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forces, "load_potential", lambda *_: toy.potential(FCC, conservative=False))
    with pytest.raises(ImpossibleRequest, match="second derivatives of it mean nothing"):
        elastic_set(CrystalSet.from_structures([lattice("fcc")]), run=InProcess())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strains": ()}, "above 0, at most 0.05"),
        ({"strains": (0.5,)}, "above 0, at most 0.05"),
        ({"strains": (0.01, 0.01)}, "name each amplitude once"),
        ({"fmax": 0.0}, "positive"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ElasticSpec(**values)


# -- the fit ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0.001, 0.05), min_size=1, max_size=3, unique=True))
def test_the_fit_recovers_the_slope_whatever_bends_evenly(seed: int, amplitudes: list[float]) -> None:
    rng = np.random.default_rng(seed)
    exact, even, rest = rng.normal(0, 100, (6, 6)), rng.normal(0, 1000, (6, 6)), rng.normal(0, 0.1, 6)
    strains = voigt_strains(ElasticSpec(strains=tuple(amplitudes)))
    found, bend = fitted(strains, strains @ exact.T + strains**2 @ even.T + rest)
    np.testing.assert_allclose(found, exact, atol=1e-6)
    assert bend < 1e-6


def test_a_shear_in_voigt_notation_is_twice_the_tensor() -> None:
    cell = (np.eye(3), np.array([1]), np.zeros((1, 3)))
    sheared, _, _ = strained(cell, np.array([0, 0, 0, 0.02, 0, 0]))
    np.testing.assert_allclose(sheared, [[1, 0, 0], [0, 1, 0.01], [0, 0.01, 1]])
