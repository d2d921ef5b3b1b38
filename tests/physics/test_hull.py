"""Hulls: the linear programme is pymatgen's phase diagram; what is missing is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.physics.hull import Hull, formation_energy, fractions, same_composition, system_of

FORMULAS = ["Li", "Fe", "O", "P", "Li2O", "FeO", "Fe2O3", "P2O5", "LiFeO2", "Li3PO4", "FePO4", "LiFePO4", "Fe3P"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_equal_to_the_phase_diagram_on_a_complete_set(seed: int) -> None:
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    rng = np.random.default_rng(seed)
    energies = [-rng.uniform(2, 8) if len(system_of(f)) == 1 else -rng.uniform(3, 9) for f in FORMULAS]
    entries = [PDEntry(Composition(f), e * Composition(f).num_atoms) for f, e in zip(FORMULAS, energies, strict=True)]
    diagram = PhaseDiagram(entries)
    hull = Hull(FORMULAS, energies)
    for formula in ["LiFePO4", "Li5Fe2P3O11", "LiFe", "O", "Fe2O3"]:
        wanted = diagram.get_hull_energy_per_atom(Composition(formula))
        point = hull.at(formula)
        assert point.energy == pytest.approx(wanted, abs=1e-6)
        assert point.coverage <= 1.0
    entry = entries[FORMULAS.index("Fe2O3")]
    own = energies[FORMULAS.index("Fe2O3")]
    assert own - hull.at("Fe2O3").energy == pytest.approx(diagram.get_e_above_hull(entry), abs=1e-6)


def test_competing_phases_and_coverage_are_those_of_the_system() -> None:
    point = Hull(["Na", "Cl", "K", "NaCl", "NaCl3", "KCl"], [-1, -2, -1, -3.5, -2.5, -3.0]).at("NaCl")
    assert point.n_competing == 2
    assert point.coverage == 1.0
    sparse = Hull(["Na", "Cl", "K"], [-1, -2, -1]).at("NaKCl2")
    assert sparse.n_competing == 0
    assert sparse.coverage == pytest.approx(3 / 7)


def test_a_missing_terminal_gives_no_energy() -> None:
    point = Hull(["Na", "NaCl"], [-1.0, -3.0]).at("NaCl")
    assert point.energy is None
    assert point.missing == ("Cl",)


def test_leaving_oneself_out_uses_the_rest() -> None:
    hull = Hull(["Na", "Cl", "NaCl", "NaCl"], [-1.0, -2.0, -3.5, -3.4])
    assert hull.at("NaCl").energy == pytest.approx(-3.5)
    assert hull.at("NaCl", without=-3.5).energy == pytest.approx(-3.4)
    alone = Hull(["Na", "Cl", "NaCl"], [-1.0, -2.0, -3.5]).at("Na2Cl2", without=-3.5)
    assert alone.energy == pytest.approx(-1.5)
    assert alone.n_competing == 0
    # somebody else's energy removes nothing
    assert hull.at("NaCl", without=-3.0).energy == pytest.approx(-3.5)


def test_nan_entries_are_no_entries() -> None:
    assert Hull(["Na", "Cl", "NaCl"], [-1.0, -2.0, float("nan")]).at("NaCl").energy == pytest.approx(-1.5)


def test_formulas_are_read_as_pymatgen_reads_them() -> None:
    from pymatgen.core import Composition

    for formula in ["Al2 O3", "Ca3(PO4)2", "H2O", "Li0.5CoO2", "Fe2 O3"]:
        wanted = Composition(formula).fractional_composition
        for symbol, x in fractions(formula):
            assert wanted[symbol] == pytest.approx(x)
    assert same_composition("Al4O6", "Al2 O3")
    assert not same_composition("AlO", "Al2O3")


def test_formation_energy_is_against_the_terminals() -> None:
    assert formation_energy("NaCl", -3.5, {"Na": -1.0, "Cl": -2.0}) == pytest.approx(-2.0)
    assert formation_energy("NaCl", -3.5, {"Na": -1.0}) is None


@st.composite
def complete_systems(draw: st.DrawFn) -> tuple[list[str], list[float]]:
    """Entries of 2 to 5 elements, every element among them, energies without ties."""
    elements = draw(st.permutations(["Li", "Fe", "O", "P", "Si", "Na"]))[: draw(st.integers(2, 5))]
    counts = st.lists(st.integers(0, 4), min_size=len(elements), max_size=len(elements)).filter(any)
    mixed = draw(st.lists(counts, min_size=1, max_size=25))
    formulas = elements + ["".join(f"{e}{n}" for e, n in zip(elements, m, strict=True) if n) for m in mixed]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return formulas, rng.uniform(-9, -2, len(formulas)).tolist()


@settings(max_examples=60, deadline=None)
@given(complete_systems(), st.integers(0, 2**32 - 1))
def test_energies_and_decompositions_are_those_of_the_phase_diagram(
    system: tuple[list[str], list[float]], seed: int
) -> None:
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    formulas, energies = system
    entries = [PDEntry(Composition(f), e * Composition(f).num_atoms) for f, e in zip(formulas, energies, strict=True)]
    diagram, hull = PhaseDiagram(entries), Hull(formulas, energies)
    for formula, energy, entry in zip(formulas, energies, entries, strict=True):
        assert energy - hull.at(formula).energy == pytest.approx(diagram.get_e_above_hull(entry), abs=1e-6)
    elements = sorted({s for f in formulas for s in system_of(f)})
    amounts = np.random.default_rng(seed).integers(1, 9, len(elements))
    asked = "".join(f"{e}{n}" for e, n in zip(elements, amounts, strict=True))
    point = hull.at(asked)
    assert point.energy == pytest.approx(diagram.get_hull_energy_per_atom(Composition(asked)), abs=1e-6)
    wanted = {e.composition.reduced_formula: x for e, x in diagram.get_decomposition(Composition(asked)).items()}
    found = {Composition(f).reduced_formula: x for f, x in point.decomposition}
    assert {k: v for k, v in found.items() if v > 1e-6} == pytest.approx(
        {k: v for k, v in wanted.items() if v > 1e-6}, abs=1e-5
    )
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-6)


def test_a_decomposition_says_which_entries() -> None:
    hull = Hull(["Na", "Cl", "NaCl", "NaCl"], [-1.0, -2.0, -3.5, -3.4])
    assert hull.at("Na3Cl").decomposition == (("Na", pytest.approx(0.5)), ("NaCl", pytest.approx(0.5)))
    assert hull.at("NaCl").decomposition == (("NaCl", pytest.approx(1.0)),)
    assert dict(hull.at("Cl").decomposition) == {"Cl": 1.0}
    alone = Hull(["Na", "Cl", "NaCl"], [-1.0, -2.0, -3.5]).at("NaCl", without=-3.5)
    assert dict(alone.decomposition) == pytest.approx({"Na": 0.5, "Cl": 0.5})


def test_of_several_entries_the_one_nearest_in_energy_is_left_out() -> None:
    hull = Hull(["Na", "Cl", "NaCl", "NaCl"], [-1.0, -2.0, -3.506, -3.5])
    assert hull.at("NaCl", without=-3.5, tolerance=0.01).energy == pytest.approx(-3.506)


def test_incomplete_systems_are_known_by_their_entries_alone() -> None:
    elements = ["Na", "K", "Cl", "O"]

    def incomplete(formulas: list[str], asked: str, without: float | None = None) -> str | None:
        verdicts = {
            Hull(formulas, [0.1 * sign * k for k in range(len(formulas))]).at(asked, without=without and sign * without)
            .incomplete
            for sign in (-1, 1)
        }  # fmt: skip
        assert len(verdicts) == 1  # energies do not matter
        return verdicts.pop()

    assert incomplete(["Na", "NaCl"], "NaCl") == "no entry for Cl"
    assert incomplete(elements, "NaCl") == "no compound competes"
    assert incomplete([*elements, "NaCl"], "Na3Cl") is None
    assert incomplete([*elements, "NaCl"], "NaCl", without=0.4) == "no compound competes"
    assert incomplete([*elements, "NaCl", "NaCl3"], "NaCl", without=0.4) is None
    assert incomplete([*elements, "NaCl"], "NaKCl2") is None  # 4 of 7
    assert incomplete([*elements, "NaCl"], "NaKCl3O") == "33 % of the sub-systems have an entry"  # 5 of 15
    assert incomplete(elements, "Na") is None


def test_leaving_the_last_compound_out_empties_its_system() -> None:
    hull = Hull(["Na", "Cl", "NaCl"], [-1.0, -2.0, -3.5])
    assert hull.at("NaCl").coverage == 1.0
    assert hull.at("NaCl", without=-3.5).coverage == pytest.approx(2 / 3)
    assert Hull(["Na"], [-1.0]).at("Na", without=-1.0).energy is None
