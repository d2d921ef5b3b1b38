"""A private Slurm for this test session, as two computers; the daemon that knows the way to it.

Nothing is started unless CRYSGEN_TEST_CLUSTER=1 asks for it, as `make test-cluster` does.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_computers import LOCAL, SSH, register, tool


@pytest.fixture(scope="session")
def cluster() -> Iterator[tool.Cluster]:
    """Slurm and an SSH server in a folder of their own; every process that was started is ended by its pid."""
    if os.environ.get("CRYSGEN_TEST_CLUSTER") != "1":
        pytest.skip("A cluster is only started when asked for: run `make test-cluster`, or set CRYSGEN_TEST_CLUSTER=1.")
    if absent := tool.missing():
        pytest.skip(f"Debian's {', '.join(absent)} not installed: run `make test-cluster` as root.")
    folder = Path(tempfile.mkdtemp(prefix="cgc", dir="/tmp"))
    before = os.environ.get("SLURM_CONF")
    try:
        made = tool.start(folder)
        os.environ["SLURM_CONF"] = made.slurm_conf
        yield made
    finally:
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before
        tool.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def daemon(cluster: tool.Cluster, aiida_profile: Any, sixth_generator: Path) -> Iterator[str]:
    """A daemon of the test profile that finds the cluster and does not wait long before it tries again."""
    from aiida.manage.configuration import get_config

    from crysgen_aiida.cli.processes import start_daemon, stop_daemon

    config, name = get_config(), aiida_profile.name
    config.set_option("transport.task_retry_initial_interval", 1, scope=name)
    config.store()
    stop_daemon(name)  # one that other tests left does not know of SLURM_CONF
    start_daemon(name, 2)
    try:
        yield name
    finally:
        stop_daemon(name)


@pytest.fixture(scope="session")
def computers(cluster: tool.Cluster, daemon: str, aiida_home: Path) -> dict[str, Any]:
    """Both computers of the cluster, by label."""
    from aiida import orm

    made = {}
    for label in (LOCAL, SSH):
        register(daemon, cluster, label, aiida_home / label)
        made[label] = orm.load_computer(label)
        made[label].set_minimum_job_poll_interval(1)
    return made


@pytest.fixture(scope="session")
def codes(computers: dict[str, Any]) -> dict[str, Any]:
    """The worker by computer, this machine without a scheduler among them."""
    from aiida import orm
    from aiida_fixtures import make_code, make_computer

    slurm = {label: orm.load_code(f"crysgen-worker@{label}") for label in computers}
    return {"localhost": make_code(make_computer("localhost", "core.direct")), **slurm}


@pytest.fixture(scope="session")
def submit_toy(codes: dict[str, Any], daemon: str, toy: Any) -> Callable[..., Any]:
    """Submit a sampling with the toy, whose rows take as long as one likes, in its restart chain."""
    from aiida import orm
    from aiida.engine import submit

    from crysgen_aiida.workchains.base import SampleBaseWorkChain

    def run(computer: str, n: int, spec: dict[str, Any], **options: Any) -> Any:
        job = {"code": codes[computer], "generator": toy, "parameters": orm.Dict({"n": n}), "spec": orm.Dict(spec)}
        job["metadata"] = {"options": {"device": "cpu", **options}, "disable_cache": True}
        return submit(SampleBaseWorkChain, sample=job)

    return run
