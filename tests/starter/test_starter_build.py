"""The rules of the build, on crystals small enough to see through, without a network."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from build_starter_set import build
from near_hull import build_near_hull
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Lattice, Structure
from scipy.optimize import linprog
from starter_sources import Entry

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.table import ReferenceSet

#: Zinc blende, C/m^2: e14 = e25 = e36.
TENSOR = [0.0, 0.0, 0.0, -0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.2]
_FACES = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def rocksalt(a: float = 5.69) -> Structure:
    return Structure(Lattice.cubic(a), ["Na"] * 4 + ["Cl"] * 4, np.vstack([_FACES, _FACES + 0.5]) % 1)


def zincblende(a: float = 5.65) -> Structure:
    return Structure(Lattice.cubic(a), ["Ga"] * 4 + ["As"] * 4, np.vstack([_FACES, _FACES + 0.25]) % 1)


def entries() -> list[Entry]:
    gallium, salt = zincblende(), rocksalt()
    clash = Structure(Lattice.cubic(4), ["H", "H"], [[0, 0, 0], [0.01, 0, 0]])
    return [
        Entry("mp-20", "piezoelectric_tensor", gallium, {"piezo_tensor": TENSOR}),
        Entry("mp-20", "dielectric_constant", gallium * (1, 1, 2), {"band_gap": 0.2, "dielectric_total": 13.0}),
        Entry("mp-20", "elastic_tensor", salt, {"bulk_modulus_vrh": 1.0}),
        Entry("mp-3", "piezoelectric_tensor", salt, {"piezo_tensor": [value * 200 for value in TENSOR]}),
        Entry("mp-3", "dielectric_constant", salt, {"dielectric_total": 5.0, "dielectric_electronic": 2.4}),
        Entry("mp-3", "flla_2015", salt, {"formation_energy_per_atom": -2.0, "e_above_hull": 0.0}),
        # the same crystal under another id: its modulus is taken, its energy is not
        Entry("mp-1", "elastic_tensor", rocksalt(5.7), {"bulk_modulus_vrh": 24.0, "shear_modulus_vrh": 15.0}),
        Entry("mp-8", "flla_2015", clash, {"formation_energy_per_atom": 1.0}),
        Entry("mp-9", "flla_2015", None, {}, "unreadable structure (ValueError)"),
    ]


LABELS = {
    "mp-20": {"formation_energy_per_atom": -0.4, "band_gap": 0.19},
    "mp-3": {"formation_energy_per_atom": -1.5, "band_gap": 5.0},
    "mp-1": {"formation_energy_per_atom": -1.9, "band_gap": 5.1},
}


@pytest.fixture(scope="module")
def built() -> tuple[CrystalSet, dict[str, Any]]:
    return build(entries(), LABELS)


def test_the_same_entries_give_the_same_hash_in_any_order(built: tuple[CrystalSet, dict[str, Any]]) -> None:
    for seed in range(3):
        shuffled = entries()
        random.Random(seed).shuffle(shuffled)
        again, log = build(shuffled, LABELS)
        assert again.content_hash == built[0].content_hash
        assert log["rejected"] == built[1]["rejected"]


def test_rows_are_merged_by_the_stated_rules(built: tuple[CrystalSet, dict[str, Any]]) -> None:
    crystals, log = built
    assert crystals.column("material_id") == ["mp-3", "mp-20"]
    assert crystals.column("merged_ids") == ["mp-1", None]
    assert crystals.column("n_atoms") == [2, 2]
    assert crystals.column("bulk_modulus_vrh") == [24.0, None]
    assert crystals.column("dielectric_total") == [5.0, 13.0]
    assert log["merged_away"] == 1
    assert crystals.column("source") == [
        "piezoelectric_tensor,dielectric_constant,flla_2015,elastic_tensor",
        "piezoelectric_tensor,dielectric_constant,megnet_2018",
    ]


def test_conflicting_energies_keep_the_data_sets_own(built: tuple[CrystalSet, dict[str, Any]]) -> None:
    crystals, _ = built
    assert crystals.column("formation_energy_per_atom") == [-2.0, -0.4]
    assert crystals.column("band_gap") == [None, 0.19]


def test_artefacts_are_flagged_and_kept(built: tuple[CrystalSet, dict[str, Any]]) -> None:
    crystals, _ = built
    assert crystals.column("piezo_max") == [40.0, 0.2]
    assert crystals.column("flags") == ["label_conflict,piezo_above_20,piezo_forbidden", None]


def test_rejects_are_counted_with_reasons(built: tuple[CrystalSet, dict[str, Any]]) -> None:
    assert built[1]["rejected"] == {
        "elastic_tensor: crystal differs from that of piezoelectric_tensor": 1,
        "flla_2015: two atoms closer than 0.5 A": 1,
        "flla_2015: unreadable structure (ValueError)": 1,
    }


def random_entries(seed: int, n: int = 40) -> list[tuple[str, float]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        amounts = rng.integers(0, 4, size=4)
        if amounts.sum():
            formula = "".join(f"{e}{k}" for e, k in zip(("Li", "Mg", "Ti", "O"), amounts, strict=True) if k)
            found.append((formula, float(rng.uniform(-2, 0.3))))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_near_hull_equals_pymatgen_on_random_systems(seed: int) -> None:
    given = random_entries(seed)
    table, _ = build_near_hull(given)
    compounds = [(f, e) for f, e in given if len(Composition(f)) > 1]
    present = sorted({str(el) for f, _ in given for el in Composition(f)})
    pd_entries = [PDEntry(Composition(f), round(e, 5) * Composition(f).num_atoms) for f, e in compounds]
    diagram = PhaseDiagram(pd_entries + [PDEntry(Composition(el), 0.0) for el in present])
    lowest: dict[str, PDEntry] = {}
    for entry in pd_entries:
        name = entry.composition.reduced_formula
        if name not in lowest or entry.energy_per_atom < lowest[name].energy_per_atom:
            lowest[name] = entry
    expected = {name: diagram.get_e_above_hull(e) for name, e in lowest.items()}
    kept = dict(zip(table.column("formula"), table.column("e_above_hull"), strict=True))
    kept = {Composition(f).reduced_formula: e for f, e in kept.items() if len(Composition(f)) > 1}
    assert set(kept) == {name for name, e in expected.items() if e is not None and e <= 0.025}
    for name, above in kept.items():
        assert above == pytest.approx(expected[name], abs=1e-4)


def test_near_hull_is_small_and_its_hash_is_the_recorded_one(
    near_hull: ReferenceSet, build_log: dict[str, Any]
) -> None:
    log = build_log["near_hull.parquet"]
    assert near_hull.content_hash == log["content_hash"]
    assert len(near_hull) == log["rows"]
    assert near_hull.metadata["scheme"] == "mp-legacy"
    assert near_hull.method("energy_per_atom") == "pbe-mp-legacy"
    assert max(near_hull.column("e_above_hull")) <= 0.025
    formulas = near_hull.column("formula")
    assert len(set(formulas)) == len(formulas)


def test_near_hull_has_every_terminal_at_zero(near_hull: ReferenceSet) -> None:
    energies = dict(zip(near_hull.column("formula"), near_hull.column("energy_per_atom"), strict=True))
    elements = {el.symbol for f in energies for el in Composition(f)}
    assert len(elements) == 84
    assert all(energies[symbol] == 0.0 for symbol in elements)


def test_near_hull_reproduces_the_labels_of_the_starter_set(starter: CrystalSet, near_hull: ReferenceSet) -> None:
    compositions = [Composition(f).fractional_composition for f in near_hull.column("formula")]
    symbols = [{el.symbol for el in c} for c in compositions]
    energies = near_hull.values("energy_per_atom")
    labels, formation = starter.values("e_above_hull"), starter.values("formation_energy_per_atom")
    both = np.flatnonzero(np.isfinite(labels) & np.isfinite(formation))
    errors = []
    for row in both[:: len(both) // 120]:
        composition = Composition(starter.column("reduced_formula")[row]).fractional_composition
        system = sorted(el.symbol for el in composition)
        rivals = [i for i, held in enumerate(symbols) if held <= set(system)]
        matrix = [[compositions[i][el] for i in rivals] for el in system]
        solved = linprog(energies[rivals], A_eq=matrix, b_eq=[composition[el] for el in system], method="highs")
        if solved.fun is not None:  # no terminal, no statement
            errors.append(abs(formation[row] - solved.fun - labels[row]))
    assert len(errors) >= 100
    assert np.mean(np.array(errors) <= 0.01) >= 0.8
