"""AiiDA for the tests: an own configuration folder with a short path, one profile that needs no service, one daemon.

The folder is chosen when pytest loads this plug-in, before anything imports AiiDA: no test can touch a user's profile.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# short, because the broker's sockets must fit into 107 bytes
HOME = Path(tempfile.mkdtemp(prefix="cg", dir="/tmp"))
os.environ["AIIDA_PATH"] = str(HOME)
os.environ.pop("AIIDA_PROFILE", None)
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

PROFILE = "crysgen-test"

#: The shortest relaxation that still is one.
SHORT = {"max_steps": 2}
SIXTH = Path(__file__).parent / "sixth_generator"
TOY = Path(__file__).parent / "worker" / "toy"


@pytest.fixture(scope="session")
def aiida_home() -> Path:
    """The configuration folder of the test session."""
    return HOME


@pytest.fixture(scope="session")
def aiida_profile(aiida_home: Path) -> Any:
    """A loaded profile: SQLite storage, ZeroMQ broker, never anybody's default."""
    from aiida.manage.configuration import load_profile

    return load_profile(_make_profile(PROFILE), allow_switch=True)


@pytest.fixture(scope="session")
def sixth_generator() -> Path:
    """Install the sixth generator from its own distribution into a folder of its own, visible here and to jobs.

    The worker's toy, which can be slowed down, starved and filled at will, is made visible as well.
    """
    target = HOME / "sixth"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    source = shutil.copytree(SIXTH, HOME / "sixth-source")
    subprocess.run([*command, "--target", str(target), str(source)], check=True)
    sys.path[:0] = [str(target), str(TOY)]
    paths = [str(target), str(TOY), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # the daemon reads the generator's info too
    return target


@pytest.fixture
def localhost(aiida_profile: Any) -> Any:
    """This machine without a scheduler; jobs run in the test's home folder."""
    return make_computer("localhost", "core.direct")


@pytest.fixture
def worker_code(localhost: Any) -> Any:
    """The worker of this environment as a code on this machine."""
    return make_code(localhost)


@pytest.fixture
def run_job(worker_code: Any) -> Callable[..., Any]:
    """Run a calculation job or work chain here, without the daemon, and return its finished node."""
    from aiida.engine import run_get_node

    def run(process: Any, **inputs: Any) -> Any:
        inputs.setdefault("code", worker_code)
        return run_get_node(process, **inputs)[1]

    return run


@pytest.fixture(scope="session")
def daemon(aiida_profile: Any, sixth_generator: Path) -> Iterator[str]:
    """A running daemon of the test profile; whatever is left of it is ended by pid afterwards."""
    from crysgen_aiida.cli.processes import start_daemon, stop_daemon

    start_daemon(aiida_profile.name, 2)
    try:
        yield aiida_profile.name
    finally:
        stop_daemon(aiida_profile.name)


@pytest.fixture
def await_processes() -> Callable[..., None]:
    """Wait until all of these processes have terminated."""
    return wait_for


def wait_for(nodes: list[Any], timeout: float = 120.0) -> None:
    """Wait until every process has terminated.

    :raises TimeoutError: naming those that have not, with their states.
    """
    deadline = time.monotonic() + timeout
    while late := [node for node in nodes if not node.is_terminated]:
        if time.monotonic() > deadline:
            states = "; ".join(f"{n.process_label}<{n.pk}> {n.process_state} {n.process_status}" for n in late)
            raise TimeoutError(f"{len(late)} of {len(nodes)} processes did not end in {timeout:.0f} s: {states}")
        time.sleep(0.25)


def make_computer(label: str, scheduler: str) -> Any:
    """Return the computer of that label, made and configured if need be."""
    from aiida import orm
    from aiida.common.exceptions import NotExistent

    with contextlib.suppress(NotExistent):
        return orm.load_computer(label)
    computer = orm.Computer(
        label=label,
        hostname="localhost",
        transport_type="core.local",
        scheduler_type=scheduler,
        workdir=str(HOME / "work"),
    ).store()
    computer.set_minimum_job_poll_interval(0.1)
    computer.set_default_mpiprocs_per_machine(1)
    computer.configure(safe_interval=0, use_login_shell=False)
    return computer


def make_code(computer: Any, executable: Path | None = None, label: str = "crysgen-worker") -> Any:
    """Return the code of that label on ``computer``, by default the worker of this environment."""
    from aiida import orm
    from aiida.common.exceptions import NotExistent

    with contextlib.suppress(NotExistent):
        return orm.load_code(f"{label}@{computer.label}")
    path = executable or Path(sys.executable).parent / "crysgen-worker"
    return orm.InstalledCode(computer=computer, filepath_executable=str(path), label=label).store()


def _make_profile(name: str) -> str:
    from aiida.manage.configuration import create_profile, get_config
    from aiida.plugins import BrokerFactory

    config = get_config(create=True)
    if name not in config.profile_names:
        create_profile(
            config,
            name=name,
            email="test@localhost",
            is_test_profile=True,
            storage_backend="core.sqlite_dos",
            storage_config={"filepath": str(HOME / "storage")},
            broker_backend="core.zeromq",
            broker_config=BrokerFactory("core.zeromq").get_default_config(),
        )
        config.set_option("runner.poll.interval", 1, scope=name)
        config.set_option("warnings.development_version", False, scope=name)
        config.store()
    return name


@pytest.fixture(scope="session")
def toy(aiida_profile: Any, sixth_generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A generator that can be slowed down, starved and filled at will."""
    import json

    import numpy as np
    from safetensors.numpy import save_file

    from crysgen_aiida.data.generator import GeneratorData

    folder = tmp_path_factory.mktemp("toy")
    save_file({"w": np.ones(1, dtype=np.float32)}, folder / "weights.safetensors")
    config = {"generator": "toy", "generator_version": "1", "conditions": ["band_gap"], "spec": {}, "seed": 0}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocabulary.json").write_text("{}")
    (folder / "history.jsonl").write_text("")
    return GeneratorData.get_or_create(folder)


@pytest.fixture(scope="session")
def salts() -> Any:
    """A crystal set of twelve rock salts with band gaps and formation energies, made up but ordered."""
    from pymatgen.core import Lattice, Structure

    from crysgen_aiida.crystals.crystal_set import CrystalSet
    from crysgen_aiida.crystals.schema import property_field

    pairs = [(a, b) for a in ("Li", "Na", "K", "Rb") for b in ("F", "Cl", "Br")]
    cells = [
        Structure(Lattice([[0, x, x], [x, 0, x], [x, x, 0]]), pair, [[0, 0, 0], [0.5, 0.5, 0.5]])
        for i, pair in enumerate(pairs)
        for x in [2.1 + 0.1 * i]
    ]
    columns = {
        property_field("band_gap", "made-up"): [9.0 - 0.3 * i for i in range(len(pairs))],
        property_field("formation_energy_per_atom", "made-up"): [-3.0 + 0.1 * i for i in range(len(pairs))],
    }
    return CrystalSet.from_structures(cells, columns=columns, metadata={"name": "salts", "licence": "CC0"})


@pytest.fixture(scope="session")
def salt_reference(aiida_profile: Any, salts: Any) -> Any:
    """Reference energies of the salts and their elements, made by the verbs themselves with a very short relaxation."""
    from aiida.engine import run_get_node

    from crysgen_aiida.calculations.verbs import ReferenceCalculation, RelaxCalculation
    from crysgen_aiida.data.packed import CrystalSetData

    common = {"code": make_code(make_computer("localhost", "core.direct")), "metadata": {"options": {"device": "cpu"}}}
    crystals = CrystalSetData.get_or_create(salts)
    relaxed = run_get_node(RelaxCalculation, crystals=crystals, parameters={"relax": SHORT}, **common)[1]
    assert relaxed.is_finished_ok, relaxed.exit_message
    parameters = {"name": "salts", "scheme": "self-consistent"}
    made = run_get_node(ReferenceCalculation, crystals=relaxed.outputs.crystals, parameters=parameters, **common)[1]
    assert made.is_finished_ok, made.exit_message
    return made.outputs.reference
