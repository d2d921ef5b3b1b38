"""Which potential a command takes when none is named."""

from __future__ import annotations

from typing import Any

import pytest

from crysgen_aiida.cli.deriving import _default


class Node:
    def __init__(self, **metadata: Any) -> None:
        self.metadata = metadata


@pytest.mark.parametrize(
    ("verb", "metadata", "wanted"),
    [
        ("relax", {"potential": {"name": "nequix"}}, "chgnet"),
        ("phonon", {"potential": {"name": "chgnet", "version": "0.3.0"}}, "chgnet"),
        ("elastic", {"potential": {"name": "nequix"}}, "nequix"),
        ("phonon", {}, "sevennet"),
        ("elastic", {"potential": "none"}, "sevennet"),
    ],
)
def test_second_derivatives_are_taken_with_the_potential_the_crystals_are_at_rest_with(
    verb: str, metadata: dict[str, Any], wanted: str
) -> None:
    assert _default(verb, Node(**metadata)) == wanted
