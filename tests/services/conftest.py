"""A private PostgreSQL and RabbitMQ for this test session, and two profiles: one on them, one that needs no service.

Nothing is started unless CRYSGEN_TEST_SERVICES=1 asks for it, as `make test-services` does.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from service_homes import FULL, LITE, QUICKSTART, Home, make_home, servers


@pytest.fixture(scope="session")
def services() -> Iterator[servers.Services]:
    """Both servers in a folder of their own; every process that was started is ended by its pid."""
    if os.environ.get("CRYSGEN_TEST_SERVICES") != "1":
        pytest.skip(
            "Servers are only started when asked for: run `make test-services`, or set CRYSGEN_TEST_SERVICES=1."
        )
    if absent := servers.missing():
        pytest.skip(f"Debian's {' and '.join(absent)} not installed: run `make test-services` as root.")
    folder = Path(tempfile.mkdtemp(prefix="cgs", dir="/tmp"))
    try:
        yield servers.start(folder)
    finally:
        servers.stop(folder)


@pytest.fixture
def empty_home(services: servers.Services) -> Iterator[Home]:
    """A configuration folder without any profile."""
    home = make_home(services)
    yield home
    shutil.rmtree(home.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def home(services: servers.Services) -> Iterator[Home]:
    """A configuration folder with both profiles, their daemons stopped."""
    home = make_home(services)
    home.run("crysgen", "-p", LITE, "setup")
    home.run("crysgen", "-p", FULL, "setup", *home.at_servers())
    yield home
    for profile in (LITE, FULL):
        home.run("crysgen", "-p", profile, "daemon", "stop")
    shutil.rmtree(home.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def lines(home: Home) -> dict[str, str]:
    """What the same small quickstart said in either profile; its daemons run on."""

    def run(profile: str) -> str:
        command = ("crysgen", "-p", profile, *QUICKSTART, "--output", f"out-{profile}")
        return home.run(*command, timeout=400, OMP_NUM_THREADS="1")

    with ThreadPoolExecutor(2) as pool:
        return dict(zip((LITE, FULL), pool.map(run, (LITE, FULL)), strict=True))
