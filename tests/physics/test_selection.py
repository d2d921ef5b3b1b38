"""The gates before a relaxation: each in its place, each with its reason, none changing what passes."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.physics.relaxation import RelaxSpec, relax_set
from crysgen_aiida.physics.selection import GATES, SelectionSpec, select_rows

SPEC = {"n": None, "max_per_formula": None, "energy_ranking": False, "not_centrosymmetric": True}


@pytest.fixture(scope="module")
def given(structures: dict[str, Any]) -> CrystalSet:
    """Rock salt, zinc blende twice, copper, a crystal whose atoms overlap, and a row without one."""
    squeezed = structures["ZnS"].copy()
    squeezed.scale_lattice(squeezed.volume * 0.03)
    held = [structures["NaCl"], structures["ZnS"], structures["AlN"], structures["Cu"], squeezed, None]
    return CrystalSet.from_structures(held, reasons=[None] * 5 + ["cut short"])


def test_the_order_changes_where_a_crystal_is_counted_and_never_whether_it_passes(
    given: CrystalSet, chgnet: Any
) -> None:
    passing = set()
    for order in permutations(("structure", "composition", "symmetry")):
        found = select_rows(given, SelectionSpec(**SPEC, order=order), chgnet, InProcess())
        passing.add(tuple(refusal is None for refusal in found))
        # copper is neither neutral by our rule nor without a centre: the first gate that asks stops it
        assert found[3].gate == next(g for g in order if g in ("composition", "symmetry"))
        assert found[4].gate == "structure"
        assert found[5].gate is None
    assert passing == {(False, True, True, False, False, False)}


def test_known_formulas_and_known_structures_are_gates_of_their_own(
    given: CrystalSet, structures: dict[str, Any], chgnet: Any
) -> None:
    wurtzite = structures["AlN"].copy()
    wurtzite.replace_species({"Al": "Zn", "N": "S"})
    wurtzite.scale_lattice(wurtzite.volume * 1.9)
    known = {"mine": CrystalSet.from_structures([wurtzite, structures["AlN"]])}
    by_formula = select_rows(given, SelectionSpec(**SPEC, new_formula=True), chgnet, InProcess(), known)
    assert [by_formula[row].gate for row in (1, 2)] == ["new_formula"] * 2
    assert by_formula[1].reason == "not chosen: the known set 'mine' has the formula ZnS"
    listed = {"listed": frozenset(["AlN"])}
    by_list = select_rows(given, SelectionSpec(**SPEC, new_formula=True), chgnet, InProcess(), None, listed)
    assert [by_list[row] is None for row in (1, 2)] == [True, False]
    by_structure = select_rows(given, SelectionSpec(**SPEC, new_structure=True), chgnet, InProcess(), known)
    assert by_structure[1] is None, "zinc blende is not wurtzite"
    assert by_structure[2].reason == "not chosen: the same structure as row 1 of the known set 'mine'"
    with pytest.raises(ImpossibleRequest, match="at least one known set"):
        select_rows(given, SelectionSpec(new_formula=True), chgnet, InProcess())


def test_the_relaxed_set_says_which_gate_stopped_a_row(given: CrystalSet) -> None:
    spec = SelectionSpec(**{**SPEC, "n": 1}, order=("symmetry",))
    found = relax_set(given, spec=RelaxSpec(max_steps=0), selection=spec, run=InProcess())
    assert found.column("gate") == ["symmetry", None, "choice", "symmetry", "structure", None]
    assert json.loads(found.metadata["selection"])["gates"] == ["symmetry", "structure", "elements", "composition"]


def test_a_gate_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no gate 'beauty'"):
        SelectionSpec(order=("beauty",))
    assert SelectionSpec().gates == ("structure", "elements", "composition")
    assert SelectionSpec(new_formula=True, new_structure=True, not_centrosymmetric=True).gates == GATES
