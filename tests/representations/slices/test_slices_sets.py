"""Whole sets: every row has a result or a reason, and parts change nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from slices_nets import GOLDEN, golden_structures

from crysgen_aiida.crystals import workers
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import ImpossibleRequest
from crysgen_aiida.crystals.run import InProcess
from crysgen_aiida.representations import slices
from crysgen_aiida.representations.slices import sets
from crysgen_aiida.representations.slices.spec import SlicesSpec


def crystals() -> CrystalSet:
    from pymatgen.core import Lattice, Structure

    uranium = Structure(Lattice.cubic(4.0), ["U"], [[0, 0, 0]])
    structures = [*golden_structures().values(), uranium, None]
    return CrystalSet.from_structures(structures, reasons=[None] * 6 + ["The CIF was empty."])


def test_encoding_keeps_rows_and_reasons() -> None:
    strings = sets.encode_set(crystals(), SlicesSpec(prefix=False), InProcess())
    assert strings.column("sequence") == [*GOLDEN.values(), None, None]
    assert strings.column("status") == ["ok"] * 5 + ["failed"] * 2
    assert "beyond radon" in strings.column("reason")[5]
    assert "The CIF was empty." in strings.column("reason")[6]
    assert strings.column("parent_row") == list(range(7))
    assert set(strings.column("parent_input")) == {"crystals"}
    assert len(set(strings.column("content_id")[:5])) == 5


def test_decoding_keeps_rows_and_reasons() -> None:
    strings = sets.encode_set(crystals(), SlicesSpec(), InProcess())
    decoded = sets.decode_set(strings, SlicesSpec(), InProcess())
    assert decoded.ok.tolist() == [True] * 5 + [False] * 2
    assert decoded.column("reduced_formula")[:5] == ["NaCl", "Si", "CsCl", "GaN", "SrTiO3"]
    assert decoded.column("parent_row") == list(range(7))
    assert set(decoded.column("parent_input")) == {"sequences"}
    assert "nothing to translate" in decoded.column("reason")[5]


def test_generated_garbage_becomes_failed_rows() -> None:
    strings = sets.sequence_set(["Na Cl 0 1", "", GOLDEN["Si"], None], [None, None, None, "Too long."], [0] * 4, {})
    decoded = sets.decode_set(strings, SlicesSpec(), InProcess())
    assert decoded.ok.tolist() == [False, False, True, False]
    assert all(decoded.column("reason")[row] for row in (0, 1, 3))


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sets.encode_set(crystals(), SlicesSpec(), InProcess())
    decoded = sets.decode_set(whole, SlicesSpec(), InProcess())
    monkeypatch.setattr(sets, "PART_ROWS", 2)
    assert sets.encode_set(crystals(), SlicesSpec(), InProcess()).content_hash == whole.content_hash
    assert sets.decode_set(whole, SlicesSpec(), InProcess()).content_hash == decoded.content_hash


def test_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    many = CrystalSet.concat([crystals()] * 8)
    strings = sets.encode_set(many, SlicesSpec(), InProcess())
    decoded = sets.decode_set(strings, SlicesSpec(), InProcess())
    monkeypatch.setattr(workers, "CHUNKS_PER_PROCESS", 2)
    assert sets.encode_set(many, SlicesSpec(), InProcess(threads=2)).content_hash == strings.content_hash
    assert sets.decode_set(strings, SlicesSpec(), InProcess(threads=2)).content_hash == decoded.content_hash


def test_an_empty_set_gives_an_empty_set() -> None:
    empty = sets.encode_set(CrystalSet.from_structures([]), SlicesSpec(), InProcess())
    assert len(empty) == 0
    assert len(sets.decode_set(empty, SlicesSpec(), InProcess())) == 0


def test_the_package_is_light_and_lazy() -> None:
    code = (
        "import sys; from crysgen_aiida.representations.slices import VOCABULARY, check, SlicesSpec; "
        "assert check('Po 0 0 +oo 0 0 o+o 0 0 oo+'); "
        "sys.exit(any(m in sys.modules for m in ('pymatgen', 'torch', 'scipy', 'aiida')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    for name in slices.__all__:
        assert getattr(slices, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = slices.nothing


@pytest.mark.parametrize("wrong", [{"strategy": 5}, {"graph_method": "voronoi"}, {"mode": "fast"}])
def test_a_spec_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ImpossibleRequest, match="choose"):
        SlicesSpec(**wrong)  # type: ignore[arg-type]
