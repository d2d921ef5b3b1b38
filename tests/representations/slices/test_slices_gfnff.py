"""Closed-form targets against samples of the published binary."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from slices_nets import GOLDEN, any_nets

from crysgen_aiida.representations.slices import gfnff
from crysgen_aiida.representations.slices.gfnff_elements import METAL_CLASS, NORMAL_COORDINATION, RADIUS
from crysgen_aiida.representations.slices.nets import Net, parse


def atoms_of(string: str) -> list[gfnff.Atom]:
    net = parse(string)
    return gfnff.atoms_of(net.numbers.tolist(), net.edges.tolist())


#: Raw angle weights (no charge factor) with their angles: centre, neighbours, weight, degrees.
SAMPLES = [
    ("Si", 0, (1, 1), 0.0414, 100.0),
    ("GaN", 0, (2, 2), 0.0563, 109.5),
    ("SrTiO3", 1, (2, 3), 0.260, 90.0),
]


@pytest.mark.parametrize(("name", "centre", "pair", "weight", "degrees"), SAMPLES)
def test_published_angle_samples(name: str, centre: int, pair: tuple[int, int], weight: float, degrees: float) -> None:
    atoms = atoms_of(GOLDEN[name])
    angle = gfnff.angle(atoms[centre], atoms[pair[0]], atoms[pair[1]])
    assert angle is not None
    assert angle.weight == pytest.approx(weight, rel=6e-3)
    assert math.degrees(angle.theta) == pytest.approx(degrees)


def test_magnesia_angle_sample() -> None:
    atoms = atoms_of(GOLDEN["NaCl"].replace("Cl Na", "O Mg"))
    angle = gfnff.angle(atoms[1], atoms[0], atoms[0])
    assert angle is not None
    assert angle.weight == pytest.approx(0.0216, rel=5e-3)


def test_chlorine_between_sodium_has_no_angle() -> None:
    chlorine, sodium = atoms_of(GOLDEN["NaCl"])
    assert gfnff.angle(chlorine, sodium, sodium) is None
    assert gfnff.angle(sodium, chlorine, chlorine) is not None


@pytest.mark.parametrize(
    ("name", "pair", "length"),
    # the decoded golden cells: rock salt a_prim/sqrt 2, diamond a_prim sqrt(3/8), wurtzite a sqrt(3/8)
    [("NaCl", (0, 1), 3.95 / math.sqrt(2)), ("Si", (0, 1), 3.99 * math.sqrt(3 / 8)), ("GaN", (0, 2), 3.42 * 0.6124)],
)
def test_target_lengths_of_golden_crystals(name: str, pair: tuple[int, int], length: float) -> None:
    atoms = atoms_of(GOLDEN[name])
    assert gfnff.target_length(atoms[pair[0]], atoms[pair[1]]) == pytest.approx(length, abs=5e-3)


def test_the_tables_are_whole_and_carry_the_lanthanide_radii_of_the_published_version() -> None:
    assert len(RADIUS) == len(METAL_CLASS) == len(NORMAL_COORDINATION) == 86
    assert RADIUS[56] == 3.199
    assert set(RADIUS[57:71]) == {2.80}
    assert (METAL_CLASS[0], METAL_CLASS[10], METAL_CLASS[12], METAL_CLASS[25], METAL_CLASS[13]) == (0, 1, 1, 2, 0)
    assert [NORMAL_COORDINATION[z - 1] for z in (1, 2, 8, 9, 16, 17, 22, 23, 28, 29, 72, 73, 80, 85, 86)] == [
        1, 0, 2, 1, 2, 1, 4, 6, 6, 4, 4, 6, 4, 1, 0,
    ]  # fmt: skip


@given(net=any_nets())
def test_every_net_has_sane_targets(net: Net) -> None:
    edges = net.edges.tolist()
    atoms = gfnff.atoms_of(net.numbers.tolist(), edges)
    for u, v in edges:
        length = gfnff.target_length(atoms[u], atoms[v])
        assert 0.5 < length < 6.0
        assert length == gfnff.target_length(atoms[v], atoms[u])
        for other in atoms:
            a, b = gfnff.angle(atoms[u], atoms[v], other), gfnff.angle(atoms[u], other, atoms[v])
            assert a == b
            assert a is None or (0 < a.theta <= math.pi and a.weight > 0)
