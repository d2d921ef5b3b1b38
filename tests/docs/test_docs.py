"""The documentation keeps its word: the tutorial runs as printed, reference pages are current, links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def bash_blocks(page: Path) -> str:
    """Return the commands a page tells its reader to type."""
    return "\n".join(re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))


@pytest.fixture
def new_user(tmp_path):
    """The environment of somebody who never ran AiiDA: no profile, an empty folder, this environment's commands."""
    home = Path(tempfile.mkdtemp(prefix="cgd", dir="/tmp"))  # short: sockets must fit into 107 bytes
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AIIDA", "PYTHONPATH"))}
    environment["AIIDA_PATH"] = str(home)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    yield environment
    subprocess.run(["crysgen", "daemon", "stop"], env=environment, cwd=tmp_path, capture_output=True, check=False)
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.daemon
def test_tutorial_runs_as_printed(new_user, tmp_path):
    script = bash_blocks(DOCS / "tutorial" / "first-design.md")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=new_user,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert (tmp_path / "crysgen-quickstart" / "report.html").is_file()
    assert list((tmp_path / "chosen").glob("*.cif"))
    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    assert trace, "the trace of the first candidate is empty"


def test_reference_pages_are_what_the_code_says():
    command = [sys.executable, str(ROOT / "tools" / "build_reference.py"), str(DOCS / "reference"), "--check"]
    # without PYTHONPATH: other tests put a generator of their own there
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"
