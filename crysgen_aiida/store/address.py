"""Addresses of rows: ``<uuid>:<row>``, eight digits of the uuid on a screen, all of it in files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crysgen_aiida.crystals.errors import ImpossibleRequest

if TYPE_CHECKING:
    from crysgen_aiida.data.packed import PackedData

#: Digits of the uuid shown to people.
SHORT = 8

_PATTERN = re.compile(r"^([0-9a-fA-F][0-9a-fA-F-]{3,35}):(\d{1,9})$")


@dataclass(frozen=True, order=True)
class Address:
    """Where a row is: the uuid of its packed node (or the beginning of it) and its position."""

    uuid: str
    row: int

    def __str__(self) -> str:
        return f"{self.uuid[:SHORT]}:{self.row}"

    @property
    def full(self) -> str:
        """The whole uuid and the row, as written into files."""
        return f"{self.uuid}:{self.row}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address as it is shown or written.

        :raises ImpossibleRequest: if it is not one.
        """
        found = _PATTERN.match(text.strip())
        if not found:
            raise ImpossibleRequest(
                f"{text!r} is not an address; one looks like 3f2a91c0:17 (the beginning of a node's uuid, a colon, "
                "the row). `crysgen candidate rank` prints them."
            )
        return cls(found.group(1).lower(), int(found.group(2)))


def load_node(address: Address) -> PackedData:
    """Return the packed node an address points into.

    :raises ImpossibleRequest: if there is none, there are several, or it has no such row.
    """
    from aiida import orm
    from aiida.common.exceptions import MultipleObjectsError, NotExistent

    from crysgen_aiida.data.packed import PackedData

    try:
        node = orm.load_node(uuid=address.uuid)
    except MultipleObjectsError:
        raise ImpossibleRequest(f"{address.uuid} is the beginning of several uuids; give more digits.") from None
    except (NotExistent, ValueError):
        raise ImpossibleRequest(
            f"No set of this profile has a uuid that begins with {address.uuid}; check the address and the profile."
        ) from None
    if not isinstance(node, PackedData):
        raise ImpossibleRequest(
            f"{address.uuid} is a {type(node).__name__}, not a packed set; name a structure by its pk or uuid alone."
        )
    if not 0 <= address.row < node.n_rows:
        raise ImpossibleRequest(f"The set {node.uuid[:SHORT]} has rows 0 to {node.n_rows - 1}, not {address.row}.")
    return node


def resolve(text: str) -> tuple[PackedData, int]:
    """Return node and row of an address given as text.

    :raises ImpossibleRequest: if it is malformed or points nowhere.
    """
    address = Address.parse(text)
    return load_node(address), address.row
