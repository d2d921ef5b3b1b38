"""The geometries of one net: a fixed order, no repetitions, the same in any spelling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slices_nets import GOLDEN, reason_of, valid_nets

from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.representations.slices import decoder
from crysgen_aiida.representations.slices.decoder import STARTS, Decoded, decode, same, starts
from crysgen_aiida.representations.slices.errors import SlicesError
from crysgen_aiida.representations.slices.nets import Net, augment, parse
from crysgen_aiida.representations.slices.placements import Placement
from crysgen_aiida.representations.slices.spec import SlicesSpec

SPEC = SlicesSpec()


@given(net=valid_nets(), most=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_starts_are_different_and_in_order_and_the_first_is_the_decoded_one(net: Net, most: int) -> None:
    found: list[Decoded] = []
    failure = reason_of(lambda: found.extend(starts(net, SPEC, most)))
    if reason_of(lambda: decode(net)) is not None:
        return
    assert failure is None
    assert 1 <= len(found) <= most
    places = [STARTS.index(crystal.start) for crystal in found]
    assert places == sorted(set(places))
    assert not any(same(one, other) for k, one in enumerate(found) for other in found[:k])
    first = decode(net)
    assert first.lattice.tobytes() == found[0].lattice.tobytes()
    assert first.frac_coords.tobytes() == found[0].frac_coords.tobytes()


@pytest.mark.parametrize("name", GOLDEN)
def test_every_start_is_the_same_crystal_in_any_spelling(name: str) -> None:
    net = parse(GOLDEN[name])
    one = starts(net, SPEC, 9)
    for seed in range(3):
        other = starts(augment(net, np.random.default_rng(seed)), SPEC, 9)
        assert [c.start for c in other] == [c.start for c in one]
        assert [c.volume for c in other] == pytest.approx([c.volume for c in one], rel=1e-4)


def test_the_paper_mode_has_the_published_geometries_only() -> None:
    found = starts(GOLDEN["SrTiO3"], SlicesSpec(mode="paper"), 9)
    assert {crystal.start for crystal in found} <= {"optimised", "archetype"}
    assert found[0].start == "optimised"


def test_two_geometries_are_one_in_any_orientation_and_from_any_origin() -> None:
    crystal = decode(GOLDEN["GaN"])
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]

    def changed(lattice: np.ndarray, frac: np.ndarray) -> Decoded:
        return Decoded(lattice, crystal.numbers, frac % 1.0, 0.0, False, 0, "freed")

    assert same(crystal, changed(crystal.lattice @ turn, crystal.frac_coords + 0.37))
    assert not same(crystal, changed(1.02 * crystal.lattice, crystal.frac_coords))
    moved = crystal.frac_coords + np.array([[0, 0, 0.01], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert not same(crystal, changed(crystal.lattice, moved))


def test_a_geometry_that_fails_gives_way_and_all_failing_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def collapsed(*_: object) -> Placement:
        return Placement(np.eye(3), np.zeros((2, 3)))

    monkeypatch.setattr(decoder, "freed", collapsed)
    assert [c.start for c in starts(GOLDEN["NaCl"], SPEC, 1)] == ["optimised"]
    monkeypatch.setattr(decoder, "optimised", collapsed)
    assert [c.start for c in starts(GOLDEN["NaCl"], SPEC, 4)] == ["archetype"]
    with pytest.raises(SlicesError, match=r"less than 0\.5 A"):
        decode(GOLDEN["NaCl"])
    monkeypatch.setattr(decoder, "plain", collapsed)
    with pytest.raises(SlicesError, match=r"less than 0\.5 A"):
        starts(GOLDEN["NaCl"], SPEC, 4)


@pytest.mark.parametrize("wrong", [{"starts": 0}, {"keep": 0}])
def test_no_starts_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ImpossibleRequest, match="1 or more"):
        SlicesSpec(**wrong)  # type: ignore[arg-type]
