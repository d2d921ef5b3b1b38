"""Addresses: what is printed can be read back, and nonsense is refused with a sentence."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.store.address import Address


@given(st.uuids(version=4), st.integers(min_value=0, max_value=10**9 - 1))
def test_full_addresses_come_back_and_short_ones_keep_eight_digits(identifier: uuid.UUID, row: int) -> None:
    address = Address(str(identifier), row)
    assert Address.parse(address.full) == address
    assert Address.parse(str(address)) == Address(str(identifier)[:8], row)
    assert Address.parse(address.full.upper()) == address


@pytest.mark.parametrize("text", ["", "3f2a91c0", "3f2a91c0:", ":4", "3f2a91c0:-1", "xyz:3", "3f:1", "3f2a91c0:1:2"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ImpossibleRequest, match="3f2a91c0:17"):
        Address.parse(text)


@pytest.mark.usefixtures("aiida_profile")
def test_an_address_leads_to_its_row_and_nowhere_else(salts) -> None:
    from aiida import orm

    from crysgen_aiida.data.packed import CrystalSetData
    from crysgen_aiida.store.address import resolve

    node = CrystalSetData.get_or_create(salts)
    for text in (f"{node.uuid}:3", f"{node.uuid[:8]}:3"):
        found, row = resolve(text)
        assert (found.uuid, row) == (node.uuid, 3)
    with pytest.raises(ImpossibleRequest, match=f"rows 0 to {len(salts) - 1}"):
        resolve(f"{node.uuid}:{len(salts)}")
    with pytest.raises(ImpossibleRequest, match="No set of this profile"):
        resolve(f"{uuid.uuid4()}:0")
    with pytest.raises(ImpossibleRequest, match="not a packed set"):
        resolve(f"{orm.Int(1).store().uuid}:0")
