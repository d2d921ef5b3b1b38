"""References from tables and from entries: one scale, every row kept with what became of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from crysgen_aiida.crystals.errors import BadInput, EmptySet, EnergySchemeMismatch, ImpossibleRequest, NotInstalled
from crysgen_aiida.physics.assessment import assess_reference
from crysgen_aiida.physics.hull import Hull
from crysgen_aiida.physics.materials_project import KEY, elements_of, entries_reference, fetch_entries
from crysgen_aiida.physics.reference import Reference, reduced_formulas
from crysgen_aiida.physics.reference_tables import TOTAL, Columns, EnergyTable, read_energies, table_reference

CSV = """material_id,pretty_formula,formation_energy_per_atom,e_above_hull
mp-1,NaCl,-2.0,0.0
mp-2,NaCl,-1.9,0.1
mp-3,Na,0.03,0.03
mp-1,NaCl,-2.0,0.0
mp-4,Qx2O,-1.0,0.0
mp-5,NaCl3,,0.2
mp-6,Na3Cl,-0.9,0.1
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "table.csv"
    made.write_text(CSV)
    return made


def test_rows_that_are_no_entries_say_why(path: Path) -> None:
    made = table_reference(read_energies(path), name="t", scheme="mp-legacy", about={"source": "here"})
    assert made.column("status")[:7] == ["ok", "ok", *["skipped"] * 4, "ok"]
    reasons = made.column("reason")
    for row, words in ((2, "zero by definition"), (3, "same id"), (4, "'Qx2O' cannot be read"), (5, "no energy")):
        assert words in reasons[row]
    assert made.metadata["source"] == "here"
    against = Reference(made)
    assert against.method == "pbe-mp-legacy"
    assert against.terminals == {"Na": 0.0, "Cl": 0.0}
    assert against.hull.at("NaCl").energy == pytest.approx(-2.0)
    assert reduced_formulas(made) == {"NaCl", "Na3Cl", "Na", "Cl2"}


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl", "parquet"])
def test_formats_say_the_same(path: Path, tmp_path: Path, ending: str) -> None:
    import pandas as pd

    frame, other = pd.read_csv(path), tmp_path / f"table.{ending}"
    if ending == "parquet":
        frame.to_parquet(other)
    elif ending == "jsonl":
        frame.to_json(other, orient="records", lines=True)
    else:
        frame.to_csv(other, index=False)
    one, two = (read_energies(p, Columns(hull="e_above_hull")) for p in (path, other))
    assert (one.formulas, one.ids) == (two.formulas, two.ids)
    np.testing.assert_equal(one.energies, two.energies)
    np.testing.assert_equal(one.labels, two.labels)


def test_what_cannot_be_read_is_said(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ImpossibleRequest, match=r"no column 'e'; it has material_id.*--energy-column"):
        read_energies(path, Columns(energy="e"))
    with pytest.raises(ImpossibleRequest, match="no column with the total energy"):
        read_energies(path, kind=TOTAL)
    with pytest.raises(BadInput, match="no file"):
        read_energies(tmp_path / "absent.csv")
    with pytest.raises(BadInput, match="no table that is understood"):
        read_energies(tmp_path / "table.xlsx")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(BadInput, match="cannot be read as a table"):
        read_energies(tmp_path / "cut.parquet")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(BadInput, match="cannot be read as a table"):
        read_energies(tmp_path / "empty.csv")
    with pytest.raises(EnergySchemeMismatch, match="relax a data set"):
        table_reference(read_energies(path), name="t", scheme="self-consistent")
    nothing = EnergyTable(["NaCl"], np.array([np.nan]), ["x"], np.array([np.nan]))
    with pytest.raises(EmptySet, match="it has no energy"):
        table_reference(nothing, name="t", scheme="mp-legacy")


def test_total_energies_bring_their_elements() -> None:
    table = EnergyTable(["Na", "NaCl"], np.array([-1.3, -3.4]), ["a", "b"], np.full(2, np.nan))
    made = table_reference(table, name="t", scheme="mp2020-compatible", kind=TOTAL)
    assert json.loads(made.metadata["without_terminal"]) == ["Cl"]
    assert not Reference(made).of_formation


def test_a_table_is_tested_with_its_own_labels() -> None:
    """One polymorph above another and a compound beside: distances come back, complete systems told from others."""
    formulas = [f"Na{a}Cl{b}" for a in range(1, 5) for b in range(1, 5) if np.gcd(a, b) == 1]
    energies = np.array([-1.0 if f == "Na1Cl1" else -0.2 for f in formulas])
    hull = Hull([*formulas, "Na", "Cl"], [*energies, 0.0, 0.0])
    labels = np.array([e - hull.at(f).energy for f, e in zip(formulas, energies, strict=True)])  # type: ignore[operator]
    table = EnergyTable([*formulas, "KO"], np.array([*energies, -1.0]), [f"r{k}" for k in range(len(formulas) + 1)],
                        np.array([*labels, 0.05]))  # fmt: skip
    made = table_reference(table, name="t", scheme="mp-legacy")
    found = assess_reference(made, table.formulas, table.energies.tolist(), table.labels.tolist())
    assert found.complete.n == found.complete.within == int((labels > 0.005).sum())
    assert found.complete.mae == pytest.approx(0.0, abs=1e-6)
    assert (found.incomplete.n, found.incomplete.within) == (1, 0)  # KO alone: nothing competes
    assert found.n == found.complete.n + 1


# -- the Materials Project ------------------------------------------------------------------------------------------


def entry(formula: str, energy: float, name: str, **parameters: Any) -> Any:
    from pymatgen.core import Composition
    from pymatgen.entries.computed_entries import ComputedEntry

    given = {"run_type": "GGA", "hubbards": {}, **parameters}
    return ComputedEntry(formula, energy * Composition(formula).num_atoms, parameters=given, entry_id=name)


def test_entries_get_the_corrections_of_2020() -> None:
    entries = [
        entry("Li", -1.9, "mp-1"),
        entry("O2", -4.9, "mp-2"),
        entry("Li2O", -4.7, "mp-3"),
        entry("Fe2O3", -6.0, "mp-4"),  # MP computes oxides of iron with U: without, no correction fits
        entry("Fe2O3", -6.0, "mp-5", run_type="GGA+U", hubbards={"Fe": 5.3, "O": 0.0}),
        entry("Li2O", -7.0, "mp-6", run_type="R2SCAN"),
    ]
    made = entries_reference(entries, name="mp", version="2026.1.1")
    assert made.column("status") == ["ok", "ok", "ok", "skipped", "ok", "skipped"]
    energies = made.values("energy_per_atom")
    assert energies[2] == pytest.approx(-4.7 - 0.687 / 3)  # Wang et al., Sci. Rep. 11, 15496 (2021): oxide -0.687 an O
    assert energies[4] == pytest.approx(-6.0 - (3 * 0.687 + 2 * 2.256) / 5)
    assert made.metadata["scheme"] == "mp2020-compatible"
    assert made.metadata["source"].endswith("2026.1.1")
    assert json.loads(made.metadata["without_terminal"]) == ["Fe"]
    assert Reference(made).hull.at("Li2O").energy == pytest.approx(-4.7 - 0.687 / 3)


def test_corrected_entries_are_not_corrected_twice() -> None:
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

    raw = [entry("Li", -1.9, "mp-1"), entry("O2", -4.9, "mp-2"), entry("Li2O", -4.7, "mp-3")]
    done = MaterialsProject2020Compatibility(check_potcar=False).process_entries(raw, inplace=False)
    one, two = (entries_reference(e, name="mp").values("energy_per_atom") for e in (raw, done))
    np.testing.assert_allclose(one, two)


def test_without_client_key_or_network_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mp_api", None)
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    with pytest.raises(NotInstalled, match=r"pip install 'crysgen-aiida\[mp\]'"):
        fetch_entries(["Li-O"])

    class Rester:
        def __init__(self, key: str) -> None:
            self.key = key

        def __enter__(self) -> Rester:
            return self

        def __exit__(self, *_: object) -> None: ...

        db_version = "v1"

        def get_entries_in_chemsys(self, elements: list[str], additional_criteria: dict[str, Any]) -> list[Any]:
            assert additional_criteria == {"thermo_types": ["GGA_GGA+U"]}  # not the mixture with r2SCAN
            if self.key != "good":
                raise ConnectionError("no route to host")
            return [entry("-".join(elements[:1]), -1.0, "mp-1")]

    monkeypatch.setitem(sys.modules, "mp_api", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mp_api.client", SimpleNamespace(MPRester=Rester))
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(ImpossibleRequest, match=f"export {KEY}="):
        fetch_entries(["Li-O"])
    monkeypatch.setenv(KEY, "bad")
    with pytest.raises(ImpossibleRequest, match="no route to host"):
        fetch_entries(["Li-O"])
    monkeypatch.setenv(KEY, "good")
    entries, version = fetch_entries(["Li-O", "Na"])
    assert [e.composition.formula for e in entries] == ["Li1", "Na1"]
    assert version == "v1"


def test_a_chemical_system_is_elements_joined() -> None:
    assert elements_of("Li-Fe-O") == ["Li", "Fe", "O"]
    for bad in ("", "-", "LiFeO", "Li-Xx"):
        with pytest.raises(BadInput, match="no chemical system"):
            elements_of(bad)
