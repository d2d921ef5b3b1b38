"""A symmetry that is none is not imposed: a tighter tolerance is tried before a crystal is refused."""

from __future__ import annotations

import springs as toy
from pymatgen.core import Lattice, Structure

from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.physics.forces import Refused, at_rest, start_cell
from crysgen_aiida.physics.response_spec import PhononSpec

LENGTH = 2.5
AT_REST = Structure(Lattice([[0, 1, 1], [1, 0, 1], [1, 1, 0]]).scale(LENGTH**3 / 2**0.5), ["Cu"], [[0, 0, 0]])
SQUEEZED = Structure(AT_REST.lattice.scale(0.9 * AT_REST.volume), ["Cu"], [[0, 0, 0]])


def tried(good: float, *structures: Structure | Refused):
    """Let a symmetry found above ``good`` [A] squeeze a crystal; return what came of each, and the tolerances tried."""
    asked: list[float] = []

    def prepare(k: int, spec: PhononSpec) -> Structure:
        asked.append(spec.symprec)
        return SQUEEZED if spec.symprec > good else structures[k]

    loaded = toy.potential({LENGTH: 2.0})
    return *at_rest(structures, PhononSpec(), prepare, start_cell, loaded, InProcess(), who="spglib"), asked


def test_the_first_tolerance_is_kept_where_it_moves_nothing():
    made, refused, asked = tried(1.0, AT_REST)
    assert made[0][1].symprec == 0.01
    assert (refused, asked) == ({}, [0.01])


def test_a_tighter_tolerance_is_taken_where_the_first_moves_the_crystal_off_its_minimum():
    gone = Refused("there is no crystal")
    made, refused, asked = tried(0.005, gone, AT_REST)
    assert made[1][0] is AT_REST
    assert made[1][1].symprec == 0.001
    assert abs(made[1][2].stress).max() < 1e-6
    assert refused == {0: gone}
    assert asked == [0.01, 0.001]


def test_a_crystal_that_is_not_at_rest_is_refused_after_all_of_them():
    made, refused, asked = tried(0.0, AT_REST)
    assert made == {}
    assert "not relaxed with this potential" in refused[0].reason
    assert len(asked) == 3
