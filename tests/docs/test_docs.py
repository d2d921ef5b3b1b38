"""The documentation keeps its word: reference pages are current, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


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


def _commands(page):
    """Return the commands of ours that a page tells its reader to type, as lists of words."""
    for line in page.read_text(encoding="utf-8").splitlines():
        line = line.removeprefix("    ")
        if line.startswith("crysgen ") and "…" not in line and not line.endswith("\\"):
            # comments end a command, as do pipes and redirections outside of quotes
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|>")
            lexer.whitespace_split = True
            words = list(lexer)
            yield words[1 : next((k for k, word in enumerate(words) if word in ("|", ">")), len(words))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_their_options_exist(page):
    import click

    from crysgen_aiida.cli.root import crysgen

    for words in _commands(page):
        command, context = crysgen, click.Context(crysgen, info_name="crysgen")
        words = words[2:] if words[:1] == ["-p"] else words
        while isinstance(command, click.Group):
            found = command.get_command(context, words[0])
            assert found is not None, words
            command, words = found, words[1:]
            context = click.Context(command, info_name="x", parent=context)
        command.make_parser(context).parse_args(list(words))


def test_filters_in_the_documentation_are_read():
    from crysgen_aiida.store.language import parse

    text = (DOCS / "how-to" / "query-candidates.md").read_text(encoding="utf-8")
    table = text[text.index("| write | meaning |") : text.index("A missing value")].splitlines()[2:-1]
    filters = []
    for row in table:
        for written in re.findall(r"`([^`]*)`", row.split("|")[1]):
            if written.startswith(("has ", "only ", "are ")):
                written = f"elements {written}"
            if re.search(r"[a-z]{3}", written) and written not in ("and", "or", "not"):
                filters.append(written)
    filters += re.findall(r'--where "([^"]*)"', text)
    assert len(filters) > 18
    for written in filters:
        parse(written)
