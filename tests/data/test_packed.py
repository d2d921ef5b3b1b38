"""Packed nodes give back their set, can be queried without it, and are identified by content."""

from __future__ import annotations

import io
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.errors import BadInput, ImpossibleRequest
from crysgen_aiida.crystals.table import PropertyTable, ReferenceSet, SequenceSet

pytestmark = pytest.mark.usefixtures("aiida_profile")


def classes():
    from crysgen_aiida.data import packed
    from crysgen_aiida.data.decision import DecisionSet

    base = {"status": ["ok", "ok"]}
    return [
        (packed.SequenceSetData, SequenceSet(pa.table({"sequence": ["a", "b"], **base}))),
        (packed.PropertyTableData, PropertyTable(pa.table(base), {"protocol": {"name": "x"}})),
        (
            packed.ReferenceEnergiesData,
            ReferenceSet(pa.table({"formula": ["Na", "Cl"], "energy_per_atom": [-1.0, -2.0], "source": ["x", "y"]})),
        ),
        (packed.DecisionData, DecisionSet(pa.table({"rank": [0, 1], "score": [1.0, 0.5]}))),
    ]


@pytest.mark.parametrize("index", range(4))
def test_every_class_gives_back_what_it_was_given(index):
    from aiida.orm import load_node

    node_class, table = classes()[index]
    node = load_node(node_class(table).store().uuid)
    node.__dict__.pop("_table", None)
    assert isinstance(node, node_class)
    assert node.table.arrow.equals(table.arrow)
    assert node.content_hash == table.content_hash
    assert (node.kind, node.n_rows, node.n_ok) == (table.kind, 2, 2)
    assert node.schema_version == schema.SCHEMA_VERSION


def test_crystals_by_frame_row_iteration_and_selection(crystals):
    from crysgen_aiida.data.packed import CrystalSetData

    node = CrystalSetData(crystals).store()
    assert (node.n_rows, node.n_ok) == (3, 2)
    assert list(node.to_frame()["reduced_formula"][:2]) == ["NaCl", "Si"]
    assert node.get(2)["reason"] == "made to fail"
    assert [r["row"] for r in node.iter()] == [0, 1, 2]
    assert node.select([("band_gap", ">", 1.0)]).column("reduced_formula") == ["NaCl"]
    with pytest.raises(ImpossibleRequest, match="rows 0 to 2"):
        node.get(3)


def test_attributes_are_json_and_prune_the_graph(crystals):
    """Also the SQLite trap: only a float literal compares with a float attribute."""
    from aiida.orm import QueryBuilder

    from crysgen_aiida.data.packed import CrystalSetData

    node = CrystalSetData(crystals).store()
    assert node.column_stats["band_gap"] == {"n_valid": 2, "min": 0.5, "max": 5.0}
    assert node.metadata["source"] == {"licence": "CC0", "missing": None}
    fields = CrystalSetData.fields
    for wanted, found in ((4.9, True), (5.1, False)):
        query = QueryBuilder().append(CrystalSetData, filters=fields.column_stats["band_gap"]["max"] > wanted)
        assert (node.uuid in [n.uuid for n in query.all(flat=True)]) is found
    query = QueryBuilder().append(
        CrystalSetData, filters=(fields.n_ok == 2) & (fields.content_hash == node.content_hash)
    )
    assert query.count() >= 1
    assert {"schema_version", "kind", "columns", "metadata"} <= set(fields.keys()) | set(dir(fields))


def test_schema_round_trip_through_the_orm_model(crystals):
    from crysgen_aiida.data.packed import CrystalSetData

    node = CrystalSetData(crystals).store()
    model = node.to_model()
    assert model.attributes.n_rows == 3
    assert model.attributes.content_hash == node.content_hash
    assert "n_ok" in CrystalSetData.AttributesModel.model_json_schema()["properties"]


def rewritten(node):
    """The same content in other Parquet bytes, as another version of the library would write them."""
    buffer = io.BytesIO()
    pq.write_table(node.table.arrow, buffer, compression="gzip", row_group_size=1)
    node.base.repository.delete_object(node.FILENAME)
    node.base.repository.put_object_from_bytes(buffer.getvalue(), node.FILENAME)
    return node


def test_the_hash_follows_the_content_and_not_the_bytes(crystals):
    from crysgen_aiida.data.packed import CrystalSetData

    one, two = CrystalSetData(crystals).store(), rewritten(CrystalSetData(crystals)).store()
    other = CrystalSetData(crystals.take([0, 1])).store()
    assert one.base.repository.hash() != two.base.repository.hash()
    assert one.base.caching.compute_hash() == two.base.caching.compute_hash()
    assert one.base.caching.compute_hash() != other.base.caching.compute_hash()


def test_get_or_create_finds_equal_content_of_the_same_class_only(crystals):
    from crysgen_aiida.data.packed import CrystalSetData

    fresh = crystals.with_metadata(name="fresh")
    one = CrystalSetData.get_or_create(fresh)
    assert CrystalSetData.get_or_create(crystals.with_metadata(name="fresh")).uuid == one.uuid
    assert CrystalSetData.get_or_create(crystals.with_metadata(name="fresher")).uuid != one.uuid


def test_the_wrong_kind_is_refused(crystals):
    from crysgen_aiida.data.packed import SequenceSetData

    with pytest.raises(TypeError, match="holds a SequenceSet, not a CrystalSet"):
        SequenceSetData(crystals)


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense", None])
def test_a_truncated_file_is_never_stored(crystals, content):
    from aiida.common.exceptions import ValidationError

    from crysgen_aiida.data.packed import CrystalSetData

    node = CrystalSetData(crystals)
    held = node.base.repository.get_object_content(node.FILENAME, mode="rb")
    node.base.repository.delete_object(node.FILENAME)
    node.base.repository.put_object_from_bytes(held[: len(held) // 2] if content is None else content, node.FILENAME)
    with pytest.raises(ValidationError, match="cannot be read as Parquet"):
        node.store()


def test_attributes_that_do_not_fit_the_file_are_refused(crystals):
    from aiida.common.exceptions import ValidationError

    from crysgen_aiida.data.packed import CrystalSetData

    node = CrystalSetData(crystals)
    node.base.attributes.set("n_ok", 3)
    with pytest.raises(ValidationError, match="n_ok"):
        node.store()
    with pytest.raises(ValidationError, match="holds no file"):
        CrystalSetData().store()


@pytest.mark.parametrize(("version", "remedy"), [(99, "pip install --upgrade"), (0, "make the node again")])
def test_another_schema_is_refused_with_the_remedy(crystals, version, remedy):
    from crysgen_aiida.data.packed import CrystalSetData

    node = CrystalSetData(crystals)
    node.base.attributes.set("schema_version", version)
    del node._table
    with pytest.raises(BadInput, match=remedy):
        _ = node.table


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=5))
def test_any_numbers_can_be_stored_and_come_back(values):
    """NaN and infinity in a column must not reach the attributes, which refuse them."""
    from crysgen_aiida.data.packed import PropertyTableData

    table = PropertyTable(pa.table({"status": ["ok"] * len(values)})).with_columns(
        {schema.property_field("band_gap", "test"): values}
    )
    node = PropertyTableData(table).store()
    stats = node.column_stats["band_gap"]
    finite = [v for v in values if math.isfinite(v)]
    assert stats["n_valid"] == len(finite)
    if finite:
        assert stats["max"] == pytest.approx(max(finite), rel=1e-13)  # AiiDA keeps 14 digits
    assert np.array_equal(node.table.values("band_gap"), table.values("band_gap"), equal_nan=True)
