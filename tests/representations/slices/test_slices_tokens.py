"""The vocabulary and the space-group prefix."""

from __future__ import annotations

import pytest

from crysgen_aiida.representations.slices.space_groups import ENCODINGS, PREFIX_TOKENS, PREFIXES
from crysgen_aiida.representations.slices.tokens import (
    ELEMENTS,
    VOCABULARY,
    space_group_of_prefix,
    space_group_prefix,
    vocabulary,
)

GOLDEN = {
    1: "o z o",
    2: "+ z o",
    62: "+ x b DOD c ODO o",
    166: "+ w a ECC n OOO e OOO o",
    186: "o w n OOO b OOD k OOO o",
    194: "+ w n OOO b OOD e OOO o",
    216: "o t a ODD a DOD b OOO c OOO d OOO l OOO o",
    221: "+ v b OOO c OOO d OOO e OOO o",
    225: "+ t a ODD a DOD b OOO c OOO d OOO e OOO o",
    227: "o s a ODD a DOD b ODD c DDO d OOO e FBF h BBB + ZZZ",
}


def test_published_prefixes() -> None:
    assert {n: " ".join(space_group_prefix(n)) for n in GOLDEN} == GOLDEN


def test_all_230_prefixes_are_unique_and_read_back() -> None:
    assert [space_group_of_prefix(space_group_prefix(n)) for n in range(1, 231)] == list(range(1, 231))
    assert len(set(PREFIXES)) == 230
    assert len(PREFIX_TOKENS) == 57
    assert max(len(prefix) for prefix in PREFIXES) <= 18
    assert not set(PREFIX_TOKENS) & set(ELEMENTS)


def test_the_encodings_are_those_of_pymatgen() -> None:
    from pymatgen.symmetry.groups import SYMM_DATA, sg_symbol_from_int_number

    table = SYMM_DATA["space_group_encoding"]
    assert [table[sg_symbol_from_int_number(n)]["enc"] for n in range(1, 231)] == list(ENCODINGS)


def test_the_elements_are_in_order_of_their_numbers() -> None:
    from pymatgen.core import Element

    assert [Element.from_Z(z).symbol for z in range(1, 87)] == list(ELEMENTS)


@pytest.mark.parametrize("number", [0, 231, -1])
def test_a_space_group_that_does_not_exist_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="1 to 230"):
        space_group_prefix(number)


def test_the_vocabulary_has_no_token_twice_and_does_not_depend_on_data() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY) == 57 + 86 + 20 + 27
    assert vocabulary(40)[: 57 + 86] == VOCABULARY[: 57 + 86]
    assert len(vocabulary(40)) == len(VOCABULARY) + 20
