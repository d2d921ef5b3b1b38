"""Decoding with a potential: the lowest in energy is the crystal of its string, whatever comes with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from slices_nets import GOLDEN, golden_structures, reason_of

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.relaxing import Relaxed, Start
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.representations.slices import refine as module
from crysgen_aiida.representations.slices.decoder import decode, starts
from crysgen_aiida.representations.slices.refine import NO_START, refine, refined_set
from crysgen_aiida.representations.slices.sets import sequence_set
from crysgen_aiida.representations.slices.spec import SlicesSpec

SPEC = SlicesSpec()
STRINGS = list(GOLDEN.values())


class Swelling:
    """A potential with one minimum: every crystal wants ``best`` A^3 an atom, and relaxes there in one step.

    :param bias: added to the energy of a relaxed crystal by the volume an atom that it started from.
    :param refuses: starts it can do nothing with; ``breaks`` those whose cell it draws out so far that bonds break.
    """

    method = "swelling-1"

    def __init__(
        self,
        best: float = 20.0,
        bias: Callable[[float], float] = lambda volume: 0.0,
        refuses: Callable[[float], bool] = lambda volume: False,
        breaks: Callable[[float], bool] = lambda volume: False,
    ) -> None:
        self.best, self.bias, self.refuses, self.breaks = best, bias, refuses, breaks
        self.n_relaxed = 0

    def record(self) -> dict[str, Any]:
        return {"potential": {"name": "swelling"}}

    def energies(self, starts: Sequence[Start], run: Any) -> list[Relaxed]:
        return [self._judge(start, _volume(start) - self.best, 1.0) for start in starts]

    def relax(self, starts: Sequence[Start], run: Any) -> list[Relaxed]:
        self.n_relaxed += len(starts)
        return [self._judge(s, self.bias(_volume(s)), (self.best / _volume(s)) ** (1 / 3)) for s in starts]

    def _judge(self, start: Start, energy: float, scale: float) -> Relaxed:
        if self.refuses(_volume(start)):
            return Relaxed(schema.STATUS_FAILED, "it does not like it")
        cell = scale * start[0]
        if scale != 1.0 and self.breaks(_volume(start)):
            cell = cell * np.array([1.0, 1.0, 1.8])
        return Relaxed(schema.STATUS_OK, cell=cell, frac=start[2], energy_per_atom=energy, converged=True, n_steps=1)


def _volume(start: Start) -> float:
    return float(abs(np.linalg.det(start[0]))) / len(start[1])


def volumes(string: str) -> list[float]:
    return [crystal.volume / len(crystal.numbers) for crystal in starts(string, SPEC, SPEC.starts)]


def test_without_a_potential_it_is_the_decoded_crystal() -> None:
    for string, found in zip(STRINGS, refine(STRINGS, SPEC, None, InProcess()), strict=True):
        assert found.structure == decode(string).structure()
        assert (found.start, found.n_starts, found.relaxed) == ("freed", 1, None)


def test_the_lowest_energy_wins() -> None:
    """Of the starts kept, that with the greatest volume has the lowest energy after relaxation."""
    string = GOLDEN["SrTiO3"]
    made = starts(string, SPEC, SPEC.starts)
    assert len(made) >= 3
    found = refine([string], replace(SPEC, keep=9), Swelling(bias=lambda volume: -volume), InProcess())[0]
    assert found.start == max(made, key=lambda c: c.volume).start
    assert found.n_starts == len(made)
    assert found.structure is not None
    assert found.structure.volume == pytest.approx(20.0 * 5)


def test_only_the_lowest_one_shot_energies_are_relaxed() -> None:
    string = GOLDEN["SrTiO3"]
    potential = Swelling(best=5.0, bias=lambda volume: -volume)  # one-shot energy: the volume, less 5
    found = refine([string], replace(SPEC, keep=2), potential, InProcess())[0]
    assert potential.n_relaxed == 2
    second = sorted(range(len(volumes(string))), key=lambda k: volumes(string)[k])[1]
    assert found.start == starts(string, SPEC, 4)[second].start


def test_a_crystal_with_the_bonds_of_the_string_goes_before_a_lower_one_without() -> None:
    string = GOLDEN["SrTiO3"]
    first = volumes(string)[0]

    def is_first(volume: float) -> bool:
        return abs(volume - first) < 1e-6

    lowest_but_broken = Swelling(bias=lambda volume: -float(is_first(volume)), breaks=is_first)
    found = refine([string], replace(SPEC, keep=9), lowest_but_broken, InProcess())[0]
    assert found.keeps_net
    assert found.start != "freed"


def test_the_other_starts_are_relaxed_only_if_no_bonds_were_kept() -> None:
    string = GOLDEN["SrTiO3"]
    for breaks, n_relaxed in ((False, 1), (True, len(volumes(string)))):
        potential = Swelling(breaks=lambda volume, breaks=breaks: breaks)  # type: ignore[misc]
        found = refine([string], replace(SPEC, keep=1), potential, InProcess())[0]
        assert potential.n_relaxed == n_relaxed
        assert found.keeps_net is not breaks
        assert found.structure is not None


def test_of_equal_energies_the_first_start_stands() -> None:
    for found in refine(STRINGS, replace(SPEC, keep=9), Swelling(), InProcess()):
        assert found.start == "freed"


def test_a_start_that_fails_does_not_fail_the_string() -> None:
    string = GOLDEN["SrTiO3"]
    first = volumes(string)[0]
    only = Swelling(refuses=lambda volume: abs(volume - first) < 1e-6)
    found = refine([string], SPEC, only, InProcess())[0]
    assert found.structure is not None
    assert found.start != "freed"


def test_all_starts_failing_is_a_reason() -> None:
    found = refine([GOLDEN["Si"], "nonsense"], SPEC, Swelling(refuses=lambda volume: True), InProcess())
    assert [one.structure for one in found] == [None, None]
    assert found[0].reason == f"{NO_START}: it does not like it."
    assert found[1].reason == reason_of(lambda: decode("nonsense"))


def test_what_comes_with_a_string_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = sequence_set([*STRINGS, "nonsense", None], [None] * 6 + ["Too long."], list(range(7)), {})
    whole = refined_set(sequences, SPEC, InProcess(), Swelling())
    monkeypatch.setattr(module, "PART_ROWS", 2)
    assert refined_set(sequences, SPEC, InProcess(), Swelling()).content_hash == whole.content_hash


def test_columns_say_how_a_crystal_was_found() -> None:
    sequences = sequence_set([*STRINGS[:2], None], [None, None, "Too long."], [0, 1, 2], {})
    found = refined_set(sequences, SPEC, InProcess(), Swelling())
    assert found.ok.tolist() == [True, True, False]
    assert "Too long." in found.column("reason")[2]
    assert found.method("energy_per_atom") == "swelling-1"
    assert found.column("energy_per_atom") == [0.0, 0.0, None]
    assert found.column("start") == ["freed", "freed", None]
    assert found.column("n_starts")[2] == 0
    assert found.column("keeps_net") == [True, True, None]
    assert found.column("converged") == [True, True, None]
    assert found.column("parent_row") == [0, 1, 2]
    assert found.metadata["method"] == "swelling-1"


def test_chgnet_brings_crystals_to_their_volumes() -> None:
    """The real thing: decoded volumes are off by up to a seventh, relaxed ones are not."""
    from crysgen_aiida.physics.relaxer import PotentialRelaxer

    sequences = sequence_set([GOLDEN["GaN"], GOLDEN["Si"]], [None] * 2, [0, 1], {})
    found = refined_set(sequences, SPEC, InProcess(), PotentialRelaxer("chgnet"))
    for row, name in enumerate(("GaN", "Si")):
        crystal, truth = found.structure(row), golden_structures()[name]
        assert StructureMatcher(0.2, 0.3, 5).fit(truth, crystal)
        assert crystal.volume == pytest.approx(truth.volume, rel=0.05)
    assert found.method("energy_per_atom") == "chgnet-0.3.0"
    assert all(energy < -4 for energy in found.column("energy_per_atom"))


def test_elements_beyond_the_potential_are_a_reason() -> None:
    from crysgen_aiida.physics.relaxer import PotentialRelaxer

    polonium = "Po 0 0 +oo 0 0 o+o 0 0 oo+"
    found = refine([polonium], SPEC, PotentialRelaxer("chgnet"), InProcess())[0]
    assert found.structure is None
    assert "chgnet-0.3.0 does not cover all of its elements" in str(found.reason)
