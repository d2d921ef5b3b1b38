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
