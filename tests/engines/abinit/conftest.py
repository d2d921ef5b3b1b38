"""ABINIT's programs and pseudopotentials for the tests: from this machine, or a skip that says how to provide them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).parent / "recorded"
OPTIONS = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}}


@pytest.fixture
def recorded() -> Callable[[str], str]:
    """Read an output recorded from ABINIT 9.6.2, shortened where nothing reads it."""
    return lambda name: (RECORDED / name).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def upf_folder() -> Path:
    """The folder of UPF files, or a skip."""
    folder = Path(os.environ.get("CRYSGEN_PSEUDOS", ""))
    if not (folder / "Al.upf").is_file():
        pytest.skip("No pseudopotentials: set CRYSGEN_PSEUDOS to a folder of PseudoDojo 0.4 PBE UPF files (Al.upf, …).")
    return folder


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """The programs of ABINIT, or a skip."""
    found = {name: shutil.which(name) for name in ("abinit", "mrgddb", "anaddb")}
    if not all(found.values()):
        pytest.skip("No ABINIT: apt-get install abinit.")
    return {name: Path(str(path)) for name, path in found.items()}


@pytest.fixture
def codes(localhost: Any, programs: dict[str, Path]) -> dict[str, Any]:
    """ABINIT's programs as codes on this machine."""
    from aiida_fixtures import make_code

    return {name: make_code(localhost, path, name) for name, path in programs.items()}


@pytest.fixture
def family(aiida_profile: Any, upf_folder: Path, tmp_path: Path) -> Any:
    """A family with cutoffs of a few elements."""
    from crysgen_aiida.engines.pseudos import find_family, install_family

    held = find_family("abinit-tests")
    if held is not None:
        return held
    for element in ("Al", "N", "Si", "Ar"):
        shutil.copy(upf_folder / f"{element}.upf", tmp_path)
    return install_family(tmp_path, "abinit-tests")[0]


@pytest.fixture
def psp8(family: Any) -> dict[str, Any]:
    """psp8 nodes by element."""
    from crysgen_aiida.engines.abinit.pseudos import to_psp8

    return {element: to_psp8(family.get_pseudo(element)) for element in ("Al", "N", "Si")}


@pytest.fixture(scope="session")
def zincblende() -> Any:
    """AlN in the zincblende structure, aluminium at the origin."""
    from pymatgen.core import Lattice, Structure

    half = 8.32 * 0.529177210903 / 2
    lattice = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
    return Structure(lattice, ["Al", "N"], [[0, 0, 0], [0.25, 0.25, 0.25]])


@pytest.fixture
def run(codes: dict[str, Any], psp8: dict[str, Any], zincblende: Any) -> Callable[..., Any]:
    """Run the restart chain on AlN at 8 Ha and 2^3 k-points, and return its node; arguments replace its inputs."""
    from aiida.engine import run_get_node

    from crysgen_aiida.data.structures import structure_node
    from crysgen_aiida.engines.abinit.base import AbinitDfptBaseWorkChain

    def start(structure: Any = None, options: dict[str, Any] | None = None, **more: Any) -> Any:
        crystal = structure or zincblende
        parameters = {"ecut": 8, "ngkpt": [2, 2, 2], "tolvrs": 1e-8, "tolwfr": 1e-8, "tolvrs_response": 1e-4}
        inputs = {
            "structure": structure_node(crystal),
            "pseudos": {site.specie.symbol: psp8[site.specie.symbol] for site in crystal},
            "parameters": {**parameters, **more.pop("parameters", {})},
            "code": codes["abinit"],
            "mrgddb": codes["mrgddb"],
            "anaddb": codes["anaddb"],
            "metadata": {"options": {**OPTIONS, **(options or {})}},
            **more,
        }
        return run_get_node(AbinitDfptBaseWorkChain, dfpt=inputs)[1]

    return start
