"""The registry of properties and the table of errors: unique, complete, helpful."""

from __future__ import annotations

import pyarrow as pa
import pytest

from crysgen_aiida.crystals.errors import ALL_ERRORS, CrysgenError, ImpossibleRequest
from crysgen_aiida.crystals.properties import PROPERTIES, get_property
from crysgen_aiida.crystals.schema import property_field


def test_every_property_has_unit_definition_and_direction() -> None:
    for prop in PROPERTIES.values():
        assert prop.unit
        assert prop.definition.endswith(".")
        assert prop.better in ("lower", "higher", "target")


def test_units_that_papers_confuse_are_pinned() -> None:
    expected = {
        "piezo_max": "C/m^2",
        "band_gap": "eV",
        "formation_energy_per_atom": "eV/atom",
        "bulk_modulus_vrh": "GPa",
    }
    assert {name: get_property(name).unit for name in expected} == expected


def test_an_unknown_property_gets_a_suggestion() -> None:
    with pytest.raises(ImpossibleRequest, match="band_gap"):
        get_property("bandgap")
    with pytest.raises(ImpossibleRequest, match="Known: "):
        get_property("zzzz")
    with pytest.raises(ImpossibleRequest):
        property_field("bandgap", "pbe")


def test_fields_carry_unit_and_method() -> None:
    field = property_field("piezo_tensor", "pbe", column="target.piezo_tensor")
    assert field.name == "target.piezo_tensor"
    assert field.type == pa.list_(pa.float64(), 18)
    assert field.metadata == {b"property": b"piezo_tensor", b"unit": b"C/m^2", b"method": b"pbe"}


def test_exit_codes_are_unique_and_leave_the_reserved_ones_alone() -> None:
    codes = [error.exit_code for error in ALL_ERRORS]
    assert len(set(codes)) == len(codes) == len({error.label for error in ALL_ERRORS})
    # below 100 belongs to the engine, 300 is "no result file"
    assert all(code > 300 for code in codes)
    assert all(issubclass(error, CrysgenError) and error.summary.endswith(".") for error in ALL_ERRORS)


def test_every_error_class_is_in_the_table() -> None:
    found = {CrysgenError}
    stack = [CrysgenError]
    while stack:
        for sub in stack.pop().__subclasses__():
            if sub.__module__ == CrysgenError.__module__:
                found.add(sub)
                stack.append(sub)
    assert found == set(ALL_ERRORS)
