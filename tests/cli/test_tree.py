"""The command tree: light, the same in all its places, helpful when misspelt, silent about tracebacks."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from crysgen_aiida.cli import root
from crysgen_aiida.cli.root import COMMANDS, crysgen, explain
from crysgen_aiida.crystals.errors import BadInput

HEAVY = ("torch", "pymatgen", "aiida.orm", "pandas", "pyarrow", "chgnet", "ase", "matplotlib")


def _python(code: str, home: Path) -> str:
    environment = {**os.environ, "AIIDA_PATH": str(home)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from crysgen_aiida.cli.root import crysgen\n"
        f"try: crysgen({[*arguments, '--help']!r}, prog_name='crysgen')\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    said = _python(code, tmp_path)
    assert "Usage: crysgen" in said
    assert said.strip().splitlines()[-1] == "HEAVY []"


def test_there_is_one_tree_under_three_names() -> None:
    (console,) = (e for e in entry_points(group="console_scripts") if e.name == "crysgen")
    assert console.load() is root.main
    for group in ("aiida.cmdline.data", "aiida.cmdline.verdi"):
        (point,) = (e for e in entry_points(group=group) if e.name == "crysgen")
        assert point.load() is crysgen


def test_every_command_has_help_that_is_a_sentence() -> None:
    context = click.Context(crysgen, info_name="crysgen")

    def walk(command: click.Command, path: str) -> None:
        assert (command.help or "").strip().split("\n")[0].rstrip().endswith((".", ":")), path
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                walk(child, f"{path} {name}")

    walk(crysgen, "crysgen")


@pytest.mark.parametrize(
    ("typed", "meant"), [("desing", "design"), ("candidates", "candidate"), ("dataset imprt", "import")]
)
def test_a_misspelt_command_is_met_with_the_right_one(typed: str, meant: str) -> None:
    done = CliRunner().invoke(crysgen, typed.split())
    assert done.exit_code == 2
    assert "most similar" in done.output
    assert meant in done.output


def test_failures_are_sentences_and_debug_shows_where(aiida_profile, monkeypatch: pytest.MonkeyPatch) -> None:
    from crysgen_aiida.store import trace

    def explode(_: str) -> None:
        raise RuntimeError("something broke")

    monkeypatch.setattr(trace, "trace", explode)
    done = CliRunner().invoke(crysgen, ["-p", aiida_profile.name, "candidate", "trace", "abcd:1"])
    assert done.exit_code == 1
    assert "something broke" in done.output
    assert "-v debug" in done.output
    assert "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)

    from aiida.common import log

    monkeypatch.setattr(log, "CLI_LOG_LEVEL", "DEBUG")
    done = CliRunner().invoke(crysgen, ["-p", aiida_profile.name, "candidate", "trace", "abcd:1"])
    assert isinstance(done.exception, RuntimeError)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BadInput("The file x.cif is empty; fetch it again."), "The file x.cif is empty; fetch it again."),
        (RuntimeError("(sqlite3.OperationalError) database is locked"), "locked by another process"),
        (OSError(28, "No space left on device"), "disk is full"),
        (PermissionError(13, "Permission denied", "/x/y"), "/x/y"),
        (KeyError("k"), "not expected"),
    ],
)
def test_known_troubles_are_explained(error: Exception, words: str) -> None:
    assert words in explain(error)
