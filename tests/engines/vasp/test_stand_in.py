"""No number from a stand-in is ever labelled VASP."""

from __future__ import annotations

import pytest
from aiida import orm

from crysgen_aiida.engines.vasp.stand_in import EXTRA, is_stand_in_output, stand_in
from crysgen_aiida.store.index.policy import DFT, OTHER, classify


@pytest.mark.parametrize(
    ("path", "label", "prepend", "extra", "expected"),
    [
        ("/opt/vasp/vasp_std", "vasp-6.4.2", "module load vasp", None, ""),
        ("/usr/bin/mock-vasp", "vasp", "", None, "vasp"),
        ("/usr/bin/mock-vasp-loose", "cluster", "", None, "cluster"),
        ("/opt/run.sh", "vaspshim", "", None, "vaspshim"),
        ("/opt/run.sh", "vasp stand-in", "", None, "vasp stand-in"),
        ("/opt/run.sh", "vasp", "export MOCK_VASP_REG_BASE=/data", None, "vasp"),
        ("/opt/run.sh", "vasp", "", "chgnet", "chgnet"),
        ("/opt/run.sh", "vasp", "", True, "vasp"),
    ],
)
def test_the_code_says_what_it_is(localhost, path, label, prepend, extra, expected):
    code = orm.InstalledCode(computer=localhost, filepath_executable=path, label=label, prepend_text=prepend)
    if extra is not None:
        code.base.extras.set(EXTRA, extra)
    assert stand_in(code) == expected


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("vasp.5.4.4.18Apr17-6-g9f103f2a35 (build Jun 30 2017 11:10:34) complex", False),
        ("vasp.6.4.2 20Jul23 (build Sep 2023) complex", False),
        ("stand-in: CHGNet and ABINIT, not VASP", True),
        ("vasp.6.4.2 (vaspshim: CHGNet + ABINIT DFPT)", True),
        ("", True),
    ],
)
def test_an_outcar_says_who_wrote_it(first, expected):
    assert is_stand_in_output(first) is expected


def test_the_index_does_not_take_a_stand_in_for_dft():
    assert classify("stand-in-mock-vasp") == OTHER
    assert classify("stand-in-vasp") == OTHER
    assert classify("vasp-pbe") == DFT
    assert classify("vasp-pbe+u") == DFT
