"""Profiles: which one is meant, and that making ours leaves the user's default alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_commands import run_in

from crysgen_aiida.cli.profiles import choose


def _config(*names: str, default: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(profile_names=list(names), default_profile_name=default)


def test_the_order_is_option_environment_own_default(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = _config("mine", "crysgen", "other", default="mine")
    monkeypatch.setenv("AIIDA_PROFILE", "other")
    assert choose(everything, "named")[0] == "named"
    assert choose(everything, None)[0] == "other"
    monkeypatch.delenv("AIIDA_PROFILE")
    assert choose(everything, None)[0] == "crysgen"
    assert choose(_config("mine", default="mine"), None)[0] == "mine"
    assert choose(_config(), None)[0] is None


@pytest.mark.slow
def test_setup_leaves_an_existing_default_alone_and_changes_nothing_twice(home: Path) -> None:
    run_in(home, "verdi", "presto", "--profile-name", "theirs", "--no-broker")
    config = home / ".aiida" / "config.json"
    said = run_in(home, "crysgen", "setup")
    assert "still theirs" in said
    held = json.loads(config.read_text())
    assert held["default_profile"] == "theirs"
    ours = held["profiles"]["crysgen"]
    assert ours["storage"]["backend"] == "core.sqlite_dos"
    assert ours["process_control"]["backend"] == "core.zeromq"
    assert ours["default_user_email"] == "crysgen@localhost"
    before = config.read_bytes()
    said = run_in(home, "crysgen", "setup")
    assert "made" not in said
    assert config.read_bytes() == before
    assert "crysgen-worker@localhost" in run_in(home, "verdi", "-p", "crysgen", "code", "list")
    assert "No data set yet" in run_in(home, "crysgen", "dataset", "list")
    assert "No data set yet" in run_in(home, "verdi", "data", "crysgen", "dataset", "list")
    assert "asked for by -p" in run_in(home, "crysgen", "-p", "nobody", "dataset", "list", code=1)
    assert "asked for by AIIDA_PROFILE" in run_in(home, "crysgen", "dataset", "list", code=1, AIIDA_PROFILE="nobody")


@pytest.mark.slow
def test_without_any_profile_commands_say_what_to_do(home: Path) -> None:
    assert "crysgen setup" in run_in(home, "crysgen", "candidate", "rank", code=1)
    findings = json.loads(run_in(home, "crysgen", "doctor", "--format", "json", code=1))
    profile = next(f for f in findings if f["check"] == "profile")
    assert (profile["status"], "crysgen setup" in profile["fix"]) == ("fail", True)
