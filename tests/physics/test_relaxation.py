"""Relaxation: the minima of ASE, honest failures, and results that a resumed or shared batch does not change."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from physics_crystals import Resuming, distorted

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest, OutOfMemory
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.symmetry import symmetry
from crysgen_aiida.physics import relaxation
from crysgen_aiida.physics.batch import CellBatch, Evaluation
from crysgen_aiida.physics.fixed_symmetry import FixedSymmetry
from crysgen_aiida.physics.potentials import LoadedPotential
from crysgen_aiida.physics.relaxation import RelaxSpec, Start, relax_many, relax_set
from crysgen_aiida.physics.selection import SelectionSpec


@pytest.fixture(scope="module")
def crystals(structures: dict[str, Any]) -> CrystalSet:
    return CrystalSet.from_structures([distorted(s, k) for k, s in enumerate(structures.values())])


@pytest.fixture(scope="module")
def relaxed(crystals: CrystalSet) -> CrystalSet:
    return relax_set(crystals, run=InProcess())


def test_same_minima_as_ase(crystals: CrystalSet, relaxed: CrystalSet, published: Any) -> None:
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE
    from chgnet.model.dynamics import CHGNetCalculator

    calculator = CHGNetCalculator(published, use_device="cpu")
    for row in (1, 2, 3):
        atoms = crystals.structure(row).to_ase_atoms()
        atoms.calc = calculator
        FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.1, steps=100)
        per_atom = atoms.get_potential_energy() / len(atoms)
        assert relaxed.values("energy_per_atom")[row] == pytest.approx(per_atom, abs=0.005)
        assert relaxed.structure(row).volume == pytest.approx(atoms.get_volume(), rel=0.03)


def test_rows_record_how_they_ended(crystals: CrystalSet, relaxed: CrystalSet) -> None:
    assert relaxed.column("converged") == [True] * len(crystals)
    assert (relaxed.values("max_force") <= 0.1).all()
    assert relaxed.column("parent_input") == ["crystals"] * len(crystals)
    assert relaxed.column("parent_row") == list(range(len(crystals)))
    assert relaxed.method("energy_per_atom") == "chgnet-0.3.0"
    record = json.loads(relaxed.metadata["potential"])
    assert len(record["checkpoint_sha256"]) == 64
    assert record["schemes"] == ["self-consistent", "mp2020-compatible"]
    assert json.loads(relaxed.metadata["relax_spec"])["fmax"] == 0.1


def test_too_few_steps_are_not_converged(crystals: CrystalSet) -> None:
    short = relax_set(crystals.take([0]), spec=RelaxSpec(max_steps=2), run=InProcess())
    assert short.column("status") == [schema.STATUS_OK]
    assert short.column("converged") == [False]
    assert short.column("n_steps") == [2]


def test_threads_and_batches_change_nothing_that_matters(crystals: CrystalSet, relaxed: CrystalSet) -> None:
    two = relax_set(crystals, run=InProcess(threads=2, batch_scale=0.1))
    np.testing.assert_allclose(two.values("energy_per_atom"), relaxed.values("energy_per_atom"), atol=1e-4)


def test_the_same_run_gives_the_same_content(crystals: CrystalSet) -> None:
    few = crystals.take([1, 5])
    assert relax_set(few, run=InProcess()).content_hash == relax_set(few, run=InProcess()).content_hash


def test_a_resumed_run_gives_the_same_table(crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaxation, "PART_ROWS", 2)
    few = crystals.take([0, 1, 2, 5, 5])
    whole = relax_set(few, run=InProcess())
    run = Resuming()
    run.stop_before = 1
    with pytest.raises(KeyboardInterrupt):
        relax_set(few, run=run)
    run.stop_before = None
    resumed = relax_set(few, run=run)
    assert run.computed == 3
    assert resumed.content_hash == whole.content_hash


# -- potentials that misbehave ------------------------------------------------------------------------------------


class Fake:
    """A potential that answers with what it is told to."""

    def __init__(self, answer: Callable[[CellBatch], dict[str, Any]]) -> None:
        self.answer, self.calls = answer, 0

    def evaluate(self, batch: CellBatch) -> Evaluation:
        self.calls += 1
        n = len(batch.counts)
        values: dict[str, Any] = {
            "energies": np.full(n, -1.0),
            "forces": np.zeros_like(batch.positions),
            "stresses": np.zeros((n, 3, 3)),
            "isolated": np.zeros(n, dtype=np.int64),
            "shortest": np.full(n, 2.0),
        }
        values.update(self.answer(batch))
        return Evaluation(**values)

    def forget(self, keys: Any = None) -> None: ...


def relax_with(chgnet: Any, answer: Callable[[CellBatch], dict[str, Any]], n: int = 1, **kwargs: Any) -> Any:
    start: Start = (np.eye(3) * 4.0, np.array([11, 17]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    loaded: LoadedPotential = replace(chgnet, compute=Fake(answer))
    return relax_many([start] * n, loaded, RelaxSpec(), InProcess(), **kwargs)


def test_an_exploding_cell_stops_early(chgnet: Any) -> None:
    (found,) = relax_with(chgnet, lambda b: {"stresses": np.array([-np.eye(3)] * len(b.counts))})
    assert found.status == schema.STATUS_FAILED
    assert "exploded" in found.reason
    assert found.cell is None


def test_a_collapsing_cell_stops_early(chgnet: Any) -> None:
    (found,) = relax_with(chgnet, lambda b: {"stresses": np.array([np.eye(3)] * len(b.counts))})
    assert "collapsed" in found.reason


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ({"energies": np.array([np.nan])}, "not finite"),
        ({"forces": np.full((2, 3), np.inf)}, "not finite"),
        ({"stresses": np.full((1, 3, 3), np.nan)}, "not finite"),
        ({"shortest": np.array([0.2])}, "0.20 A"),
        ({"isolated": np.array([1])}, "isolated"),
    ],
)
def test_what_cannot_be_relaxed_says_why(chgnet: Any, answer: dict[str, Any], word: str) -> None:
    (found,) = relax_with(chgnet, lambda b: answer)
    assert found.status == schema.STATUS_FAILED
    assert word in found.reason


def test_one_bad_crystal_does_not_stop_the_others(chgnet: Any) -> None:
    def first_is_bad(batch: CellBatch) -> dict[str, Any]:
        energies = np.full(len(batch.counts), -1.0)
        energies[[k for k, key in enumerate(batch.keys) if key == 0]] = np.nan
        return {"energies": energies}

    found = relax_with(chgnet, first_is_bad, n=3)
    assert [r.status for r in found] == ["failed", "ok", "ok"]


def test_a_batch_too_large_is_out_of_memory(chgnet: Any) -> None:
    def full(_: CellBatch) -> dict[str, Any]:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    with pytest.raises(OutOfMemory, match="batch_scale"):
        relax_with(chgnet, full)


def test_the_time_box_marks_what_is_left(chgnet: Any) -> None:
    found = relax_with(chgnet, lambda b: {}, n=3, deadline=time.monotonic() - 1)
    assert [r.status for r in found] == ["timeout"] * 3
    assert "not reproducible" in found[0].reason


def test_a_time_box_of_nothing_relaxes_nothing_and_warns(crystals: CrystalSet) -> None:
    run = InProcess()
    found = relax_set(crystals, run=run, time_box_seconds=0.0)
    assert set(found.column("status")) == {schema.STATUS_TIMEOUT}
    assert "not reproducible" in run.warnings[0]


# -- rows that never start ----------------------------------------------------------------------------------------


def test_rows_without_a_usable_crystal_keep_their_place(structures: dict[str, Any]) -> None:
    from pymatgen.core import Lattice, Structure

    flat = Structure(Lattice([[4, 0, 0], [0, 4, 0], [0, 0, 1e-4]]), ["Na"], [[0, 0, 0]])
    polonium = Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]])
    given = CrystalSet.from_structures(
        [None, flat, polonium, structures["Si"]], reasons=["bad string", None, None, None]
    )
    found = relax_set(given, run=InProcess())
    assert found.column("status") == ["failed", "failed", "failed", "ok"]
    reasons = found.column("reason")
    assert "bad string" in reasons[0]
    assert "flat" in reasons[1]
    assert "does not cover" in reasons[2]


def test_an_unknown_potential_is_named(crystals: CrystalSet) -> None:
    with pytest.raises(ImpossibleRequest, match="Did you mean 'chgnet'"):
        relax_set(crystals, potential="chgnett", run=InProcess())


# -- selection ------------------------------------------------------------------------------------------------------


def test_selection_says_by_which_rule(structures: dict[str, Any]) -> None:
    from pymatgen.core import Lattice, Structure

    overlap = Structure(Lattice.cubic(4.0), ["Na", "Cl"], [[0, 0, 0], [0.02, 0, 0]])
    odd = Structure(
        Lattice.cubic(4.0), ["Na", "Na", "Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    )
    huge = Structure(Lattice.cubic(9.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    given = CrystalSet.from_structures(
        [overlap, odd, huge, structures["NaCl"], structures["ZnS"], structures["SrTiO3"], structures["NaCl"]]
    )
    spec = SelectionSpec(n=2, max_per_formula=1)
    found = relax_set(given, selection=spec, run=InProcess())
    words = ["closer than", "SMACT", "A^3 per atom", None, None, None, "of the formula NaCl"]
    statuses = found.column("status")
    reasons = found.column("reason")
    for row, word in enumerate(words):
        if word is not None:
            assert statuses[row] == schema.STATUS_SKIPPED
            assert word in reasons[row]
    # by formation energy SrTiO3 < NaCl < ZnS, and two are taken
    assert statuses[3:6] == ["ok", "skipped", "ok"]
    assert "rank 4 by one-shot formation energy" in reasons[4]
    assert json.loads(found.metadata["selection"])["n"] == 2


def test_selection_may_ask_for_the_piezo_gate(structures: dict[str, Any]) -> None:
    given = CrystalSet.from_structures([structures["NaCl"], structures["ZnS"]])
    spec = SelectionSpec(not_centrosymmetric=True, energy_ranking=False)
    found = relax_set(given, selection=spec, run=InProcess())
    assert found.column("status") == ["skipped", "ok"]
    assert "Fm-3m forbids piezoelectricity" in found.column("reason")[0]


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="fmax"):
        RelaxSpec(fmax=0.0)
    with pytest.raises(ValueError, match="fire or lbfgs"):
        RelaxSpec(optimizer="newton")
    with pytest.raises(ValueError, match="symprec"):
        RelaxSpec(symprec=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        SelectionSpec(n=0)


# -- optimisers -----------------------------------------------------------------------------------------------------


def test_lbfgs_finds_the_minima_of_fire_in_fewer_steps(crystals: CrystalSet, relaxed: CrystalSet) -> None:
    found = relax_set(crystals, spec=RelaxSpec(optimizer="lbfgs"), run=InProcess())
    assert found.column("converged") == [True] * len(crystals)
    np.testing.assert_allclose(found.values("energy_per_atom"), relaxed.values("energy_per_atom"), atol=0.005)
    assert found.values("n_steps").sum() < 0.6 * relaxed.values("n_steps").sum()
    assert json.loads(found.metadata["relax_spec"])["optimizer"] == "lbfgs"
    assert "optimizer" not in json.loads(relaxed.metadata["relax_spec"])  # as sets made before there was a choice


def test_lbfgs_leaves_a_hill(chgnet: Any) -> None:
    """Where the energy is bent downwards there is no curvature to go by: it must still go down."""

    def hill(batch: CellBatch) -> dict[str, Any]:
        x = batch.positions[1, 0]  # energy -cos(2 pi x / 4), bent downwards between 1 and 3
        force = np.zeros_like(batch.positions)
        force[1, 0] = -np.pi / 2 * np.sin(np.pi * x / 2)
        return {"energies": np.array([-np.cos(np.pi * x / 2)]), "forces": force}

    start: Start = (np.eye(3) * 4.0, np.array([11, 17]), np.array([[0, 0, 0], [0.45, 0.5, 0.5]]))
    loaded: LoadedPotential = replace(chgnet, compute=Fake(hill))
    spec = RelaxSpec(optimizer="lbfgs", fmax=0.001, relax_cell=False, max_steps=60)
    (found,) = relax_many([start], loaded, spec, InProcess())
    assert found.converged
    assert found.energy_per_atom == pytest.approx(-0.5, abs=1e-5)


# -- symmetry kept --------------------------------------------------------------------------------------------------


def group(structure: Any, symprec: float = 1e-3) -> int:
    return symmetry(structure, symprec).number


@pytest.mark.parametrize("optimizer", ["fire", "lbfgs"])
def test_symmetry_is_kept_where_the_potential_would_leave_it(chgnet: Any, optimizer: str) -> None:
    """Cubic BaTiO3 with its atoms noisy: free, it leaves Pm-3m; fixed, it keeps it to the last digit."""
    from pymatgen.core import Lattice, Structure

    cubic = Structure(Lattice.cubic(4.05), ["Ba", "Ti", "O", "O", "O"],
                      [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])  # fmt: skip
    noise = np.random.default_rng(1).normal(0, 0.003, (5, 3))
    noisy = Structure(cubic.lattice, cubic.species, cubic.cart_coords + noise, coords_are_cartesian=True)
    given = CrystalSet.from_structures([noisy])
    spec = RelaxSpec(fmax=0.02, max_steps=60, optimizer=optimizer)
    fixed = relax_set(given, spec=replace(spec, fix_symmetry=True, symprec=0.02), run=InProcess())
    assert fixed.column("converged") == [True]
    assert group(fixed.structure(0), 1e-5) == 221
    free = relax_set(given, spec=spec, run=InProcess())
    assert group(free.structure(0)) != 221


def test_every_space_group_of_the_examples_is_kept(structures: dict[str, Any]) -> None:
    strained = [s.copy() for s in structures.values()]
    for s in strained:
        s.scale_lattice(s.volume * 1.1)  # symmetric, and far from the minimum
    given = CrystalSet.from_structures(strained)
    fixed = relax_set(given, spec=RelaxSpec(fix_symmetry=True), run=InProcess())
    free = relax_set(given, run=InProcess())
    assert [group(fixed.structure(r), 1e-5) for r in range(len(given))] == [group(s) for s in strained]
    np.testing.assert_allclose(fixed.values("energy_per_atom"), free.values("energy_per_atom"), atol=0.005)


def test_symmetric_forces_are_a_projection(structures: dict[str, Any]) -> None:
    """Twice is once, what is symmetric stays, and the work along a symmetric step is the same."""
    rng = np.random.default_rng(3)
    for structure in structures.values():
        start: Start = (structure.lattice.matrix, np.array(structure.atomic_numbers), structure.frac_coords)
        fixed, _ = FixedSymmetry.of(start, 0.01)
        one, other = (rng.normal(size=(len(structure) + 3, 3)) for _ in range(2))
        for total in (one, other):
            total[-3:] += total[-3:].T.copy()
        once = fixed.project(one)
        np.testing.assert_allclose(fixed.project(once), once, atol=1e-10)
        assert np.vdot(once, other) == pytest.approx(np.vdot(one, fixed.project(other)), abs=1e-9)


def test_a_crystal_without_findable_symmetry_fails_alone(structures: dict[str, Any]) -> None:
    from pymatgen.core import Lattice, Structure

    doubled = Structure(Lattice.cubic(4.0), ["Na", "Na", "Cl"], [[0, 0, 0], [0, 0, 0.0001], [0.5, 0.5, 0.5]])
    given = CrystalSet.from_structures([doubled, structures["NaCl"]])
    found = relax_set(given, spec=RelaxSpec(fix_symmetry=True), run=InProcess())
    assert found.column("status") == ["failed", "ok"]
    assert "symmetry cannot be kept" in found.column("reason")[0]
