"""Reference energies: one scheme, one method, a sentence for everything that must not be compared."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import EmptySet, EnergySchemeMismatch, ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import ReferenceSet
from crysgen_aiida.physics.assessment import assess_reference, with_assessment, wording
from crysgen_aiida.physics.reference import build_reference, e_above_reference
from crysgen_aiida.physics.relaxation import RelaxSpec, relax_set


def column(columns: dict[pa.Field, list[Any]], name: str) -> list[Any]:
    return next(values for field, values in columns.items() if field.name == name)


@pytest.fixture(scope="module")
def relaxed(structures: dict[str, Any]) -> CrystalSet:
    given = [structures["NaCl"], structures["ZnS"], structures["AlN"], None]
    return relax_set(CrystalSet.from_structures(given, reasons=[None, None, None, "no crystal"]), run=InProcess())


@pytest.fixture(scope="module")
def reference(relaxed: CrystalSet) -> ReferenceSet:
    return build_reference(relaxed, name="tiny", scheme="self-consistent", run=InProcess())


def test_elements_are_relaxed_with_the_same_potential(reference: ReferenceSet) -> None:
    formulas = set(reference.column("formula"))
    assert {"Na", "Cl", "Zn", "S", "Al", "N", "NaCl", "ZnS", "AlN"} <= formulas
    assert reference.method("energy_per_atom") == "chgnet-0.3.0"
    assert json.loads(reference.metadata["potential"])["checkpoint_sha256"]
    # stated for the gases, since a potential for solids is doubtful on molecules
    assert abs(json.loads(reference.metadata["elements_deviation"])["N"]) < 0.1
    entries = [r for r in reference.iter() if r["parent_input"] == "crystals"]
    assert [r["parent_row"] for r in entries] == [0, 1, 2]


def test_a_crystal_of_the_reference_is_on_or_above_its_hull(relaxed: CrystalSet, reference: ReferenceSet) -> None:
    columns = e_above_reference(relaxed, reference)
    above = column(columns, "e_above_reference")
    assert above[:3] == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert above[3] is None
    assert "no crystal" in column(columns, "reference_reason")[3]
    formation = column(columns, "formation_energy_per_atom")
    # PBE: NaCl -2.1, ZnS -0.9, AlN -1.4 to -1.6 eV/atom
    assert formation[:3] == pytest.approx([-2.1, -0.9, -1.5], abs=0.25)
    assert column(columns, "n_competing_phases")[:3] == [1, 1, 1]
    assert column(columns, "reference_coverage")[:3] == [1.0, 1.0, 1.0]
    assert column(columns, "reference") == ["tiny"] * 4


def test_without_oneself_the_elements_are_the_hull(relaxed: CrystalSet, reference: ReferenceSet) -> None:
    columns = e_above_reference(relaxed, reference, without_self=True)
    assert column(columns, "e_above_reference")[:3] == pytest.approx(column(columns, "formation_energy_per_atom")[:3])
    assert column(columns, "n_competing_phases")[:3] == [0, 0, 0]


def test_a_missing_terminal_is_said_for_the_row(relaxed: CrystalSet, reference: ReferenceSet) -> None:
    rows = [r for r, f in enumerate(reference.column("formula")) if f != "Cl"]
    columns = e_above_reference(relaxed, reference.take(rows))
    assert column(columns, "e_above_reference")[0] is None
    assert column(columns, "formation_energy_per_atom")[0] is None
    assert "no terminal for Cl" in column(columns, "reference_reason")[0]
    assert column(columns, "e_above_reference")[1] is not None


def test_another_method_is_refused(relaxed: CrystalSet, reference: ReferenceSet) -> None:
    other = relaxed.with_columns({property_field("energy_per_atom", "pbe-mp2020"): relaxed.column("energy_per_atom")})
    with pytest.raises(EnergySchemeMismatch, match="must not share a hull"):
        e_above_reference(other, reference)


def test_another_checkpoint_or_force_limit_is_refused(relaxed: CrystalSet, reference: ReferenceSet) -> None:
    record = {**json.loads(relaxed.metadata["potential"]), "checkpoint_sha256": "0" * 64}
    with pytest.raises(EnergySchemeMismatch, match="checkpoint of the potential"):
        e_above_reference(relaxed.with_metadata(potential=record), reference)
    looser = {**json.loads(relaxed.metadata["relax_spec"]), "fmax": 0.5}
    with pytest.raises(EnergySchemeMismatch, match="force limit"):
        e_above_reference(relaxed.with_metadata(relax_spec=looser), reference)
    longer = {**json.loads(relaxed.metadata["relax_spec"]), "max_steps": 500}
    e_above_reference(relaxed.with_metadata(relax_spec=longer), reference)  # decides nothing about an energy


def test_crystals_without_energies_are_refused(structures: dict[str, Any], reference: ReferenceSet) -> None:
    bare = CrystalSet.from_structures([structures["NaCl"]])
    with pytest.raises(EnergySchemeMismatch, match="does not have"):
        e_above_reference(bare, reference)
    with pytest.raises(EnergySchemeMismatch, match="relax the set first"):
        build_reference(bare, name="x", scheme="self-consistent", run=InProcess())
    with pytest.raises(ImpossibleRequest, match="no energy scheme"):
        build_reference(bare, name="x", scheme="pbe", run=InProcess())


def test_a_set_relaxed_by_another_checkpoint_makes_no_reference(relaxed: CrystalSet) -> None:
    record = {**json.loads(relaxed.metadata["potential"]), "checkpoint_sha256": "0" * 64}
    with pytest.raises(EnergySchemeMismatch, match="use the same one for the elements"):
        build_reference(relaxed.with_metadata(potential=record), name="x", scheme="self-consistent", run=InProcess())


def test_elements_follow_the_settings_of_the_set(structures: dict[str, Any]) -> None:
    fixed = relax_set(
        CrystalSet.from_structures([structures["NaCl"]]), spec=RelaxSpec(fmax=0.3, relax_cell=False), run=InProcess()
    )
    made = build_reference(fixed, name="x", scheme="self-consistent", run=InProcess())
    assert json.loads(made.metadata["relax_spec"])["relax_cell"] is False


# -- labels -----------------------------------------------------------------------------------------------------------


def labelled(structures: dict[str, Any], energies: list[float | None], method: str = "pbe-mp-legacy") -> CrystalSet:
    return CrystalSet.from_structures(
        [structures["NaCl"], structures["ZnS"], structures["AlN"]],
        columns={property_field("formation_energy_per_atom", method): energies},
    )


def test_labels_of_one_scale_make_a_reference_of_that_scale(structures: dict[str, Any]) -> None:
    crystals = labelled(structures, [-2.0, -0.9, None])
    made = build_reference(crystals, name="labels", scheme="mp-legacy")
    assert sorted(made.column("formula")) == ["Cl", "Na", "NaCl", "S", "Zn", "ZnS"]
    columns = e_above_reference(labelled(structures, [-1.9, -0.9, -1.5]), made)
    assert column(columns, "e_above_reference")[:2] == pytest.approx([0.1, 0.0])
    assert "no terminal for Al, N" in column(columns, "reference_reason")[2]
    with pytest.raises(EnergySchemeMismatch, match="pbe-mp2020"):
        e_above_reference(labelled(structures, [-1.9, -0.9, -1.5], "pbe-mp2020"), made)
    with pytest.raises(EnergySchemeMismatch, match="needs formation_energy_per_atom by pbe-mp2020"):
        build_reference(crystals, name="x", scheme="mp2020-compatible")
    with pytest.raises(EmptySet, match="nothing to refer to"):
        build_reference(labelled(structures, [None, None, None]), name="x", scheme="mp-legacy")


def test_a_potential_on_the_2020_scale_may_meet_its_labels(relaxed: CrystalSet, structures: dict[str, Any]) -> None:
    table = pa.table({"formula": ["Na", "Cl", "NaCl"], "source": ["mp"] * 3})
    field = property_field("energy_per_atom", "pbe-mp2020")
    made = ReferenceSet(
        table.append_column(field, [[-1.3, -1.8, -3.6]]),
        {"name": "mp", "scheme": "mp2020-compatible", "method": "pbe-mp2020"},
    )
    assert column(e_above_reference(relaxed, made), "e_above_reference")[0] is not None
    record = {**json.loads(relaxed.metadata["potential"]), "schemes": ["self-consistent"]}
    with pytest.raises(EnergySchemeMismatch, match="does not declare it"):
        e_above_reference(relaxed.with_metadata(potential=record), made)


# -- may it say stable? -----------------------------------------------------------------------------------------------


def test_a_reference_is_a_lower_bound_until_it_has_passed(structures: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    formulas = [f"Na{a}Cl{b}" for a in range(1, 26) for b in range(1, 26)]
    labels = rng.uniform(0.006, 0.1, len(formulas))
    x = np.array([a / (a + b) for a in range(1, 26) for b in range(1, 26)])
    labels[x == 0.5] = 0.05  # nearer ones would be taken for the entry itself, and left out
    energies = -2 * np.minimum(x, 1 - x) + labels  # hull: Na, Cl and NaCl at -1
    table = pa.table({"formula": ["Na", "Cl", "NaCl"], "source": ["x"] * 3})
    made = ReferenceSet(
        table.append_column(property_field("energy_per_atom", "pbe-mp-legacy"), [[0.0, 0.0, -1.0]]),
        {"name": "x", "scheme": "mp-legacy", "method": "pbe-mp-legacy", "energy_zero": "elements"},
    )
    assert wording(made) == "lower bound"
    good = assess_reference(made, formulas, energies, labels)
    assert good.passed
    assert good.within == 1.0
    assert good.mae == pytest.approx(0.0, abs=1e-6)
    assert wording(with_assessment(made, good)) == "energy above hull"
    few = assess_reference(made, formulas[:100], energies[:100], labels[:100])
    assert few.within == 1.0
    assert not few.passed
    assert wording(with_assessment(made, few)) == "lower bound"
    biased = assess_reference(made, formulas[::6], energies[::6] - 0.03, labels[::6])
    assert biased.bias == pytest.approx(-0.03, abs=1e-6)
    assert not biased.passed
    with pytest.raises(EmptySet, match="above 5 meV"):
        assess_reference(made, ["NaCl"], [-1.0], [0.0])
