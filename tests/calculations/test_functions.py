"""Ranking, promotion and single rows, each with its links."""

from __future__ import annotations

import pyarrow as pa
import pytest

from crysgen_aiida.crystals.errors import BadInput, EmptySet, ImpossibleRequest
from crysgen_aiida.crystals.schema import property_field
from crysgen_aiida.crystals.table import PropertyTable

QUERY = {"constraints": [["valid", "==", True]], "objectives": {"e_above_reference": "lower"}, "limit": 3}


@pytest.fixture
def judged(sets, salts):
    """The salts and a table of them: every second is valid, later ones are lower in energy."""
    from crysgen_aiida.data.packed import PropertyTableData

    n = len(salts)
    table = PropertyTable(
        pa.table({"status": ["ok"] * n, "parent_row": list(range(n)), "valid": [i % 2 == 0 for i in range(n)]})
    ).with_columns({property_field("e_above_reference", "made-up"): [1.0 - 0.1 * i for i in range(n)]})
    return {"crystals": sets["crystals"], "table": PropertyTableData.get_or_create(table)}


def ranked(judged, query=QUERY):
    from aiida.orm import Dict

    from crysgen_aiida.calculations.functions import record_ranking

    return record_ranking(**judged, query=Dict(query))


def test_a_ranking_is_kept_with_its_query_and_funnel(judged):
    decision = ranked(judged, {**QUERY, "proposer": "a person"})
    assert decision.table.column("parent_row") == [10, 8, 6]
    assert decision.table.column("rank") == [0, 1, 2]
    assert decision.metadata["query"]["limit"] == 3
    assert decision.metadata["funnel"] == [["all", 12], ["valid == True", 6]]
    assert decision.metadata["proposer"] == "a person"
    assert decision.table.column("e_above_reference")[0] == pytest.approx(0.0)
    assert {link.link_label for link in decision.creator.base.links.get_incoming().all()} == {
        "crystals", "table", "query"
    }  # fmt: skip


def test_equal_rankings_are_equal_nodes(judged):
    assert ranked(judged).content_hash == ranked(judged).content_hash


def test_promotion_makes_all_structures_in_one_call_with_the_whole_case_as_ancestors(judged, sets):
    from aiida.orm import CalcFunctionNode, List, QueryBuilder

    from crysgen_aiida.calculations.functions import promote

    decision = ranked(judged)
    made = promote(**judged, reference=sets["reference"], decision=decision, rows=List([10, 6]))["structures"]
    assert set(made) == {"r10", "r6"}
    assert made["r10"].get_formula("hill_compact") == "ClRb"
    call = made["r10"].creator
    assert call.uuid == made["r6"].creator.uuid
    assert set(call.base.links.get_outgoing().all_link_labels()) == {"structures__r10", "structures__r6"}
    ancestors = QueryBuilder().append(CalcFunctionNode, filters={"uuid": call.uuid}, tag="c")
    ancestors.append(type(decision), with_outgoing="c", filters={"uuid": decision.uuid})
    assert ancestors.count() == 1


def test_what_was_not_ranked_is_not_promoted(judged, sets):
    from aiida.orm import List

    from crysgen_aiida.calculations.functions import promote

    decision = ranked(judged)
    with pytest.raises(BadInput, match=r"\[1\] are not in the decision"):
        promote(**judged, reference=sets["reference"], decision=decision, rows=List([10, 1]))
    with pytest.raises(EmptySet, match="nothing to promote"):
        promote(**judged, reference=sets["reference"], decision=decision, rows=List([]))


def test_any_row_can_become_a_node_with_its_link(judged, sets):
    from aiida.orm import Dict, Int, Str, StructureData

    from crysgen_aiida.calculations.functions import materialize

    crystal = materialize(judged["crystals"], Int(0))
    text = materialize(sets["sequences"], Int(1))
    record = materialize(judged["table"], Int(2))
    assert isinstance(crystal, StructureData)
    assert isinstance(text, Str)
    assert text.value == "b"
    assert isinstance(record, Dict)
    assert record["valid"] is True
    assert record.creator.inputs.source.uuid == judged["table"].uuid
    with pytest.raises(ImpossibleRequest, match="rows 0 to"):
        materialize(judged["crystals"], Int(99))
