"""Element substitution: neutral, deterministic, with its parent, behind the contract."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Species, Structure

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import CorruptWeights, EmptySet, ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess, keyed_rng
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import SequenceSet
from crysgen_aiida.generators.contract import get_generator
from crysgen_aiida.generators.substitution.generator import Substitution
from crysgen_aiida.generators.substitution.info import INFO
from crysgen_aiida.generators.substitution.proposals import propose, replacements
from crysgen_aiida.generators.substitution.prototypes import Choice, Prototype, exchanged, oxidation_states
from crysgen_aiida.generators.substitution.spec import SamplingSpec
from crysgen_aiida.physics.charge import ChargeRule, charge_neutral

SPEC = INFO.make_spec({})


def cell(group: str, lattice: Lattice, species: list[str], coords: list[list[float]]) -> Structure:
    return Structure.from_spacegroup(group, lattice, species, coords).get_primitive_structure()


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    aln = cell("P6_3mc", Lattice.hexagonal(3.13, 5.02), ["Al", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]])
    zns = cell("F-43m", Lattice.cubic(5.45), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    sto = cell("Pm-3m", Lattice.cubic(3.95), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]])
    copper = cell("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    labels = {property_field("piezo_max", "dfpt"): [1.5, 0.2, float("nan"), float("nan"), 9.0]}
    return CrystalSet.from_structures([aln, zns, sto, copper, aln], columns=labels)


@pytest.fixture(scope="module")
def training_set(crystals: CrystalSet) -> SequenceSet:
    return Substitution().prepare(crystals, SPEC, seed=0, run=InProcess())


@pytest.fixture(scope="module")
def checkpoint(training_set: SequenceSet) -> Path:
    return Substitution().train(training_set, SPEC, seed=0, run=InProcess())


def test_it_is_registered_and_its_checkpoint_is_one(checkpoint: Path) -> None:
    from crysgen_aiida.data.generator import describe, read_folder

    assert get_generator("substitution") is INFO
    held = describe(read_folder(checkpoint))
    assert (held["generator"], held["conditions"]) == ("substitution", ["piezo_max"])


def test_what_has_no_oxidation_states_is_no_prototype(training_set: SequenceSet) -> None:
    assert training_set.column("status") == ["ok", "ok", "ok", "failed", "ok"]
    assert training_set.column("reason")[3] == "no whole oxidation states, one an element, make Cu neutral"
    with pytest.raises(EmptySet, match="None of the 1 crystals"):
        Substitution().prepare(CrystalSet.from_structures([None], reasons=["cut"]), SPEC, seed=0, run=InProcess())
    assert oxidation_states("Fe3O4") is None, "two states of one element"
    assert oxidation_states("SrTiO3") == {"Sr": 2, "Ti": 4, "O": -2}


def test_every_proposal_decodes_names_its_parent_and_is_neutral(checkpoint: Path, crystals: CrystalSet) -> None:
    drawn = Substitution().sample(checkpoint, 40, {}, SPEC, seed=3, run=InProcess())
    decoded = Substitution().decode(drawn, SPEC, seed=3, run=InProcess())
    assert drawn.ok.all()
    assert decoded.ok.all()
    for row, record in enumerate(drawn.iter()):
        parent = crystals.structure(record["prototype_row"])
        made = decoded.structure(row)
        formula = made.composition.reduced_formula
        assert formula != parent.composition.reduced_formula
        assert charge_neutral(formula, ChargeRule(alloys=False, elements=False))
        np.testing.assert_allclose(made.frac_coords, parent.frac_coords, atol=1e-12)
        assert 0.3 < made.volume / parent.volume < 4
        assert " > " in record["swap"]


def test_batches_and_seeds(checkpoint: Path) -> None:
    many = Substitution().sample(checkpoint, 20, {}, SPEC, seed=3, run=InProcess()).column("sequence")
    few = Substitution().sample(checkpoint, 5, {}, SPEC, seed=3, run=InProcess()).column("sequence")
    assert many[:5] == few
    assert many != Substitution().sample(checkpoint, 20, {}, SPEC, seed=4, run=InProcess()).column("sequence")


def test_targets_choose_the_prototypes(checkpoint: Path) -> None:
    near = INFO.make_spec({"sampling": {"bandwidth": 0.05}})
    drawn = Substitution().sample(checkpoint, 12, {"piezo_max": [0.2, 9.0]}, near, seed=1, run=InProcess())
    assert drawn.column("prototype_row") == [1, 4] * 6
    assert drawn.values("target.piezo_max").tolist() == [0.2, 9.0] * 6
    with pytest.raises(ImpossibleRequest, match="no number"):
        Substitution().sample(checkpoint, 1, {"piezo_max": "much"}, SPEC, seed=1, run=InProcess())


def test_the_volume_follows_the_radii() -> None:
    prototype = Prototype((5.0, 0, 0, 0, 5.0, 0, 0, 0, 5.0), (11, 17), (0, 0, 0, 0.5, 0.5, 0.5), {"Na": 1, "Cl": -1})
    made = exchanged(prototype, {"Na": ("Cs", 1)})
    radii = {ion: float(Species(*ion).ionic_radius) for ion in (("Na", 1), ("Cs", 1), ("Cl", -1))}
    ratio = (radii["Cs", 1] + radii["Cl", -1]) / (radii["Na", 1] + radii["Cl", -1])
    assert made.volume == pytest.approx(125.0 * ratio**3)
    assert Prototype.from_text(prototype.to_text({"Na": ("Cs", 1)})) == (prototype, {"Na": ("Cs", 1)})


def test_odds_are_those_of_the_published_table() -> None:
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability

    table = SubstitutionProbability()
    new, odds = replacements(("Al", 3), 1e-3, 83)
    raw = np.array([table.cond_prob(Species(*ion), Species("Al", 3)) for ion in new])
    np.testing.assert_allclose(odds, raw / raw.sum())
    assert (np.diff(odds) <= 0).all()
    assert raw.min() >= 1e-3
    assert ("Ga", 3) in new
    assert replacements(("Al", 7), 1e-3, 83)[0] == (("Al", 7),), "an ion that is not in the table keeps its place"


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(["SrTiO3", "LiNbO3", "AlN", "NaCl", "KH2PO4"]))
def test_proposals_are_neutral_with_the_states_drawn(row: int, formula: str) -> None:
    from pymatgen.core import Composition

    charges = oxidation_states(formula)
    assert charges is not None
    numbers = tuple(e.Z for e, n in Composition(formula).items() for _ in range(int(n)))
    prototype = Prototype((9.0, 0, 0, 0, 9.0, 0, 0, 0, 9.0), numbers, (0.0,) * (3 * len(numbers)), charges)
    swap = propose(prototype, SamplingSpec(), keyed_rng(1, "sample", row))
    assert swap
    ions = {symbol: swap.get(symbol, (symbol, charge)) for symbol, charge in charges.items()}
    assert sum(ions[symbol][1] * count for symbol, count in prototype.counts.items()) == 0
    assert len({element for element, _ in ions.values()}) == len(ions)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.one_of(st.floats(0, 50), st.just(float("nan"))), min_size=1, max_size=12).filter(
        lambda v: np.isfinite(v).any()
    ),
    st.floats(0, 60),
)
def test_nearer_prototypes_weigh_more_and_unlabelled_ones_nothing(values: list[float], target: float) -> None:
    held = np.array(values)
    weights = Choice({"piezo_max": held}, ["piezo_max"], 1.0, len(held)).weights({"piezo_max": target})
    assert weights.sum() == pytest.approx(1.0)
    assert (weights[np.isnan(held)] == 0).all()
    order = np.argsort(np.abs(np.log1p(held) - np.log1p(target)))[: np.isfinite(held).sum()]
    assert (np.diff(weights[order]) <= 1e-12).all()


def test_a_damaged_table_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "vocabulary.json").write_text(json.dumps({"formulas": []}))
    with pytest.raises(CorruptWeights, match="table of prototypes"):
        Substitution().sample(tmp_path, 1, {}, SPEC, seed=1, run=InProcess())
    with pytest.raises(ImpossibleRequest, match="cannot start from"):
        Substitution().train(SequenceSet.read, SPEC, seed=1, run=InProcess(), start_from=checkpoint)  # type: ignore[arg-type]
