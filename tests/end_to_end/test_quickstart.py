"""The quickstart, small, as a user runs it: in a folder of its own, twice."""

from __future__ import annotations

import csv
import html.parser
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cg", dir="/tmp"))
    yield folder
    _crysgen(folder, "daemon", "stop")
    shutil.rmtree(folder, ignore_errors=True)


def _crysgen(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    held = {k: v for k, v in os.environ.items() if k != "AIIDA_PROFILE"}
    return subprocess.run(
        [str(BIN / "crysgen"), *arguments],
        capture_output=True,
        text=True,
        cwd=home,
        env={**held, "AIIDA_PATH": str(home)},
        check=False,
        timeout=540,
    )


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href") and v]


@pytest.mark.slow
@pytest.mark.daemon
def test_quickstart_makes_traceable_candidates_and_changes_nothing_twice(home: Path) -> None:
    from crysgen_aiida.cli.starter import starter_file
    from crysgen_aiida.crystals.errors import BadInput

    small = ["quickstart", "--n", "40", "--relax", "8", "--top", "3", "--time-box", "40", "--threads", "2"]
    if "CRYSGEN_TEST_STARTER" in os.environ:  # a freshly built archive, before it is shipped
        small += ["--archive", os.environ["CRYSGEN_TEST_STARTER"]]
    else:
        try:
            starter_file()
        except BadInput as reason:
            pytest.skip(str(reason))
    done = _crysgen(home, *small)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lower bound" in done.stdout
    assert "A request is no property" in done.stdout
    assert "stable" not in done.stdout.replace("metastable", "")
    folder = home / "crysgen-quickstart"
    rows = list(csv.DictReader((folder / "candidates.csv").open()))
    assert 1 <= len(rows) <= 3
    assert len(list(folder.glob("*.cif"))) == len(rows)
    assert all(row["valid_structure"] == "True" and row["status"] == "ok" for row in rows)
    page = _Tags()
    page.feed((folder / "report.html").read_text())
    assert page.tags.count("article") == len(rows)
    assert page.tags.count("svg") >= len(rows) + 4
    assert not page.links  # nothing is fetched from anywhere
    assert "script" not in page.tags
    traced = _crysgen(home, "candidate", "trace", rows[0]["address"], "--format", "json")
    chain = [entry["what"] for entry in json.loads(traced.stdout)["chain"]]
    assert chain[0] == "dataset"
    assert chain[-1] == "relaxed"
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}
    nodes = _nodes(home)
    again = _crysgen(home, *small)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing was changed" in again.stdout
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {name: held[1] for name, held in before.items()}
    assert _nodes(home) == nodes


def _nodes(home: Path) -> int:
    listed = _crysgen(home, "doctor", "--patience", "1", "--format", "json")
    storage = next(f for f in json.loads(listed.stdout) if f["check"] == "storage")
    return int(storage["detail"].split(",")[1].split()[0])
