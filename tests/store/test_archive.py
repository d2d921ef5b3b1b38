"""An exported archive, opened as a read-only profile without importing it, gives the same table."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ARCHIVED = "archived"

Run = Callable[..., str]


@pytest.fixture(scope="module")
def archive(designed: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The design with everything it came from and everything it made."""
    from aiida.tools.archive import create_archive

    file = tmp_path_factory.mktemp("archive") / "design.aiida"
    create_archive([designed], filename=file)
    return file


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where indices of read-only profiles go."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def crysgen(archive: Path, aiida_home: Path, cache: Path) -> Iterator[Run]:
    """Run a command; the archive is a profile beside the test's own."""
    environment = {**os.environ, "AIIDA_PATH": str(aiida_home), "XDG_CACHE_HOME": str(cache)}

    def run(*command: str, code: int = 0) -> str:
        program = Path(sys.executable).parent / command[0]
        done = subprocess.run(
            [str(program), *command[1:]], capture_output=True, text=True, env=environment, check=False, timeout=120
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + (done.stderr if code else "")

    options = ("--profile-name", ARCHIVED, "--filepath", str(archive), "--no-set-as-default", "--broker", "none")
    run("verdi", "profile", "setup", "core.sqlite_zip", "-n", *options)
    yield run
    run("verdi", "profile", "delete", "--force", "--keep-data", ARCHIVED)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--all", "--where", "status = 'ok'", "--minimize", "e_above_reference"),
        ("--all", "--where", "elements has Na and n_atoms <= 2", "--maximize", "band_gap"),
    ],
    ids=["its own rule", "one objective", "a filter"],
)
def test_ranking_an_archive_gives_the_same_table(designed: Any, crysgen: Run, options: tuple[str, ...]) -> None:
    asked = ("candidate", "rank", designed.uuid, *options, "--format", "json")
    held = json.loads(crysgen("crysgen", "-p", "crysgen-test", *asked))
    assert held
    assert json.loads(crysgen("crysgen", "-p", ARCHIVED, *asked)) == held


@pytest.mark.slow
def test_an_archive_is_only_read(designed: Any, archive: Path, crysgen: Run) -> None:
    before = (archive.stat().st_size, archive.stat().st_mtime_ns)
    best = json.loads(crysgen("crysgen", "-p", ARCHIVED, "candidate", "rank", designed.uuid, "--format", "json"))[0]
    for profile in ("crysgen-test", ARCHIVED):
        chain = json.loads(crysgen("crysgen", "-p", profile, "candidate", "trace", best["address"], "--format", "json"))
        assert chain["chain"][0]["what"] == "dataset"
    said = crysgen("crysgen", "-p", ARCHIVED, "candidate", "rank", designed.uuid, "--record", code=1)
    assert "Traceback" not in said
    assert (archive.stat().st_size, archive.stat().st_mtime_ns) == before
    assert [f.name for f in archive.parent.iterdir()] == [archive.name]


@pytest.mark.slow
def test_its_index_is_kept_by_its_content(designed: Any, archive: Path, cache: Path, crysgen: Run) -> None:
    crysgen("crysgen", "-p", ARCHIVED, "candidate", "rank", designed.uuid)
    kept = [f.name for f in (cache / "crysgen").glob("*.sqlite")]
    assert kept == [f"{hashlib.sha256(archive.read_bytes()).hexdigest()}.sqlite"]
