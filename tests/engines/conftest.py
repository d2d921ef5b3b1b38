"""What the tests of engines share: crystals, made-up and real pseudopotentials, codes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

#: As much of a UPF file as is read before it is computed with.
UPF = '<UPF version="2.0.1">\n<PP_HEADER element="{0}" z_valence="{1}" functional="PBE"/>\n</UPF>\n'


@pytest.fixture(scope="session")
def made_up_family(aiida_profile: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A family of four elements whose files hold no potential."""
    from crysgen_aiida.engines.pseudos import install_family

    folder = tmp_path_factory.mktemp("upf")
    for element, valence in {"Al": 3.0, "N": 5.0, "Si": 4.0, "Fe": 16.0}.items():
        (folder / f"{element}.upf").write_text(UPF.format(element, valence))
    return install_family(folder, "made-up")[0]


@pytest.fixture(scope="session")
def pseudos_folder() -> Path:
    """The folder of real UPF files, or a skip that says how to provide it."""
    named = os.environ.get("CRYSGEN_PSEUDOS", "")
    if not named or not Path(named).is_dir():
        pytest.skip("No pseudopotentials: set CRYSGEN_PSEUDOS to a folder of UPF files, or run `make test-engines`.")
    return Path(named)


@pytest.fixture
def crystal(aiida_profile: Any) -> Any:
    """Return a structure node of ASE's cell of a name: ``Si``, ``AlN``, ..."""
    from aiida import orm
    from ase.build import bulk

    made = {
        "Si": ("diamond", 5.47),
        "AlN": ("zincblende", 4.40),
        "FeN": ("zincblende", 4.3),
        "NaCl": ("rocksalt", 5.6),
        "Al": ("fcc", 4.05),
    }

    def make(name: str, cell: bool = False) -> Any:
        kind, a = made[name]
        return orm.StructureData(ase=bulk(name, kind, a=a, cubic=cell))

    return make
