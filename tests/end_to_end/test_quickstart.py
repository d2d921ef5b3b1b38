"""The first hour of a new user: the tutorial as printed, which begins with the quickstart, and the quickstart again."""

from __future__ import annotations

import csv
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "tutorial" / "first-design.md"

Shell = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """Run commands as somebody who never ran AiiDA: no profile, an empty folder, this environment's commands."""
    home = Path(tempfile.mkdtemp(prefix="cg", dir="/tmp"))  # short: sockets must fit into 107 bytes
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AIIDA", "PYTHONPATH"))}
    environment["AIIDA_PATH"] = str(home)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            cwd=home,
            env=environment,
            check=False,
            timeout=540,
        )

    yield run
    run("crysgen daemon stop")
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def commands() -> list[str]:
    """The commands the tutorial tells its reader to type, but for the last one, which stops the daemon."""
    blocks = re.findall(r"```bash\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = "".join(blocks).splitlines()
    assert lines[0].startswith("crysgen quickstart")
    assert lines[-1] == "crysgen daemon stop"
    if "CRYSGEN_TEST_STARTER" in os.environ:  # a freshly built archive, before it is shipped
        lines[0] += f" --archive {os.environ['CRYSGEN_TEST_STARTER']}"
    return lines[:-1]


@pytest.fixture(scope="module")
def home(shell: Shell, commands: list[str]) -> Path:
    """The folder in which the whole tutorial was run."""
    from crysgen_aiida.cli.starter import starter_file
    from crysgen_aiida.crystals.errors import BadInput

    if "CRYSGEN_TEST_STARTER" not in os.environ:
        try:
            starter_file()
        except BadInput as reason:
            pytest.skip(str(reason))
    done = shell("\n".join(commands))
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    folder = Path(shell("pwd").stdout.strip())
    (folder / "said.txt").write_text(done.stdout)
    return folder


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href") and v]


def test_the_tutorial_runs_as_printed(home: Path) -> None:
    assert list((home / "chosen").glob("*.cif"))
    chain = [entry["what"] for entry in json.loads((home / "trace.json").read_text())["chain"]]
    assert chain[0] == "dataset"
    assert chain[-1] == "relaxed"


def test_the_quickstart_promises_no_more_than_it_has(home: Path) -> None:
    said = (home / "said.txt").read_text()
    assert "lower bound" in said
    assert "A request is no property" in said
    assert "stable" not in said.replace("metastable", "")


def test_the_quickstart_writes_valid_candidates_and_a_report_of_its_own(home: Path) -> None:
    folder = home / "crysgen-quickstart"
    rows = list(csv.DictReader((folder / "candidates.csv").open()))
    assert 1 <= len(rows) <= 5
    assert len(list(folder.glob("*.cif"))) == len(rows)
    assert all(row["valid_structure"] == "True" and row["status"] == "ok" for row in rows)
    page = _Tags()
    page.feed((folder / "report.html").read_text())
    assert page.tags.count("article") == len(rows)
    assert page.tags.count("svg") >= len(rows) + 4
    assert not page.links  # nothing is fetched from anywhere
    assert "script" not in page.tags


def test_the_quickstart_changes_nothing_twice(home: Path, shell: Shell, commands: list[str]) -> None:
    folder = home / "crysgen-quickstart"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    nodes = _nodes(shell)
    again = shell(commands[0])
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing was changed" in again.stdout
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert _nodes(shell) == nodes


def _nodes(shell: Shell) -> int:
    listed = shell("crysgen doctor --patience 1 --format json || true")
    storage = next(f for f in json.loads(listed.stdout) if f["check"] == "storage")
    return int(storage["detail"].split(",")[1].split()[0])
